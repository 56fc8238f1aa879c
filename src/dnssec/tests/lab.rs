//! A small signed internet: zones, a signer, and an upstream that answers from them. It shares no
//! code with the validator but names and the numbers of types.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use data_encoding::BASE32HEX_NOPAD;
use ring::{
    digest,
    signature::{Ed25519KeyPair, KeyPair},
};

use crate::{
    clock::Now,
    dnssec::{Ds, FetchFailed, Judged, KeyCache, Settings, Step, Validation, foresee, key_tag},
    wire::{CLASS_IN, Name, Question, Record, Response, rcode, rtype},
};

/// The moment at which the lab lives.
pub(super) const UNIX_S: u64 = 1_800_000_000;
/// The TTL of everything in the lab, in seconds.
pub(super) const TTL_S: u32 = 3600;
pub(super) const INCEPTION: u32 = 1_800_000_000 - 86_400;
pub(super) const EXPIRATION: u32 = 1_800_000_000 + 7 * 86_400;

pub(super) fn now() -> Now {
    Now {
        unix_s: UNIX_S,
        ..Now::read()
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(super) fn question(owner: &str, qtype: u16) -> Question {
    Question {
        name: name(owner),
        qtype,
        qclass: CLASS_IN,
    }
}

pub(super) fn record(owner: &Name, rtype: u16, rdata: &[u8]) -> Record {
    Record {
        owner: owner.clone(),
        rtype,
        class: CLASS_IN,
        ttl_s: TTL_S,
        rdata: Box::from(rdata),
    }
}

/// An Ed25519 key made from a number.
pub(super) struct Signer {
    pair: Ed25519KeyPair,
    pub(super) dnskey: Vec<u8>,
    pub(super) tag: u16,
}

impl Signer {
    pub(super) fn new(seed: u8) -> Self {
        Self::with(seed, 257, 3, 15)
    }

    /// A key whose DNSKEY says what it should not.
    pub(super) fn with(seed: u8, flags: u16, protocol: u8, algorithm: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let mut dnskey = flags.to_be_bytes().to_vec();
        dnskey.extend_from_slice(&[protocol, algorithm]);
        dnskey.extend_from_slice(pair.public_key().as_ref());
        let tag = key_tag(&dnskey);
        Self { pair, dnskey, tag }
    }

    pub(super) fn ds(&self, zone: &Name) -> Ds {
        let mut octets = zone.as_wire().to_vec();
        octets.extend_from_slice(&self.dnskey);
        Ds {
            key_tag: self.tag,
            algorithm: self.dnskey[3],
            digest_type: 2,
            digest: Box::from(digest::digest(&digest::SHA256, &octets).as_ref()),
        }
    }

    /// An RRSIG over these RDATA, which must be in canonical form.
    pub(super) fn rrsig(&self, what: &ToSign<'_>) -> Vec<u8> {
        let mut head = what.rtype.to_be_bytes().to_vec();
        head.push(self.dnskey[3]);
        head.push(what.labels);
        head.extend_from_slice(&what.ttl_s.to_be_bytes());
        head.extend_from_slice(&what.expiration.to_be_bytes());
        head.extend_from_slice(&what.inception.to_be_bytes());
        head.extend_from_slice(&self.tag.to_be_bytes());
        head.extend_from_slice(what.zone.as_wire());
        let mut message = head.clone();
        let sorted: BTreeSet<&Vec<u8>> = what.rdata.iter().collect();
        for rdata in sorted {
            message.extend_from_slice(what.owner.as_wire());
            message.extend_from_slice(&what.rtype.to_be_bytes());
            message.extend_from_slice(&CLASS_IN.to_be_bytes());
            message.extend_from_slice(&what.ttl_s.to_be_bytes());
            message.extend_from_slice(&u16::try_from(rdata.len()).unwrap().to_be_bytes());
            message.extend_from_slice(rdata);
        }
        head.extend_from_slice(self.pair.sign(&message).as_ref());
        head
    }
}

/// What a signature is made over, and what it says about itself.
pub(super) struct ToSign<'a> {
    pub(super) zone: &'a Name,
    pub(super) owner: &'a Name,
    pub(super) labels: u8,
    pub(super) rtype: u16,
    pub(super) ttl_s: u32,
    pub(super) rdata: &'a [Vec<u8>],
    pub(super) inception: u32,
    pub(super) expiration: u32,
}

/// How a zone denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denying {
    Nsec,
    Nsec3 {
        iterations: u16,
        salt: Vec<u8>,
        opt_out: bool,
    },
}

