//! Upstreams that fail: what a client gets when answers come late, broken, forged, from the wrong
//! host, or not at all.

mod answers;
mod connections;
mod identity;
mod several;
mod stale;

use crate::{
    lab::{Answered, Ask, FaultSet, Transport},
    support::World,
};

const SERVFAIL: u16 = 2;
const EDE_NO_REACHABLE_AUTHORITY: u16 = 22;
const EDE_NETWORK_ERROR: u16 = 23;

/// Asks for a name nobody asked for yet.
async fn ask_fresh(world: &World, label: &str) -> Answered {
    let ask = Ask::new(&format!("{label}.wild.secure.com"), "A");
    world.ask(Transport::Tcp, &ask).await
}

/// The one address of all fresh names.
fn is_right(answered: &Answered) -> bool {
    answered.rcode == 0 && answered.rdata("A") == [[192, 0, 2, 42]]
}

/// A failure that says why.
fn assert_servfail(answered: &Answered, what: &str) {
    assert_eq!(answered.rcode, SERVFAIL, "{what}");
    assert!(answered.sections.iter().all(Vec::is_empty), "{what}");
    let errors = answered.extended_errors();
    let known = |code| matches!(code, EDE_NO_REACHABLE_AUTHORITY | EDE_NETWORK_ERROR);
    assert!(
        errors.len() == 1 && known(errors[0].0),
        "{what}: {errors:?}"
    );
    assert!(!errors[0].1.is_empty(), "{what}: a text for people");
}

/// Replaces the faults of one transport; UDP's include TCP's, which stands in for it.
fn set(world: &World, upstream: Transport, change: impl Fn(&mut FaultSet)) {
    let both = [upstream, Transport::Tcp];
    let affected = if upstream == Transport::Udp {
        &both[..]
    } else {
        &both[..1]
    };
    for transport in affected {
        world.lab.faults().on(*transport, |faults| {
            *faults = FaultSet::default();
            change(faults);
        });
    }
}
