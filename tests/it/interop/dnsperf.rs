//! dnsperf: that nothing is lost or wrong under load. `INTEROP_DNSPERF_S` is how many seconds each
//! transport is loaded, 30 unless told otherwise.

use std::{
    env, fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{
    resolvers::dig,
    stage::Stage,
    tools::{Ran, finish_within, note, program},
};

/// How many names are asked for: more than fit anywhere but into the cache.
const NAMES: usize = 5000;

/// The transports as dnsperf is told of them, and the listener each meets.
///
/// Over HTTP/2 dnsperf has room for one answer on a connection: of several in one TLS record, as
/// truename sends them, it keeps the last and reports the others lost (its issue 240). So there
/// each of its threads has a connection of its own and waits for each answer; the tests with curl
/// ask many things at once.
const WAYS: [(&str, &str, &[&str]); 5] = [
    ("UDP", "udp", &["-m", "udp"]),
    ("TCP", "tcp", &["-m", "tcp"]),
    ("DoT", "dot", &["-m", "dot"]),
    ("DoH GET", "doh", &["-m", "doh", "-O", "doh-method=GET"]),
    ("DoH POST", "doh", &["-m", "doh", "-O", "doh-method=POST"]),
];

/// How many ask at once, and have how many questions open between them.
const MANY: [&str; 4] = ["-c", "8", "-q", "100"];
const ONE_BY_ONE: [&str; 6] = ["-T", "16", "-c", "16", "-q", "16"];

fn name(number: usize) -> String {
    format!("n{number}.wild.secure.com")
}

/// Loads one transport; what dnsperf reports.
fn load(stage: &Stage, queries: &Path, way: (&str, &str, &[&str]), amount: &[&str]) -> Ran {
    let (_, listener, mode) = way;
    let port = stage.truename.port(listener).to_string();
    let uri = format!("doh-uri={}", stage.truename.doh_url());
    let mut command = Command::new(program("dnsperf", "dnsperf"));
    command.args(["-s", "127.0.0.1", "-p", &port]);
    command.args(mode).args(amount).arg("-d").arg(queries);
    if listener == "doh" {
        command.args(["-O", &uri]).args(ONE_BY_ONE);
    } else {
        command.args(MANY);
    }
    finish_within(&mut command, Duration::from_secs(3600)).succeeded()
}

/// The rest of the report's line that begins with a label.
fn reported<'a>(ran: &'a Ran, label: &str) -> &'a str {
    let mut lines = ran.stdout.lines().map(str::trim);
    let rest = lines.find_map(|line| line.strip_prefix(label));
    rest.unwrap_or_else(|| panic!("no {label:?}: {ran}")).trim()
}

/// Checks that nothing was lost, and that every answer was NOERROR.
fn check(ran: &Ran) {
    let sent = reported(ran, "Queries sent:");
    let completed = reported(ran, "Queries completed:");
    assert_eq!(completed, format!("{sent} (100.00%)"), "{ran}");
    assert!(reported(ran, "Queries lost:").starts_with("0 "), "{ran}");
    let codes = reported(ran, "Response codes:");
    assert_eq!(codes, format!("NOERROR {sent} (100.00%)"), "{ran}");
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn dnsperf_loses_nothing_on_a_warm_cache() {
    let seconds = env::var("INTEROP_DNSPERF_S").unwrap_or_else(|_| "30".to_owned());
    let stage = Stage::start();
    let queries = stage.truename.file("queries");
    let lines: String = (0..NAMES).map(|number| name(number) + " A\n").collect();
    fs::write(&queries, lines).unwrap();
    // Each name once: the cold cache, where nothing may be lost either.
    let cold = load(&stage, &queries, WAYS[0], &["-n", "1"]);
    check(&cold);
    note(&format!(
        "\ndnsperf, cold over UDP: {} queries/s",
        reported(&cold, "Queries per second:")
    ));
    for way in WAYS {
        let before = stage.lab.record().len();
        let loaded = AtomicBool::new(true);
        let report = thread::scope(|scope| {
            // dnsperf looks at response codes only; this looks at the data meanwhile.
            let sample = scope.spawn(|| {
                let mut asked = 0;
                while loaded.load(Ordering::Relaxed) {
                    let name = name(asked * 37 % NAMES);
                    let shown = dig(stage.truename.port("udp"), &[&name]);
                    shown.expect("NOERROR", "A", &["192.0.2.42"]);
                    shown.shows(&format!("{name}.\t"));
                    asked += 1;
                    thread::sleep(Duration::from_millis(100));
                }
                asked
            });
            let report = load(&stage, &queries, way, &["-l", &seconds]);
            loaded.store(false, Ordering::Relaxed);
            let asked = sample.join().unwrap();
            assert!(asked > 0, "some answers were looked at");
            report
        });
        check(&report);
        note(&format!(
            "dnsperf, {}: {} queries, {} queries/s, latency {} s",
            way.0,
            reported(&report, "Queries sent:"),
            reported(&report, "Queries per second:"),
            reported(&report, "Average Latency (s):"),
        ));
        // The answers came from the cache, but for those whose time had come.
        let asked = stage.lab.record().len() - before;
        assert!(asked <= 2 * NAMES, "{asked} questions to the upstream");
    }
}
