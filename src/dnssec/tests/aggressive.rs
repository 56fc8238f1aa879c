//! Denials from proofs seen before.

use std::time::Duration;

use proptest::prelude::*;

use crate::{
    dnssec::{Gaps, Security, Why},
    wire::{rcode, rtype},
};

use super::{
    answers::world,
    lab::{Client, World, Zone, name, now, question},
};

/// Gaps learned from the honest answers to these questions.
fn learned(world: &World, questions: &[(&str, u16)]) -> Gaps {
    let mut gaps = Gaps::new();
    for (owner, qtype) in questions {
        let judged = Client::new(world).ask(&question(owner, *qtype));
        gaps.learn(judged.proven, &now());
    }
    gaps
}

#[test]
fn a_gap_seen_once_denies_its_other_names() {
    let world = world();
    let gaps = learned(&world, &[("no.example.com.", rtype::A)]);
    let denied = gaps
        .deny(
            &question("nn.example.com.", rtype::MX),
            &world.settings(),
            &now(),
        )
        .unwrap();
    assert_eq!(denied.rcode, rcode::NXDOMAIN);
    assert_eq!(denied.ttl_s, 60);
    // What is given out convinces a validator that has never heard of us.
    let judged = Client::new(&world).ask_tampered(
        &question("nn.example.com.", rtype::MX),
        |one, response| {
            if one.qtype == rtype::MX {
                response.authority.clone_from(&denied.authority);
            }
        },
    );
    assert_eq!(judged.verdict.security(), Security::Secure);
    assert_eq!(judged.rcode, rcode::NXDOMAIN);
    // Names in other gaps and names that exist are not touched.
    for owner in [
        "www.example.com.",
        "zzz.example.com.",
        "x.wild.example.com.",
        "no.example.org.",
    ] {
        assert_eq!(
            gaps.deny(&question(owner, rtype::A), &world.settings(), &now()),
            None,
            "{owner}"
        );
    }
}

#[test]
fn nsec3_gaps_deny_too_but_not_when_they_opt_out() {
    let world = World::new(vec![
        Zone::new(".", 1),
        Zone::new("one.", 2).nsec3(2, false),
        Zone::new("two.", 3).nsec3(2, true),
    ]);
    let gaps = learned(&world, &[("no.one.", rtype::A), ("no.two.", rtype::A)]);
    let denied = gaps
        .deny(&question("other.one.", rtype::A), &world.settings(), &now())
        .unwrap();
    assert_eq!(denied.rcode, rcode::NXDOMAIN);
    let deep = gaps
        .deny(&question("a.b.c.one.", rtype::A), &world.settings(), &now())
        .unwrap();
    assert_eq!(deep.rcode, rcode::NXDOMAIN);
    let types = gaps
        .deny(&question("one.", rtype::TXT), &world.settings(), &now())
        .unwrap();
    assert_eq!(types.rcode, rcode::NOERROR);
    assert_eq!(
        gaps.deny(&question("one.", rtype::SOA), &world.settings(), &now()),
        None
    );
    assert_eq!(
        gaps.deny(&question("other.two.", rtype::A), &world.settings(), &now()),
        None
    );
}

#[test]
fn gaps_end_with_the_soa_minimum() {
    let world = world();
    let gaps = learned(&world, &[("no.example.com.", rtype::A)]);
    let asked = question("nn.example.com.", rtype::A);
    let later = now().plus(Duration::from_secs(59));
    assert!(gaps.deny(&asked, &world.settings(), &later).is_some());
    let too_late = now().plus(Duration::from_secs(62));
    assert_eq!(gaps.deny(&asked, &world.settings(), &too_late), None);
}

#[test]
fn a_delegations_record_denies_nothing_below_it() {
    let world = world();
    // The NSEC of unsigned.org. in org. is learned as the proof that it has no DS.
    let gaps = learned(&world, &[("www.unsigned.org.", rtype::A)]);
    assert!(!gaps.is_empty());
    for owner in ["www.unsigned.org.", "unsigned.org.", "no.unsigned.org."] {
        assert_eq!(
            gaps.deny(&question(owner, rtype::A), &world.settings(), &now()),
            None,
            "{owner}"
        );
    }
    let ds = gaps
        .deny(
            &question("unsigned.org.", rtype::DS),
            &world.settings(),
            &now(),
        )
        .unwrap();
    assert_eq!(ds.rcode, rcode::NOERROR);
}

