//! The validator at work: the real resolver and cache in front of the lab, whose every name has a
//! known verdict and whose every lie is known.

mod cost;
mod denial;
mod remembered;
mod repair;
mod round_trips;
mod window;

use std::collections::HashMap;

use remembered::{Allowed, dishonest};
use truename::dnssec::{AnchorSet, Ds, Settings};

use crate::{
    lab::{
        Answered, Ask, Lab, LabOptions, Transport,
        attacks::{ATTACKS, Outcome},
        expectations::{Expectation, Shape, Verdict, expectations},
        rdata::type_number,
    },
    support::{Options, Truename},
};

/// The lab's root as a trust anchor.
pub(crate) fn settings(lab: &Lab) -> Settings {
    Settings::with_root_anchors(anchors(&lab.trust_anchor_ds()))
}

/// `. IN DS 42422 8 2 0123...`
pub(crate) fn anchors(line: &str) -> AnchorSet {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, _, _, key_tag, algorithm, digest_type, digest @ ..] = &fields[..] else {
        panic!("{line} is no DS line");
    };
    let digest = digest.concat().to_ascii_uppercase();
    vec![Ds {
        key_tag: key_tag.parse().unwrap(),
        algorithm: algorithm.parse().unwrap(),
        digest_type: digest_type.parse().unwrap(),
        digest: data_encoding::HEXUPPER
            .decode(digest.as_bytes())
            .unwrap()
            .into(),
    }]
}

fn validating(lab: &Lab) -> Truename {
    Truename::start(
        &[(lab, Transport::Tls)],
        Options {
            dnssec: Some(settings(lab)),
            ..Options::default()
        },
    )
}

async fn ask(truename: &Truename, name: &str, rtype: &str) -> Answered {
    let ask = Ask::new(name, rtype).dnssec();
    let address = truename.address(Transport::Tcp);
    ask.over(Transport::Tcp, address, Truename::CA, Truename::NAME)
        .await
        .unwrap_or_else(|error| panic!("{name} {rtype}: {error}"))
}

fn mistakes(expected: &Expectation, answered: &Answered, rtype: u16) -> Vec<String> {
    let mut found = Vec::new();
    let mut expect = |what: &str, holds: bool| {
        if !holds {
            found.push(what.to_owned());
        }
    };
    expect(
        &format!("rcode {} instead of {}", answered.rcode, expected.rcode),
        answered.rcode == expected.rcode,
    );
    let secure = expected.verdict == Verdict::Secure;
    expect(&format!("AD is {}", !secure), answered.has(0x20) == secure);
    let has_data = answered.answer().iter().any(|record| record.rtype == rtype);
    expect("shape", has_data == (expected.shape == Shape::Data));
    if expected.rcode == 2 {
        expect("records beside SERVFAIL", answered.answer().is_empty());
        expect("no extended error", !answered.extended_errors().is_empty());
    }
    if !expected.extended_errors.is_empty() {
        expect(
            &format!(
                "extended errors {:?} instead of one of {:?}",
                answered.extended_errors(),
                expected.extended_errors
            ),
            answered
                .extended_errors()
                .iter()
                .any(|(code, _)| expected.extended_errors.contains(code)),
        );
    }
    found
}

#[tokio::test]
async fn every_name_of_the_lab_gets_its_verdict() {
    let lab = Lab::start(LabOptions::default()).await;
    let truename = validating(&lab);
    let mut wrong = Vec::new();
    // Twice: from upstream, and from the cache.
    for round in ["cold", "warm"] {
        for (name, rtype, expected) in expectations() {
            let answered = ask(&truename, name, rtype).await;
            for mistake in mistakes(expected, &answered, type_number(rtype)) {
                wrong.push(format!("{round} {name} {rtype}: {mistake}"));
            }
        }
        let allowed = |name: &str, qtype: u16| {
            let mut all = expectations().iter();
            let asked = all.find(|(owner, rtype, _)| {
                owner.eq_ignore_ascii_case(name) && type_number(rtype) == qtype
            });
            let (_, _, expected) = asked.unwrap_or_else(|| panic!("{name} {qtype} was not asked"));
            Allowed::from(expected)
        };
        wrong.extend(dishonest(&truename, lab.universe(), allowed));
        assert!(!truename.shared().cache.is_empty());
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_name_gets_its_verdict_with_nothing_known() {
    let lab = Lab::start(LabOptions::default()).await;
    let mut wrong = Vec::new();
    for (name, rtype, expected) in expectations() {
        let truename = validating(&lab);
        let answered = ask(&truename, name, rtype).await;
        for mistake in mistakes(expected, &answered, type_number(rtype)) {
            wrong.push(format!("{name} {rtype}: {mistake}"));
        }
        wrong.extend(dishonest(&truename, lab.universe(), |_, _| expected.into()));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn no_lie_of_the_lab_is_believed() {
    let lab = Lab::start(LabOptions::default()).await;
    let mut wrong = Vec::new();
    for attack in ATTACKS {
        lab.faults().reset();
        let truename = validating(&lab);
        let honest = ask(&truename, attack.name, attack.rtype).await;
        drop(truename);
        attack.install(&lab);
        let truename = validating(&lab);
        let answered = ask(&truename, attack.name, attack.rtype).await;
        let refused = answered.rcode == 2 && answered.answer().is_empty();
        let data = |answered: &Answered| -> HashMap<u16, Vec<Vec<u8>>> {
            let mut data: HashMap<u16, Vec<Vec<u8>>> = HashMap::new();
            for record in answered.answer().iter().filter(|record| record.rtype != 46) {
                data.entry(record.rtype)
                    .or_default()
                    .push(record.rdata.clone());
            }
            data
        };
        let fine = match attack.outcome {
            Outcome::Refused => refused,
            Outcome::RefusedOrTrue => {
                refused || (answered.rcode == honest.rcode && data(&answered) == data(&honest))
            }
            Outcome::NotSecure => !answered.has(0x20),
            Outcome::Rcode(rcode) => answered.rcode == rcode,
        };
        let allowed = match attack.outcome {
            Outcome::NotSecure => Allowed::NotSecure,
            Outcome::Refused | Outcome::RefusedOrTrue | Outcome::Rcode(_) => Allowed::Truth,
        };
        let kept = dishonest(&truename, lab.universe(), |_, _| allowed);
        wrong.extend(
            kept.into_iter()
                .map(|what| format!("{}: {what}", attack.claim)),
        );
        if !fine {
            wrong.push(format!(
                "{} ({} {}): rcode {}, AD {}, {:?}",
                attack.claim,
                attack.name,
                attack.rtype,
                answered.rcode,
                answered.has(0x20),
                answered.extended_errors()
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
