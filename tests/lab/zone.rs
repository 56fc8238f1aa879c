//! One zone built from its description: nodes, denial chains, and signatures made at the first
//! question for an RRset, with the zone's defect built in. Knows its own names only.

use super::message::Record;
use super::name::{Name, wire};
use super::rdata::{Rdata, absolute, rtype, type_number};
use super::sign::{Key, Signing, nsec3_hash, parent_signs_at_cut, type_bitmap};
use super::zones::{Defect, Denial, ZoneSpec};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::OnceLock;

/// The TTL of records that do not say otherwise, seconds.
pub const TTL_DEFAULT_S: u32 = 300;

/// When signatures are valid, seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// From here.
    pub inception: u32,
    /// Up to here.
    pub expiration: u32,
}

/// An RRset of a zone, with signatures once somebody asked.
pub struct RRset {
    /// The owner; the wildcard itself for wildcards.
    pub owner: Name,
    /// The type.
    pub rtype: u16,
    /// The TTL as signed, seconds.
    pub ttl_s: u32,
    /// The data.
    pub rdata: Vec<Rdata>,
    signatures: OnceLock<Vec<Vec<u8>>>,
}

impl RRset {
    fn new(owner: Name, rtype: u16, ttl_s: u32) -> Self {
        Self {
            owner,
            rtype,
            ttl_s,
            rdata: Vec::new(),
            signatures: OnceLock::new(),
        }
    }
}

/// A name's RRsets by type; empty for an empty non-terminal.
pub type Node = BTreeMap<u16, RRset>;

/// A child's side of a delegation, as its parent needs it.
pub struct Child {
    /// The child's apex.
    pub apex: Name,
    /// The RDATA of its DS records; empty for an insecure delegation.
    pub ds: Vec<Vec<u8>>,
}

/// A zone, ready to answer.
pub struct Zone {
    /// The apex.
    pub apex: Name,
    /// What it was built from.
    pub spec: ZoneSpec,
    /// Its keys; the first signs the keys, the last everything else. None when unsigned.
    pub keys: Vec<Key>,
    /// A key that is not in the DNSKEY RRset.
    stranger: Option<Key>,
    window: Window,
    nodes: BTreeMap<Name, Node>,
    nsec: BTreeMap<Name, RRset>,
    nsec3: BTreeMap<Vec<u8>, RRset>,
}

impl Zone {
    /// Builds the zone with its delegations.
    pub fn new(spec: ZoneSpec, keys: Vec<Key>, children: &[Child], window: Window) -> Self {
        let stranger = (spec.defect == Some(Defect::WrongKey))
            .then(|| Key::generate(13, super::sign::FLAG_ZONE));
        let mut zone = Self {
            apex: Name::parse(spec.apex),
            keys,
            stranger,
            window,
            nodes: BTreeMap::new(),
            nsec: BTreeMap::new(),
            nsec3: BTreeMap::new(),
            spec,
        };
        zone.add_apex();
        let records = zone.spec.records;
        for line in records.lines().map(str::trim).filter(|l| !l.is_empty()) {
            zone.add_line(line);
        }
        for child in children {
            let text = format!("ns1.{}", child.apex);
            let ns = Rdata::parse(rtype::NS, text.trim_end_matches('.'), "");
            zone.add(&child.apex, rtype::NS, TTL_DEFAULT_S, ns);
            for ds in &child.ds {
                zone.add(
                    &child.apex,
                    rtype::DS,
                    TTL_DEFAULT_S,
                    Rdata::plain(ds.clone()),
                );
            }
        }
        zone.add_empty_non_terminals();
        if !zone.keys.is_empty() {
            match zone.spec.denial {
                Denial::Nsec => zone.chain_nsec(),
                Denial::Nsec3 {
                    iterations,
                    salt,
                    opt_out,
                } => zone.chain_nsec3(iterations, salt, opt_out),
            }
        }
        zone
    }

    /// The names and RRsets.
    pub fn node(&self, name: &Name) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// Every name with its RRsets, in canonical order.
    pub fn nodes(&self) -> impl Iterator<Item = (&Name, &Node)> {
        self.nodes.iter()
    }