pub(super) struct Zone {
    pub(super) apex: Name,
    /// `None` for an unsigned zone.
    pub(super) signer: Option<Signer>,
    pub(super) denying: Denying,
    pub(super) sets: BTreeMap<Name, BTreeMap<u16, Vec<Vec<u8>>>>,
}

impl Zone {
    pub(super) fn new(apex: &str, seed: u8) -> Self {
        let apex = name(apex);
        let mut soa = b"\x02ns\x00\x01h\x00".to_vec();
        soa.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 60]);
        let mut zone = Self {
            apex: apex.clone(),
            signer: (seed != 0).then(|| Signer::new(seed)),
            denying: Denying::Nsec,
            sets: BTreeMap::new(),
        };
        zone.put(&apex, rtype::SOA, soa);
        zone.put(&apex, rtype::NS, b"\x02ns\x00".to_vec());
        if let Some(signer) = &zone.signer {
            let dnskey = signer.dnskey.clone();
            zone.put(&apex, rtype::DNSKEY, dnskey);
        }
        zone
    }

    pub(super) fn nsec3(mut self, iterations: u16, opt_out: bool) -> Self {
        self.denying = Denying::Nsec3 {
            iterations,
            salt: vec![0xab, 0xcd],
            opt_out,
        };
        self
    }

    pub(super) fn with(mut self, owner: &str, rtype: u16, rdata: &[u8]) -> Self {
        self.put(&name(owner), rtype, rdata.to_vec());
        self
    }

    /// With an address at each of these names.
    pub(super) fn hosts(mut self, owners: &[&str]) -> Self {
        for owner in owners {
            self.put(&name(owner), rtype::A, vec![192, 0, 2, 1]);
        }
        self
    }

    pub(super) fn alias(self, owner: &str, target: &str) -> Self {
        self.with(owner, rtype::CNAME, name(target).as_wire())
    }

    pub(super) fn put(&mut self, owner: &Name, rtype: u16, rdata: Vec<u8>) {
        let types = self.sets.entry(owner.clone()).or_default();
        types.entry(rtype).or_default().push(rdata);
    }

    fn is_cut(&self, owner: &Name) -> bool {
        *owner != self.apex
            && self
                .sets
                .get(owner)
                .is_some_and(|types| types.contains_key(&rtype::NS))
    }

    /// The owners the zone speaks for: nothing below a cut.
    fn owners(&self) -> Vec<Name> {
        self.sets
            .keys()
            .filter(|owner| {
                !self
                    .sets
                    .keys()
                    .any(|cut| self.is_cut(cut) && owner.is_within(cut) && *owner != cut)
            })
            .cloned()
            .collect()
    }

    /// Whether `owner` exists, if only as an ancestor.
    fn exists(&self, owner: &Name) -> bool {
        self.sets.keys().any(|one| one.is_within(owner))
    }

    /// The set with its signature, under `owner` though it stands at `at` (a wildcard).
    pub(super) fn set(&self, at: &Name, rtype: u16, owner: &Name) -> Vec<Record> {
        let rdata = self.sets[at][&rtype].clone();
        self.signed(at, rtype, owner, &rdata)
    }

    /// Any records with the zone's signature, if the zone signs.
    pub(super) fn signed(
        &self,
        at: &Name,
        rtype: u16,
        owner: &Name,
        rdata: &[Vec<u8>],
    ) -> Vec<Record> {
        let mut records: Vec<Record> = rdata
            .iter()
            .map(|rdata| record(owner, rtype, rdata))
            .collect();
        let unsigned_ns = rtype == rtype::NS && *at != self.apex;
        if let Some(signer) = &self.signer
            && !unsigned_ns
        {
            let rrsig = signer.rrsig(&self.to_sign(at, rtype, rdata));
            records.push(record(owner, rtype::RRSIG, &rrsig));
        }
        records
    }

    pub(super) fn to_sign<'a>(
        &'a self,
        at: &'a Name,
        rtype: u16,
        rdata: &'a [Vec<u8>],
    ) -> ToSign<'a> {
        let labels = at.label_count() - usize::from(at.is_wildcard());
        ToSign {
            zone: &self.apex,
            owner: at,
            labels: u8::try_from(labels).unwrap(),
            rtype,
            ttl_s: TTL_S,
            rdata,
            inception: INCEPTION,
            expiration: EXPIRATION,
        }
    }

    fn soa(&self) -> Vec<Record> {
        self.set(&self.apex, rtype::SOA, &self.apex)
    }

    /// The NSEC or NSEC3 at a name that exists.
    pub(super) fn at(&self, owner: &Name) -> Vec<Record> {
        match &self.denying {
            _ if self.signer.is_none() => Vec::new(),
            Denying::Nsec => self.nsec_at(owner),
            Denying::Nsec3 { .. } => {
                let hash = self.hash(owner);
                self.nsec3_where(|gap, _| *gap == hash)
            }
        }
    }

    /// The NSEC or NSEC3 whose gap a name that does not exist lies in.
    pub(super) fn over(&self, owner: &Name) -> Vec<Record> {
        match &self.denying {
            _ if self.signer.is_none() => Vec::new(),
            Denying::Nsec => {
                let owners = self.owners();
                let before = owners.iter().filter(|one| *one < owner).max().unwrap();
                self.nsec_at(before)
            }
            Denying::Nsec3 { .. } => {
                let hash = self.hash(owner);
                self.nsec3_where(|gap, next| {
                    if gap < next {
                        *gap < hash && hash < *next
                    } else {
                        hash > *gap || hash < *next
                    }
                })
            }
        }
    }

    fn nsec_at(&self, owner: &Name) -> Vec<Record> {
        let owners = self.owners();
        let next = owners.iter().filter(|one| *one > owner).min();
        let next = next.unwrap_or(&self.apex);
        let mut rdata = next.as_wire().to_vec();
        rdata.extend(self.bitmap(owner, &[rtype::NSEC, rtype::RRSIG]));
        self.signed(owner, rtype::NSEC, owner, &[rdata])
    }

    fn nsec3_where(&self, wanted: impl Fn(&Vec<u8>, &Vec<u8>) -> bool) -> Vec<Record> {
        let Denying::Nsec3 {
            iterations,
            salt,
            opt_out,
        } = &self.denying
        else {
            return Vec::new();
        };
        let mut names = BTreeSet::new();
        for owner in self.owners() {
            let unsigned = self.is_cut(&owner) && !self.sets[&owner].contains_key(&rtype::DS);
            if *opt_out && unsigned {
                continue;
            }
            for count in self.apex.label_count()..=owner.label_count() {
                names.insert(owner.suffix(count));
            }
        }
        let hashes: BTreeMap<Vec<u8>, Name> = names
            .into_iter()
            .map(|one| (self.hash(&one), one))
            .collect();
        let all: Vec<&Vec<u8>> = hashes.keys().collect();
        for (place, (hash, owner)) in hashes.iter().enumerate() {
            let next = all[(place + 1) % all.len()];
            if !wanted(hash, next) {
                continue;
            }
            let mut rdata = vec![1, u8::from(*opt_out)];
            rdata.extend_from_slice(&iterations.to_be_bytes());
            rdata.push(u8::try_from(salt.len()).unwrap());
            rdata.extend_from_slice(salt);
            rdata.push(20);
            rdata.extend_from_slice(next);
            rdata.extend(self.bitmap(owner, &[rtype::RRSIG]));
            let label = BASE32HEX_NOPAD.encode(hash).into_bytes();
            let at = self.apex.child(&label).unwrap();
            return self.signed(&at, rtype::NSEC3, &at, &[rdata]);
        }
        Vec::new()
    }

    fn hash(&self, owner: &Name) -> Vec<u8> {
        let Denying::Nsec3 {
            iterations, salt, ..
        } = &self.denying
        else {
            return Vec::new();
        };
        let mut hash = owner.as_wire().to_vec();
        for _ in 0..=*iterations {
            hash.extend_from_slice(salt);
            let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &hash);
            hash = sha1.as_ref().to_vec();
        }
        hash
    }

    fn bitmap(&self, owner: &Name, more: &[u16]) -> Vec<u8> {
        let types = self.sets.get(owner);
        let present: Vec<u16> =
            types.map_or_else(Vec::new, |types| types.keys().copied().collect());
        if present.is_empty() {
            return Vec::new();
        }
        bitmap(&[&present[..], more].concat())
    }
}

