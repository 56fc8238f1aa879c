//! Denials from proofs seen before (RFC 8198): no exchange, and the same answer as from upstream.

use std::time::Duration;

use tokio::time::sleep;
use truename::wire::Name;

use super::{ask, settings, validating};
use crate::{
    lab::{
        Answered, Ask, Lab, Transport, faults::Override, forged_record, message::Record,
        rdata::rtype,
    },
    support::{Options, Truename, start_lab},
};

/// A record whatever its age: owner, type, RDATA.
type Ageless = (Vec<u8>, u16, Vec<u8>);

/// What two answers must have in common to say the same: rcode, AD, and the proofs in any order.
fn said(answered: &Answered) -> (u16, bool, Vec<Ageless>) {
    let proofs = |record: &Record| {
        (
            record.owner.to_ascii_lowercase(),
            record.rtype,
            record.rdata.clone(),
        )
    };
    let mut authority: Vec<_> = answered.sections[1].iter().map(proofs).collect();
    authority.sort();
    (answered.rcode, answered.has(0x20), authority)
}

/// Asks for `first`, then for `second`, which must cost nothing, and compares with one that only
/// knows `second`.
async fn second_costs_nothing(lab: &Lab, first: (&str, &str), second: (&str, &str)) {
    let truename = validating(lab);
    let seen = ask(&truename, first.0, first.1).await;
    assert!(seen.has(0x20), "{first:?} is not secure");
    lab.record().clear();
    let denied = ask(&truename, second.0, second.1).await;
    let cost: Vec<_> = lab
        .record()
        .queries()
        .iter()
        .map(crate::lab::record::Received::qname)
        .collect();
    assert_eq!(cost, Vec::<String>::new(), "{second:?} after {first:?}");
    let fresh = ask(&validating(lab), second.0, second.1).await;
    assert_eq!(said(&denied), said(&fresh), "{second:?} after {first:?}");
    // Never longer than the proof has.
    let least = |answered: &Answered| answered.sections[1].iter().map(|one| one.ttl_s).min();
    assert!(
        least(&denied) <= least(&fresh),
        "{second:?} after {first:?}"
    );
}

#[tokio::test]
async fn a_second_name_in_a_proved_gap_costs_no_exchange() {
    let lab = start_lab().await;
    for (first, second) in [
        // NSEC.
        (("nothing.nsec.com", "A"), ("nothing2.nsec.com", "AAAA")),
        (("www.nsec.com", "TXT"), ("www.nsec.com", "MX")),
        // NSEC3: the same name with another type uses all three of its records.
        (("nothing.nsec3.com", "A"), ("nothing.nsec3.com", "AAAA")),
        (("www.nsec3.com", "TXT"), ("www.nsec3.com", "MX")),
        // The top, where junk goes.
        (("nothing", "A"), ("no.such.nothing", "A")),
        // A wildcard that has other types.
        (("x.wild.nsec.com", "TXT"), ("x.wild.nsec.com", "MX")),
    ] {
        second_costs_nothing(&lab, first, second).await;
    }
}

#[tokio::test]
async fn names_that_exist_are_not_denied_by_the_gaps_beside_them() {
    let lab = start_lab().await;
    let truename = validating(&lab);
    for zone in ["nsec.com", "nsec3.com"] {
        for nothing in ["0", "c", "n", "zz", "a.a", "x.www"] {
            let answered = ask(&truename, &format!("{nothing}.{zone}"), "A").await;
            assert_eq!(answered.rcode, 3, "{nothing}.{zone}");
        }
        for (name, qtype) in [
            ("www", "A"),
            ("www", "AAAA"),
            ("mail", "A"),
            ("alias", "A"),
            ("b.a", "A"),
            ("any.wild", "A"),
        ] {
            let answered = ask(&truename, &format!("{name}.{zone}"), qtype).await;
            assert_eq!(answered.rcode, 0, "{name}.{zone}");
            assert!(!answered.answer().is_empty(), "{name}.{zone}");
        }
    }
}

#[tokio::test]
async fn an_opt_out_span_denies_nothing_it_did_not_say_itself() {
    let lab = start_lab().await;
    for zone in ["net", "optout.com"] {
        let truename = validating(&lab);
        // Whatever the three records of the first proof cover, they opt out.
        for label in ["nothing", "nothing2", "nothing3", "nothing4", "nothing5"] {
            let name = format!("{label}.{zone}");
            lab.record().clear();
            let answered = ask(&truename, &name, "A").await;
            assert_eq!((answered.rcode, answered.has(0x20)), (3, false), "{name}");
            assert!(
                lab.record()
                    .queries()
                    .iter()
                    .any(|one| one.qname().starts_with(label)),
                "{name} was not asked for"
            );
        }
    }
}

