//! One of three upstreams fails while clients ask: what they notice.

use std::{
    env,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    DISTANCES, Labs, is_full, note,
    table::{HEAD, Trouble, all_held, measure},
};
use crate::{
    lab::{
        Transport,
        faults::{DNSSEC_TYPES, Identity},
        message::SERVFAIL,
    },
    process::RunningLab,
};

/// How much later slow answers come.
const SLOWER: Duration = Duration::from_millis(500);

/// How long an upstream that is started again is away, and how often that happens.
const RESTART_DOWN: Duration = Duration::from_secs(1);
const RESTART_EVERY: Duration = Duration::from_secs(5);

/// What can happen to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The program dies: connections are reset, nobody listens.
    Dies,
    /// The host is off the network without a word.
    BlackHole,
    /// Every answer is late.
    Slow,
    /// Every answer is SERVFAIL.
    Servfail,
    /// Every answer is HTTP 503.
    Http503,
    /// The connection or stream ends in the middle of every answer.
    CutsAnswers,
    /// The certificate has expired.
    ExpiredCertificate,
    /// The certificate is for another name.
    WrongCertificate,
    /// Signatures and proofs are missing.
    StripsDnssec,
    /// The program is started again, now and then.
    Restarts,
}

impl Fault {
    pub(super) const ALL: [Self; 10] = [
        Self::Dies,
        Self::BlackHole,
        Self::Slow,
        Self::Servfail,
        Self::Http503,
        Self::CutsAnswers,
        Self::ExpiredCertificate,
        Self::WrongCertificate,
        Self::StripsDnssec,
        Self::Restarts,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Dies => "dies (RST)",
            Self::BlackHole => "black hole",
            Self::Slow => "answers 500 ms late",
            Self::Servfail => "SERVFAIL",
            Self::Http503 => "HTTP 503",
            Self::CutsAnswers => "closes in the answer",
            Self::ExpiredCertificate => "expired certificate",
            Self::WrongCertificate => "certificate of another",
            Self::StripsDnssec => "strips DNSSEC",
            Self::Restarts => "restarts every 5 s",
        }
    }

    /// Whether an upstream of this transport can fail so.
    pub(super) fn is_of(self, transport: Transport) -> bool {
        match self {
            Self::Http503 => matches!(transport, Transport::Https | Transport::Http3),
            _ => true,
        }
    }

    pub(super) fn begin(self, lab: &RunningLab) {
        let faults = lab.faults();
        let show = |identity| {
            faults.show(identity);
            // Connections that stand would not see it.
            lab.close();
            lab.reopen();
        };
        match self {
            Self::Dies => {
                faults.crash(true);
                lab.close();
            }
            Self::BlackHole => faults.vanish(true),
            Self::Slow => faults.everywhere(|set| set.latency += SLOWER),
            Self::Servfail => faults.everywhere(|set| set.rcode = Some(SERVFAIL)),
            Self::Http503 => faults.everywhere(|set| set.http_status = Some(503)),
            Self::CutsAnswers => faults.everywhere(|set| set.cut = true),
            Self::ExpiredCertificate => show(Identity::Expired),
            Self::WrongCertificate => show(Identity::WrongName),
            Self::StripsDnssec => {
                faults.everywhere(|set| set.strip_types = DNSSEC_TYPES.to_vec());
            }
            Self::Restarts => {}
        }
    }

    /// Lets time pass while it lasts.
    pub(super) fn last(self, lab: &RunningLab, time: Duration) {
        let start = Instant::now();
        while self == Self::Restarts && start.elapsed() + RESTART_DOWN < time {
            lab.close();
            sleep(RESTART_DOWN);
            lab.reopen();
            let left = time.saturating_sub(start.elapsed());
            sleep(left.min(RESTART_EVERY.saturating_sub(RESTART_DOWN)));
        }
        sleep(time.saturating_sub(start.elapsed()));
    }

    pub(super) fn end(self, lab: &RunningLab, distance: Duration) {
        let faults = lab.faults();
        faults.reset();
        faults.everywhere(|set| set.latency = distance);
        match self {
            Self::Dies => lab.reopen(),
            Self::ExpiredCertificate | Self::WrongCertificate => {
                lab.close();
                lab.reopen();
            }
            _ => {}
        }
    }
}

/// A fault of a lab.
struct Failing<'a> {
    fault: Fault,
    lab: &'a RunningLab,
    transport: Transport,
}

impl Trouble for Failing<'_> {
    fn title(&self) -> (String, String) {
        let transport = self.transport.label().to_owned();
        (self.fault.title().to_owned(), transport)
    }

    fn begin(&mut self) {
        self.fault.begin(self.lab);
    }

    fn last(&mut self, time: Duration) {
        self.fault.last(self.lab, time);
    }

    fn end(&mut self) {
        self.fault.end(self.lab, DISTANCES[0]);
    }

    // Who left signatures out is asked after others for ten minutes (docs/upstreams.md).
    fn is_forgotten_soon(&self) -> bool {
        self.fault != Fault::StripsDnssec
    }
}

/// The transports of the three labs, the one that fails first.
const ORDERS: [[Transport; 3]; 4] = [
    [Transport::Tls, Transport::Https, Transport::Quic],
    [Transport::Https, Transport::Quic, Transport::Tls],
    [Transport::Quic, Transport::Tls, Transport::Https],
    [Transport::Http3, Transport::Tls, Transport::Quic],
];

#[test]
#[ignore = "minutes of load; .ci/run has a short version"]
fn one_of_three_upstreams_fails_and_no_client_notices() {
    let only = env::var("TRUENAME_FAULT").ok();
    let mut rows = Vec::new();
    note(HEAD);
    for (number, fault) in Fault::ALL.into_iter().enumerate() {
        if only
            .as_ref()
            .is_some_and(|only| !fault.title().contains(only))
        {
            continue;
        }
        let orders: Vec<_> = ORDERS
            .iter()
            .filter(|order| fault.is_of(order[0]))
            .collect();
        // The short version takes another transport for each fault.
        let some = [orders[number % orders.len()]];
        for transports in if is_full() { &orders[..] } else { &some } {
            let labs = Labs::start(&transports[..]);
            let failing = Failing {
                fault,
                lab: labs.first(),
                transport: transports[0],
            };
            rows.push(measure(&labs, |here| labs.config(here), failing));
        }
    }
    all_held(&rows);
}