/// A type bitmap of types below 256.
pub(super) fn bitmap(types: &[u16]) -> Vec<u8> {
    let mut bits = [0_u8; 32];
    for one in types {
        bits[usize::from(one >> 3)] |= 0x80 >> (one & 7);
    }
    let len = bits
        .iter()
        .rposition(|octet| *octet != 0)
        .map_or(0, |last| last + 1);
    let mut octets = vec![0, u8::try_from(len).unwrap()];
    octets.extend_from_slice(&bits[..len]);
    octets
}

/// All zones, the root first, each under its parent.
pub(super) struct World {
    pub(super) zones: Vec<Zone>,
}

impl World {
    /// Ties the zones together: an NS for each child at its parent, and a DS for each signed one.
    pub(super) fn new(mut zones: Vec<Zone>) -> Self {
        let cuts: Vec<(Name, Option<Ds>)> = zones
            .iter()
            .map(|zone| {
                let ds = zone.signer.as_ref().map(|signer| signer.ds(&zone.apex));
                (zone.apex.clone(), ds)
            })
            .collect();
        for (apex, ds) in cuts {
            let Some(above) = apex.parent() else { continue };
            let parent = zones
                .iter_mut()
                .filter(|zone| above.is_within(&zone.apex))
                .max_by_key(|zone| zone.apex.label_count())
                .unwrap();
            parent.put(&apex, rtype::NS, b"\x02ns\x00".to_vec());
            if let Some(ds) = ds {
                parent.put(&apex, rtype::DS, ds_rdata(&ds));
            }
        }
        Self { zones }
    }

