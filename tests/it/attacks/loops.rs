//! Answers that want to keep a resolver busy: never more than twelve exchanges for one question.

use crate::{
    lab::{
        Ask, FaultSet, Lab, Transport,
        faults::{Damage, Override},
        message::Record,
        name::wire,
    },
    support::{Cases, World},
};

/// Prepares a lab's mischief.
type Fault = fn(&Lab);

const EXCHANGES_MAX: usize = 12;

fn alias(owner: &str, target: &str) -> Record {
    Record {
        owner: wire(owner),
        rtype: 5,
        ttl_s: 60,
        rdata: wire(target),
    }
}

/// A chain of which every answer shows one link only.
fn endless_chain(lab: &Lab) {
    for link in 0..40 {
        let (name, next) = (
            format!("e{link}.secure.com"),
            format!("e{}.secure.com", link + 1),
        );
        let owner = name.clone();
        lab.faults().edit_answer(&name, "A", move |response| {
            response.rcode = 0;
            response.authority.clear();
            response.answer = vec![alias(&owner, &next)];
        });
    }
}

/// Two names that lead to each other, one link an answer.
fn circle(lab: &Lab) {
    for (name, next) in [
        ("e0.secure.com", "e1.secure.com"),
        ("e1.secure.com", "e0.secure.com"),
    ] {
        lab.faults().edit_answer(name, "A", move |response| {
            response.rcode = 0;
            response.authority.clear();
            response.answer = vec![alias(name, next)];
        });
    }
}

#[tokio::test]
async fn no_answer_costs_more_than_twelve_exchanges() {
    let mut cases = Cases::default();
    let faults: [(&str, Fault); 10] = [
        ("an endless chain", endless_chain),
        ("a circle", circle),
        ("an alias to itself", |lab| {
            lab.faults().edit_answer("e0.secure.com", "A", |response| {
                response.rcode = 0;
                response.authority.clear();
                response.answer = vec![alias("e0.secure.com", "e0.secure.com")];
            });
        }),
        ("TC everywhere", |lab| {
            lab.faults().everywhere(|set| set.truncate = true);
        }),
        ("TC, and TCP refused", |lab| {
            lab.faults().everywhere(|set| set.truncate = true);
            lab.faults().on(Transport::Tcp, |set| set.refuse = true);
        }),
        ("cut answers", |lab| {
            lab.faults().everywhere(|set| set.cut = true);
        }),
        ("SERVFAIL", |lab| {
            lab.faults().everywhere(|set| set.rcode = Some(2));
        }),
        ("lies", |lab| {
            lab.faults()
                .everywhere(|set| set.damage = Some(Damage::LyingCounts));
        }),
        ("other questions", |lab| {
            lab.faults().everywhere(|set| set.wrong_question = true);
        }),
        ("silence", |lab| {
            lab.faults()
                .set_answer("e0.secure.com", "A", Override::Silence);
        }),
    ];
    for upstream in [
        Transport::Udp,
        Transport::Tls,
        Transport::Https,
        Transport::Quic,
    ] {
        for (what, fault) in faults {
            if upstream == Transport::Udp && what == "cut answers" {
                // No connection, nothing to cut.
                continue;
            }
            cases
                .add(async move {
                    let world = World::start(upstream).await;
                    fault(&world.lab);
                    let answered = world
                        .ask(Transport::Tcp, &Ask::new("e0.secure.com", "A"))
                        .await;
                    let queries = world.lab.record().queries();
                    let what = format!("{what}, {upstream:?}");
                    let mut questions: Vec<_> = queries
                        .iter()
                        .map(|received| (received.qname(), received.qtype()))
                        .collect();
                    questions.sort_unstable();
                    questions.dedup();
                    assert!(questions.len() <= EXCHANGES_MAX, "{what}: {questions:?}");
                    // A slow moment of the machine may put one of them twice, but not more.
                    let queries = queries.len();
                    assert!(queries <= EXCHANGES_MAX + 1, "{what}: {queries} queries");
                    assert_eq!(answered.rcode, 2, "{what}");
                    world
                        .lab
                        .faults()
                        .everywhere(|set| *set = FaultSet::default());
                    let other = world
                        .ask(Transport::Tcp, &Ask::new("www.secure.com", "A"))
                        .await;
                    assert_eq!(
                        other.rdata("A"),
                        [[192, 0, 2, 80]],
                        "{what}: others are served"
                    );
                })
                .await;
        }
    }
    cases.all_hold().await;
}

#[tokio::test]
async fn chains_of_honest_length_are_followed_link_by_link() {
    let world = World::start(Transport::Tls).await;
    for link in 0..8 {
        let name = format!("e{link}.secure.com");
        let next = match link {
            7 => "www.secure.com".to_owned(),
            _ => format!("e{}.secure.com", link + 1),
        };
        let owner = name.clone();
        world.lab.faults().edit_answer(&name, "A", move |response| {
            response.rcode = 0;
            response.authority.clear();
            response.answer = vec![alias(&owner, &next)];
        });
    }
    let answered = world
        .ask(Transport::Tcp, &Ask::new("e0.secure.com", "A"))
        .await;
    assert_eq!(answered.rdata("CNAME").len(), 8);
    assert_eq!(answered.rdata("A"), [[192, 0, 2, 80]]);
}
