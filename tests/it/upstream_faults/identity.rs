//! An upstream that cannot prove who it is learns nothing, not even the question.

use super::{ask_fresh, assert_servfail, is_right};
use crate::{
    lab::{Transport, faults::Identity},
    support::{ENCRYPTED, Options, Truename, World, start_lab},
};

#[tokio::test]
async fn no_query_leaves_before_the_certificate_holds() {
    for upstream in ENCRYPTED {
        for identity in [Identity::WrongName, Identity::Expired, Identity::SelfSigned] {
            let world = World::start(upstream).await;
            world.lab.faults().show(identity);
            let what = format!("{identity:?}, {upstream:?}");
            assert_servfail(&ask_fresh(&world, "secret").await, &what);
            assert!(world.lab.record().is_empty(), "{what}: a query left");
            world.lab.faults().show(Identity::Right);
            let answered = ask_fresh(&world, "afterwards").await;
            assert!(is_right(&answered), "{what}: {answered:?}");
        }
    }
}

#[tokio::test]
async fn two_bad_certificates_do_not_make_a_good_one() {
    let (lab, other) = (start_lab().await, start_lab().await);
    lab.faults().show(Identity::SelfSigned);
    other.faults().show(Identity::Expired);
    let upstreams = [(&lab, Transport::Tls), (&other, Transport::Https)];
    let truename = Truename::start(&upstreams, Options::default());
    let world = World { truename, lab };
    assert_servfail(&ask_fresh(&world, "secret").await, "two upstreams");
    assert!(world.lab.record().is_empty() && other.record().is_empty());
}
