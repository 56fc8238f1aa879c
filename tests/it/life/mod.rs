//! Life outside the laboratory: upstreams that die, networks that change, clocks that are wrong,
//! files that are broken, kills at the worst moment, and hours of all that. truename runs as its
//! own process here, usually under load, and what its clients noticed is put into tables.
//!
//! What must hold is asserted: no query without its answer, no wrong answer, nothing that grows.
//! How fast things are is measured and printed, never asserted. Most of it takes minutes and is
//! ignored unless asked for: `cargo test --test it -- --ignored --test-threads=1 life`, with
//! `TRUENAME_BINARY` for a release build and `TRUENAME_LIFE=full` for the long version of
//! everything; docs/faults.md has the tables and says how they come about.

mod clock;
mod faults;
mod kills;
mod load;
mod namespaces;
mod outage;
mod programs;
mod reloads;
mod soak;
mod table;

use std::{
    env, fs,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    lab::{LabOptions, Transport},
    process::{RunningLab, Truename},
};

/// How far the labs are away, the nearest first: the nearest is the one that fails.
const DISTANCES: [Duration; 3] = [
    Duration::from_millis(5),
    Duration::from_millis(15),
    Duration::from_millis(25),
];

/// Whether the long versions are asked for.
fn is_full() -> bool {
    env::var_os("TRUENAME_LIFE").is_some_and(|value| value == "full")
}

/// Tables and figures: past the test harness, which hides what passing tests print.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A time in milliseconds as tables have it.
fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 9.95 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    files: usize,
    threads: usize,
    resident_kib: u64,
}

fn held(truename: &Truename) -> Held {
    let process = format!("/proc/{}", truename.child.id());
    let count = |what: &str| fs::read_dir(format!("{process}/{what}")).unwrap().count();
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.unwrap().trim().trim_end_matches(" kB");
    Held {
        files: count("fd"),
        threads: count("task"),
        resident_kib: resident.parse().unwrap(),
    }
}

/// What allocators may keep of what they are given back.
const GROWTH_MAX_KIB: u64 = 4096;

impl Held {
    /// Checks that memory has not grown since: by a tenth at most, or what allocators may keep.
    #[track_caller]
    fn is_flat(&self, since: &Self) {
        let limit = since.resident_kib + GROWTH_MAX_KIB.max(since.resident_kib / 10);
        assert!(self.resident_kib <= limit, "{since:?}, then {self:?}");
    }
}

/// Random numbers that a seed gives again.
struct Dice(u64);

impl Dice {
    /// By `TRUENAME_SEED`, or any; printed, so that what failed can be had again.
    fn new() -> Self {
        let asked = env::var("TRUENAME_SEED").ok();
        let seed = asked.map_or_else(rand::random, |seed| seed.parse().unwrap());
        note(&format!("TRUENAME_SEED={seed}"));
        Self(seed)
    }

    /// One of so many (splitmix64).
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let range = u64::try_from(to.saturating_sub(from).as_micros()).expect("a short time");
        from + Duration::from_micros(self.below(range.max(1)))
    }
}

/// Three labs with the same zones, each asked over its own transport.
struct Labs {
    labs: Vec<(RunningLab, Transport)>,
}

impl Labs {
    fn start(transports: &[Transport]) -> Self {
        let labs = transports.iter().zip(DISTANCES);
        let labs = labs.map(|(&transport, distance)| {
            let lab = RunningLab::start_with(LabOptions::default(), || ());
            lab.faults().everywhere(|faults| faults.latency = distance);
            (lab, transport)
        });
        Self {
            labs: labs.collect(),
        }
    }

    /// The nearest.
    fn first(&self) -> &RunningLab {
        &self.labs[0].0
    }

    /// The tables that make them truename's upstreams; their certificates are written beside.
    fn config(&self, directory: &Path) -> String {
        fs::write(directory.join("lab.ds"), self.first().trust_anchor_ds()).unwrap();
        let mut text = "[dnssec]\ntrust_anchors = [\"lab.ds\"]\n".to_owned();
        for (number, (lab, transport)) in self.labs.iter().enumerate() {
            let ca = format!("lab{number}-ca.pem");
            fs::write(directory.join(&ca), lab.ca_pem()).unwrap();
            text.push_str(&format!(
                "[[upstream]]\nname = \"lab{number}\"\nurl = \"{}\"\n",
                lab.url(*transport)
            ));
            if transport.is_encrypted() {
                text.push_str(&format!("ca = \"{ca}\"\n"));
            }
        }
        text
    }

    /// When each lab was the first to be asked for a fresh name of the load.
    fn asked_first(&self) -> Vec<Vec<Instant>> {
        let mut firsts = std::collections::HashMap::new();
        for (number, (lab, _)) in self.labs.iter().enumerate() {
            for received in lab.record().queries() {
                let name = received.qname();
                if !load::is_fresh(&name) {
                    continue;
                }
                let first = firsts.entry(name).or_insert((received.at, number));
                if received.at < first.0 {
                    *first = (received.at, number);
                }
            }
        }
        let mut asked = vec![Vec::new(); self.labs.len()];
        for (at, number) in firsts.into_values() {
            asked[number].push(at);
        }
        for times in &mut asked {
            times.sort();
        }
        asked
    }
}
