//! Lies that real validators have believed, ready to be told by the lab: what is asked, what the
//! upstream says instead, and what must come of it. Most are replays: every record is genuine and
//! its signature valid, but it does not prove what it is used for.

use super::faults::{FORGED_ADDRESS, Faults};
use super::message::{NOERROR, NXDOMAIN, Query, Record, Response};
use super::name::{Name, wire};
use super::rdata::{rtype, type_number};
use super::sign::{Signing, nsec3_hash, type_bitmap};
use super::universe::Universe;
use super::{Ask, Lab};

/// What must come of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// SERVFAIL.
    Refused,
    /// SERVFAIL, or the true answer for those who can find it otherwise; never the lie.
    RefusedOrTrue,
    /// Data may be given out, never with AD.
    NotSecure,
    /// The proof is sound, only the rcode is not: this one is right.
    Rcode(u16),
}

/// One attack.
pub struct Attack {
    /// What the liar does, in a few words.
    pub claim: &'static str,
    /// The name that the client asks for.
    pub name: &'static str,
    /// The type.
    pub rtype: &'static str,
    /// What must come of it.
    pub outcome: Outcome,
    tell: fn(&Universe, &Faults),
}

impl Attack {
    /// Makes the lab lie, until its faults are reset.
    pub fn install(&self, lab: &Lab) {
        (self.tell)(lab.universe(), lab.faults());
    }
}

