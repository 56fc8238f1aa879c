//! Where validators differ from what is right here, or from each other: what each says, and what
//! decides.

use super::{
    cases::Case,
    world::Says::{self, Bogus, Insecure, Secure},
};

/// Cases on which the others do not all say what is right.
pub(super) struct Ruling {
    /// The zones, `*` standing for anything.
    zones: &'static [&'static str],
    /// What is asked.
    asked: &'static [&'static [&'static str]],
    /// What Unbound, BIND and Knot Resolver say.
    pub(super) says: [Says; 3],
    /// What decides.
    pub(super) because: &'static str,
}

impl Ruling {
    fn is_about(&self, case: &Case) -> bool {
        let mut asked = self.asked.iter().copied().flatten();
        let mut zones = self.zones.iter();
        zones.any(|zone| matches(zone, &case.zone)) && asked.any(|asked| *asked == case.asked)
    }
}

/// The ruling about a case.
pub(super) fn ruling(case: &Case) -> Option<&'static Ruling> {
    RULINGS.iter().find(|ruling| ruling.is_about(case))
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
        None => pattern == text,
    }
}

/// What rests on signatures, or on the denial at a name.
const ALONE: &[&str] = &[
    "@ DNSKEY",
    "@ MX",
    "@ SOA",
    "www A",
    "wWW TXT",
    "alias A",
    "*.wild A",
    "far DNAME",
    "www.far A",
    "abroad A",
    "nowhere A",
];
const MATCHES: &[&str] = &["www MX", "ent A", "sub DS"];
/// What rests on the proof that a name does not exist.
const GAPS: &[&str] = &[
    "any.wild A",
    "any.wild TXT",
    "any.kin A",
    "nothing A",
    "under.www A",
];
const UNSIGNED: &[&str] = &["www.sub A"];
const WILDCARD: &[&str] = &["*.wild A"];
/// What a zone with a wrong DS or wrong times loses.
const ZONE: &[&str] = &["www A", "nothing A", "any.wild A", "@ DNSKEY"];

const RULINGS: &[Ruling] = &[
    Ruling {
        zones: &["*-5-nsec", "*-7-nsec", "*-7-nsec3"],
        asked: &[ALONE, MATCHES, GAPS],
        says: [Secure; 3],
        because: SHA1_IS_OFF,
    },
    Ruling {
        zones: &["*-7-optout"],
        asked: &[ALONE, MATCHES],
        says: [Secure; 3],
        because: SHA1_IS_OFF,
    },
    Ruling {
        zones: &["*-16-nsec", "*-16-nsec3"],
        asked: &[ALONE, MATCHES, GAPS],
        says: [Secure; 3],
        because: ED448_IS_UNSUPPORTED,
    },
    Ruling {
        zones: &["*-16-optout"],
        asked: &[ALONE, MATCHES],
        says: [Secure; 3],
        because: ED448_IS_UNSUPPORTED,
    },
    Ruling {
        zones: &["bits-768"],
        asked: &[ALONE, MATCHES, GAPS],
        says: [Secure; 3],
        because: "RSA below 1024 bits is unsupported, so insecure: RFC 4035, section 5.2",
    },
    Ruling {
        zones: &["*-iterations-51", "*-iterations-150"],
        asked: &[MATCHES, GAPS],
        says: [Secure, Secure, Insecure],
        because: "above 50 iterations insecure: RFC 9276, section 3.2",
    },
    Ruling {
        zones: &["*-iterations-2500"],
        asked: &[MATCHES, GAPS, UNSIGNED],
        says: [Insecure; 3],
        because: "above 500 iterations bogus: RFC 9276, section 3.2",
    },
    // Knot Resolver takes data of a wildcard that is asked for by its own name for expanded.
    Ruling {
        zones: &[
            "*-iterations-51",
            "*-iterations-150",
            "*-iterations-500",
            "*-iterations-2500",
        ],
        asked: &[WILDCARD],
        says: [Secure, Secure, Insecure],
        because: "a wildcard's own name is not expanded: RFC 4035, section 5.3.4",
    },
    Ruling {
        zones: &["ds-sha1"],
        asked: &[ZONE],
        says: [Secure; 3],
        because: SHA1_IS_OFF,
    },
    Ruling {
        zones: &["ds-sha1-beside-wrong"],
        asked: &[ZONE],
        says: [Secure, Bogus, Bogus],
        because: "SHA-1 is ignored beside SHA-256: RFC 4509, section 3",
    },
    Ruling {
        zones: &["expired-30-minutes", "future-30-minutes"],
        asked: &[ZONE],
        says: [Secure, Bogus, Bogus],
        because: "signatures hold from inception to expiration: RFC 4035, section 5.3.1",
    },
    Ruling {
        zones: &["expired-2-minutes", "future-2-minutes"],
        asked: &[ZONE],
        says: [Secure, Bogus, Bogus],
        because: "`dnssec.skew`, five minutes, beyond what RFC 4035, section 5.3.1 gives",
    },
    Ruling {
        zones: &["revoked"],
        asked: &[ZONE],
        says: [Secure, Secure, Bogus],
        because: "a revoked key signs nothing but its revocation: RFC 5011, section 2.1",
    },
    Ruling {
        zones: &["hidden-leaf"],
        asked: &[&["ent A"]],
        says: [Secure, Bogus, Secure],
        because: "NXDOMAIN with the proof of NODATA is NODATA: RFC 4035, section 5.4",
    },
    Ruling {
        zones: &["top-unsigned-denial"],
        asked: &[&["bare DS"]],
        says: [Bogus, Bogus, Secure],
        because: "NSEC3 without a signature proves nothing: RFC 4035, section 5.4",
    },
];

const SHA1_IS_OFF: &str = "SHA-1 alone is insecure unless asked for: RFC 9905, section 2";
const ED448_IS_UNSUPPORTED: &str = "Ed448 is unsupported, so insecure: RFC 4035, section 5.2";
