//! What is in the cache after a scenario, and for how long: nothing but the truth as an answer.

use std::collections::BTreeSet;

use truename::wire::{CLASS_IN, Name, Question, Response};

use super::{ask, round_trips::truth, validating};
use crate::{
    lab::{
        Universe,
        expectations::{Expectation, Verdict},
    },
    support::{Truename, in_time, start_lab},
};

/// How far the data of an entry that is no failure must be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// There must be no such entry.
    Nothing,
    /// It must say what the zones say.
    Truth,
    /// It may say anything, not as secure.
    NotSecure,
}

impl From<&Expectation> for Allowed {
    fn from(expected: &Expectation) -> Self {
        match expected.verdict {
            Verdict::Secure | Verdict::Insecure => Self::Truth,
            Verdict::Bogus | Verdict::Failure => Self::Nothing,
        }
    }
}

/// Owner, type and RDATA of what answers; names in lower case.
fn data(response: &Response) -> BTreeSet<(Vec<u8>, u16, Vec<u8>)> {
    let records = response.answer.iter().filter(|record| record.rtype != 46);
    records
        .map(|record| {
            let owner = record.owner.as_wire().to_ascii_lowercase();
            (owner, record.rtype, record.rdata.to_ascii_lowercase())
        })
        .collect()
}

/// Looks at every entry of the cache, and says which should not be there. `allowed` knows each
/// question that was asked, by name without the dot at the end, and type.
pub(super) fn dishonest(
    truename: &Truename,
    universe: &Universe,
    allowed: impl Fn(&str, u16) -> Allowed,
) -> Vec<String> {
    let mut found = Vec::new();
    truename.shared().cache.for_each(|entry| {
        let key = entry.key();
        let (wire, tail) = key.split_at(key.len() - 5);
        let question = Question {
            name: Name::from_wire(wire).unwrap(),
            qtype: u16::from_be_bytes([tail[0], tail[1]]),
            qclass: CLASS_IN,
        };
        assert_eq!(tail[2..], [0, 1, 0], "class IN, without CD");
        let presented = question.name.to_string();
        let presented = if question.name.is_root() {
            "."
        } else {
            presented.trim_end_matches('.')
        };
        let mut complain =
            |what: &str| found.push(format!("{presented} {}: {what}", question.qtype));
        let [all, plain] = [true, false].map(|dnssec| entry.form(dnssec));
        if entry.failure().is_some() {
            if all.answers + all.authorities + plain.answers + plain.authorities != 0
                || !all.records.is_empty()
                || !plain.records.is_empty()
            {
                complain("a failure with records");
            }
            if entry.is_secure() || entry.rcode() != 2 {
                complain("a failure that looks like an answer");
            }
            return;
        }
        let allowed = allowed(presented, question.qtype);
        if allowed == Allowed::Nothing {
            complain("stored as an answer");
        }
        if allowed == Allowed::NotSecure && entry.is_secure() {
            complain("stored as secure");
        }
        if allowed != Allowed::Truth {
            return;
        }
        let truth = Response::parse(&truth(universe, &question)).unwrap();
        if u16::from(entry.rcode()) != truth.rcode {
            complain("the rcode is not the truth");
        }
        for form in [all, plain] {
            let mut message = vec![0, 0, 0x80, 0, 0, 1];
            message.extend(form.answers.to_be_bytes());
            message.extend(form.authorities.to_be_bytes());
            message.extend([0, 0]);
            message.extend_from_slice(wire);
            message.extend_from_slice(&tail[..4]);
            message.extend_from_slice(form.records);
            let stored = Response::parse(&message).expect("what is stored can be read");
            if data(&stored) != data(&truth) {
                complain("the data is not the truth");
            }
        }
    });
    found
}

/// The TTL of the failure stored for a name's address, if one is stored.
fn failure_ttl_s(truename: &Truename, name: &str) -> Option<u32> {
    let wire = Name::parse(name).unwrap();
    let key = [wire.as_wire(), &[0, 1, 0, 1, 0]].concat();
    let read = |entry: truename::cache::Entry<'_>| entry.failure().map(|_| entry.ttl_s());
    truename.shared().cache.read(&key, read).flatten()
}

#[tokio::test]
async fn a_bogus_verdict_is_held_for_a_growing_time_and_ends_with_the_fault() {
    let lab = start_lab().await;
    let name = "www.nsec.com";
    lab.faults().edit_answer(name, "A", |response| {
        for record in &mut response.answer {
            if record.rtype == 1 {
                record.rdata[3] ^= 1;
            }
        }
    });
    let truename = validating(&lab);
    let answered = ask(&truename, name, "A").await;
    assert_eq!(answered.rcode, 2);
    assert_eq!(failure_ttl_s(&truename, name), Some(1));
    // While it is held, nobody is asked. The hold may end between two questions, then it grows.
    lab.record().clear();
    let again = ask(&truename, name, "A").await;
    assert_eq!(again.rcode, 2);
    let held = lab.record().queries().is_empty();
    assert_eq!(
        failure_ttl_s(&truename, name),
        Some(if held { 1 } else { 2 })
    );
    in_time("the hold grows", async {
        while failure_ttl_s(&truename, name) != Some(2) {
            assert_eq!(ask(&truename, name, "A").await.rcode, 2);
            tokio::task::yield_now().await;
        }
    })
    .await;
    lab.faults().reset();
    in_time("a good answer replaces it", async {
        while ask(&truename, name, "A").await.rcode != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(failure_ttl_s(&truename, name), None);
    assert!(ask(&truename, name, "A").await.has(0x20));
    assert_eq!(
        dishonest(&truename, lab.universe(), |_, _| Allowed::Truth),
        Vec::<String>::new()
    );
}
