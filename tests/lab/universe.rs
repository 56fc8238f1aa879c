//! Every zone of the tree, built and linked: parents hold the NS and DS of their children. Made
//! once for a lab; signatures are made when first asked for.

use super::name::Name;
use super::sign::{FLAG_REVOKE, FLAG_SEP, FLAG_ZONE, Key, ds_line};
use super::zone::{Child, DAY_S, Window, Zone};
use super::zones::{Defect, Delegation, ZONES, ZoneSpec};
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long signatures are valid after the lab's `now`.
pub const VALIDITY: Duration = Duration::from_secs(14 * 86_400);

/// All zones.
pub struct Universe {
    zones: HashMap<Name, Zone>,
}

impl Universe {
    /// Builds every zone, valid from a day before `now`.
    ///
    /// # Panics
    /// If `now` is before 1970-07, or the tree is not declared well.
    pub fn new(now: SystemTime) -> Self {
        let now = now.duration_since(UNIX_EPOCH).expect("after 1970");
        let seconds = |time: Duration| u32::try_from(time.as_secs()).expect("before 2106");
        let window = Window {
            inception: seconds(now) - DAY_S,
            expiration: seconds(now + VALIDITY),
        };
        let apexes: Vec<Name> = ZONES.iter().map(|spec| Name::parse(spec.apex)).collect();
        let mut keys: Vec<Vec<Key>> = ZONES.iter().map(keys_of).collect();
        let mut children: HashMap<Name, Vec<Child>> = HashMap::new();
        for ((spec, apex), keys) in ZONES.iter().zip(&apexes).zip(&keys) {
            let Some(parent) = parent_zone(apex, &apexes) else {
                continue;
            };
            children.entry(parent).or_default().push(Child {
                apex: apex.clone(),
                ds: ds_of(spec, apex, keys),
            });
        }
        let zones = ZONES.iter().zip(&apexes).zip(keys.drain(..));
        Self {
            zones: zones
                .map(|((spec, apex), keys)| {
                    let children = children.remove(apex).unwrap_or_default();
                    (apex.clone(), Zone::new(*spec, keys, &children, window))
                })
                .collect(),
        }
    }

    /// The zone with this apex.
    ///
    /// # Panics
    /// If there is none.
    pub fn zone(&self, apex: &str) -> &Zone {
        self.zones
            .get(&Name::parse(apex))
            .unwrap_or_else(|| panic!("the lab has no zone {apex}"))
    }

    /// Every zone, in no order.
    pub fn zones(&self) -> impl Iterator<Item = &Zone> {
        self.zones.values()
    }

    /// The deepest zone that a name lies in.
    pub fn zone_of(&self, name: &Name) -> &Zone {
        let mut at = name.clone();
        loop {
            if let Some(zone) = self.zones.get(&at) {
                return zone;
            }
            at = at.parent().expect("the root is a zone");
        }
    }

    /// Whether a name is a zone's apex.
    pub fn is_apex(&self, name: &Name) -> bool {
        self.zones.contains_key(name)
    }

    /// The root's trust anchor as a DS line.
    pub fn trust_anchor_ds(&self) -> String {
        let root = Name::root();
        let key = self.zones[&root].keys.first().expect("the root is signed");
        ds_line(&root, &key.ds(&root, 2))
    }
}

/// The zone right above an apex.
fn parent_zone(apex: &Name, apexes: &[Name]) -> Option<Name> {
    let mut at = apex.parent()?;
    while !apexes.contains(&at) {
        at = at.parent()?;
    }
    Some(at)
}

fn keys_of(spec: &ZoneSpec) -> Vec<Key> {
    let Some(algorithm) = spec.algorithm else {
        return Vec::new();
    };
    let csk = FLAG_ZONE | FLAG_SEP;
    let make = |algorithm: u8, flags: u16, role: &str| match algorithm {
        8 | 10 => Key::rsa(algorithm, flags, rsa_pem(spec.apex, role)),
        _ => Key::generate(algorithm, flags),
    };
    match spec.defect {
        Some(Defect::TwoAlgorithms { .. }) => vec![make(8, csk, ""), make(13, csk, "")],
        Some(Defect::RevokedKey) => vec![make(algorithm, csk | FLAG_REVOKE, "")],
        Some(Defect::NoZoneFlag) => vec![make(algorithm, FLAG_SEP, "")],
        Some(Defect::WrongProtocol) => {
            let mut key = make(algorithm, csk, "");
            key.protocol = 4;
            vec![key]
        }
        _ if spec.split_keys => vec![
            make(algorithm, csk, "ksk"),
            make(algorithm, FLAG_ZONE, "zsk"),
        ],
        _ => vec![make(algorithm, csk, "")],
    }
}

fn ds_of(spec: &ZoneSpec, apex: &Name, keys: &[Key]) -> Vec<Vec<u8>> {
    let Some(key) = keys.first() else {
        return Vec::new();
    };
    let changed = |mut ds: Vec<u8>, at: usize, value: u8| {
        ds[at] = value;
        ds
    };
    let wrong = || {
        let ds = key.ds(apex, 2);
        let flipped = ds[4] ^ 0xff;
        changed(ds, 4, flipped)
    };
    match spec.delegation {
        Delegation::Secure(digests) => {
            // With two algorithms each has its DS.
            let signers = match spec.defect {
                Some(Defect::TwoAlgorithms { .. }) => keys,
                _ => &keys[..1],
            };
            signers
                .iter()
                .flat_map(|key| digests.iter().map(|&digest| key.ds(apex, digest)))
                .collect()
        }
        Delegation::Insecure => Vec::new(),
        Delegation::WrongDs => vec![wrong()],
        Delegation::Sha1BesideWrongSha256 => vec![key.ds(apex, 1), wrong()],
        Delegation::UnknownAlgorithm => vec![changed(key.ds(apex, 2), 2, 200)],
        Delegation::UnknownDigest => vec![changed(key.ds(apex, 2), 3, 200)],
        Delegation::RightAmongOthers => vec![
            changed(key.ds(apex, 2), 2, 200),
            Key::generate(13, FLAG_ZONE | FLAG_SEP).ds(apex, 2),
            key.ds(apex, 2),
        ],
    }
}

fn rsa_pem(apex: &str, role: &str) -> &'static str {
    match (apex, role) {
        (".", "ksk") => include_str!("keys/root-ksk.pem"),
        (".", _) => include_str!("keys/root-zsk.pem"),
        ("org", _) => include_str!("keys/org.pem"),
        ("rsasha256.com", _) => include_str!("keys/rsasha256.com.pem"),
        ("rsasha512.com", _) => include_str!("keys/rsasha512.com.pem"),
        // One RSA key is enough for both zones of two algorithms.
        ("dualalg.com" | "halfbroken.com", _) => include_str!("keys/dualalg.com.pem"),
        _ => panic!("no RSA key for {apex}: see keys/README.md"),
    }
}