    pub(super) fn zone(&self, apex: &str) -> &Zone {
        let apex = name(apex);
        self.zones.iter().find(|zone| zone.apex == apex).unwrap()
    }

    pub(super) fn zone_mut(&mut self, apex: &str) -> &mut Zone {
        let apex = name(apex);
        self.zones
            .iter_mut()
            .find(|zone| zone.apex == apex)
            .unwrap()
    }

    pub(super) fn settings(&self) -> Settings {
        let signer = self.zones[0].signer.as_ref().unwrap();
        Settings::with_root_anchors(vec![signer.ds(&Name::root())])
    }

    fn zone_of(&self, owner: &Name, qtype: u16) -> &Zone {
        self.zones
            .iter()
            .filter(|zone| owner.is_within(&zone.apex))
            .filter(|zone| qtype != rtype::DS || zone.apex != *owner || owner.is_root())
            .max_by_key(|zone| zone.apex.label_count())
            .unwrap()
    }

    /// What an honest upstream answers.
    pub(super) fn respond(&self, question: &Question) -> Response {
        let mut response = Response {
            rcode: rcode::NOERROR,
            truncated: false,
            question: question.clone(),
            answer: Vec::new(),
            authority: Vec::new(),
            extended_errors: Vec::new(),
        };
        let mut owner = question.name.clone();
        for _ in 0..20 {
            let zone = self.zone_of(&owner, question.qtype);
            match zone.answer(&owner, question.qtype, &mut response) {
                Some(target) => owner = target,
                None => break,
            }
        }
        response
    }
}