    /// One RRset.
    pub fn rrset(&self, name: &Name, rtype: u16) -> Option<&RRset> {
        self.nodes.get(name)?.get(&rtype)
    }

    /// Whether the zone is signed.
    pub fn is_signed(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The key that signs zone data.
    pub fn signing_key(&self) -> Option<&Key> {
        self.keys.last()
    }

    /// When this zone's sound signatures are valid.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The closest existing ancestor-or-self of a name in this zone.
    pub fn closest_encloser(&self, name: &Name) -> Name {
        let mut at = name.clone();
        while !self.nodes.contains_key(&at) {
            match at.parent() {
                Some(parent) => at = parent,
                None => break,
            }
        }
        at
    }

    /// The NSEC at or before a name: the one that matches or covers it.
    pub fn nsec_for(&self, name: &Name) -> Option<&RRset> {
        let before = self
            .nsec
            .range((Bound::Unbounded, Bound::Included(name)))
            .next_back();
        before
            .or_else(|| self.nsec.last_key_value())
            .map(|(_, rrset)| rrset)
    }

    /// The NSEC3 whose hash is the name's.
    pub fn nsec3_matching(&self, name: &Name) -> Option<&RRset> {
        self.nsec3.get(&self.hash(name)?)
    }

    /// The NSEC3 whose span holds the name's hash.
    pub fn nsec3_covering(&self, name: &Name) -> Option<&RRset> {
        let hash = self.hash(name)?;
        let before = self
            .nsec3
            .range((Bound::Unbounded, Bound::Excluded(hash)))
            .next_back();
        before
            .or_else(|| self.nsec3.last_key_value())
            .map(|(_, rrset)| rrset)
    }

    fn hash(&self, name: &Name) -> Option<Vec<u8>> {
        match self.spec.denial {
            Denial::Nsec => None,
            Denial::Nsec3 {
                iterations, salt, ..
            } => Some(nsec3_hash(name, salt, iterations)),
        }
    }

    /// The RRset as records under `owner`, with its signatures when wanted and present.
    pub fn records(&self, rrset: &RRset, owner: &Name, dnssec: bool) -> Vec<Record> {
        let record = |rtype: u16, rdata: Vec<u8>| Record {
            owner: owner.as_wire().to_vec(),
            rtype,
            ttl_s: self.served_ttl_s(rrset),
            rdata,
        };
        let mut records: Vec<Record> = rrset
            .rdata
            .iter()
            .map(|rdata| record(rrset.rtype, self.served(rrset.rtype, rdata)))
            .collect();
        if dnssec {
            let signatures = self.signatures(rrset);
            records.extend(
                signatures
                    .iter()
                    .map(|sig| record(rtype::RRSIG, sig.clone())),
            );
        }
        records
    }

    fn served_ttl_s(&self, rrset: &RRset) -> u32 {
        match self.spec.defect {
            Some(Defect::RaisedTtl) if rrset.rtype != rtype::DNSKEY => rrset.ttl_s * 10,
            _ => rrset.ttl_s,
        }
    }

    fn served(&self, rtype: u16, rdata: &Rdata) -> Vec<u8> {
        let mut served = rdata.served.clone();
        let changed = matches!(rtype, rtype::A | rtype::AAAA | rtype::TXT | rtype::MX);
        if self.spec.defect == Some(Defect::Tampered)
            && changed
            && let Some(last) = served.iter_mut().rev().find(|octet| **octet != 0)
        {
            *last ^= 1;
        }
        served
    }

    /// The RDATA of the RRset's RRSIG records, made now if need be.
    pub fn signatures<'a>(&self, rrset: &'a RRset) -> &'a [Vec<u8>] {
        rrset.signatures.get_or_init(|| self.sign(rrset))
    }

    fn sign(&self, rrset: &RRset) -> Vec<Vec<u8>> {
        let at_cut = rrset.owner != self.apex
            && self.rrset(&rrset.owner, rtype::NS).is_some()
            && !parent_signs_at_cut(rrset.rtype);
        let (Some(key_signer), Some(data_signer)) = (self.keys.first(), self.keys.last()) else {
            return Vec::new();
        };
        if at_cut {
            return Vec::new();
        }
        let of_keys = rrset.rtype == rtype::DNSKEY;
        let key = if of_keys { key_signer } else { data_signer };
        let sound = Signing {
            signer: &self.apex,
            owner: &rrset.owner,
            rtype: rrset.rtype,
            ttl_s: rrset.ttl_s,
            inception: self.window.inception,
            expiration: self.window.expiration,
            labels: None,
            key_tag: None,
        };
        let canonical: Vec<Vec<u8>> = rrset.rdata.iter().map(|r| r.canonical.clone()).collect();
        let past = Signing {
            inception: self.window.inception - 90 * DAY_S,
            expiration: self.window.inception - 30 * DAY_S,
            ..sound.clone()
        };
        let broken = |mut signature: Vec<u8>| {
            if let Some(last) = signature.last_mut() {
                *last ^= 1;
            }
            signature
        };
        let right = || sound.sign(key, &canonical);
        match self.spec.defect {
            Some(Defect::Expired) if !of_keys => vec![past.sign(key, &canonical)],
            Some(Defect::ExpiredKeys) if of_keys => vec![past.sign(key, &canonical)],
            Some(Defect::Future) if !of_keys => vec![
                Signing {
                    inception: self.window.expiration + 30 * DAY_S,
                    expiration: self.window.expiration + 90 * DAY_S,
                    ..sound
                }
                .sign(key, &canonical),
            ],
            Some(Defect::WrongKey) if !of_keys => {
                let stranger = self.stranger.as_ref().expect("made for this defect");
                vec![sound.sign(stranger, &canonical)]
            }
            Some(Defect::NoSignature) if !of_keys => Vec::new(),
            Some(Defect::NoKeySignature) if of_keys => Vec::new(),
            Some(Defect::WrongSigner) if !of_keys => {
                let signer = self.apex.parent().unwrap_or_else(Name::root);
                let signing = Signing {
                    signer: &signer,
                    ..sound
                };
                vec![signing.sign(key, &canonical)]
            }
            Some(Defect::BadBeforeGood(bad)) if !of_keys => {
                let mut signatures: Vec<_> = (0..bad)
                    .map(|nth| {
                        let mut signature = broken(right());
                        // They expire a second earlier, so that they also come first for those who
                        // sort, whatever the octets of the signatures are.
                        if let Some(expiration) = signature.get_mut(8..12) {
                            let at = u32::from_be_bytes(expiration.try_into().unwrap()) - 1;
                            expiration.copy_from_slice(&at.to_be_bytes());
                        }
                        // Differ, or they would count as one.
                        if let Some(octet) = signature.iter_mut().rev().nth(1) {
                            *octet = nth;
                        }
                        signature
                    })
                    .collect();
                signatures.push(right());
                signatures
            }
            Some(Defect::KeyTrap(count)) if !of_keys => (0..count)
                .map(|nth| {
                    let mut rdata = sound.sign(key, &canonical);
                    let end = 18 + self.apex.as_wire().len();
                    rdata.truncate(end);
                    rdata[2] = 15;
                    rdata[16..18].copy_from_slice(&TRAP_TAG.to_be_bytes());
                    // R is the base point, S small: well-formed as far as can be seen.
                    rdata.push(0x58);
                    rdata.extend([0x66; 31]);
                    rdata.push(nth);
                    rdata.extend([0; 31]);
                    rdata
                })
                .collect(),
            // Both algorithms sign everything (RFC 4035, section 2.2).
            Some(Defect::TwoAlgorithms { first_is_broken }) => {
                let first = sound.sign(key_signer, &canonical);
                let first = if first_is_broken && !of_keys {
                    broken(first)
                } else {
                    first
                };
                vec![first, sound.sign(data_signer, &canonical)]
            }
            _ => vec![right()],
        }
    }

    fn add_apex(&mut self) {
        let apex = self.apex.clone();
        let soa = "ns1 hostmaster 2026111901 7200 900 1209600 300";
        self.add_text(&apex, rtype::SOA, TTL_DEFAULT_S, soa);
        self.add_text(&apex, rtype::NS, TTL_DEFAULT_S, "ns1");
        let ns1 = apex.prepend(b"ns1").expect("apexes are short");
        self.add_text(&ns1, rtype::A, TTL_DEFAULT_S, "198.51.100.53");
        if self.spec.defect != Some(Defect::NoDnskey) {
            let keys: Vec<Vec<u8>> = self.keys.iter().map(Key::dnskey).collect();
            for key in keys {
                self.add(&apex, rtype::DNSKEY, TTL_DEFAULT_S, Rdata::plain(key));
            }
            if let Some(Defect::KeyTrap(count)) = self.spec.defect {
                for key in trap_keys(count) {
                    self.add(&apex, rtype::DNSKEY, TTL_DEFAULT_S, Rdata::plain(key));
                }
            }
        }
        if let (
            false,
            Denial::Nsec3 {
                iterations, salt, ..
            },
        ) = (self.keys.is_empty(), self.spec.denial)
        {
            let rdata = nsec3_parameters(0, iterations, salt);
            self.add(&apex, rtype::NSEC3PARAM, 0, Rdata::plain(rdata));
        }
    }

    /// One line of a description: `owner [ttl] TYPE rdata`.
    fn add_line(&mut self, line: &str) {
        let (owner, rest) = line.split_once(' ').expect("an owner and more");
        let rest = rest.trim_start();
        let (first, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let (ttl_s, kind, rdata) = match first.parse::<u32>() {
            Ok(ttl_s) => {
                let (kind, rdata) = after.split_once(' ').unwrap_or((after, ""));
                (ttl_s, kind, rdata)
            }
            Err(_) => (TTL_DEFAULT_S, first, after),
        };
        let owner = Name::from_wire(&wire(&absolute(owner, self.spec.apex)));
        match kind {
            // `FILL records octets`: a TXT RRset of that many records and octets each.
            "FILL" => {
                let (records, octets) = rdata.split_once(' ').expect("two numbers");
                for nth in 0..records.parse().expect("a number") {
                    let text = filler(nth, octets.parse().expect("a number"));
                    self.add_text(&owner, rtype::TXT, ttl_s, &text);
                }
            }
            // `MANY n`: that many addresses.
            "MANY" => {
                for nth in 1..=rdata.parse::<u8>().expect("a number") {
                    self.add_text(&owner, rtype::A, ttl_s, &format!("198.51.100.{nth}"));
                }
            }
            _ => self.add_text(&owner, type_number(kind), ttl_s, rdata.trim()),
        }
    }

    fn add_text(&mut self, owner: &Name, rtype: u16, ttl_s: u32, text: &str) {
        let rdata = Rdata::parse(rtype, text, self.spec.apex);
        self.add(owner, rtype, ttl_s, rdata);
    }

    fn add(&mut self, owner: &Name, rtype: u16, ttl_s: u32, rdata: Rdata) {
        assert!(owner.is_at_or_below(&self.apex), "{owner} is elsewhere");
        let node = self.nodes.entry(owner.clone()).or_default();
        let rrset = node
            .entry(rtype)
            .or_insert_with(|| RRset::new(owner.clone(), rtype, ttl_s));
        rrset.rdata.push(rdata);
    }

    fn add_empty_non_terminals(&mut self) {
        let names: Vec<Name> = self.nodes.keys().cloned().collect();
        for name in names {
            let mut at = name.parent();
            while let Some(parent) = at {
                if !parent.is_at_or_below(&self.apex) {
                    break;
                }
                at = parent.parent();
                self.nodes.entry(parent).or_default();
            }
        }
    }

    fn is_cut(&self, name: &Name, node: &Node) -> bool {
        *name != self.apex && node.contains_key(&rtype::NS)
    }

    fn bitmap_types(&self, name: &Name, node: &Node) -> Vec<u16> {
        let cut = self.is_cut(name, node);
        let mut types: Vec<u16> = node.keys().copied().collect();
        if !types.is_empty() && (!cut || node.contains_key(&rtype::DS)) {
            types.push(rtype::RRSIG);
        }
        types
    }

    fn chain_nsec(&mut self) {
        let owners: Vec<&Name> = self
            .nodes
            .iter()
            .filter(|(_, node)| !node.is_empty())
            .map(|(name, _)| name)
            .collect();
        let mut chain = BTreeMap::new();
        for (at, &name) in owners.iter().enumerate() {
            let next = owners.get(at + 1).copied().unwrap_or(&self.apex);
            let mut types = self.bitmap_types(name, &self.nodes[name]);
            types.extend([rtype::NSEC, rtype::RRSIG]);
            let mut rdata = next.as_wire().to_vec();
            rdata.extend(type_bitmap(types));
            let mut rrset = RRset::new(name.clone(), rtype::NSEC, TTL_DEFAULT_S);
            rrset.rdata.push(Rdata::plain(rdata));
            chain.insert(name.clone(), rrset);
        }
        self.nsec = chain;
    }

    fn chain_nsec3(&mut self, iterations: u16, salt: &'static [u8], opt_out: bool) {
        let insecure_cut =
            |name: &Name, node: &Node| self.is_cut(name, node) && !node.contains_key(&rtype::DS);
        let mut hashes: BTreeMap<Vec<u8>, Vec<u16>> = BTreeMap::new();
        for (name, node) in &self.nodes {
            let left_out = opt_out
                && if node.is_empty() {
                    // An empty non-terminal counts only for what is below it (RFC 5155, 7.1).
                    self.nodes
                        .iter()
                        .filter(|(below, node)| !node.is_empty() && below.is_at_or_below(name))
                        .all(|(below, node)| insecure_cut(below, node))
                } else {
                    insecure_cut(name, node)
                };
            if !left_out {
                let types = self.bitmap_types(name, node);
                hashes.insert(nsec3_hash(name, salt, iterations), types);
            }
        }
        let owners: Vec<Vec<u8>> = hashes.keys().cloned().collect();
        let mut chain = BTreeMap::new();
        for (at, (hash, types)) in hashes.into_iter().enumerate() {
            let next = owners.get(at + 1).or(owners.first()).expect("the apex");
            let mut rdata = nsec3_parameters(u8::from(opt_out), iterations, salt);
            rdata.push(20);
            rdata.extend(next);
            rdata.extend(type_bitmap(types));
            let label = data_encoding::BASE32_DNSSEC.encode(&hash);
            let owner = self
                .apex
                .prepend(label.as_bytes())
                .expect("apexes are short");
            let mut rrset = RRset::new(owner, rtype::NSEC3, TTL_DEFAULT_S);
            rrset.rdata.push(Rdata::plain(rdata));
            chain.insert(hash, rrset);
        }
        self.nsec3 = chain;
    }
}

