//! RDATA from presentation form to wire octets, for the types the lab's zones hold, in two
//! spellings: as served (case kept) and canonical (RFC 4034, section 6.2: names of the old types
//! in lower case). Knows no zones.

use super::name::wire;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Record types by number, as the lab uses them.
pub mod rtype {
    #![allow(missing_docs, reason = "the names are the registry's")]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const NAPTR: u16 = 35;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const DS: u16 = 43;
    pub const RRSIG: u16 = 46;
    pub const NSEC: u16 = 47;
    pub const DNSKEY: u16 = 48;
    pub const NSEC3: u16 = 50;
    pub const NSEC3PARAM: u16 = 51;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
    pub const ANY: u16 = 255;
    pub const CAA: u16 = 257;
}

/// Names of types, both ways.
const TYPES: [(&str, u16); 21] = [
    ("A", rtype::A),
    ("NS", rtype::NS),
    ("CNAME", rtype::CNAME),
    ("SOA", rtype::SOA),
    ("PTR", rtype::PTR),
    ("MX", rtype::MX),
    ("TXT", rtype::TXT),
    ("AAAA", rtype::AAAA),
    ("SRV", rtype::SRV),
    ("DNAME", rtype::DNAME),
    ("DS", rtype::DS),
    ("RRSIG", rtype::RRSIG),
    ("NSEC", rtype::NSEC),
    ("DNSKEY", rtype::DNSKEY),
    ("NSEC3", rtype::NSEC3),
    ("NSEC3PARAM", rtype::NSEC3PARAM),
    ("SVCB", rtype::SVCB),
    ("HTTPS", rtype::HTTPS),
    ("ANY", rtype::ANY),
    ("CAA", rtype::CAA),
    ("NAPTR", rtype::NAPTR),
];

/// The number of a type, from its name or from `TYPEnnn` (RFC 3597).
///
/// # Panics
/// If the name is not known.
pub fn type_number(name: &str) -> u16 {
    TYPES
        .iter()
        .find(|(text, _)| *text == name)
        .map(|&(_, number)| number)
        .or_else(|| name.strip_prefix("TYPE")?.parse().ok())
        .unwrap_or_else(|| panic!("the lab does not know the type {name}"))
}

/// The name of a type.
pub fn type_name(number: u16) -> String {
    TYPES
        .iter()
        .find(|&&(_, known)| known == number)
        .map_or_else(|| format!("TYPE{number}"), |(text, _)| (*text).to_owned())
}

/// One RDATA, as served and as signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rdata {
    /// What goes into responses.
    pub served: Vec<u8>,
    /// What goes under signatures.
    pub canonical: Vec<u8>,
}

impl Rdata {
    /// RDATA without names in it, or with names that are lower case already.
    pub fn plain(octets: Vec<u8>) -> Self {
        Self {
            canonical: octets.clone(),
            served: octets,
        }
    }

    /// Reads presentation form; names without a dot at the end are relative to `origin`, `@` is
    /// the origin itself.
    ///
    /// # Panics
    /// If the text does not fit the type.
    pub fn parse(rtype: u16, text: &str, origin: &str) -> Self {
        let served = octets(rtype, text, origin);
        // Lower case everywhere is right only where every letter is part of a name.
        let canonical = match rtype {
            rtype::NS
            | rtype::CNAME
            | rtype::SOA
            | rtype::PTR
            | rtype::MX
            | rtype::SRV
            | rtype::DNAME => octets(rtype, &text.to_ascii_lowercase(), origin),
            _ => served.clone(),
        };
        Self { served, canonical }
    }
}

/// Completes a name with the origin.
pub fn absolute(text: &str, origin: &str) -> String {
    match text {
        "@" => origin.to_owned(),
        _ if text.ends_with('.') => text.to_owned(),
        _ if origin.trim_end_matches('.').is_empty() => format!("{text}."),
        _ => format!("{text}.{}.", origin.trim_end_matches('.')),
    }
}