#[test]
fn a_bogus_answer_teaches_nothing_false() {
    let world = world();
    let mut gaps = Gaps::new();
    let judged = Client::new(&world).ask_tampered(
        &question("no.example.com.", rtype::A),
        |one, response| {
            if one.qtype == rtype::A {
                for record in &mut response.authority {
                    if record.rtype == rtype::NSEC {
                        record.rdata[1] = b'z';
                    }
                }
            }
        },
    );
    assert_eq!(judged.verdict.reason().unwrap().why, Why::SignatureInvalid);
    gaps.learn(judged.proven, &now());
    assert_eq!(
        gaps.deny(
            &question("www.example.com.", rtype::A),
            &world.settings(),
            &now()
        ),
        None
    );
    assert_eq!(
        gaps.deny(
            &question("nn.example.com.", rtype::A),
            &world.settings(),
            &now()
        ),
        None
    );
}

#[test]
fn a_zone_with_endless_gaps_stays_within_its_bound() {
    let hosts: Vec<String> = (0..60).map(|host| format!("h{host:03}.tld.")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let world = World::new(vec![Zone::new(".", 1), Zone::new("tld.", 2).hosts(&hosts)]);
    let mut gaps = Gaps::new();
    for host in &hosts {
        let judged = Client::new(&world).ask(&question(host, rtype::TXT));
        gaps.learn(judged.proven, &now());
    }
    assert!(gaps.len() >= hosts.len() && gaps.len() < 2 * hosts.len());
    gaps.forget(&name("tld."));
    assert!(
        gaps.deny(&question(hosts[0], rtype::MX), &world.settings(), &now())
            .is_none()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever was asked before, a synthesized denial says what the zone would say.
    #[test]
    fn synthesized_denials_are_true(
        asked in prop::collection::vec(("[a-z]{1,3}(\\.[a-z]{1,2})?", any::<bool>()), 1..6),
        then in "[a-z]{1,3}(\\.[a-z]{1,2})?",
        type_asked in prop_oneof![Just(rtype::A), Just(rtype::DS), Just(rtype::NS), Just(rtype::TXT)],
        iterations in prop_oneof![Just(None), Just(Some(0_u16)), Just(Some(3))],
        opt_out in any::<bool>(),
    ) {
        let mut zone = Zone::new("t.", 2)
            .hosts(&["b.t.", "m.t.", "x.y.t.", "*.w.t.", "t.t.t."])
            .alias("c.t.", "m.t.");
        if let Some(iterations) = iterations {
            zone = zone.nsec3(iterations, opt_out);
        }
        let world = World::new(vec![
            Zone::new(".", 1),
            zone,
            Zone::new("d.t.", 3).hosts(&["a.d.t."]),
            Zone::new("u.t.", 0).hosts(&["a.u.t."]),
        ]);
        let mut gaps = Gaps::new();
        let mut client = Client::new(&world);
        for (label, types) in asked {
            let qtype = if types { rtype::A } else { rtype::TXT };
            let judged = client.ask(&question(&format!("{label}.t."), qtype));
            gaps.learn(judged.proven, &now());
        }
        let then = question(&format!("{then}.t."), type_asked);
        if let Some(denied) = gaps.deny(&then, &world.settings(), &now()) {
            let truth = world.respond(&then);
            prop_assert!(truth.answer.is_empty(), "{:?}", denied);
            prop_assert_eq!(denied.rcode, truth.rcode);
            let judged = client.ask_tampered(&then, |one, response| {
                if *one == then {
                    response.authority.clone_from(&denied.authority);
                }
            });
            prop_assert_eq!(judged.verdict.security(), Security::Secure);
        }
    }
}
