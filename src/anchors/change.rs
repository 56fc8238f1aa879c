//! What happens to keys and zones, for logs and people.

use std::fmt;

use crate::wire::Name;

use super::{keeper::TRUST_POINTS_MAX, times};

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

impl fmt::Display for Change {
    /// One line for a log: `. key 38696: trusted from now on`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key_tag {
            Some(tag) => write!(f, "{} key {tag}: {}", self.zone, self.event),
            None => write!(f, "{}: {}", self.zone, self.event),
        }
    }
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

/// The changes of one zone.
pub(super) struct Log<'a> {
    zone: &'a Name,
    changes: &'a mut Vec<Change>,
}

impl<'a> Log<'a> {
    pub(super) const fn new(zone: &'a Name, changes: &'a mut Vec<Change>) -> Self {
        Self { zone, changes }
    }

    /// Whether nothing was noted yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn note(&mut self, key_tag: Option<u16>, event: Event) {
        self.changes.push(Change {
            zone: self.zone.clone(),
            key_tag,
            event,
        });
    }
}
