//! RDATA in presentation form. Common types are written as dig writes them; hickory-proto writes
//! the rest, and what nobody knows, or what would send control characters to a terminal, takes
//! the generic form of RFC 3597, section 5.

use std::{fmt::Write as _, net::IpAddr};

use data_encoding::{BASE32_DNSSEC, BASE64, HEXUPPER};
use hickory_proto::{
    rr::{RData, RecordType},
    serialize::binary::{BinDecoder, Restrict},
};
use time::OffsetDateTime;

use super::mnemonic::type_text;
use crate::wire::{Name, rtype};

const SPF: u16 = 99;
const CAA: u16 = 257;

/// Writes the uncompressed RDATA of a record of type `rtype`.
pub(super) fn text(rtype: u16, rdata: &[u8]) -> String {
    known(rtype, rdata)
        .filter(|text| !text.chars().any(char::is_control))
        .unwrap_or_else(|| generic(rdata))
}

fn known(rtype: u16, rdata: &[u8]) -> Option<String> {
    match rtype {
        rtype::A => text_of_address::<4>(rdata),
        rtype::AAAA => text_of_address::<16>(rdata),
        rtype::NS | rtype::CNAME | rtype::PTR | rtype::DNAME => {
            Some(Name::from_wire(rdata).ok()?.to_string())
        }
        rtype::TXT | rtype::HINFO | SPF => strings(rdata),
        rtype::RRSIG => rrsig(rdata),
        rtype::NSEC => {
            let (next, end) = Name::read(rdata, 0).ok()?;
            Some(format!("{next}{}", type_bitmap(rdata.get(end..)?)?))
        }
        rtype::NSEC3 => nsec3(rdata),
        rtype::SVCB | rtype::HTTPS => service(rdata),
        CAA => caa(rdata),
        other => {
            let length = u16::try_from(rdata.len()).ok()?;
            let mut decoder = BinDecoder::new(rdata);
            let kind = RecordType::from(other);
            match RData::read(&mut decoder, kind, Restrict::new(length)).ok()? {
                // Written in base64, which no other tool reads.
                RData::Unknown { .. } | RData::NULL(_) => None,
                data => {
                    // Some, such as an OPT record, have no presentation form, and say so by failing.
                    let mut text = String::new();
                    write!(text, "{data}").ok().map(|()| text)
                }
            }
        }
    }
}

/// `\# 3 01FF02`.
fn generic(rdata: &[u8]) -> String {
    let mut out = format!("\\# {}", rdata.len());
    if !rdata.is_empty() {
        out.push(' ');
        out.push_str(&HEXUPPER.encode(rdata));
    }
    out
}

/// Character strings until the end of the data (RFC 1035, section 3.3).
fn strings(mut rest: &[u8]) -> Option<String> {
    let mut all = Vec::new();
    while let Some((length, behind)) = rest.split_first() {
        let (string, behind) = behind.split_at_checked(usize::from(*length))?;
        all.push(quoted(string));
        rest = behind;
    }
    Some(all.join(" "))
}

fn quoted(octets: &[u8]) -> String {
    let mut out = String::from("\"");
    for octet in octets {
        match octet {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*octet));
            }
            0x20..=0x7e => out.push(char::from(*octet)),
            other => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\{other:03}");
            }
        }
    }
    out.push('"');
    out
}

/// RFC 4034, section 3.2, times as dates.
fn rrsig(rdata: &[u8]) -> Option<String> {
    let fixed: &[u8; 18] = rdata.first_chunk()?;
    let [c0, c1, algorithm, labels, t0, t1, t2, t3, times @ ..] = *fixed;
    let [e0, e1, e2, e3, i0, i1, i2, i3, k0, k1] = times;
    let (signer, end) = Name::read(rdata, fixed.len()).ok()?;
    let signature = rdata.get(end..)?;
    Some(format!(
        "{} {algorithm} {labels} {} {} {} {} {signer} {}",
        type_text(u16::from_be_bytes([c0, c1])),
        u32::from_be_bytes([t0, t1, t2, t3]),
        date(u32::from_be_bytes([e0, e1, e2, e3]))?,
        date(u32::from_be_bytes([i0, i1, i2, i3]))?,
        u16::from_be_bytes([k0, k1]),
        BASE64.encode(signature)
    ))
}

