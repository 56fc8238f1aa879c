//! The states of RFC 5011, section 4, for the keys of every zone that has an anchor.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use ring::digest::{SHA256, digest};
use thiserror::Error;

use crate::{
    dnssec::{AnchorSet, Ds, ProvedKeys, Reason, Settings, prove_keys},
    wire::{Name, Response},
};

use super::{
    key::{Key, unrevoked},
    read::Seed,
    times,
};

/// How long a new key must have been in the zone before it is trusted, in seconds: 30 days
/// (RFC 5011, section 2.4.1). Whoever stole a key needs to hold it that long unseen.
pub const ADD_HOLD_DOWN_S: u64 = 30 * DAY_S;
/// How long a revoked key must have been gone before it counts as removed, in seconds: 30 days
/// (RFC 5011, section 2.4.2).
pub const REMOVE_HOLD_DOWN_S: u64 = 30 * DAY_S;
/// Zones with anchors at once: the root, and the islands of one operator.
pub const TRUST_POINTS_MAX: usize = 32;
/// Keys tracked for one zone, removed ones included. A root that rolls every three years needs
/// a century for as many. When they are reached, the key removed first is forgotten; if none
/// is removed, new keys are not taken up.
pub const KEYS_PER_TRUST_POINT_MAX: usize = 32;

pub(super) const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;
/// The longest between two queries of a zone's keys (RFC 5011, section 2.3).
const QUERY_INTERVAL_MAX_S: u64 = 15 * DAY_S;

/// Where a key stands (RFC 5011, section 4.2). A key in the RFC's state START is not tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// ADDPEND: new, not trusted before this time, in seconds since 1970, and then only once it
    /// is seen again.
    Pending {
        /// When the add hold-down time ends.
        until_s: u64,
    },
    /// VALID: trusted. Seeded keys start so.
    Valid,
    /// MISSING: trusted, but not in the zone's latest set.
    Missing,
    /// REVOKED: not trusted any more; it was last seen 30 days before this time or earlier.
    Revoked {
        /// When the remove hold-down time ends, if it is not seen before.
        until_s: u64,
    },
    /// REMOVED: remembered only so that it never returns.
    Removed,
}

impl State {
    /// The state in one word, for files, logs and people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Valid => "valid",
            Self::Missing => "missing",
            Self::Revoked { .. } => "revoked",
            Self::Removed => "removed",
        }
    }

    /// Whether a chain of trust may start from the key.
    #[must_use]
    pub const fn is_trusted(self) -> bool {
        matches!(self, Self::Valid | Self::Missing)
    }

    /// When its timer ends, in seconds since 1970.
    #[must_use]
    pub const fn until_s(self) -> Option<u64> {
        match self {
            Self::Pending { until_s } | Self::Revoked { until_s } => Some(until_s),
            _ => None,
        }
    }

    pub(super) const fn is_dead(self) -> bool {
        matches!(self, Self::Revoked { .. } | Self::Removed)
    }
}

/// Who brought a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The program.
    BuiltIn,
    /// A file the operator named.
    Configured,
    /// The zone itself, by RFC 5011.
    Learned,
}

impl Source {
    /// The source in one word, for files and people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Configured => "configured",
            Self::Learned => "learned",
        }
    }
}

/// One key of a zone and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedKey {
    /// The key.
    pub key: Key,
    /// Where it stands.
    pub state: State,
    /// Since when, in seconds since 1970.
    pub since_s: u64,
    /// Who brought it.
    pub source: Source,
}

/// A zone with trust anchors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustPoint {
    /// Who seeded it: the program or the operator.
    pub source: Source,
    /// The digest of the anchors that seeded it, so that a change shows.
    pub seeded_by: [u8; SEED_DIGEST_OCTETS],
    /// When its keys were last proved, in seconds since 1970.
    pub proved_s: Option<u64>,
    /// When to ask for its keys next, in seconds since 1970.
    pub next_query_s: u64,
    /// Its keys, in the order in which they came.
    pub keys: Vec<TrackedKey>,
    /// How long to wait after a failure, in seconds. Not stored.
    pub(super) retry_s: u64,
}

/// Octets kept of the digest of a seed: enough to see a change, no need to withstand attack.
pub const SEED_DIGEST_OCTETS: usize = 8;

/// One thing that happened, to be logged once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The zone.
    pub zone: Name,
    /// The tag of the key it happened to, as it is without the REVOKE bit; `None` if it happened
    /// to the zone.
    pub key_tag: Option<u16>,
    /// What happened.
    pub event: Event,
}

