//! Records in presentation form, as the RFCs print them (RFC 1035, section 5.1; RFC 3597).

use data_encoding::{BASE32HEX_NOPAD, BASE64, HEXLOWER_PERMISSIVE};

use crate::wire::{CLASS_IN, Record, rtype};

use super::lab::name;

const TYPES: &[(&str, u16)] = &[
    ("A", rtype::A),
    ("NS", rtype::NS),
    ("CNAME", rtype::CNAME),
    ("SOA", rtype::SOA),
    ("HINFO", rtype::HINFO),
    ("MX", rtype::MX),
    ("TXT", rtype::TXT),
    ("AAAA", rtype::AAAA),
    ("SRV", rtype::SRV),
    ("NAPTR", rtype::NAPTR),
    ("DNAME", rtype::DNAME),
    ("DS", rtype::DS),
    ("RRSIG", rtype::RRSIG),
    ("NSEC", rtype::NSEC),
    ("DNSKEY", rtype::DNSKEY),
    ("NSEC3", rtype::NSEC3),
    ("NSEC3PARAM", rtype::NSEC3PARAM),
    ("TLSA", 52),
    ("CDS", 59),
    ("CDNSKEY", 60),
];

pub(super) fn type_number(text: &str) -> u16 {
    if let Some((_, number)) = TYPES.iter().find(|(name, _)| *name == text) {
        return *number;
    }
    let number = text
        .strip_prefix("TYPE")
        .unwrap_or_else(|| panic!("type {text}"));
    number.parse().unwrap()
}

/// One record a line: owner, TTL, optional class, type, RDATA. Blanks inside base64 are allowed.
pub(super) fn records(text: &str) -> Vec<Record> {
    text.lines()
        .map(|line| line.split(';').next().unwrap().trim())
        .filter(|line| !line.is_empty())
        .map(record)
        .collect()
}

fn record(line: &str) -> Record {
    let mut words = line.split_whitespace();
    let owner = name(words.next().unwrap());
    let ttl_s = words.next().unwrap().parse().unwrap();
    let mut word = words.next().unwrap();
    if word == "IN" {
        word = words.next().unwrap();
    }
    let rtype = type_number(word);
    let rest: Vec<&str> = words.collect();
    Record {
        owner,
        rtype,
        class: CLASS_IN,
        ttl_s,
        rdata: rdata(rtype, &rest).into_boxed_slice(),
    }
}

