//! Zones whose chain of trust is broken, remembered for a short while, so that each name below them
//! does not cost the whole chain and its repairs again (RFC 4035, section 4.7; RFC 9520).

use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;

use crate::{
    dnssec::{Reason, Why},
    wire::{Name, Question, rtype},
};

/// Zones remembered; beyond it the one that broke longest ago is forgotten.
const ZONES_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");
/// How long a zone is taken for broken at first, seconds; each failure that follows soon doubles it ...
const HOLD_S: u32 = 1;
/// ... up to this, seconds.
const HOLD_MAX_S: u32 = 60;

/// The zones known to be broken.
#[derive(Debug)]
pub(super) struct Broken(Mutex<LruCache<Name, Hold>>);

#[derive(Debug)]
struct Hold {
    reason: Reason,
    /// Uptime at which it ends, and how long it was, seconds.
    ends_s: u32,
    length_s: u32,
}

impl Default for Broken {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(ZONES_MAX)))
    }
}

impl Broken {
    /// Why the answer to `question` cannot be proved, if the zone it would come from, or one above,
    /// broke just now.
    pub(super) fn find(&self, question: &Question, now_s: u32) -> Option<Reason> {
        let zones = self.lock();
        if zones.is_empty() {
            return None;
        }
        let mut at = match question.qtype {
            // It stands at the parent, which signs it.
            rtype::DS => question.name.parent(),
            _ => Some(question.name.clone()),
        };
        while let Some(zone) = at {
            if let Some(hold) = zones.peek(&zone).filter(|hold| now_s < hold.ends_s) {
                return Some(hold.reason.clone());
            }
            at = zone.parent();
        }
        None
    }

    /// Takes note of a bogus verdict. One about a zone's keys concerns every name of the zone; any
    /// other may concern its own record alone, and one about our own bounds says nothing.
    pub(super) fn note(&self, reason: &Reason, now_s: u32) {
        if reason.rtype != rtype::DNSKEY || reason.owner.is_root() || reason.why == Why::OverBudget
        {
            return;
        }
        let mut zones = self.lock();
        let before = zones
            .peek(&reason.owner)
            .filter(|hold| now_s <= hold.ends_s.saturating_add(HOLD_MAX_S));
        let length_s = before.map_or(HOLD_S, |hold| (2 * hold.length_s).min(HOLD_MAX_S));
        let hold = Hold {
            reason: reason.clone(),
            ends_s: now_s.saturating_add(length_s),
            length_s,
        };
        zones.put(reason.owner.clone(), hold);
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<Name, Hold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
