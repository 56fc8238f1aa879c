//! What of an upstream's response is kept: the chain of records that answers the question, and
//! nothing else.
//!
//! A forwarder has no use for anything an upstream volunteers. Records are kept only when the walk
//! from the question's name reaches them, so that no other name can be smuggled in beside an
//! answer (CVE-2025-11411 and its kin).

use std::collections::{HashMap, HashSet};

use thiserror::Error;

use crate::wire::{CLASS_IN, Name, Question, Record, Response, rcode, rtype};

/// Links of aliases followed for one question. Real chains have at most five.
pub(super) const ALIASES_MAX: usize = 11;

/// The part of one response that belongs to the question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scrubbed {
    /// NOERROR or NXDOMAIN or YXDOMAIN.
    pub(super) rcode: u16,
    /// The aliases and the records asked for, with their signatures, in the order of the chain.
    pub(super) answer: Vec<Record>,
    /// For negative answers the SOA record; for all the proofs that something does not exist, with
    /// their signatures.
    pub(super) authority: Vec<Record>,
    /// Whether the chain ends at an alias to this name and the response says nothing about it.
    pub(super) next: Option<Name>,
    /// Aliases passed.
    pub(super) aliases: usize,
}

/// Why a response cannot be used. The upstream is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum ScrubError {
    /// An rcode that is no answer.
    #[error("answered {}", rcode_name(*.0))]
    Rcode(u16),
    /// The message was cut, although it came over a stream.
    #[error("cut its answer")]
    Truncated,
    /// More aliases than [`ALIASES_MAX`], or aliases in a circle.
    #[error("gave a chain of aliases that is too long or a circle")]
    Aliases,
    /// Two different CNAME records at one name (RFC 2181, section 10.1).
    #[error("gave two aliases for one name")]
    TwoAliases,
}

/// Walks from the question's name through the response.
pub(super) fn scrub(question: &Question, response: &Response) -> Result<Scrubbed, ScrubError> {
    if response.truncated {
        return Err(ScrubError::Truncated);
    }
    if !matches!(
        response.rcode,
        rcode::NOERROR | rcode::NXDOMAIN | rcode::YXDOMAIN
    ) {
        return Err(ScrubError::Rcode(response.rcode));
    }
    let mut kept = Scrubbed {
        rcode: response.rcode,
        ..Scrubbed::default()
    };
    // Where aliases led, in order.
    let mut targets: Vec<Name> = Vec::new();
    let answered = loop {
        let name = targets.last().unwrap_or(&question.name);
        if take(&mut kept.answer, &response.answer, name, question.qtype) {
            break true;
        }
        let Some(target) = alias(&mut kept.answer, response, name)? else {
            break false;
        };
        kept.aliases += 1;
        let is_known = target == question.name || targets.contains(&target);
        if is_known || targets.len() >= ALIASES_MAX {
            return Err(ScrubError::Aliases);
        }
        targets.push(target);
    };
    let name = targets.last().unwrap_or(&question.name);

    for record in &response.authority {
        let covers = match record.rtype {
            rtype::RRSIG => covered_type(record),
            other => other,
        };
        let wanted = match covers {
            rtype::SOA => !answered && name.is_within(&record.owner),
            rtype::NSEC | rtype::NSEC3 => true,
            _ => false,
        };
        if wanted && record.class == CLASS_IN {
            kept.authority.push(record.clone());
        }
    }
    let denied = kept
        .authority
        .iter()
        .any(|record| record.rtype == rtype::SOA);
    if !answered && kept.aliases > 0 && !denied && kept.rcode == rcode::NOERROR {
        kept.next = Some(name.clone());
    }
    if answered {
        // Records exist, so the name does; an rcode that says otherwise was wrong.
        kept.rcode = rcode::NOERROR;
    }
    even_ttls(&mut kept.answer);
    even_ttls(&mut kept.authority);
    Ok(kept)
}