#[tokio::test]
async fn a_delegation_proved_unsigned_is_not_denied() {
    let lab = start_lab().await;
    let truename = validating(&lab);
    // Each proof of a missing DS is learnt, from NSEC and from NSEC3.
    for zone in ["insecure.secure.org", "insecure.com", "unsigned.optout.com"] {
        for name in [format!("www.{zone}"), zone.to_owned()] {
            for qtype in ["A", "MX"] {
                let answered = ask(&truename, &name, qtype).await;
                assert_eq!(answered.rcode, 0, "{name} {qtype}");
                assert!(!answered.has(0x20), "{name} {qtype}");
            }
        }
        let answered = ask(&truename, zone, "A").await;
        assert!(!answered.answer().is_empty(), "{zone}");
    }
}

#[tokio::test]
async fn a_forged_gap_is_never_learnt() {
    let lab = start_lab().await;
    // The honest proof for one name with the end of its gap moved past everything.
    lab.faults()
        .edit_answer("nothing.nsec.com", "A", |response| {
            for record in &mut response.authority {
                if record.rtype == rtype::NSEC {
                    let first = usize::from(record.rdata[0]);
                    record.rdata[1..=first].fill(b'z');
                }
            }
        });
    let truename = validating(&lab);
    let answered = ask(&truename, "nothing.nsec.com", "A").await;
    assert_eq!(answered.rcode, 2);
    let answered = ask(&truename, "www.nsec.com", "A").await;
    assert_eq!((answered.rcode, answered.has(0x20)), (0, true));
    lab.record().clear();
    let answered = ask(&truename, "nothing2.nsec.com", "A").await;
    assert_eq!((answered.rcode, answered.has(0x20)), (3, true));
    assert!(!lab.record().queries().is_empty());
}

#[tokio::test]
async fn who_checks_for_himself_is_answered_by_upstream() {
    let lab = start_lab().await;
    let truename = validating(&lab);
    ask(&truename, "nothing.nsec.com", "A").await;
    lab.record().clear();
    let checking = Ask::new("nothing2.nsec.com", "A").dnssec().flags(0x10);
    let address = truename.address(Transport::Tcp);
    let answered = checking.over_tcp(address).await.unwrap();
    assert_eq!((answered.rcode, answered.has(0x20)), (3, false));
    assert_eq!(lab.record().queries().len(), 1);
}

#[tokio::test]
async fn a_flush_forgets_the_gaps_around_a_name() {
    let lab = start_lab().await;
    let truename = validating(&lab);
    ask(&truename, "nothing.nsec.com", "A").await;
    truename
        .shared()
        .flush(&Name::parse("new.nsec.com.").unwrap());
    lab.record().clear();
    ask(&truename, "nothing2.nsec.com", "A").await;
    assert!(!lab.record().queries().is_empty());
    // Other settings: nothing that others judged is used.
    truename.shared().apply_dnssec(Some(settings(&lab)));
    lab.record().clear();
    ask(&truename, "nothing3.nsec.com", "A").await;
    assert!(!lab.record().queries().is_empty());
}

#[tokio::test]
async fn what_was_asked_for_before_a_flush_proves_nothing_after_it() {
    let lab = start_lab().await;
    let truename = validating(&lab);
    // Long enough for the flush to come while the answer is on its way.
    lab.faults()
        .everywhere(|set| set.latency = Duration::from_millis(300));
    let flushing = async {
        while lab.record().is_empty() {
            sleep(Duration::from_millis(2)).await;
        }
        let name = Name::parse("new.nsec.com.").unwrap();
        truename.shared().flush(&name);
    };
    let (answered, ()) = tokio::join!(ask(&truename, "nothing.nsec.com", "A"), flushing);
    assert_eq!(answered.rcode, 3);
    lab.record().clear();
    ask(&truename, "nothing2.nsec.com", "A").await;
    assert!(!lab.record().queries().is_empty());
}

#[tokio::test]
async fn what_the_operator_took_out_of_the_tree_is_not_denied_by_it() {
    let lab = start_lab().await;
    let private = Name::parse("corp.").unwrap();
    let mut ours = settings(&lab);
    ours.private_zones.insert(private);
    let negative = Name::parse("lan.nsec.com.").unwrap();
    ours.negative_trust_anchors.insert(negative, u64::MAX);
    let options = Options {
        dnssec: Some(ours),
        ..Options::default()
    };
    let truename = Truename::start(&[(&lab, Transport::Tls)], options);
    // The gaps that both lie in.
    for nothing in ["corp0", "corporal", "lam.nsec.com", "land.nsec.com"] {
        ask(&truename, nothing, "A").await;
    }
    for name in ["intranet.corp", "host.lan.nsec.com"] {
        lab.faults().answer_with(name, "A", |query, mut honest| {
            honest.rcode = 0;
            honest.authority.clear();
            honest.answer = vec![forged_record(&query.qname.to_string())];
            Override::Response(Box::new(honest))
        });
        let answered = ask(&truename, name, "A").await;
        assert_eq!((answered.rcode, answered.has(0x20)), (0, false), "{name}");
    }
}