impl Zone {
    /// Adds what this zone says; returns the name to go on with after an alias.
    fn answer(&self, owner: &Name, qtype: u16, response: &mut Response) -> Option<Name> {
        // A DNAME above.
        for count in self.apex.label_count()..owner.label_count() {
            let above = owner.suffix(count);
            let Some(rdata) = self.sets.get(&above).and_then(|set| set.get(&rtype::DNAME)) else {
                continue;
            };
            response
                .answer
                .extend(self.set(&above, rtype::DNAME, &above));
            let mut target = Name::from_wire(&rdata[0]).unwrap();
            let own: Vec<&[u8]> = owner.labels().take(owner.label_count() - count).collect();
            for label in own.into_iter().rev() {
                let Ok(longer) = target.child(label) else {
                    response.rcode = rcode::YXDOMAIN;
                    return None;
                };
                target = longer;
            }
            response
                .answer
                .push(record(owner, rtype::CNAME, target.as_wire()));
            return (qtype != rtype::CNAME).then_some(target);
        }
        if let Some(types) = self.sets.get(owner) {
            return self.answer_at(owner, owner, types, qtype, response);
        }
        if self.exists(owner) {
            self.deny(response, rcode::NOERROR, vec![self.at_or_over(owner)]);
            return None;
        }
        let mut closest = owner.parent().unwrap();
        while !self.exists(&closest) {
            closest = closest.parent().unwrap();
        }
        let next_closer = owner.suffix(closest.label_count() + 1);
        let wildcard = closest.child(b"*").unwrap();
        let is_nsec3 = matches!(self.denying, Denying::Nsec3 { .. });
        if let Some(types) = self.sets.get(&wildcard) {
            let answers = types.contains_key(&qtype) || types.contains_key(&rtype::CNAME);
            response.authority.extend(self.over(&next_closer));
            if is_nsec3 && !answers {
                response.authority.extend(self.at(&closest));
            }
            return self.answer_at(&wildcard, owner, types, qtype, response);
        }
        let mut proofs = vec![self.over(&next_closer), self.over(&wildcard)];
        if is_nsec3 {
            proofs.push(self.at(&closest));
        }
        self.deny(response, rcode::NXDOMAIN, proofs);
        None
    }

    fn answer_at(
        &self,
        at: &Name,
        owner: &Name,
        types: &BTreeMap<u16, Vec<Vec<u8>>>,
        qtype: u16,
        response: &mut Response,
    ) -> Option<Name> {
        if types.contains_key(&qtype) {
            response.answer.extend(self.set(at, qtype, owner));
            return None;
        }
        if let Some(rdata) = types.get(&rtype::CNAME) {
            response.answer.extend(self.set(at, rtype::CNAME, owner));
            return Some(Name::from_wire(&rdata[0]).unwrap());
        }
        let opted_out = matches!(self.denying, Denying::Nsec3 { opt_out: true, .. })
            && self.is_cut(at)
            && !types.contains_key(&rtype::DS);
        if opted_out {
            let mut closest = at.parent().unwrap();
            while self.at(&closest).is_empty() {
                closest = closest.parent().unwrap();
            }
            let next_closer = at.suffix(closest.label_count() + 1);
            let proofs = vec![self.at(&closest), self.over(&next_closer)];
            self.deny(response, rcode::NOERROR, proofs);
        } else {
            self.deny(response, rcode::NOERROR, vec![self.at(at)]);
        }
        None
    }

