//! The keeper: all zones with anchors, what seeds them, and the time.

use std::collections::{BTreeMap, HashMap};

use ring::digest::{SHA256, digest};
use thiserror::Error;

use crate::{
    dnssec::{AnchorSet, ProvedKeys, Reason, Settings, prove_keys},
    wire::{Name, Response},
};

use super::{
    change::{Change, Event, Log},
    point::{SEED_DIGEST_OCTETS, Source, TrustPoint},
    read::Seed,
    times,
};

/// Zones with anchors at once: the root, and the islands of one operator.
pub const TRUST_POINTS_MAX: usize = 32;
/// Why a response changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotObserved {
    /// The clock is earlier than a time that has passed for sure: our machine's fault.
    #[error("the clock shows {}, which is before {}; set it", times::to_text(*now_s), times::to_text(*floor_s))]
    ClockBehind {
        /// What the clock shows, in seconds since 1970.
        now_s: u64,
        /// What has passed.
        floor_s: u64,
    },
    /// No trusted key signed the set: the upstream's or the zone's fault.
    #[error("the zone's keys are not proved: {0}")]
    NotProved(Reason),
    /// The zone has no anchors here: the caller's fault.
    #[error("the zone has no trust anchor")]
    NotTracked,
}

/// All zones with anchors, and the time they know to have passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    pub(super) points: BTreeMap<Name, TrustPoint>,
    /// The latest time at which something was proved, in seconds since 1970. A clock far ahead
    /// cannot push it far: signatures are expired then, and nothing is proved.
    pub(super) last_s: u64,
    /// A time that has passed for sure.
    pub(super) floor_s: u64,
}

impl Keeper {
    /// A keeper without zones. `floor_s` is a time that has passed for sure, in seconds since
    /// 1970, normally [`crate::clock::FLOOR_UNIX_S`].
    #[must_use]
    pub const fn new(floor_s: u64) -> Self {
        Self {
            points: BTreeMap::new(),
            last_s: 0,
            floor_s,
        }
    }

    /// Makes `seeds` what was written down, by the program or the operator. Cheap when nothing
    /// changed since the last time, which is the rule.
    ///
    /// - A zone seen for the first time trusts those of its seeds that hold now. Afterwards only
    ///   the zone decides, whatever dates its seeds had (RFC 5011).
    /// - When the operator's anchors for a zone change, or come in place of the built-in ones or
    ///   the reverse, the zone starts afresh from the new ones; only revocations are remembered.
    ///   What an operator writes is what holds.
    /// - When the built-in anchors change, which a new version of the program brings, new ones
    ///   are trusted and nothing is dropped: the keeper may know more than the program.
    /// - A zone without seeds is forgotten.
    ///
    /// A seed that was revoked stays revoked. Zones beyond [`TRUST_POINTS_MAX`] are left out, with
    /// an alarm.
    pub fn seed(&mut self, seeds: &[Seed], source: Source, now_s: u64) -> Vec<Change> {
        // Dates are judged by a clock that can be right.
        let now_s = now_s.max(self.floor());
        let mut by_zone: BTreeMap<&Name, Vec<&Seed>> = BTreeMap::new();
        for seed in seeds {
            by_zone.entry(&seed.zone).or_default().push(seed);
        }
        self.points.retain(|zone, _| by_zone.contains_key(zone));
        let mut changes = Vec::new();
        for (count, (zone, seeds)) in by_zone.into_iter().enumerate() {
            if count >= TRUST_POINTS_MAX {
                Log::new(zone, &mut changes).note(None, Event::TooManyZones);
                self.points.remove(zone);
                continue;
            }
            let seeded_by = seed_digest(&seeds);
            let point = self
                .points
                .entry(zone.clone())
                .or_insert_with(|| TrustPoint::new(source, [0; SEED_DIGEST_OCTETS], now_s));
            if point.seeded_by == seeded_by && point.source == source {
                continue;
            }
            let afresh = source != Source::BuiltIn || point.source != source;
            point.source = source;
            point.seeded_by = seeded_by;
            point.next_query_s = now_s;
            let mut log = Log::new(zone, &mut changes);
            point.reseed(zone, &seeds, afresh, now_s, &mut log);
        }
        changes
    }