fn octets(rtype: u16, text: &str, origin: &str) -> Vec<u8> {
    let fields = fields(text);
    let field = |at: usize| -> &str {
        fields
            .get(at)
            .unwrap_or_else(|| panic!("field {at} is missing in {text}"))
    };
    let number = |at: usize| -> u16 { field(at).parse().expect("a number") };
    let name = |at: usize| wire(&absolute(field(at), origin));
    let mut out = Vec::new();
    match rtype {
        rtype::A => out.extend(field(0).parse::<Ipv4Addr>().expect("IPv4").octets()),
        rtype::AAAA => out.extend(field(0).parse::<Ipv6Addr>().expect("IPv6").octets()),
        rtype::NS | rtype::CNAME | rtype::PTR | rtype::DNAME => out = name(0),
        rtype::SOA => {
            out = name(0);
            out.extend(name(1));
            for at in 2..7 {
                out.extend(field(at).parse::<u32>().expect("a number").to_be_bytes());
            }
        }
        rtype::MX => {
            out.extend(number(0).to_be_bytes());
            out.extend(name(1));
        }
        rtype::TXT => {
            for string in &fields {
                push_string(&mut out, string.as_bytes());
            }
        }
        rtype::SRV => {
            for at in 0..3 {
                out.extend(number(at).to_be_bytes());
            }
            out.extend(name(3));
        }
        rtype::NAPTR => {
            out.extend(number(0).to_be_bytes());
            out.extend(number(1).to_be_bytes());
            for at in 2..5 {
                push_string(&mut out, field(at).as_bytes());
            }
            out.extend(name(5));
        }
        rtype::CAA => {
            out.push(field(0).parse().expect("flags"));
            push_string(&mut out, field(1).as_bytes());
            out.extend(field(2).as_bytes());
        }
        rtype::SVCB | rtype::HTTPS => {
            out.extend(number(0).to_be_bytes());
            out.extend(name(1));
            for parameter in fields.iter().skip(2) {
                push_service_parameter(&mut out, parameter);
            }
        }
        _ => {
            out = data_encoding::HEXLOWER_PERMISSIVE
                .decode(text.replace(' ', "").as_bytes())
                .expect("other types are written in hexadecimal");
        }
    }
    out
}

/// Splits at spaces outside double quotes.
fn fields(text: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut current = String::new();
    let (mut quoted, mut started) = (false, false);
    for letter in text.chars() {
        match letter {
            '"' => {
                quoted = !quoted;
                started = true;
            }
            ' ' if !quoted => {
                if started {
                    fields.push(std::mem::take(&mut current));
                }
                started = false;
            }
            _ => {
                current.push(letter);
                started = true;
            }
        }
    }
    if started {
        fields.push(current);
    }
    fields
}

fn push_string(out: &mut Vec<u8>, string: &[u8]) {
    out.push(u8::try_from(string.len()).expect("strings have at most 255 octets"));
    out.extend_from_slice(string);
}

/// `key=value` of RFC 9460, in ascending order of keys as written.
fn push_service_parameter(out: &mut Vec<u8>, text: &str) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let (number, value): (u16, Vec<u8>) = match key {
        "alpn" => (1, {
            let mut list = Vec::new();
            for id in value.split(',') {
                push_string(&mut list, id.as_bytes());
            }
            list
        }),
        "no-default-alpn" => (2, Vec::new()),
        "port" => (
            3,
            value.parse::<u16>().expect("a port").to_be_bytes().to_vec(),
        ),
        "ipv4hint" => (
            4,
            value
                .split(',')
                .flat_map(|ip| ip.parse::<Ipv4Addr>().expect("IPv4").octets())
                .collect(),
        ),
        "ipv6hint" => (
            6,
            value
                .split(',')
                .flat_map(|ip| ip.parse::<Ipv6Addr>().expect("IPv6").octets())
                .collect(),
        ),
        "dohpath" => (7, value.as_bytes().to_vec()),
        _ => panic!("the lab does not know the service parameter {key}"),
    };
    out.extend(number.to_be_bytes());
    out.extend(u16::try_from(value.len()).expect("short").to_be_bytes());
    out.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_rdata_are_folded_for_signing_only() {
        let mx = Rdata::parse(rtype::MX, "10 Mail", "Example.Net");
        assert_eq!(mx.served, b"\0\x0a\x04Mail\x07Example\x03Net\0");
        assert_eq!(
            mx.canonical.to_ascii_lowercase(),
            mx.served.to_ascii_lowercase()
        );
        let txt = Rdata::parse(rtype::TXT, "\"Two words\" b", ".");
        assert_eq!(txt.canonical, b"\x09Two words\x01b");
    }

    #[test]
    fn types_have_names_both_ways() {
        assert_eq!(type_number("HTTPS"), 65);
        assert_eq!(type_number("TYPE65280"), 65280);
        assert_eq!(type_name(65280), "TYPE65280");
    }
}
