//! What hostile zones cost in processor time, beside Unbound; how much work they may cause at all is
//! tested in `src/dnssec/tests/hostile/bounds.rs`.

use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Builder;

use super::validating;
use crate::{
    lab::{Ask, Lab, Transport, unbound::Unbound},
    support::start_lab,
};

/// Queries of each kind.
const QUERIES: usize = 300;
/// A tick of `/proc/PID/stat`, in milliseconds, as Linux has it everywhere (`USER_HZ`).
const TICK_MS: u64 = 10;

/// The threads of this process.
fn threads() -> HashSet<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.map(|entry| entry.unwrap().path()).collect()
}

/// Processor time spent so far, user and system, in milliseconds.
fn spent_ms(stats: &[PathBuf]) -> u64 {
    let ticks = stats.iter().map(|stat| {
        let text = fs::read_to_string(stat).unwrap();
        let (_, after) = text.rsplit_once(')').unwrap();
        let fields: Vec<&str> = after.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    });
    ticks.sum::<u64>() * TICK_MS
}

/// Asks for so many names below a zone, each once, while another client asks for a cached name
/// again and again. Returns milliseconds of processor a query, and how long the other waited in the
/// median and at most.
async fn flood(address: SocketAddr, zone: &str, stats: &[PathBuf]) -> (f64, Duration, Duration) {
    let cached = Ask::new("www.secure.com", "A").dnssec();
    cached.over_udp(address).await.unwrap();
    let other = tokio::spawn(async move {
        let mut waits = Vec::new();
        loop {
            let start = Instant::now();
            cached.over_udp(address).await.unwrap();
            waits.push(start.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
            if waits.len() >= 500 {
                waits.sort_unstable();
                return (waits[waits.len() / 2], waits[waits.len() - 1]);
            }
        }
    });
    let before = spent_ms(stats);
    for count in 0..QUERIES {
        let name = format!("a{count}.b.c.d.e.f.{zone}");
        Ask::new(&name, "A")
            .dnssec()
            .over_udp(address)
            .await
            .unwrap();
    }
    let spent = spent_ms(stats) - before;
    let (median, most) = other.await.unwrap();
    let each =
        f64::from(u32::try_from(spent).unwrap()) / f64::from(u32::try_from(QUERIES).unwrap());
    (each, median, most)
}

/// A lab on a thread of its own, whose work delays no client; it ends with the process.
fn lab_aside() -> Lab {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            sender.send(start_lab().await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().unwrap()
}

/// `cargo test --release --test it -- --ignored cpu_table --nocapture`
#[tokio::test]
#[ignore = "measures processor time beside Unbound's"]
async fn cpu_table() {
    let lab = lab_aside();
    println!(
        "{:18} {:10} {:>9}  other client: median, most",
        "zone", "who", "ms/query"
    );
    for zone in [
        "nsec.com",
        "nsec3.com",
        "salted.com",
        "iterations200.com",
        "iterations.com",
        "manybad.com",
        "keytrap.com",
    ] {
        // The lab signs when first asked.
        let before = threads();
        let truename = validating(&lab);
        let ours = threads()
            .difference(&before)
            .map(|task| task.join("stat"))
            .collect::<Vec<_>>();
        let unbound = Unbound::start(&lab).await;
        let theirs = [PathBuf::from(format!("/proc/{}/stat", unbound.pid()))];
        for (who, address, stats) in [
            ("truename", truename.address(Transport::Udp), &ours[..]),
            ("unbound", unbound.address, &theirs[..]),
        ] {
            let (each, median, most) = flood(address, zone, stats).await;
            println!("{zone:18} {who:10} {each:9.2}  {median:?}, {most:?}");
        }
    }
}