    /// Judges a response to the question for the DNSKEY set of `zone` and takes it in. Of
    /// `settings`, SHA-1 and the clock's tolerance count.
    ///
    /// # Errors
    /// When nothing in it is proved, or the clock is wrong; then nothing changes but the time of
    /// the next query.
    pub fn observe(
        &mut self,
        zone: &Name,
        response: &Response,
        settings: &Settings,
        now_s: u64,
    ) -> Result<Vec<Change>, NotObserved> {
        self.check_clock(zone, now_s)?;
        let point = self.points.get(zone).ok_or(NotObserved::NotTracked)?;
        let proved = prove_keys(zone, response, &point.anchors(zone), settings, now_s);
        match proved {
            Ok(proved) => self.take(&proved, now_s),
            Err(reason) => {
                self.failed(zone, now_s);
                Err(NotObserved::NotProved(reason))
            }
        }
    }

    /// Takes in what was proved about a zone: the transitions of RFC 5011, section 4.
    ///
    /// # Errors
    /// When the clock is wrong or the zone has no anchors here; then no key changes.
    pub fn take(&mut self, proved: &ProvedKeys, now_s: u64) -> Result<Vec<Change>, NotObserved> {
        let zone = proved.zone();
        self.check_clock(zone, now_s)?;
        let point = self.points.get_mut(zone).ok_or(NotObserved::NotTracked)?;
        let mut changes = Vec::new();
        let mut log = Log::new(zone, &mut changes);
        let was_trusted = point.is_trusted();
        point.take_revocations(proved, now_s, &mut log);
        // Only keys that are known here prove what time it is: a stranger can sign for any.
        let is_of_ours = proved.by_anchor() || !log.is_empty();
        if proved.by_anchor() {
            point.take_keys(proved, now_s, &mut log);
            point.schedule(proved, now_s);
        } else {
            point.next_query_s = now_s.saturating_add(point.retry_s);
        }
        if was_trusted && !point.is_trusted() {
            log.note(None, Event::NoneLeft);
        }
        if is_of_ours {
            self.last_s = now_s;
        }
        Ok(changes)
    }

    /// A clock that is behind must not start a timer, which would then end too early.
    fn check_clock(&mut self, zone: &Name, now_s: u64) -> Result<(), NotObserved> {
        let floor_s = self.floor();
        if floor_s <= now_s {
            return Ok(());
        }
        self.failed(zone, now_s);
        Err(NotObserved::ClockBehind { now_s, floor_s })
    }

    /// Says that a zone's keys could not be fetched or proved, so that the next try comes sooner
    /// than the next query would (RFC 5011, section 2.3).
    pub fn failed(&mut self, zone: &Name, now_s: u64) {
        if let Some(point) = self.points.get_mut(zone) {
            point.next_query_s = now_s.saturating_add(point.retry_s);
        }
    }

    /// When to ask for the keys of `zone` next, in seconds since 1970. A caller whose clock may
    /// jump waits 15 days at most, whatever comes out.
    #[must_use]
    pub fn next_query_s(&self, zone: &Name) -> Option<u64> {
        self.points.get(zone).map(|point| point.next_query_s)
    }

    /// The anchors for the validator, by zone.
    #[must_use]
    pub fn anchors(&self) -> HashMap<Name, AnchorSet> {
        self.points
            .iter()
            .map(|(zone, point)| (zone.clone(), point.anchors(zone)))
            .collect()
    }

    /// The zones and their keys, in the canonical order of names.
    pub fn points(&self) -> impl Iterator<Item = (&Name, &TrustPoint)> {
        self.points.iter()
    }

    /// The latest time that has passed for sure, in seconds since 1970.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.last_s.max(self.floor_s)
    }
}

/// The digest of a zone's seeds, whatever their order.
fn seed_digest(seeds: &[&Seed]) -> [u8; SEED_DIGEST_OCTETS] {
    let mut lines: Vec<String> = seeds
        .iter()
        .map(|seed| {
            format!(
                "{} {:?} {:?}\n",
                seed.key, seed.valid_from_s, seed.valid_until_s
            )
        })
        .collect();
    lines.sort_unstable();
    lines.dedup();
    let whole = digest(&SHA256, lines.concat().as_bytes());
    let mut short = [0; SEED_DIGEST_OCTETS];
    short
        .iter_mut()
        .zip(whole.as_ref())
        .for_each(|(to, from)| *to = *from);
    short
}