/// Moves the RRset of `name` and `wanted` with its signatures over, duplicates left out; whether
/// there was one.
fn take(kept: &mut Vec<Record>, section: &[Record], name: &Name, wanted: u16) -> bool {
    let before = kept.len();
    let mut take_type = |rtype: u16, covered: Option<u16>| {
        let here = |record: &&Record| {
            record.rtype == rtype
                && record.class == CLASS_IN
                && record.owner == *name
                && covered.is_none_or(|covered| covered_type(record) == covered)
        };
        let mut set = section.iter().filter(here);
        let Some(first) = set.next() else {
            return kept.len() > before;
        };
        kept.push(first.clone());
        if let Some(second) = set.next() {
            let mut seen = HashSet::from([&first.rdata]);
            let others = std::iter::once(second).chain(set);
            kept.extend(others.filter(|record| seen.insert(&record.rdata)).cloned());
        }
        true
    };
    take_type(wanted, None) && take_type(rtype::RRSIG, Some(wanted))
}

/// Moves the alias at or above `name` over; the name it leads to.
fn alias(
    kept: &mut Vec<Record>,
    response: &Response,
    name: &Name,
) -> Result<Option<Name>, ScrubError> {
    let section = &response.answer;
    // A DNAME above the name makes the CNAME at the name (RFC 6672); keep both.
    let dname = section.iter().find(|record| {
        record.rtype == rtype::DNAME && name != &record.owner && name.is_within(&record.owner)
    });
    if let Some(dname) = dname {
        take(kept, section, &dname.owner, rtype::DNAME);
    }
    let start = kept.len();
    if !take(kept, section, name, rtype::CNAME) {
        return Ok(None);
    }
    let mut targets = kept
        .iter()
        .skip(start)
        .filter(|record| record.rtype == rtype::CNAME)
        .map(|record| Name::from_wire(&record.rdata));
    match (targets.next(), targets.next()) {
        (Some(Ok(target)), None) => Ok(Some(target)),
        _ => Err(ScrubError::TwoAliases),
    }
}

/// The type an RRSIG record signs.
pub(super) fn covered_type(record: &Record) -> u16 {
    record
        .rdata
        .first_chunk::<2>()
        .map_or(0, |octets| u16::from_be_bytes(*octets))
}

/// Records of one RRset have one TTL, the smallest received (RFC 2181, section 5.2).
fn even_ttls(records: &mut [Record]) {
    let mut ttls = records.iter().map(|record| record.ttl_s);
    let first = ttls.next();
    if ttls.all(|ttl_s| Some(ttl_s) == first) {
        return;
    }
    let mut smallest: HashMap<(Name, u16), u32> = HashMap::new();
    for record in records.iter() {
        smallest
            .entry((record.owner.clone(), record.rtype))
            .and_modify(|ttl_s| *ttl_s = record.ttl_s.min(*ttl_s))
            .or_insert(record.ttl_s);
    }
    for record in records {
        if let Some(ttl_s) = smallest.get(&(record.owner.clone(), record.rtype)) {
            record.ttl_s = *ttl_s;
        }
    }
}