/// `YYYYMMDDHHmmSS` in UTC.
fn date(unix_s: u32) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(unix_s.into()).ok()?;
    Some(format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    ))
}

/// RFC 5155, section 3.3.
fn nsec3(rdata: &[u8]) -> Option<String> {
    let [algorithm, flags, i0, i1, salt_octets, rest @ ..] = rdata else {
        return None;
    };
    let (salt, rest) = rest.split_at_checked(usize::from(*salt_octets))?;
    let (hash_octets, rest) = rest.split_first()?;
    let (hash, bitmap) = rest.split_at_checked(usize::from(*hash_octets))?;
    let salt = if salt.is_empty() {
        "-".to_owned()
    } else {
        HEXUPPER.encode(salt)
    };
    Some(format!(
        "{algorithm} {flags} {} {salt} {}{}",
        u16::from_be_bytes([*i0, *i1]),
        BASE32_DNSSEC.encode(hash).to_ascii_uppercase(),
        type_bitmap(bitmap)?
    ))
}

/// The types of a bitmap, each with a space before it (RFC 4034, section 4.1.2).
fn type_bitmap(mut rest: &[u8]) -> Option<String> {
    let mut out = String::new();
    while let [window, octets, behind @ ..] = rest {
        let (bitmap, behind) = behind.split_at_checked(usize::from(*octets))?;
        for (index, octet) in bitmap.iter().enumerate() {
            for bit in 0..8_u16 {
                if octet & (0x80 >> bit) != 0 {
                    let low = u16::try_from(index)
                        .ok()?
                        .checked_mul(8)?
                        .checked_add(bit)?;
                    let rtype = u16::from(*window) << 8 | low;
                    out.push(' ');
                    out.push_str(&type_text(rtype));
                }
            }
        }
        rest = behind;
    }
    rest.is_empty().then_some(out)
}

/// RFC 9460, sections 2.1 and 14.3.2.
fn service(rdata: &[u8]) -> Option<String> {
    let priority = u16::from_be_bytes(*rdata.first_chunk()?);
    let (target, end) = Name::read(rdata, 2).ok()?;
    let mut out = format!("{priority} {target}");
    let mut rest = rdata.get(end..)?;
    while let [k0, k1, l0, l1, behind @ ..] = rest {
        let octets = usize::from(u16::from_be_bytes([*l0, *l1]));
        let (value, behind) = behind.split_at_checked(octets)?;
        out.push(' ');
        out.push_str(&parameter(u16::from_be_bytes([*k0, *k1]), value)?);
        rest = behind;
    }
    rest.is_empty().then_some(out)
}

/// One service parameter, `alpn="h2,h3"`.
fn parameter(key: u16, value: &[u8]) -> Option<String> {
    let joined = |name, octets: usize, write: fn(&[u8]) -> Option<String>| {
        let all: Option<Vec<String>> = value.chunks(octets).map(write).collect();
        Some(format!("{name}={}", all?.join(",")))
    };
    match key {
        0 => joined("mandatory", 2, |key| {
            Some(format!("key{}", u16::from_be_bytes(key.try_into().ok()?)))
        }),
        1 => {
            let mut all = Vec::new();
            let mut rest = value;
            while let Some((octets, behind)) = rest.split_first() {
                let (protocol, behind) = behind.split_at_checked(usize::from(*octets))?;
                all.push(protocol);
                rest = behind;
            }
            Some(format!("alpn={}", quoted(&all.join(&b','))))
        }
        2 if value.is_empty() => Some("no-default-alpn".to_owned()),
        3 => Some(format!(
            "port={}",
            u16::from_be_bytes(value.try_into().ok()?)
        )),
        4 => joined("ipv4hint", 4, text_of_address::<4>),
        5 => Some(format!("ech={}", BASE64.encode(value))),
        6 => joined("ipv6hint", 16, text_of_address::<16>),
        7 => Some(format!("dohpath={}", quoted(value))),
        other => Some(format!("key{other}={}", quoted(value))),
    }
}

fn text_of_address<const OCTETS: usize>(octets: &[u8]) -> Option<String>
where
    IpAddr: From<[u8; OCTETS]>,
{
    let octets: [u8; OCTETS] = octets.try_into().ok()?;
    Some(IpAddr::from(octets).to_string())
}