    /// For an empty non-terminal: NSEC3 stands at it, NSEC covers it.
    fn at_or_over(&self, owner: &Name) -> Vec<Record> {
        match self.denying {
            Denying::Nsec => self.over(owner),
            Denying::Nsec3 { .. } => self.at(owner),
        }
    }

    fn deny(&self, response: &mut Response, rcode: u16, proofs: Vec<Vec<Record>>) {
        response.rcode = rcode;
        response.authority.extend(self.soa());
        for proof in proofs {
            let known = proof
                .first()
                .is_none_or(|first| response.authority.contains(first));
            if !known {
                response.authority.extend(proof);
            }
        }
    }
}

pub(super) fn ds_rdata(ds: &Ds) -> Vec<u8> {
    let mut rdata = ds.key_tag.to_be_bytes().to_vec();
    rdata.extend_from_slice(&[ds.algorithm, ds.digest_type]);
    rdata.extend_from_slice(&ds.digest);
    rdata
}

/// One client of the lab: keeps what it learned, tampers with what it is told.
pub(super) struct Client<'a> {
    pub(super) world: &'a World,
    pub(super) settings: Settings,
    pub(super) keys: KeyCache,
    pub(super) now: Now,
    /// Rounds of fetches of the last validation, the client's own query not counted.
    pub(super) rounds: usize,
    /// Fetches of the last validation.
    pub(super) fetches: usize,
    pub(super) checks: u16,
    pub(super) speculate: bool,
}

impl<'a> Client<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        Self {
            world,
            settings: world.settings(),
            keys: KeyCache::new(),
            now: now(),
            rounds: 0,
            fetches: 0,
            checks: 0,
            speculate: false,
        }
    }

    pub(super) fn ask(&mut self, question: &Question) -> Judged {
        self.ask_through(question, |question| Some(self.world.respond(question)))
    }

    /// Asks an upstream that changes responses.
    pub(super) fn ask_tampered(
        &mut self,
        question: &Question,
        tamper: impl Fn(&Question, &mut Response),
    ) -> Judged {
        let world = self.world;
        self.ask_through(question, |question| {
            let mut response = world.respond(question);
            tamper(question, &mut response);
            Some(response)
        })
    }

    /// Asks any upstream; `None` is a fetch that fails.
    pub(super) fn ask_through(
        &mut self,
        question: &Question,
        upstream: impl Fn(&Question) -> Option<Response>,
    ) -> Judged {
        let settings = Arc::new(self.settings.clone());
        let response = upstream(question).unwrap();
        let mut validation =
            Validation::new(question.clone(), &response, Arc::clone(&settings), self.now);
        (self.rounds, self.fetches) = (0, 0);
        if self.speculate {
            for one in foresee(question, &self.keys, &settings, &self.now) {
                self.fetches += 1;
                let response = upstream(&one);
                validation.supply(one, response.as_ref().ok_or(FetchFailed::Network));
            }
        }
        loop {
            match validation.step(&self.keys) {
                Step::Done(judged) => {
                    self.checks = validation.checks_made();
                    self.keys.learn(judged.learned.clone(), &self.now);
                    return *judged;
                }
                Step::Need(questions) => {
                    assert!(!questions.is_empty(), "it waits for nothing");
                    self.rounds += 1;
                    assert!(self.rounds < 70, "it never ends");
                    // Backwards, as the order must not matter.
                    for one in questions.into_iter().rev() {
                        self.fetches += 1;
                        let response = upstream(&one);
                        validation.supply(one, response.as_ref().ok_or(FetchFailed::Network));
                    }
                }
            }
        }
    }
}
