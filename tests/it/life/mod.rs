//! Life outside the laboratory: upstreams that die, networks that change, clocks that are wrong,
//! files that are broken, kills at the worst moment, and hours of all that. truename runs as its
//! own process here, usually under load, and what its clients noticed is put into tables.
//!
//! What must hold is asserted: no query without its answer, no wrong answer, nothing that grows.
//! How fast things are is measured and printed, never asserted. Most of it takes minutes and is
//! ignored unless asked for: `cargo test --test it -- --ignored --test-threads=1 life`, with
//! `TRUENAME_BINARY` for a release build and `TRUENAME_LIFE=full` for the long version of
//! everything; docs/faults.md has the tables and says how they come about.

mod faults;
mod load;

use std::{
    env, fs,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    lab::{LabOptions, Transport},
    process::RunningLab,
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
