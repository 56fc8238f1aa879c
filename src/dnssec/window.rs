//! From when to when a zone's signatures hold: evidence about the time, not about an answer.

use std::sync::Arc;

use crate::{
    clock::Now,
    wire::{CLASS_IN, Name, Question, Record, Response, rtype},
};

use super::{
    keys::KeyCache,
    machine::{FetchFailed, Step, Validation},
    settings::Settings,
    verdict::Verdict,
};

/// Signatures of one set that are tried. The root has one for each set, two while a key rolls.
const SIGNATURES_MAX: usize = 3;

/// When signatures hold, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The later of the beginnings.
    pub from_unix_s: u64,
    /// The earlier of the ends.
    pub until_unix_s: u64,
}

/// When the signatures over the root's SOA and over its keys both hold, if they are right from a
/// trust anchor on but for their dates; of several the newest. Only the root's own key makes
/// such a window, so its beginning has passed whatever a clock says; its end says little about an
/// old one. Of `settings` the root's anchors and SHA-1 count.
///
/// # Limitations
/// The times of signatures are serial numbers of 32 bits; they are read as before 2106.
#[must_use]
pub fn root_window(
    soa: &Response,
    keys: &Response,
    settings: &Settings,
    now: &Now,
) -> Option<Window> {
    let settings = Settings {
        skew_s: 0,
        ..Settings {
            anchors: settings.anchors.clone(),
            sha1: settings.sha1,
            ..Settings::with_root_anchors(Vec::new())
        }
    };
    let settings = Arc::new(settings);
    let mut found: Option<Window> = None;
    for soa in alone(soa, rtype::SOA) {
        for keys in alone(keys, rtype::DNSKEY) {
            let window = Window {
                from_unix_s: soa.begins_unix_s.max(keys.begins_unix_s),
                until_unix_s: soa.ends_unix_s.min(keys.ends_unix_s),
            };
            let is_newer = found.is_none_or(|found| found.from_unix_s < window.from_unix_s);
            if is_newer
                && window.from_unix_s <= window.until_unix_s
                && holds(&soa.response, &keys.response, &settings, &window, now)
            {
                found = Some(window);
            }
        }
    }
    found
}

/// A set with one of its signatures, so that no other can stand in for it.
struct Alone {
    response: Response,
    begins_unix_s: u64,
    ends_unix_s: u64,
}

/// The root's set of this type, with each of its signatures by itself.
fn alone(response: &Response, wanted: u16) -> Vec<Alone> {
    let root = Name::root();
    let of_root = |record: &&Record| record.owner == root;
    let set = response.answer.iter().filter(of_root);
    let set: Vec<Record> = set
        .filter(|record| record.rtype == wanted)
        .cloned()
        .collect();
    let signatures = response.answer.iter().filter(of_root);
    signatures
        .filter(|record| record.rtype == rtype::RRSIG)
        .filter_map(|record| {
            // Type covered, algorithm, labels, TTL, end, beginning (RFC 4034, section 3.1).
            let (covered, rest) = record.rdata.split_first_chunk::<2>()?;
            let (_, rest) = rest.split_first_chunk::<6>()?;
            let (ends, rest) = rest.split_first_chunk::<4>()?;
            let begins = rest.first_chunk::<4>()?;
            (u16::from_be_bytes(*covered) == wanted).then(|| Alone {
                response: Response {
                    answer: set.iter().chain([record]).cloned().collect(),
                    authority: Vec::new(),
                    ..response.clone()
                },
                begins_unix_s: u32::from_be_bytes(*begins).into(),
                ends_unix_s: u32::from_be_bytes(*ends).into(),
            })
        })
        .take(SIGNATURES_MAX)
        .collect()
}

/// Whether the SOA is secure at the window's beginning.
fn holds(
    soa: &Response,
    keys: &Response,
    settings: &Arc<Settings>,
    window: &Window,
    now: &Now,
) -> bool {
    let at = |qtype| Question {
        name: Name::root(),
        qtype,
        qclass: CLASS_IN,
    };
    let then = Now {
        unix_s: window.from_unix_s,
        ..*now
    };
    let mut validation = Validation::new(at(rtype::SOA), soa, Arc::clone(settings), then);
    let nothing_known = KeyCache::default();
    let mut is_supplied = false;
    loop {
        match validation.step(&nothing_known) {
            Step::Done(judged) => return judged.verdict == Verdict::Secure,
            // It asks for the keys; what else it asks for it must do without.
            Step::Need(_) if is_supplied => return false,
            Step::Need(needs) => {
                for need in needs {
                    if need == at(rtype::DNSKEY) {
                        validation.supply(need, Ok(keys));
                    } else {
                        validation.supply(need, Err(FetchFailed::Network));
                    }
                }
                is_supplied = true;
            }
        }
    }
}
