//! What the operator decides about validation.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::wire::Name;

use super::{limits::SKEW_DEFAULT_S, rdata::Ds};

/// What a chain of trust starts from at one zone: DS records, as IANA publishes them, or digests
/// made from the keys an RFC 5011 keeper holds.
pub type AnchorSet = Vec<Ds>;

/// The validator's settings. Readers hold a snapshot in an [`Arc`] for one query's walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The trust anchors by zone. Normally the root's alone; without one at or above a name,
    /// nothing can be said about the name, and it is indeterminate.
    pub anchors: HashMap<Name, AnchorSet>,
    /// Names at and below which nothing is validated, and until when, in seconds since 1970
    /// (RFC 7646).
    pub negative_trust_anchors: HashMap<Name, u64>,
    /// Zones that live beside the public tree, by a route to servers of their own: each is insecure
    /// where the public tree proves that its name does not exist, and validated like any other
    /// where it does.
    pub private_zones: HashSet<Name>,
    /// Whether algorithms 5 and 7 and digest 1, which rest on SHA-1, are supported. Off by
    /// default: zones that have nothing better are insecure (RFC 9905).
    pub sha1: bool,
    /// How far a signature's window is stretched at both ends, in seconds, 0 to 3600.
    pub skew_s: u32,
}

impl Settings {
    /// Settings with these root anchors and defaults for the rest.
    #[must_use]
    pub fn with_root_anchors(anchors: AnchorSet) -> Self {
        Self {
            anchors: HashMap::from([(Name::root(), anchors)]),
            negative_trust_anchors: HashMap::new(),
            private_zones: HashSet::new(),
            sha1: false,
            skew_s: SKEW_DEFAULT_S,
        }
    }

    /// These settings, to be shared.
    #[must_use]
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }

    /// The closest ancestor of `name`, or `name`, that has an anchor.
    pub(super) fn anchor_above(&self, name: &Name) -> Option<Name> {
        // They are few, most often the root's alone: less work than looking each ancestor up.
        self.anchors
            .iter()
            .filter(|(zone, set)| !set.is_empty() && name.is_within(zone))
            .map(|(zone, _)| zone)
            .max_by_key(|zone| zone.as_wire().len())
            .cloned()
    }

    /// Whether a private zone is at or above `name`.
    pub(super) fn is_private(&self, name: &Name) -> bool {
        self.private_zones.iter().any(|zone| name.is_within(zone))
    }

    /// The closest negative trust anchor at or above `name` that still holds, unless a trust
    /// anchor lies below it (RFC 7646, section 2: the more specific one wins).
    #[must_use]
    pub fn negative_above(&self, name: &Name, unix_s: u64) -> Option<Name> {
        if self.negative_trust_anchors.is_empty() {
            return None;
        }
        let mut at = Some(name.clone());
        while let Some(zone) = at {
            if let Some(until) = self.negative_trust_anchors.get(&zone)
                && unix_s < *until
            {
                return Some(zone);
            }
            if !zone.is_root() && self.anchors.contains_key(&zone) {
                return None;
            }
            at = zone.parent();
        }
        None
    }
}
