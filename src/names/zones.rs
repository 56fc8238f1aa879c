//! The zones: IANA's registries "Special-Use Domain Names" and "Locally-Served DNS Zones", and what
//! is reserved elsewhere.
//!
//! Not here: `example` and its kin are names of the public DNS like any other (RFC 6761,
//! section 6.5).

use std::{collections::HashMap, sync::LazyLock};

use crate::wire::Name;

/// What a zone has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: it does not exist, nor does anything below.
    Absent,
    /// Its apex only (RFC 6303, section 3).
    Empty,
    /// Loopback addresses, at every name.
    Localhost,
    /// The well-known addresses of NAT64 discovery, at the apex.
    Ipv4Only,
    /// One PTR record.
    Pointer {
        owner: &'static str,
        target: &'static str,
    },
    /// The names by which clients ask the resolver about itself.
    Resolver,
}

/// A special-use zone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zone {
    pub(super) kind: Kind,
    /// The document that reserves it.
    pub(super) document: &'static str,
}

impl Zone {
    /// Whether the zone above is one of the public tree's that delegates this one, unsigned.
    pub(super) fn has_public_parent(&self, apex: &Name) -> bool {
        self.kind != Kind::Absent && apex.label_count() > 1
    }
}

/// 127.0.0.1 in the reverse tree.
const LOOPBACK: &str = "1.0.0.127.in-addr.arpa";
/// ::1 in the reverse tree.
const LOOPBACK_6: &str = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa";
/// :: in the reverse tree.
const UNSPECIFIED_6: &str =
    "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa";
/// The well-known addresses of NAT64 discovery in the reverse tree.
const WELL_KNOWN: [&str; 2] = ["170.0.0.192.in-addr.arpa", "171.0.0.192.in-addr.arpa"];

/// Every zone but those that are counted up by [`numbered`].
pub(super) const ZONES: &[(&str, Kind, &str)] = &[
    ("localhost", Kind::Localhost, "RFC 6761"),
    ("invalid", Kind::Absent, "RFC 6761"),
    ("test", Kind::Absent, "RFC 6761"),
    ("local", Kind::Absent, "RFC 6762"),
    ("onion", Kind::Absent, "RFC 7686"),
    ("alt", Kind::Absent, "RFC 9476"),
    ("internal", Kind::Absent, "ICANN"),
    // A browser that sees this name denied leaves resolving to the system's resolver, which was
    // chosen on purpose and is as private.
    ("use-application-dns.net", Kind::Absent, "Mozilla"),
    ("home.arpa", Kind::Empty, "RFC 8375"),
    ("service.arpa", Kind::Empty, "RFC 9665"),
    ("resolver.arpa", Kind::Resolver, "RFC 9462"),
    ("ipv4only.arpa", Kind::Ipv4Only, "RFC 8880"),
    (WELL_KNOWN[0], nat64(WELL_KNOWN[0]), "RFC 8880"),
    (WELL_KNOWN[1], nat64(WELL_KNOWN[1]), "RFC 8880"),
    ("6tisch.arpa", Kind::Absent, "RFC 9031"),
    ("eap-noob.arpa", Kind::Absent, "RFC 9140"),
    ("eap.arpa", Kind::Absent, "RFC 9965"),
    ("10.in-addr.arpa", Kind::Empty, "RFC 6303"),
    ("168.192.in-addr.arpa", Kind::Empty, "RFC 6303"),
    ("0.in-addr.arpa", Kind::Empty, "RFC 6303"),
    ("127.in-addr.arpa", localhost(LOOPBACK), "RFC 6303"),
    ("254.169.in-addr.arpa", Kind::Empty, "RFC 6303"),
    ("2.0.192.in-addr.arpa", Kind::Empty, "RFC 6303"),
    ("100.51.198.in-addr.arpa", Kind::Empty, "RFC 6303"),
    ("113.0.203.in-addr.arpa", Kind::Empty, "RFC 6303"),
    ("255.255.255.255.in-addr.arpa", Kind::Empty, "RFC 6303"),
    (UNSPECIFIED_6, Kind::Empty, "RFC 6303"),
    (LOOPBACK_6, localhost(LOOPBACK_6), "RFC 6303"),
    ("d.f.ip6.arpa", Kind::Empty, "RFC 6303"),
    ("8.e.f.ip6.arpa", Kind::Empty, "RFC 6303"),
    ("9.e.f.ip6.arpa", Kind::Empty, "RFC 6303"),
    ("a.e.f.ip6.arpa", Kind::Empty, "RFC 6303"),
    ("b.e.f.ip6.arpa", Kind::Empty, "RFC 6303"),
    ("8.b.d.0.1.0.0.2.ip6.arpa", Kind::Empty, "RFC 6303"),
];

