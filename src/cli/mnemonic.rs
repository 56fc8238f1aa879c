//! The words people use for DNS numbers: record types, classes, rcodes, extended errors.

use std::borrow::Cow;

use hickory_proto::rr::RecordType;

use crate::wire::CLASS_IN;

/// Types that have a name (IANA "Resource Record (RR) TYPEs") but none in hickory-proto.
const OTHER_TYPES: [(&str, u16); 13] = [
    ("RP", 17),
    ("AFSDB", 18),
    ("LOC", 29),
    ("OPT", 41),
    ("APL", 42),
    ("DHCID", 49),
    ("HIP", 55),
    ("ZONEMD", 63),
    ("SPF", 99),
    ("EUI48", 108),
    ("EUI64", 109),
    ("IXFR", 251),
    ("URI", 256),
];

/// Names of the info codes of RFC 8914 and its registry, by number.
const EXTENDED_ERRORS: [&str; 31] = [
    "Other Error",
    "Unsupported DNSKEY Algorithm",
    "Unsupported DS Digest Type",
    "Stale Answer",
    "Forged Answer",
    "DNSSEC Indeterminate",
    "DNSSEC Bogus",
    "Signature Expired",
    "Signature Not Yet Valid",
    "DNSKEY Missing",
    "RRSIGs Missing",
    "No Zone Key Bit Set",
    "NSEC Missing",
    "Cached Error",
    "Not Ready",
    "Blocked",
    "Censored",
    "Filtered",
    "Prohibited",
    "Stale NXDOMAIN Answer",
    "Not Authoritative",
    "Not Supported",
    "No Reachable Authority",
    "Network Error",
    "Invalid Data",
    "Signature Expired before Valid",
    "Too Early",
    "Unsupported NSEC3 Iterations Value",
    "Unable to conform to policy",
    "Synthesized",
    "Invalid Query Type",
];

/// Reads a type: `AAAA`, `aaaa`, or `TYPE65280` (RFC 3597, section 5).
pub(super) fn read_type(text: &str) -> Option<u16> {
    let upper = text.to_ascii_uppercase();
    if let Some(number) = upper.strip_prefix("TYPE") {
        return number.parse().ok();
    }
    if let Ok(known) = upper.parse::<RecordType>() {
        return Some(known.into());
    }
    OTHER_TYPES
        .iter()
        .find(|(name, _)| *name == upper)
        .map(|(_, number)| *number)
}

/// Writes a type by name, or as `TYPE65280`.
pub(super) fn type_text(rtype: u16) -> Cow<'static, str> {
    if let Some((name, _)) = OTHER_TYPES.iter().find(|(_, number)| *number == rtype) {
        return Cow::Borrowed(name);
    }
    match RecordType::from(rtype) {
        RecordType::Unknown(_) | RecordType::ZERO => Cow::Owned(format!("TYPE{rtype}")),
        known => Cow::Borrowed(known.into()),
    }
}

/// Writes a class by name, or as `CLASS254`.
pub(super) fn class_text(class: u16) -> Cow<'static, str> {
    match class {
        CLASS_IN => Cow::Borrowed("IN"),
        3 => Cow::Borrowed("CH"),
        255 => Cow::Borrowed("ANY"),
        other => Cow::Owned(format!("CLASS{other}")),
    }
}

/// Writes an rcode by name, or as `RCODE23`.
pub(super) fn rcode_text(rcode: u16) -> Cow<'static, str> {
    Cow::Borrowed(match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        6 => "YXDOMAIN",
        7 => "YXRRSET",
        8 => "NXRRSET",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        16 => "BADVERS",
        23 => "BADCOOKIE",
        other => return Cow::Owned(format!("RCODE{other}")),
    })
}

/// The registry's name of an extended error.
pub(super) fn extended_error_text(code: u16) -> &'static str {
    EXTENDED_ERRORS
        .get(usize::from(code))
        .copied()
        .unwrap_or("Unassigned")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_as_it_is_written() {
        for rtype in 1..=u16::MAX {
            let text = type_text(rtype);
            assert_eq!(read_type(&text), Some(rtype), "{text}");
        }
    }

    #[test]
    fn types_are_read_in_any_case_and_by_number() {
        assert_eq!(read_type("aaaa"), Some(28));
        assert_eq!(read_type("Https"), Some(65));
        assert_eq!(read_type("type65280"), Some(65280));
        assert_eq!(read_type("TYPE1"), Some(1));
        assert_eq!(type_text(1), "A");
        for text in ["", "TYPE", "TYPE65536", "AAAAA", "1"] {
            assert_eq!(read_type(text), None, "{text}");
        }
    }
}