fn rdata(rtype: u16, words: &[&str]) -> Vec<u8> {
    if words[0] == "\\#" {
        return hex(&words[2..].concat());
    }
    let wire = name_octets;
    let u8_of = |text: &str| vec![text.parse::<u8>().unwrap()];
    let u16_of = |text: &str| text.parse::<u16>().unwrap().to_be_bytes().to_vec();
    let u32_of = |text: &str| text.parse::<u32>().unwrap().to_be_bytes().to_vec();
    let base64 = |words: &[&str]| BASE64.decode(words.concat().as_bytes()).unwrap();
    let string = |text: &str| {
        let text = text.trim_matches('"');
        let mut octets = vec![u8::try_from(text.len()).unwrap()];
        octets.extend_from_slice(text.as_bytes());
        octets
    };
    match rtype {
        rtype::A => words[0]
            .parse::<std::net::Ipv4Addr>()
            .unwrap()
            .octets()
            .to_vec(),
        rtype::AAAA => words[0]
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets()
            .to_vec(),
        rtype::NS | rtype::CNAME | rtype::DNAME => wire(words[0]),
        rtype::MX => [u16_of(words[0]), wire(words[1])].concat(),
        rtype::SRV => {
            let numbers = words[..3].iter().map(|word| u16_of(word));
            [numbers.collect::<Vec<_>>().concat(), wire(words[3])].concat()
        }
        rtype::HINFO | rtype::TXT => words.iter().flat_map(|word| string(word)).collect(),
        rtype::SOA => {
            let numbers = words[2..7].iter().flat_map(|word| u32_of(word));
            [wire(words[0]), wire(words[1]), numbers.collect()].concat()
        }
        rtype::DNSKEY | 60 => [
            u16_of(words[0]),
            u8_of(words[1]),
            u8_of(words[2]),
            base64(&words[3..]),
        ]
        .concat(),
        rtype::DS | 59 => [
            u16_of(words[0]),
            u8_of(words[1]),
            u8_of(words[2]),
            hex(&words[3..].concat()),
        ]
        .concat(),
        52 => [
            u8_of(words[0]),
            u8_of(words[1]),
            u8_of(words[2]),
            hex(&words[3..].concat()),
        ]
        .concat(),
        rtype::RRSIG => [
            type_number(words[0]).to_be_bytes().to_vec(),
            u8_of(words[1]),
            u8_of(words[2]),
            u32_of(words[3]),
            time(words[4]).to_be_bytes().to_vec(),
            time(words[5]).to_be_bytes().to_vec(),
            u16_of(words[6]),
            wire(words[7]),
            base64(&words[8..]),
        ]
        .concat(),
        rtype::NAPTR => [
            u16_of(words[0]),
            u16_of(words[1]),
            string(words[2]),
            string(words[3]),
            string(words[4]),
            wire(words[5]),
        ]
        .concat(),
        rtype::NSEC => [wire(words[0]), types(&words[1..])].concat(),
        rtype::NSEC3PARAM => [
            u8_of(words[0]),
            u8_of(words[1]),
            u16_of(words[2]),
            salt(words[3]),
        ]
        .concat(),
        rtype::NSEC3 => {
            let next = BASE32HEX_NOPAD
                .decode(words[4].to_uppercase().as_bytes())
                .unwrap();
            [
                u8_of(words[0]),
                u8_of(words[1]),
                u16_of(words[2]),
                salt(words[3]),
                vec![u8::try_from(next.len()).unwrap()],
                next,
                types(&words[5..]),
            ]
            .concat()
        }
        other => panic!("type {other} has no reader"),
    }
}

/// A name without escapes, case kept.
fn name_octets(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        octets.push(u8::try_from(label.len()).unwrap());
        octets.extend_from_slice(label.as_bytes());
    }
    octets.push(0);
    octets
}

fn salt(text: &str) -> Vec<u8> {
    let octets = if text == "-" { Vec::new() } else { hex(text) };
    [vec![u8::try_from(octets.len()).unwrap()], octets].concat()
}

pub(super) fn hex(text: &str) -> Vec<u8> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap()
}

fn types(words: &[&str]) -> Vec<u8> {
    let mut windows = std::collections::BTreeMap::<u8, [u8; 32]>::new();
    for word in words {
        let [window, low] = type_number(word).to_be_bytes();
        windows.entry(window).or_default()[usize::from(low >> 3)] |= 0x80 >> (low & 7);
    }
    let mut octets = Vec::new();
    for (window, bits) in windows {
        let len = bits.iter().rposition(|octet| *octet != 0).unwrap() + 1;
        octets.extend_from_slice(&[window, u8::try_from(len).unwrap()]);
        octets.extend_from_slice(&bits[..len]);
    }
    octets
}

/// Seconds since 1970, or YYYYMMDDHHMMSS (RFC 4034, section 3.2).
pub(super) fn time(text: &str) -> u32 {
    if text.len() != 14 {
        return text.parse().unwrap();
    }
    let part = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let (year, month, day) = (part(0..4), part(4..6), part(6..8));
    // Days since 1970-01-01 by counting years from March, so that leap days come last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + part(8..10) * 3600 + part(10..12) * 60 + part(12..14);
    u32::try_from(seconds).unwrap()
}

#[test]
fn times_read_as_the_calendar_says() {
    assert_eq!(time("19700101000000"), 0);
    assert_eq!(time("20040509183619"), 1_084_127_779);
    assert_eq!(time("20000229120000"), 951_825_600);
    assert_eq!(time("1440021600"), 1_440_021_600);
}