const fn localhost(owner: &'static str) -> Kind {
    let target = "localhost";
    Kind::Pointer { owner, target }
}

const fn nat64(owner: &'static str) -> Kind {
    let target = "ipv4only.arpa";
    Kind::Pointer { owner, target }
}

/// The reverse zones of 172.16.0.0/12 (RFC 6303) and 100.64.0.0/10 (RFC 7793).
fn numbered() -> impl Iterator<Item = (String, &'static str)> {
    let private = (16..=31).map(|octet| (format!("{octet}.172.in-addr.arpa"), "RFC 6303"));
    let shared = (64..=127).map(|octet| (format!("{octet}.100.in-addr.arpa"), "RFC 7793"));
    private.chain(shared)
}

/// The zones by the wire form of their apexes.
static BY_NAME: LazyLock<HashMap<Box<[u8]>, Zone>> = LazyLock::new(|| {
    let entry = |apex: &str, kind, document| {
        let apex = Box::from(name(apex).as_wire());
        (apex, Zone { kind, document })
    };
    let written = ZONES
        .iter()
        .map(|&(apex, kind, document)| entry(apex, kind, document));
    let counted = numbered().map(|(apex, document)| entry(&apex, Kind::Empty, document));
    written.chain(counted).collect()
});

/// The top-level labels of the zones. They are few, so nearly every name is known by its last label
/// not to be within any.
static TOP_LABELS: LazyLock<Vec<Box<[u8]>>> = LazyLock::new(|| {
    let apexes = ZONES.iter().map(|&(apex, ..)| name(apex));
    let apexes = apexes.chain(numbered().map(|(apex, _)| name(&apex)));
    let top = |apex: Name| apex.labels().last().map(Box::from);
    let mut labels: Vec<Box<[u8]>> = apexes.filter_map(top).collect();
    labels.sort_unstable();
    labels.dedup();
    labels
});

/// The most labels of an apex: an IPv6 address in the reverse tree.
const LABELS_MAX: usize = 34;

/// The zone that `name` is in, and its apex. No zone lies within another.
pub(super) fn of(name: &Name) -> Option<(Name, Zone)> {
    let top = name.labels().last()?;
    if !TOP_LABELS.iter().any(|label| **label == *top) {
        return None;
    }
    let wire = name.as_wire();
    let too_long = name.label_count().saturating_sub(LABELS_MAX);
    let mut at = 0;
    for (label, octets) in name.labels().enumerate() {
        let suffix = wire.get(at..)?;
        if label >= too_long
            && let Some(zone) = BY_NAME.get(suffix)
        {
            return Some((Name::from_wire(suffix).ok()?, *zone));
        }
        at += octets.len() + 1;
    }
    None
}

/// The apexes of all zones.
#[cfg(test)]
pub(super) fn apexes() -> impl Iterator<Item = Name> {
    BY_NAME.keys().map(|apex| Name::from_wire(apex).unwrap())
}

/// A name written in this room.
pub(super) fn name(text: &str) -> Name {
    Name::parse(text).expect("the names of the table are well-formed")
}