fn rcode_name(rcode: u16) -> String {
    match rcode {
        rcode::FORMERR => "FORMERR".to_owned(),
        rcode::SERVFAIL => "SERVFAIL".to_owned(),
        rcode::NOTIMP => "NOTIMP".to_owned(),
        rcode::REFUSED => "REFUSED".to_owned(),
        other => format!("rcode {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn record(owner: &str, rtype: u16, ttl_s: u32, rdata: &[u8]) -> Record {
        Record {
            owner: name(owner),
            rtype,
            class: CLASS_IN,
            ttl_s,
            rdata: Box::from(rdata),
        }
    }

    fn cname(owner: &str, target: &str) -> Record {
        record(owner, rtype::CNAME, 60, name(target).as_wire())
    }

    fn a(owner: &str) -> Record {
        record(owner, rtype::A, 60, &[192, 0, 2, 1])
    }

    fn signature(owner: &str, covers: u16) -> Record {
        let mut rdata = covers.to_be_bytes().to_vec();
        rdata.extend_from_slice(&[0; 40]);
        record(owner, rtype::RRSIG, 60, &rdata)
    }

    fn response(answer: Vec<Record>, authority: Vec<Record>) -> Response {
        Response {
            rcode: rcode::NOERROR,
            truncated: false,
            question: question(),
            answer,
            authority,
            extended_errors: Vec::new(),
        }
    }

    fn question() -> Question {
        Question {
            name: name("www.example.com"),
            qtype: rtype::A,
            qclass: CLASS_IN,
        }
    }

    #[test]
    fn only_the_chain_survives() {
        let chain = vec![
            cname("www.example.com", "a.example.net"),
            signature("www.example.com", rtype::CNAME),
            a("a.example.net"),
        ];
        let mut answer = chain.clone();
        answer.insert(0, a("victim.example"));
        answer.push(signature("a.example.net", rtype::AAAA));
        answer.push(record("a.example.net", rtype::AAAA, 60, &[0; 16]));
        let authority = vec![
            record("com", rtype::NS, 60, name("evil.example").as_wire()),
            record("victim.example", rtype::SOA, 60, &[0; 22]),
        ];
        let kept = scrub(&question(), &response(answer, authority)).unwrap();
        assert_eq!(kept.answer, chain);
        assert!(kept.authority.is_empty() && kept.next.is_none());
    }

    #[test]
    fn a_chain_that_stops_at_an_alias_names_what_is_missing() {
        let kept = scrub(
            &question(),
            &response(vec![cname("www.example.com", "a.example.net")], Vec::new()),
        );
        assert_eq!(kept.unwrap().next, Some(name("a.example.net")));
    }

    #[test]
    fn a_negative_answer_keeps_soa_and_proofs() {
        let soa = record("example.com", rtype::SOA, 60, &[0; 22]);
        let nsec = record("a.example.com", rtype::NSEC, 60, &[0, 0]);
        let foreign = record("example.org", rtype::SOA, 60, &[0; 22]);
        let ns = record("example.com", rtype::NS, 60, &[0]);
        let mut response = response(Vec::new(), vec![soa.clone(), foreign, nsec.clone(), ns]);
        response.rcode = rcode::NXDOMAIN;
        let kept = scrub(&question(), &response).unwrap();
        assert_eq!(kept.authority, [soa, nsec]);
        assert_eq!(kept.rcode, rcode::NXDOMAIN);
        assert_eq!(kept.next, None);
    }

    #[test]
    fn circles_and_endless_chains_are_refused() {
        let circle = vec![
            cname("www.example.com", "b.example.com"),
            cname("b.example.com", "www.example.com"),
        ];
        let found = scrub(&question(), &response(circle, Vec::new()));
        assert_eq!(found, Err(ScrubError::Aliases));
        let mut endless = vec![cname("www.example.com", "n0.example.com")];
        for i in 0..20 {
            let (from, to) = (
                format!("n{i}.example.com"),
                format!("n{}.example.com", i + 1),
            );
            endless.push(cname(&from, &to));
        }
        let found = scrub(&question(), &response(endless, Vec::new()));
        assert_eq!(found, Err(ScrubError::Aliases));
        let two = vec![
            cname("www.example.com", "b.test"),
            cname("www.example.com", "c.test"),
        ];
        let found = scrub(&question(), &response(two, Vec::new()));
        assert_eq!(found, Err(ScrubError::TwoAliases));
    }

    #[test]
    fn a_dname_stays_beside_the_alias_it_makes() {
        let answer = vec![
            record(
                "example.com",
                rtype::DNAME,
                60,
                name("example.net").as_wire(),
            ),
            signature("example.com", rtype::DNAME),
            cname("www.example.com", "www.example.net"),
            a("www.example.net"),
        ];
        let kept = scrub(&question(), &response(answer.clone(), Vec::new())).unwrap();
        assert_eq!(kept.answer, answer);
    }

    #[test]
    fn an_rrset_has_one_ttl() {
        let mut second = record("www.example.com", rtype::A, 10, &[192, 0, 2, 2]);
        let kept = scrub(
            &question(),
            &response(
                vec![a("www.example.com"), second.clone(), second.clone()],
                Vec::new(),
            ),
        )
        .unwrap();
        second.ttl_s = 10;
        assert_eq!(kept.answer.len(), 2);
        assert!(kept.answer.iter().all(|record| record.ttl_s == 10));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let mut failed = response(Vec::new(), Vec::new());
        failed.rcode = rcode::REFUSED;
        let said = scrub(&question(), &failed).unwrap_err();
        assert_eq!(said.to_string(), "answered REFUSED");
        let mut cut = response(vec![a("www.example.com")], Vec::new());
        cut.truncated = true;
        assert_eq!(scrub(&question(), &cut), Err(ScrubError::Truncated));
    }
}
