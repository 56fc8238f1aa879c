//! What one upstream takes away another one gives.

use std::time::Duration;

use super::{Options, Transport, Truename, ask, settings};
use crate::{lab::faults::DNSSEC_TYPES, support::start_lab};

/// Whose answer was no good is not asked again because the other one takes its time.
#[tokio::test]
async fn signatures_that_are_missing_are_waited_for_from_a_slow_upstream() {
    let (stripping, slow) = (start_lab().await, start_lab().await);
    let upstreams = [(&slow, Transport::Tls), (&stripping, Transport::Tls)];
    let options = Options {
        dnssec: Some(settings(&slow)),
        ..Options::default()
    };
    let truename = Truename::start(&upstreams, options);
    // It is known to be fast, so that it is soon taken to be down.
    for number in 0..20 {
        let answered = ask(&truename, &format!("n{number}.wild.secure.com"), "A").await;
        assert_eq!(answered.rcode, 0);
    }
    let strip = DNSSEC_TYPES.to_vec();
    stripping
        .faults()
        .everywhere(|set| set.strip_types.clone_from(&strip));
    slow.faults()
        .everywhere(|set| set.latency = Duration::from_millis(500));
    for number in 0..3 {
        let name = format!("fresh{number}.wild.nsec3.com");
        let answered = ask(&truename, &name, "A").await;
        assert_eq!((answered.rcode, answered.has(0x20)), (0, true), "{name}");
    }
}
