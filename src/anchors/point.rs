//! One zone's keys and their states (RFC 5011, section 4).

use crate::{
    dnssec::{AnchorSet, Ds, ProvedKeys},
    wire::Name,
};

use super::{
    change::{Event, Log},
    key::{Key, unrevoked},
    read::Seed,
};

/// How long a new key must have been in the zone before it is trusted, in seconds: 30 days
/// (RFC 5011, section 2.4.1). Whoever stole a key needs to hold it that long unseen.
pub const ADD_HOLD_DOWN_S: u64 = 30 * DAY_S;
/// How long a revoked key must have been gone before it counts as removed, in seconds: 30 days
/// (RFC 5011, section 2.4.2).
pub const REMOVE_HOLD_DOWN_S: u64 = 30 * DAY_S;
/// Keys tracked for one zone, removed ones included. A root that rolls every three years needs
/// a century for as many. When they are reached, the key removed first is forgotten; if none
/// is removed, new keys are not taken up.
pub const KEYS_PER_TRUST_POINT_MAX: usize = 32;

const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;
/// The longest between two queries of a zone's keys (RFC 5011, section 2.3).
const QUERY_INTERVAL_MAX_S: u64 = 15 * DAY_S;
/// Octets kept of the digest of a seed: enough to see a change, no need to withstand attack.
pub const SEED_DIGEST_OCTETS: usize = 8;

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

impl TrustPoint {
    /// A zone without keys, to be asked for at this time.
    pub(super) const fn new(
        source: Source,
        seeded_by: [u8; SEED_DIGEST_OCTETS],
        next_query_s: u64,
    ) -> Self {
        Self {
            source,
            seeded_by,
            proved_s: None,
            next_query_s,
            keys: Vec::new(),
            retry_s: HOUR_S,
        }
    }

    /// Whether any key is trusted.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.keys.iter().any(|key| key.state.is_trusted())
    }

    /// The anchors for the validator. When no key is trusted, one that no key can fit: without it
    /// the zone would fall to its parent and might become insecure, which RFC 5011, section 5,
    /// allows and which would let a thief of every key switch validation off.
    pub(super) fn anchors(&self, zone: &Name) -> AnchorSet {
        let set: AnchorSet = self
            .keys
            .iter()
            .filter(|key| key.state.is_trusted())
            .filter_map(|key| key.key.ds(zone))
            .collect();
        if set.is_empty() { vec![closed()] } else { set }
    }

    pub(super) fn reseed(
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
    pub(super) fn take_revocations(&mut self, proved: &ProvedKeys, now_s: u64, log: &mut Log<'_>) {
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
    pub(super) fn take_keys(&mut self, proved: &ProvedKeys, now_s: u64, log: &mut Log<'_>) {
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
    pub(super) fn schedule(&mut self, proved: &ProvedKeys, now_s: u64) {
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

/// An anchor of a supported kind that no key fits.
fn closed() -> Ds {
    Ds {
        key_tag: 0,
        algorithm: 8,
        digest_type: 2,
        digest: Box::from([0; 32]),
    }
}