/// Every attack.
pub const ATTACKS: &[Attack] = &[
    Attack {
        claim: "another name's signed RRset answers the question",
        name: "www.secure.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let other = universe.ask("mail.secure.com", "A");
            answer_with(faults, "www.secure.com", "A", other.answer);
        },
    },
    Attack {
        claim: "an RRset moved to another owner, its signature with it",
        name: "www.secure.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let moved = universe.ask("mail.secure.com", "A");
            let moved = renamed(&moved.answer, "www.secure.com");
            answer_with(faults, "www.secure.com", "A", moved);
        },
    },
    Attack {
        claim: "a sibling zone signs",
        name: "www.nsec.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let forged = signed_address(universe, "secure.com", "www.nsec.com", None);
            answer_with(faults, "www.nsec.com", "A", forged);
        },
    },
    Attack {
        claim: "a child signs for its parent",
        name: "www.secure.org",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let forged = signed_address(universe, "deep.secure.org", "www.secure.org", None);
            answer_with(faults, "www.secure.org", "A", forged);
        },
    },
    Attack {
        claim: "a wildcard above the signer's zone (labels below the signer's)",
        name: "any.secure.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let forged = signed_address(universe, "secure.com", "any.secure.com", Some("*.com"));
            answer_with(faults, "any.secure.com", "A", forged);
        },
    },
    Attack {
        claim: "a wildcard's expansion for a name that exists",
        name: "exists.wildcard.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let expanded = universe.ask("any.wildcard.com", "A");
            let answer = renamed(&expanded.answer, "exists.wildcard.com");
            lie(faults, "exists.wildcard.com", "A", move |it| {
                it.answer.clone_from(&answer);
                it.authority.clone_from(&expanded.authority);
            });
        },
    },
    Attack {
        claim: "a wildcard's expansion without proof",
        name: "any.wildcard.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |_, faults| without_proof(faults, "any.wildcard.com", "A"),
    },
    Attack {
        claim: "a wildcard's expansion without proof, NSEC3",
        name: "any.wildcard3.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |_, faults| without_proof(faults, "any.wildcard3.com", "A"),
    },
    Attack {
        claim: "a CNAME from a wildcard without proof",
        name: "any.cname.wildcard.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |_, faults| without_proof(faults, "any.cname.wildcard.com", "A"),
    },
    Attack {
        claim: "NSEC says nothing is between, but does not cover the name",
        name: "www.secure.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let other = universe.ask("nothing.secure.com", "A");
            deny(faults, "www.secure.com", "A", other.authority, NXDOMAIN);
        },
    },
    Attack {
        claim: "NSEC3 says nothing is between, but does not cover the name",
        name: "www.nsec3.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let other = universe.ask("nothing.nsec3.com", "A");
            deny(faults, "www.nsec3.com", "A", other.authority, NXDOMAIN);
        },
    },
    Attack {
        claim: "another name's NODATA",
        name: "www.secure.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let other = universe.ask("txt.secure.com", "A");
            deny(faults, "www.secure.com", "A", other.authority, NOERROR);
        },
    },
    Attack {
        claim: "NXDOMAIN without the wildcard's denial",
        name: "any.wild.secure.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            // The positive answer's proof covers the name; the wildcard is there all the same.
            let expanded = universe.ask("any.wild.secure.com", "A");
            deny(
                faults,
                "any.wild.secure.com",
                "A",
                expanded.authority,
                NXDOMAIN,
            );
        },
    },
    Attack {
        claim: "NXDOMAIN without the wildcard's denial, NSEC3",
        name: "any.wild.nsec3.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let mut proof = universe.ask("any.wild.nsec3.com", "TXT");
            let wildcard = universe.zone("nsec3.com");
            let hash = nsec3_hash(&Name::parse("*.wild.nsec3.com"), &[], 0);
            let owner = data_encoding::BASE32_DNSSEC.encode(&hash);
            let owner = wildcard.apex.prepend(owner.as_bytes()).expect("short");
            proof
                .authority
                .retain(|record| record.owner != owner.as_wire());
            deny(faults, "any.wild.nsec3.com", "A", proof.authority, NXDOMAIN);
        },
    },
    Attack {
        claim: "an NSEC expanded from a wildcard denies a type",
        name: "host.text.wildcard.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let wildcard = universe.ask("*.text.wildcard.com", "NSEC");
            let nsec = renamed(&wildcard.answer, "host.text.wildcard.com");
            lie(faults, "host.text.wildcard.com", "A", move |it| {
                it.answer.clear();
                it.authority.clone_from(&nsec);
            });
        },
    },
    Attack {
        claim: "the parent's NSEC at the cut denies names below it",
        name: "www.deep.secure.org",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let cut = universe.zone("secure.org");
            let proof = nsec_of(universe, cut.spec.apex, "deep.secure.org");
            deny(faults, "www.deep.secure.org", "A", proof, NXDOMAIN);
        },
    },
    Attack {
        claim: "the parent's NSEC at the cut denies the child's data",
        name: "deep.secure.org",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let proof = nsec_of(universe, "secure.org", "deep.secure.org");
            deny(faults, "deep.secure.org", "A", proof, NOERROR);
        },
    },
    Attack {
        claim: "the child's NSEC denies its DS, and its data is unsigned",
        name: "www.deep.secure.org",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let proof = nsec_of(universe, "deep.secure.org", "deep.secure.org");
            deny(faults, "deep.secure.org", "DS", proof, NOERROR);
            lie(faults, "www.deep.secure.org", "A", forge_address);
        },
    },
    Attack {
        claim: "the DS is denied without proof, and the data is unsigned",
        name: "www.secure.org",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |_, faults| {
            lie(faults, "secure.org", "DS", |it| {
                it.answer.clear();
                it.authority.clear();
            });
            lie(faults, "www.secure.org", "A", forge_address);
        },
    },
    Attack {
        claim: "the DS is denied by NXDOMAIN without proof, and the data is unsigned",
        name: "www.secure.org",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |_, faults| {
            lie(faults, "secure.org", "DS", |it| {
                it.answer.clear();
                it.rcode = NXDOMAIN;
            });
            lie(faults, "www.secure.org", "A", forge_address);
        },
    },
    Attack {
        claim: "unsigned data below a name that NSEC3 without opt-out denies",
        name: "www.nothing.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let proof = universe.ask("nothing.com", "DS");
            deny(faults, "nothing.com", "DS", proof.authority, NOERROR);
            lie(faults, "www.nothing.com", "A", forge_address);
        },
    },
    Attack {
        claim: "unsigned data below a name that NSEC denies",
        name: "www.nothing.org",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |_, faults| lie(faults, "www.nothing.org", "A", forge_address),
    },
    Attack {
        claim: "unsigned data below a name in an opt-out span",
        name: "www.nothing.net",
        rtype: "A",
        outcome: Outcome::NotSecure,
        tell: |_, faults| lie(faults, "www.nothing.net", "A", forge_address),
    },
    Attack {
        claim: "unsigned data in a signed zone",
        name: "www.secure.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |_, faults| lie(faults, "www.secure.com", "A", forge_address),
    },
    Attack {
        claim: "AD is set on unsigned data",
        name: "www.insecure.com",
        rtype: "A",
        outcome: Outcome::NotSecure,
        tell: |_, faults| faults.everywhere(|set| set.set_ad = true),
    },
    Attack {
        claim: "an NSEC that reaches outside the signer's zone",
        name: "any.secure.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let mut rdata = wire("zzz.com");
            rdata.extend(type_bitmap([rtype::A, rtype::RRSIG, rtype::NSEC]));
            let proof = universe.sign("secure.com", "alias.secure.com", rtype::NSEC, &[rdata]);
            deny(faults, "any.secure.com", "A", proof, NXDOMAIN);
        },
    },
    Attack {
        claim: "a sibling's NSEC denies a name",
        name: "www.nsec.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let mut rdata = wire("zzz.com");
            rdata.extend(type_bitmap([rtype::A, rtype::RRSIG, rtype::NSEC]));
            let proof = universe.sign("secure.com", "alias.ed25519.com", rtype::NSEC, &[rdata]);
            deny(faults, "www.nsec.com", "A", proof, NXDOMAIN);
        },
    },
    Attack {
        claim: "NSEC3 records of different parameters in one proof",
        name: "mixed.nsec3.com",
        rtype: "A",
        outcome: Outcome::Refused,
        tell: |universe, faults| {
            let honest = universe.ask("mixed.nsec3.com", "A");
            let match_only = universe.ask("nsec3.com", "SRV");
            let mut proof = denial_of(&match_only);
            proof.extend(other_span(universe, "mixed.nsec3.com"));
            proof.extend(other_span(universe, "*.nsec3.com"));
            let soa = honest.authority;
            lie(faults, "mixed.nsec3.com", "A", move |it| {
                it.authority.clone_from(&soa);
                it.authority.retain(|record| !is_denial(record));
                it.authority.extend(proof.clone());
            });
        },
    },
    Attack {
        claim: "the CNAME beside a DNAME goes elsewhere",
        name: "www.secure.dname.com",
        rtype: "A",
        outcome: Outcome::RefusedOrTrue,
        tell: |universe, faults| {
            let elsewhere = universe.ask("www.insecure.com", "A").answer;
            lie(faults, "www.secure.dname.com", "A", move |it| {
                it.answer
                    .retain(|record| record.owner != wire("www.secure.com"));
                for record in &mut it.answer {
                    if record.rtype == rtype::CNAME {
                        record.rdata = wire("www.insecure.com");
                    }
                }
                it.answer.extend(elsewhere.clone());
            });
        },
    },
    Attack {
        claim: "a forged address at the end of a signed CNAME",
        name: "alias.secure.com",
        rtype: "A",
        outcome: Outcome::RefusedOrTrue,
        tell: |_, faults| {
            lie(faults, "alias.secure.com", "A", |it| {
                let target = wire("www.secure.com");
                it.answer.retain(|record| record.owner != target);
                it.answer.push(address(&target));
            });
        },
    },
    Attack {
        claim: "NXDOMAIN for an empty non-terminal, with the proof that it is one",
        name: "a.secure.com",
        rtype: "A",
        outcome: Outcome::Rcode(NOERROR),
        tell: |_, faults| lie(faults, "a.secure.com", "A", |it| it.rcode = NXDOMAIN),
    },
    Attack {
        claim: "NOERROR with the proof that the name does not exist",
        name: "nothing.secure.com",
        rtype: "A",
        outcome: Outcome::Rcode(NXDOMAIN),
        tell: |_, faults| lie(faults, "nothing.secure.com", "A", |it| it.rcode = NOERROR),
    },
];

