//! What a validation will probably ask for, known before the answer is: so that the driver can
//! start the chain together with the client's own query.

use psl::{List, Psl as _};

use crate::{
    clock::Now,
    wire::{CLASS_IN, Name, Question, rtype},
};

use super::{
    chain::{dnskey_of, ds_of},
    keys::{KeyCache, ZoneStatus},
    settings::Settings,
};

/// The labels, counted from the root, among which nearly all zone cuts are: `example.co.uk`.
pub(super) const UPPER_LABELS: usize = 3;
/// The most questions foreseen for one client query.
pub const FORESEEN_MAX: usize = 8;
/// Delegations seen from a zone before its habits count.
const EXPERIENCE_MIN: u16 = 4;

/// The DS and DNSKEY questions that the answer to `question` will probably need, for zones that
/// are not known yet: for each label from the deepest zone known on downwards the DS, and where
/// the zone above has signed delegations often enough the DNSKEY. Nothing under insecure zones,
/// negative trust anchors, or zones that are not known to delegate and hold the name themselves.
#[must_use]
pub fn foresee(
    question: &Question,
    keys: &KeyCache,
    settings: &Settings,
    now: &Now,
) -> Vec<Question> {
    let mut foreseen = Vec::new();
    let name = if question.qtype == rtype::DS {
        question.name.parent().unwrap_or_else(Name::root)
    } else {
        question.name.clone()
    };
    let Some(anchor) = settings.anchor_above(&name) else {
        return foreseen;
    };
    if question.qclass != CLASS_IN || settings.negative_above(&name, now.unix_s).is_some() {
        return foreseen;
    }
    let mut zone = anchor.clone();
    let mut zone_known = matches!(keys.lookup(&anchor, now), Some(ZoneStatus::Secure(_)));
    if !zone_known {
        foreseen.push(dnskey_of(&anchor));
    }
    for count in anchor.label_count() + 1..=name.label_count() {
        let child = name.suffix(count);
        match keys.lookup(&child, now) {
            Some(ZoneStatus::Secure(_)) => {
                // Whatever was foreseen above it is known to be there.
                foreseen.clear();
                zone = child;
                zone_known = true;
                continue;
            }
            Some(ZoneStatus::Insecure(_)) => return Vec::new(),
            Some(ZoneStatus::NotACut {
                nothing_below: true,
            }) => break,
            Some(ZoneStatus::NotACut { .. }) => continue,
            None => {}
        }
        // Below a name of which nothing is known, nothing is known either.
        let (signed, unsigned) = if zone_known {
            keys.children(&zone)
        } else {
            (0, 0)
        };
        // A leaf below a zone that was never seen to delegate is a host, and the zone signs it; so it
        // nearly always is below an unknown name that is nobody's to register names under.
        let is_host = if zone_known {
            count > 2 && signed == 0 && unsigned == 0
        } else {
            count > 2 && count == name.label_count() && !is_public_suffix(&name.suffix(count - 1))
        };
        if count > UPPER_LABELS || is_host {
            break;
        }
        foreseen.push(ds_of(&child));
        let few = signed.saturating_add(unsigned) < EXPERIENCE_MIN;
        let often = signed.saturating_mul(4) >= unsigned;
        if few || often {
            foreseen.push(dnskey_of(&child));
        }
        zone_known = false;
    }
    foreseen.retain(|one| one != question);
    foreseen.truncate(FORESEEN_MAX);
    foreseen
}

/// Whether people register names right below this one: `co.uk` (the Public Suffix List).
fn is_public_suffix(name: &Name) -> bool {
    let labels: Vec<&[u8]> = name.labels().collect();
    let suffix = List.find(labels.iter().rev().copied());
    // The suffix's length counts its dots.
    let dots = labels.len().saturating_sub(1);
    suffix.typ.is_some()
        && suffix.len == labels.iter().map(|label| label.len()).sum::<usize>() + dots
}