/// What happened to a key or a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key is trusted because somebody wrote it down.
    Seeded,
    /// The key was taken out because the file that seeds the zone does not name it any more.
    Dropped,
    /// The seed names the key, but its zone revoked it: it stays distrusted.
    SeedRevoked,
    /// A new key is in the zone; it will be trusted if it is still there at this time.
    Pending {
        /// When its hold-down time ends, in seconds since 1970.
        until_s: u64,
    },
    /// A pending key left the zone and is forgotten.
    Withdrawn,
    /// A pending key is trusted from now on.
    Trusted,
    /// A trusted key is no longer in the zone; it stays trusted.
    Missing,
    /// A missing key is back.
    Back,
    /// The key revoked itself and is not trusted any more.
    Revoked,
    /// The revoked key has been gone long enough.
    Removed,
    /// A new key was left out because too many are tracked.
    TooManyKeys,
    /// The zone was left out because too many have anchors.
    TooManyZones,
    /// No trusted key is left: everything in the zone is bogus until somebody writes down a new
    /// anchor.
    NoneLeft,
}

impl Event {
    /// Whether somebody should look at it.
    #[must_use]
    pub const fn is_alarm(self) -> bool {
        matches!(
            self,
            Self::SeedRevoked | Self::TooManyKeys | Self::TooManyZones | Self::NoneLeft
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seeded => f.write_str("trusted as written down"),
            Self::Dropped => f.write_str("no longer written down, dropped"),
            Self::SeedRevoked => {
                f.write_str("written down, but revoked by its zone: not trusted; remove the line")
            }
            Self::Pending { until_s } => {
                write!(f, "new, pending until {}", times::to_text(*until_s))
            }
            Self::Withdrawn => f.write_str("left the zone while pending, forgotten"),
            Self::Trusted => f.write_str("trusted from now on"),
            Self::Missing => f.write_str("missing from the zone, still trusted"),
            Self::Back => f.write_str("back in the zone"),
            Self::Revoked => f.write_str("revoked, not trusted any more"),
            Self::Removed => f.write_str("removed"),
            Self::TooManyKeys => f.write_str("new, but left out: too many keys are tracked"),
            Self::TooManyZones => write!(
                f,
                "left out: more than {TRUST_POINTS_MAX} zones have trust anchors; remove some"
            ),
            Self::NoneLeft => f.write_str(
                "no trusted key is left, so everything in the zone is bogus; write down a new \
                 trust anchor",
            ),
        }
    }
}

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
    /// 1970, normally [`super::CLOCK_FLOOR_UNIX_S`].
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
                .or_insert_with(|| TrustPoint {
                    source,
                    seeded_by: [0; SEED_DIGEST_OCTETS],
                    proved_s: None,
                    next_query_s: now_s,
                    keys: Vec::new(),
                    retry_s: HOUR_S,
                });
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
        self.last_s = now_s;
        let mut changes = Vec::new();
        let mut log = Log::new(zone, &mut changes);
        let was_trusted = point.is_trusted();
        point.take_revocations(proved, now_s, &mut log);
        if proved.by_anchor() {
            point.take_keys(proved, now_s, &mut log);
            point.schedule(proved, now_s);
        } else {
            point.next_query_s = now_s.saturating_add(point.retry_s);
        }
        if was_trusted && !point.is_trusted() {
            log.note(None, Event::NoneLeft);
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

impl TrustPoint {
    /// Whether any key is trusted.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.keys.iter().any(|key| key.state.is_trusted())
    }

    /// The anchors for the validator. When no key is trusted, one that no key can fit: without it
    /// the zone would fall to its parent and might become insecure, which RFC 5011, section 5,
    /// allows and which would let a thief of every key switch validation off.
    fn anchors(&self, zone: &Name) -> AnchorSet {
        let set: AnchorSet = self
            .keys
            .iter()
            .filter(|key| key.state.is_trusted())
            .filter_map(|key| key.key.ds(zone))
            .collect();
        if set.is_empty() { vec![closed()] } else { set }
    }

    fn reseed(
        &mut self,
        zone: &Name,
        seeds: &[&Seed],
        afresh: bool,
        now_s: u64,
        log: &mut Log<'_>,
    ) {
        let seeds: Vec<&&Seed> = seeds.iter().filter(|seed| seed.holds_at(now_s)).collect();
        if afresh {
            self.keys.retain(|tracked| {
                let named = seeds
                    .iter()
                    .any(|seed| seed.key.is_same(&tracked.key, zone));
                if !named && tracked.state.is_trusted() {
                    log.note(Some(tracked.key.tag()), Event::Dropped);
                }
                named || tracked.state.is_dead()
            });
        }
        for seed in seeds {
            let tag = Some(seed.key.tag());
            let known = self
                .keys
                .iter_mut()
                .find(|tracked| tracked.key.is_same(&seed.key, zone));
            let event = match known {
                Some(tracked) if tracked.state.is_dead() => Event::SeedRevoked,
                Some(tracked) if tracked.state.is_trusted() => continue,
                Some(tracked) => {
                    tracked.enter(State::Valid, now_s);
                    tracked.source = self.source;
                    Event::Seeded
                }
                None => self.add(seed.key.clone(), State::Valid, self.source, now_s),
            };
            log.note(tag, event);
        }
        if !self.is_trusted() {
            log.note(None, Event::NoneLeft);
        }
    }

    /// Event RevBit. The set needs no other proof: the key itself signed that it is revoked.
    fn take_revocations(&mut self, proved: &ProvedKeys, now_s: u64, log: &mut Log<'_>) {
        let until_s = now_s.saturating_add(REMOVE_HOLD_DOWN_S);
        for seen in proved.keys().iter().filter(|seen| seen.revoked) {
            let before = unrevoked(&seen.rdata);
            for tracked in &mut self.keys {
                if !tracked.state.is_dead() && tracked.key.names(proved.zone(), &before) {
                    tracked.enter(State::Revoked { until_s }, now_s);
                    // The whole key, so that it is known again by whatever digest.
                    tracked.key = Key::Dnskey(before.clone());
                    log.note(Some(tracked.key.tag()), Event::Revoked);
                }
            }
        }
    }

    /// Events NewKey, KeyPres, KeyRem, AddTime and RemTime.
    fn take_keys(&mut self, proved: &ProvedKeys, now_s: u64, log: &mut Log<'_>) {
        let zone = proved.zone();
        self.keys.retain_mut(|tracked| {
            let tag = Some(tracked.key.tag());
            let present = proved
                .keys()
                .iter()
                .any(|seen| tracked.key.names(zone, &seen.rdata));
            match tracked.state {
                State::Pending { .. } if !present => {
                    log.note(tag, Event::Withdrawn);
                    return false;
                }
                State::Pending { until_s } if until_s <= now_s => {
                    tracked.enter(State::Valid, now_s);
                    log.note(tag, Event::Trusted);
                }
                State::Valid if !present => {
                    tracked.enter(State::Missing, now_s);
                    log.note(tag, Event::Missing);
                }
                State::Missing if present => {
                    tracked.enter(State::Valid, now_s);
                    log.note(tag, Event::Back);
                }
                State::Revoked { until_s } => {
                    let seen = present
                        || proved
                            .keys()
                            .iter()
                            .any(|seen| tracked.key.names(zone, &unrevoked(&seen.rdata)));
                    if seen {
                        let until_s = now_s.saturating_add(REMOVE_HOLD_DOWN_S);
                        tracked.state = State::Revoked { until_s };
                    } else if until_s <= now_s {
                        tracked.enter(State::Removed, now_s);
                        log.note(tag, Event::Removed);
                    }
                }
                _ => {}
            }
            true
        });
        let hold_down_s = ADD_HOLD_DOWN_S.max(u64::from(proved.original_ttl_s()));
        for seen in proved.keys().iter().filter(|seen| seen.eligible) {
            // Revoked and removed keys are known too, and so never come back.
            if self.keys.iter().any(|key| key.key.names(zone, &seen.rdata)) {
                continue;
            }
            let key = Key::Dnskey(seen.rdata.clone());
            let tag = Some(key.tag());
            let until_s = now_s.saturating_add(hold_down_s);
            let event = self.add(key, State::Pending { until_s }, Source::Learned, now_s);
            log.note(tag, event);
        }
        self.proved_s = Some(now_s);
    }

    /// When to ask again (RFC 5011, section 2.3).
    fn schedule(&mut self, proved: &ProvedKeys, now_s: u64) {
        let life_s = u64::from(proved.original_ttl_s().min(proved.expires_in_s()));
        let interval_s = (life_s / 2).clamp(HOUR_S, QUERY_INTERVAL_MAX_S);
        self.next_query_s = now_s.saturating_add(interval_s);
        self.retry_s = (life_s / 10).clamp(HOUR_S, DAY_S);
    }

    /// Adds a key, in place of the one removed first if there are too many.
    fn add(&mut self, key: Key, state: State, source: Source, now_s: u64) -> Event {
        if self.keys.len() >= KEYS_PER_TRUST_POINT_MAX {
            let oldest = (0..)
                .zip(&self.keys)
                .filter(|(_, tracked)| tracked.state == State::Removed)
                .min_by_key(|(_, tracked)| tracked.since_s);
            match oldest {
                Some((place, _)) => drop(self.keys.remove(place)),
                None => return Event::TooManyKeys,
            }
        }
        self.keys.push(TrackedKey {
            key,
            state,
            since_s: now_s,
            source,
        });
        match state {
            State::Pending { until_s } => Event::Pending { until_s },
            _ => Event::Seeded,
        }
    }
}

impl TrackedKey {
    const fn enter(&mut self, state: State, now_s: u64) {
        self.state = state;
        self.since_s = now_s;
    }
}

/// The changes of one zone.
struct Log<'a> {
    zone: &'a Name,
    changes: &'a mut Vec<Change>,
}

impl<'a> Log<'a> {
    const fn new(zone: &'a Name, changes: &'a mut Vec<Change>) -> Self {
        Self { zone, changes }
    }

    fn note(&mut self, key_tag: Option<u16>, event: Event) {
        self.changes.push(Change {
            zone: self.zone.clone(),
            key_tag,
            event,
        });
    }
}

/// An anchor of a supported kind that no key fits.
fn closed() -> Ds {
    Ds {
        key_tag: 0,
        algorithm: 8,
        digest_type: 2,
        digest: Box::from([0; 32]),
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