/// RFC 8659, section 4.1.1.
fn caa(rdata: &[u8]) -> Option<String> {
    let [flags, tag_octets, rest @ ..] = rdata else {
        return None;
    };
    let (tag, value) = rest.split_at_checked(usize::from(*tag_octets))?;
    let tag = std::str::from_utf8(tag).ok()?;
    let plain = tag.bytes().all(|octet| octet.is_ascii_alphanumeric());
    plain.then(|| format!("{flags} {tag} {}", quoted(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_written_as_dig_writes_it() {
        let name = b"\x01a\x07example\x00";
        let mut rrsig = vec![0, 1, 13, 2];
        rrsig.extend(3600_u32.to_be_bytes());
        rrsig.extend(1_798_761_600_u32.to_be_bytes());
        rrsig.extend(1_767_225_600_u32.to_be_bytes());
        rrsig.extend(20326_u16.to_be_bytes());
        rrsig.extend(b"\x07example\x00\xff\xfe\xfd");
        let mut nsec = name.to_vec();
        nsec.extend([0, 6, 0x40, 0, 0, 0, 0, 0x03, 0xff, 1, 0x80]);
        let mut svcb = vec![0, 1, 0, 0, 1, 0, 6];
        svcb.extend(b"\x02h2\x02h3");
        svcb.extend([0, 3, 0, 2, 0x20, 0xfb]);
        svcb.extend([0, 4, 0, 8, 192, 0, 2, 1, 192, 0, 2, 2]);
        svcb.extend([0xff, 0, 0, 1, b'x']);
        let mut mx = vec![0, 10];
        mx.extend(name);
        for (rtype, rdata, expected) in [
            (rtype::A, vec![192, 0, 2, 1], "192.0.2.1"),
            (rtype::AAAA, [0; 16].to_vec(), "::"),
            (rtype::CNAME, name.to_vec(), "a.example."),
            (rtype::DNAME, name.to_vec(), "a.example."),
            (rtype::MX, mx, "10 a.example."),
            (
                rtype::TXT,
                b"\x06say \"x\x03\x1b[m\x00".to_vec(),
                "\"say \\\"x\" \"\\027[m\" \"\"",
            ),
            (
                rtype::RRSIG,
                rrsig,
                "A 13 2 3600 20270101000000 20260101000000 20326 example. //79",
            ),
            (rtype::NSEC, nsec, "a.example. A RRSIG NSEC TYPE65280"),
            (
                rtype::NSEC3,
                b"\x01\x01\x00\x05\x02\xaa\xbb\x05hello\x00\x01\x40".to_vec(),
                "1 1 5 AABB D1IMOR3F A",
            ),
            (
                CAA,
                b"\x00\x05issueca.example".to_vec(),
                "0 issue \"ca.example\"",
            ),
            (
                rtype::HTTPS,
                svcb,
                "1 . alpn=\"h2,h3\" port=8443 ipv4hint=192.0.2.1,192.0.2.2 key65280=\"x\"",
            ),
            (65280, vec![1, 0xff, 2], "\\# 3 01FF02"),
            (65280, vec![], "\\# 0"),
        ] {
            assert_eq!(text(rtype, &rdata), expected);
        }
    }

    #[test]
    fn malformed_data_takes_the_generic_form() {
        for (rtype, rdata) in [
            (rtype::A, vec![1, 2, 3]),
            (rtype::TXT, vec![5, 1]),
            (rtype::RRSIG, vec![0; 17]),
            (rtype::NSEC, vec![0, 0, 9, 1]),
            (rtype::NSEC3, vec![1, 0, 0, 0, 200]),
            (rtype::SOA, vec![0, 0, 1]),
            (rtype::HTTPS, vec![0, 1, 0, 0, 4, 0, 3, 1, 2, 3]),
            (rtype::CNAME, vec![0xc0, 0]),
            (CAA, b"\x00\x02\x1b[x".to_vec()),
            (rtype::OPT, Vec::new()),
        ] {
            let text = text(rtype, &rdata);
            assert!(text.starts_with("\\# "), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_data_sends_control_characters(rtype in 0..300_u16, rdata: Vec<u8>) {
            assert!(!text(rtype, &rdata).chars().any(char::is_control));
        }
    }
}