impl Universe {
    /// The honest response to a question with DO.
    pub fn ask(&self, name: &str, rtype: &str) -> Response {
        let octets = Ask::new(name, rtype).dnssec().encode();
        self.answer(&Query::parse(&octets).expect("a query"))
    }

    /// An RRset signed by a zone's key, whether or not it lies in the zone.
    pub fn sign(&self, apex: &str, owner: &str, rtype: u16, rdata: &[Vec<u8>]) -> Vec<Record> {
        self.sign_as(apex, owner, rtype, rdata, |_| {})
    }

    /// As [`Universe::sign`], with what the RRSIG says changed before it is signed.
    pub fn sign_as(
        &self,
        apex: &str,
        owner: &str,
        rtype: u16,
        rdata: &[Vec<u8>],
        change: impl FnOnce(&mut Signing<'_>),
    ) -> Vec<Record> {
        let zone = self.zone(apex);
        let key = zone.signing_key().expect("a signed zone");
        let name = Name::parse(owner);
        let mut signing = Signing {
            signer: &zone.apex,
            owner: &name,
            rtype,
            ttl_s: 300,
            inception: zone.window().inception,
            expiration: zone.window().expiration,
            labels: None,
            key_tag: None,
        };
        change(&mut signing);
        let signature = signing.sign(key, rdata);
        let record = |rtype: u16, rdata: Vec<u8>| Record {
            owner: wire(owner),
            rtype,
            ttl_s: 300,
            rdata,
        };
        let mut records: Vec<Record> = rdata.iter().map(|it| record(rtype, it.clone())).collect();
        records.push(record(rtype::RRSIG, signature));
        records
    }
}

fn lie(
    faults: &Faults,
    name: &str,
    rtype: &str,
    edit: impl Fn(&mut Response) + Send + Sync + 'static,
) {
    faults.edit_answer(name, rtype, edit);
}

/// Answers with these records; the other sections stay.
fn answer_with(faults: &Faults, name: &str, rtype: &str, records: Vec<Record>) {
    lie(faults, name, rtype, move |it| {
        it.answer.clone_from(&records);
    });
}

/// The same records under another owner.
fn renamed(records: &[Record], owner: &str) -> Vec<Record> {
    let mut records = records.to_vec();
    for record in &mut records {
        record.owner = wire(owner);
    }
    records
}

fn address(owner: &[u8]) -> Record {
    Record {
        owner: owner.to_vec(),
        rtype: rtype::A,
        ttl_s: 300,
        rdata: FORGED_ADDRESS.to_vec(),
    }
}

/// Answers with an unsigned address.
fn forge_address(response: &mut Response) {
    let end = response.question.len().saturating_sub(4);
    let owner = response.question[..end].to_vec();
    response.rcode = NOERROR;
    response.answer = vec![address(&owner)];
    response.authority.clear();
}

/// The forger's address, signed by a zone, perhaps as if expanded from a wildcard.
fn signed_address(
    universe: &Universe,
    apex: &str,
    owner: &str,
    wildcard: Option<&str>,
) -> Vec<Record> {
    let wildcard = wildcard.map(Name::parse);
    let rdata = [FORGED_ADDRESS.to_vec()];
    let signed_owner = wildcard.unwrap_or_else(|| Name::parse(owner));
    let records = universe.sign(apex, &signed_owner.to_string(), rtype::A, &rdata);
    renamed(&records, owner)
}

fn is_denial(record: &Record) -> bool {
    match record.rtype {
        rtype::NSEC | rtype::NSEC3 => true,
        rtype::RRSIG => {
            let covered = [rtype::NSEC.to_be_bytes(), rtype::NSEC3.to_be_bytes()];
            covered.iter().any(|rtype| record.rdata.starts_with(rtype))
        }
        _ => false,
    }
}

fn denial_of(response: &Response) -> Vec<Record> {
    let mut records = response.authority.clone();
    records.retain(is_denial);
    records
}

/// Denies with an authority section made elsewhere.
fn deny(faults: &Faults, name: &str, rtype: &str, proof: Vec<Record>, rcode: u16) {
    lie(faults, name, rtype, move |it| {
        it.rcode = rcode;
        it.answer.clear();
        it.authority.clone_from(&proof);
    });
}

/// Leaves out the authority section.
fn without_proof(faults: &Faults, name: &str, rtype: &str) {
    lie(faults, name, rtype, |it| it.authority.clear());
}

/// A zone's SOA and its NSEC at one owner, both genuine.
fn nsec_of(universe: &Universe, apex: &str, owner: &str) -> Vec<Record> {
    let zone = universe.zone(apex);
    let owner = Name::parse(owner);
    let soa = zone.rrset(&zone.apex, type_number("SOA")).expect("a SOA");
    let nsec = zone.nsec_for(&owner).expect("an NSEC zone");
    let mut records = zone.records(soa, &soa.owner, true);
    records.extend(zone.records(nsec, &nsec.owner, true));
    records
}

/// An NSEC3 with a salt of its own that spans all hashes but one, signed by `nsec3.com`.
fn other_span(universe: &Universe, name: &str) -> Vec<Record> {
    let salt = [0xbe, 0xef];
    let mut before = nsec3_hash(&Name::parse(name), &salt, 0);
    let mut after = before.clone();
    // Neighbours of the hash: the span covers this name alone.
    step(&mut before, u8::wrapping_sub);
    step(&mut after, u8::wrapping_add);
    let mut rdata = vec![1, 0, 0, 0, 2];
    rdata.extend(salt);
    rdata.push(20);
    rdata.extend(after);
    rdata.extend(type_bitmap([rtype::A, rtype::RRSIG]));
    let owner = data_encoding::BASE32_DNSSEC.encode(&before) + ".nsec3.com";
    universe.sign("nsec3.com", &owner, rtype::NSEC3, &[rdata])
}

/// Changes a hash by one in an octet that cannot overflow into its neighbour's meaning.
fn step(hash: &mut [u8], change: fn(u8, u8) -> u8) {
    let carry = hash.last().copied().unwrap_or(0);
    let at = if matches!(carry, 0 | 255) { 18 } else { 19 };
    hash[at] = change(hash[at], 1);
}
