//! One of three upstreams fails while clients ask: what they notice.

use std::{
    env,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    DISTANCES, Labs, is_full,
    load::{Load, Outcome, Spread},
    ms, note,
};
use crate::{
    lab::{
        Transport,
        faults::{DNSSEC_TYPES, Identity},
        message::SERVFAIL,
    },
    process::{PLAIN, RunningLab, Setup},
};

/// Queries a second.
const RATE: u32 = 300;

/// How much later slow answers come.
const SLOWER: Duration = Duration::from_millis(500);

/// How long an upstream that is started again is away, and how often that happens.
const RESTART_DOWN: Duration = Duration::from_secs(1);
const RESTART_EVERY: Duration = Duration::from_secs(5);

/// How long the load runs before anything is measured: connections are made, keys are fetched.
const WARM_UP: Duration = Duration::from_secs(2);

/// How long an upstream that is well again may take to be asked again before that counts as never.
const COME_BACK_MAX: Duration = Duration::from_secs(60);

/// What can happen to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
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
    const ALL: [Self; 10] = [
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

    fn title(self) -> &'static str {
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
    fn is_of(self, transport: Transport) -> bool {
        match self {
            Self::Http503 => matches!(transport, Transport::Https | Transport::Http3),
            _ => true,
        }
    }

    fn begin(self, lab: &RunningLab) {
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
    fn last(self, lab: &RunningLab, time: Duration) {
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

    fn end(self, lab: &RunningLab) {
        let faults = lab.faults();
        faults.reset();
        faults.everywhere(|set| set.latency = DISTANCES[0]);
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

/// How long the load runs before, during and after the fault.
fn phases() -> [Duration; 3] {
    let asked = env::var("TRUENAME_FAULT_PHASES_S").ok();
    let short = if is_full() { "10,15,10" } else { "3,5,3" };
    let text = asked.unwrap_or_else(|| short.to_owned());
    let seconds: Vec<u64> = text.split(',').map(|part| part.parse().unwrap()).collect();
    [0, 1, 2].map(|phase| Duration::from_secs(seconds[phase]))
}

/// One row of the table.
struct Row {
    what: String,
    text: String,
    failures: Vec<String>,
    came_back: bool,
}

const HEAD: &str = "\
| fault | upstream | queries | failed | before p50/p99/max ms | during p50/p99/max ms | after p50/p99/max ms | aim p99 ms | asked first during | noticed s | clients settled s | asked again s | all back s |
|---|---|---|---|---|---|---|---|---|---|---|---|---|";

fn run(fault: Fault, transports: [Transport; 3]) -> Row {
    let labs = Labs::start(&transports);
    let setup = Setup::new();
    let config = format!("{PLAIN}{}", labs.config(setup.path()));
    setup.write("truename.toml", &config);
    let truename = setup.start();
    let load = Load::start(truename.address(Transport::Udp), RATE);
    let [before, during, after] = phases();
    sleep(WARM_UP);
    let warm = Instant::now();
    sleep(before);
    let began = Instant::now();
    fault.begin(labs.first());
    fault.last(labs.first(), during);
    let ended = Instant::now();
    fault.end(labs.first());
    sleep(after);
    // The load goes on until it is asked again.
    let is_back = || {
        let asked = &labs.asked_first()[0];
        asked.iter().any(|&at| at > ended)
    };
    let waiting = Instant::now();
    while !is_back() && waiting.elapsed() < COME_BACK_MAX {
        sleep(Duration::from_millis(500));
    }
    let outcomes = load.finish();
    let asked = &labs.asked_first()[0];
    let what = format!("{}, {}", fault.title(), transports[0].label());
    Row::of(what, &outcomes, asked, [warm, began, ended])
}

/// How long the program took to stop asking: after that, the upstream is asked first once or
/// twice a second at most.
fn noticed(asked: &[Instant], began: Instant, ended: Instant) -> Option<Duration> {
    let during: Vec<_> = asked
        .iter()
        .filter(|&&at| (began..ended).contains(&at))
        .collect();
    let busy = during
        .windows(3)
        .rev()
        .find(|three| *three[2] - *three[0] <= Duration::from_secs(1));
    busy.map(|three| *three[2] - began)
}

/// How long until the upstream was asked first at half its old rate.
fn all_back(asked: &[Instant], [warm, began, ended]: [Instant; 3]) -> Option<Duration> {
    let window = Duration::from_secs(1);
    let count = |from: Instant| {
        let within = asked.iter().filter(|&&at| at >= from && at < from + window);
        within.count()
    };
    let usual = asked.iter().filter(|&&at| (warm..began).contains(&at));
    let seconds = usize::try_from((began - warm).as_secs()).expect("a short time");
    let usual = usual.count() / seconds.max(1);
    let after = asked.iter().copied().filter(|&at| at >= ended);
    let back = after.into_iter().find(|&at| count(at) * 2 >= usual.max(1));
    back.map(|at| at - ended)
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(
        || "never".to_owned(),
        |time| format!("{:.2}", time.as_secs_f64()),
    )
}

impl Row {
    fn of(
        what: String,
        outcomes: &[Outcome],
        asked: &[Instant],
        [warm, began, ended]: [Instant; 3],
    ) -> Self {
        let phase = |from: Instant, to: Option<Instant>| {
            let within = outcomes
                .iter()
                .filter(|outcome| outcome.at >= from && to.is_none_or(|to| outcome.at < to));
            Spread::of(within)
        };
        let healthy = phase(warm, Some(began));
        let spreads = [&healthy, &phase(began, Some(ended)), &phase(ended, None)];
        let figures = spreads.map(|spread| {
            format!(
                "{} / {} / {}",
                ms(spread.percentile(50)),
                ms(spread.percentile(99)),
                ms(spread.max())
            )
        });
        let aim = healthy.percentile(99) * 2 + DISTANCES[1];
        let mut late = outcomes.iter().filter(|outcome| {
            let within = (began..ended).contains(&outcome.at);
            within && outcome.latency.is_none_or(|latency| latency > aim)
        });
        let settled = late.next_back().map(|outcome| outcome.at - began);
        let failures: Vec<_> = outcomes
            .iter()
            .filter(|outcome| !outcome.is_good())
            .map(|outcome| {
                let since = outcome.at.saturating_duration_since(began);
                let wrong = outcome.wrong.as_deref().unwrap_or("too late");
                format!(
                    "query {} at {}: {wrong}",
                    outcome.number,
                    seconds(Some(since))
                )
            })
            .collect();
        let during = asked
            .iter()
            .filter(|&&at| (began..ended).contains(&at))
            .count();
        let again = asked.iter().find(|&&at| at >= ended).map(|&at| at - ended);
        let (fault, upstream) = what.split_once(", ").unwrap_or((&what, ""));
        let text = format!(
            "| {fault} | {upstream} | {} | {} | {} | {} | {} | {} | {during} | {} | {} | {} | {} |",
            outcomes.len(),
            failures.len(),
            figures[0],
            figures[1],
            figures[2],
            ms(aim),
            seconds(Some(noticed(asked, began, ended).unwrap_or_default())),
            seconds(Some(settled.unwrap_or_default())),
            seconds(again),
            seconds(all_back(asked, [warm, began, ended])),
        );
        Self {
            what,
            text,
            failures,
            came_back: again.is_some(),
        }
    }
}

/// The transports of the three labs, the one that fails first.
const ORDERS: [[Transport; 3]; 4] = [
    [Transport::Tls, Transport::Https, Transport::Quic],
    [Transport::Https, Transport::Quic, Transport::Tls],
    [Transport::Quic, Transport::Tls, Transport::Https],
    [Transport::Http3, Transport::Tls, Transport::Quic],
];

/// The most that is told of a row's failures.
const TOLD_MAX: usize = 10;

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
            let row = run(fault, **transports);
            note(&row.text);
            rows.push(row);
        }
    }
    let mut told = Vec::new();
    for row in &rows {
        if !row.failures.is_empty() {
            let some = &row.failures[..row.failures.len().min(TOLD_MAX)];
            told.push(format!(
                "{}: {} failed: {some:#?}",
                row.what,
                row.failures.len()
            ));
        }
        if !row.came_back {
            told.push(format!("{}: it was never asked again", row.what));
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}