/// Seconds in a day.
pub const DAY_S: u32 = 86_400;

/// The tag that the keys of a [`Defect::KeyTrap`] share.
const TRAP_TAG: u16 = 0x1234;

/// DNSKEY RDATA of Ed25519 keys with one tag: real keys, bent in their first two octets until the
/// sum fits.
fn trap_keys(count: u8) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    while keys.len() < usize::from(count) {
        let mut rdata = Key::generate(15, super::sign::FLAG_ZONE).dnskey();
        rdata[4..6].copy_from_slice(&[0, 0]);
        let missing = TRAP_TAG.wrapping_sub(super::sign::key_tag(&rdata));
        // The tag's carry makes the sum one less or more now and then.
        for bend in [missing, missing.wrapping_sub(1), missing.wrapping_add(1)] {
            rdata[4..6].copy_from_slice(&bend.to_be_bytes());
            if super::sign::key_tag(&rdata) == TRAP_TAG {
                keys.push(rdata);
                break;
            }
        }
    }
    keys
}

fn nsec3_parameters(flags: u8, iterations: u16, salt: &[u8]) -> Vec<u8> {
    let mut rdata = vec![1, flags];
    rdata.extend(iterations.to_be_bytes());
    rdata.push(u8::try_from(salt.len()).expect("salts are short"));
    rdata.extend(salt);
    rdata
}

/// Text of so many octets in strings of at most 200, told apart by its number.
fn filler(nth: usize, octets: usize) -> String {
    let mut text = format!("\"{nth:04}");
    for at in 4..octets {
        if at % 200 == 0 {
            text.push_str("\" \"");
        }
        text.push(char::from(b'a' + u8::try_from(at % 26).unwrap_or(0)));
    }
    text.push('"');
    text
}
