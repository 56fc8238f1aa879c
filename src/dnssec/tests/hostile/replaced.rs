//! Lies that weaken what is believed afterwards: hidden keys, replayed wildcards, cut messages.

use std::{sync::Arc, time::Duration};

use super::super::{answers::world, lab::*};
use crate::{
    anchors::{Keeper, Source, built_in},
    dnssec::{KeyCache, Security, Step, Validation, ds_of_key},
    wire::{Name, Question, Response, rtype},
};

/// A DNSKEY of an RSA key of 512 bits, which is not supported.
fn small_key() -> Vec<u8> {
    let mut dnskey = vec![1, 1, 3, 8, 3, 1, 0, 1];
    dnskey.extend([0xc3; 64]);
    dnskey
}

#[test]
fn a_hidden_key_does_not_make_its_zone_insecure() {
    let mut world = world();
    let apex = name("example.com.");
    let small = small_key();
    let ds = ds_of_key(&apex, &small).unwrap();
    world
        .zone_mut("example.com.")
        .put(&apex, rtype::DNSKEY, small.clone());
    world.zone_mut("com.").put(&apex, rtype::DS, ds_rdata(&ds));
    let asked = question("www.example.com.", rtype::A);
    let honest = Client::new(&world).ask(&asked);
    assert_eq!(honest.verdict.security(), Security::Secure);
    let mut client = Client::new(&world);
    let judged = client.ask_tampered(&asked, move |one, response| {
        if one.qtype == rtype::DNSKEY && one.name == name("example.com.") {
            response.answer = vec![record(&one.name, rtype::DNSKEY, &small)];
        }
        if one.qtype == rtype::A {
            response.answer = vec![record(&one.name, rtype::A, &[6, 6, 6, 6])];
        }
    });
    assert_eq!(judged.verdict.security(), Security::Bogus);
    assert!(client.keys.lookup(&apex, &now()).is_none());
}

#[test]
fn a_wildcard_alias_replayed_for_a_ds_hides_no_delegation() {
    let mut zones = world().zones;
    for zone in &mut zones {
        // The ties between zones are made again below.
        let apex = zone.apex.clone();
        zone.sets
            .retain(|owner, sets| *owner == apex || !sets.contains_key(&rtype::NS));
    }
    let org = zones.iter_mut().find(|zone| zone.apex == name("org."));
    let target = name("www.example.com.").as_wire().to_vec();
    org.unwrap().put(&name("*.org."), rtype::CNAME, target);
    let world = World::new(zones);
    let mut client = Client::new(&world);
    let attack = |one: &Question, response: &mut Response| {
        if one.qtype == rtype::DS && one.name == name("unsigned.org.") {
            response.authority.clear();
            let wildcard = name("*.org.");
            response.answer = world.zone("org.").set(&wildcard, rtype::CNAME, &one.name);
        }
    };
    let asked = question("www.unsigned.org.", rtype::A);
    let judged = client.ask_tampered(&asked, attack);
    assert_eq!(judged.verdict.security(), Security::Bogus);
    let judged = client.ask(&asked);
    assert_eq!(judged.verdict.security(), Security::Insecure);
}

#[test]
fn what_is_not_validated_for_now_is_kept_no_longer() {
    let world = world();
    let mut client = Client::new(&world);
    client
        .settings
        .negative_trust_anchors
        .insert(name("example.com."), UNIX_S + 10);
    let judged = client.ask(&question("www.example.com.", rtype::A));
    assert_eq!(judged.verdict.security(), Security::Insecure);
    assert!(judged.ttl_cap_s <= 10);
}

#[test]
fn a_cut_message_is_no_answer() {
    let world = world();
    let mut client = Client::new(&world);
    let judged = client.ask_tampered(&question("www.unsigned.org.", rtype::A), |one, response| {
        if one.qtype == rtype::A {
            response.truncated = true;
        }
    });
    assert!(!judged.verdict.is_usable());
}

#[test]
fn doubt_takes_the_closest_zone_and_leaves_its_parents() {
    let world = world();
    let mut client = Client::new(&world);
    client.ask(&question("www.example.com.", rtype::A));
    let later = client.now.plus(Duration::from_secs(61));
    client.keys.doubt(&name("www.example.com."), &later);
    let known = |zone: &str| client.keys.lookup(&name(zone), &later).is_some();
    assert!(!known("example.com.") && known("com.") && known("."));
}

#[test]
fn a_strangers_revocation_tells_the_keeper_nothing_of_the_time() {
    let root = Name::root();
    let stranger = Signer::with(99, 0x0101 | 0x0080, 3, 15);
    let far = UNIX_S + 10 * 365 * 86_400;
    let near = |seconds: i64| u32::try_from(i64::try_from(far).unwrap() + seconds).unwrap();
    let rdata = vec![stranger.dnskey.clone()];
    let rrsig = stranger.rrsig(&ToSign {
        zone: &root,
        owner: &root,
        labels: 0,
        rtype: rtype::DNSKEY,
        ttl_s: 60,
        rdata: &rdata,
        inception: near(-60),
        expiration: near(60),
    });
    let response = Response {
        rcode: 0,
        truncated: false,
        question: question(".", rtype::DNSKEY),
        answer: vec![
            record(&root, rtype::DNSKEY, &rdata[0]),
            record(&root, rtype::RRSIG, &rrsig),
        ],
        authority: Vec::new(),
        extended_errors: Vec::new(),
    };
    let mut keeper = Keeper::new(UNIX_S - 1000);
    keeper.seed(&built_in(), Source::BuiltIn, UNIX_S);
    let before = keeper.floor();
    // The machine's clock is ten years ahead, once.
    let _ = keeper.observe(&root, &response, &world().settings(), far);
    assert_eq!(keeper.floor(), before);
}

#[test]
fn responses_that_arrive_one_by_one_cost_no_more_than_all_at_once() {
    // Five zones that are not known lead to a name that an NSEC3 zone with many iterations denies.
    let world = World::new(vec![
        Zone::new(".", 1),
        Zone::new("org.", 3),
        Zone::new("b.org.", 4),
        Zone::new("c.b.org.", 5),
        Zone::new("d.c.b.org.", 6),
        Zone::new("e.d.c.b.org.", 7),
        Zone::new("f.e.d.c.b.org.", 8).alias("www.f.e.d.c.b.org.", "no.such.name.example.net."),
        Zone::new("net.", 9),
        Zone::new("example.net.", 10)
            .nsec3(50, false)
            .hosts(&["www.example.net."]),
    ]);
    let mut keys = KeyCache::new();
    let warm = Client::new(&world).ask(&question("www.example.net.", rtype::A));
    keys.learn(warm.learned, &now());
    let asked = question("www.f.e.d.c.b.org.", rtype::A);
    let settings = Arc::new(world.settings());
    let mut validation = Validation::new(asked.clone(), &world.respond(&asked), settings, now());
    let mut waiting: Vec<Question> = Vec::new();
    let judged = loop {
        match validation.step(&keys) {
            Step::Done(judged) => break judged,
            Step::Need(needs) => {
                for need in needs {
                    if !waiting.contains(&need) {
                        waiting.push(need);
                    }
                }
            }
        }
        let next = waiting.remove(0);
        let response = world.respond(&next);
        validation.supply(next, Ok(&response));
    };
    assert_eq!(judged.verdict.security(), Security::Secure);
}
