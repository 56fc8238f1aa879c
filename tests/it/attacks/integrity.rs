//! Records beside the answer, for names nobody asked for.

use crate::{
    lab::{
        Ask, Transport,
        faults::{FORGED_ADDRESS, Section},
        forged_record,
    },
    support::World,
};

/// Names whose own addresses must stay theirs, and these addresses.
const VICTIMS: [(&str, [u8; 4]); 3] = [
    ("mail.secure.com", [192, 0, 2, 25]),
    ("www.insecure.com", [192, 0, 2, 80]),
    ("dns.secure.com", [192, 0, 2, 53]),
];

async fn assert_victims_are_well(world: &World, what: &str) {
    world.lab.faults().reset();
    for (victim, address) in VICTIMS {
        let answered = world.ask(Transport::Udp, &Ask::new(victim, "A")).await;
        assert_eq!(answered.rdata("A"), [address], "{what}: {victim}");
    }
}

#[tokio::test]
async fn what_was_not_asked_for_is_neither_kept_nor_passed_on() {
    for upstream in [
        Transport::Udp,
        Transport::Tcp,
        Transport::Tls,
        Transport::Https,
    ] {
        for section in [Section::Answer, Section::Authority, Section::Additional] {
            let world = World::start(upstream).await;
            world.lab.faults().everywhere(|faults| {
                let forged = VICTIMS.map(|(victim, _)| (section, forged_record(victim)));
                faults.extra = forged.to_vec();
            });
            let what = format!("{section:?}, {upstream:?}");
            for (name, rtype) in [
                ("www.secure.com", "A"),
                ("alias.secure.com", "A"),
                ("nothing.secure.com", "A"),
                ("txt.secure.com", "A"),
                ("secure.com", "MX"),
            ] {
                let answered = world
                    .ask(Transport::Tcp, &Ask::new(name, rtype).dnssec())
                    .await;
                let mut records = answered.sections.iter().flatten();
                let forged = records.any(|record| record.rdata == FORGED_ADDRESS);
                assert!(!forged, "{what}: {name} {rtype}");
            }
            assert_victims_are_well(&world, &what).await;
        }
    }
}

#[tokio::test]
async fn a_forged_target_behind_an_alias_stays_behind_the_alias() {
    for upstream in [Transport::Udp, Transport::Tls] {
        for (victim, _) in VICTIMS {
            let world = World::start(upstream).await;
            let target = victim.to_owned();
            world
                .lab
                .faults()
                .edit_answer("attacker.wild.secure.com", "A", move |response| {
                    let mut alias = forged_record("attacker.wild.secure.com");
                    alias.rtype = 5;
                    alias.rdata = crate::lab::name::wire(&target);
                    response.answer = vec![alias, forged_record(&target)];
                });
            let ask = Ask::new("attacker.wild.secure.com", "A");
            world.ask(Transport::Udp, &ask).await;
            assert_victims_are_well(&world, &format!("{victim}, {upstream:?}")).await;
        }
    }
}

#[tokio::test]
async fn an_answer_for_another_name_or_type_is_no_answer() {
    for upstream in [Transport::Udp, Transport::Tls, Transport::Https] {
        let world = World::start(upstream).await;
        let faults = world.lab.faults();
        faults.edit_answer("www.secure.com", "A", |response| {
            response.answer = vec![forged_record("mail.secure.com"), forged_record("com")];
        });
        faults.edit_answer("www.secure.com", "AAAA", |response| {
            response.answer = vec![forged_record("www.secure.com")];
        });
        for rtype in ["A", "AAAA"] {
            let answered = world
                .ask(Transport::Tcp, &Ask::new("www.secure.com", rtype))
                .await;
            assert!(answered.answer().is_empty(), "{upstream:?} {rtype}");
        }
        assert_victims_are_well(&world, &format!("{upstream:?}")).await;
    }
}
