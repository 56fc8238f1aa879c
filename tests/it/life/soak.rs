//! Hours in minutes, or hours: faults from a seeded schedule under load, with one upstream well at
//! any time.

use std::{
    env, fs,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    DISTANCES, Dice, Held, Labs,
    faults::Fault,
    held, is_full,
    load::{Load, Spread},
    ms, note,
};
use crate::{
    lab::Transport,
    process::{PLAIN, Setup, Truename},
};

/// Queries a second.
const RATE: u32 = 200;

/// How long a fault lasts.
const FAULT_MIN: Duration = Duration::from_secs(2);
const FAULT_MAX: Duration = Duration::from_secs(10);

/// How long all upstreams are well between.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(6);

/// The cache is full soon, so that its growth hides no other.
const CACHE: &str = "[cache]\nsize = \"2MiB\"\n";

/// Until then the cache and the pools fill, and memory must grow.
const FILLED_AFTER: Duration = Duration::from_secs(180);

/// Connections that may stand at the end beside those at the beginning.
const FILES_MORE_MAX: usize = 16;

/// The most that is told of what failed.
const TOLD_MAX: usize = 20;

/// How long it runs.
fn duration() -> Duration {
    let asked = env::var("TRUENAME_SOAK_S").ok();
    let seconds = asked.map_or(if is_full() { 3600 } else { 20 }, |text| {
        text.parse().unwrap()
    });
    Duration::from_secs(seconds)
}

/// What happens in one round.
#[derive(Debug)]
struct Round {
    /// Which labs fail, how.
    faults: Vec<(usize, Fault)>,
    lasts: Duration,
    pause: Duration,
    /// Whether the configuration is read again meanwhile.
    reload: bool,
}

impl Round {
    fn draw(dice: &mut Dice, transports: &[Transport]) -> Self {
        let labs = transports.len();
        let number = |dice: &mut Dice, limit: usize| {
            let drawn = dice.below(u64::try_from(limit).expect("small"));
            usize::try_from(drawn).expect("small")
        };
        let well = number(dice, labs);
        let both = dice.below(3) == 0;
        let mut faults = Vec::new();
        for lab in (0..labs).filter(|&lab| lab != well) {
            if !faults.is_empty() && !both {
                break;
            }
            let fault = Fault::ALL[number(dice, Fault::ALL.len())];
            if fault.is_of(transports[lab]) {
                faults.push((lab, fault));
            }
        }
        Self {
            faults,
            lasts: dice.between(FAULT_MIN, FAULT_MAX),
            pause: dice.between(PAUSE_MIN, PAUSE_MAX),
            reload: dice.below(4) == 0,
        }
    }

    fn happen(&self, labs: &Labs, truename: &Truename) {
        let start = Instant::now();
        for &(lab, fault) in &self.faults {
            fault.begin(&labs.labs[lab].0);
        }
        if self.reload {
            truename.signal("HUP");
        }
        let mut restarting = self
            .faults
            .iter()
            .filter(|fault| fault.1 == Fault::Restarts);
        match restarting.next() {
            Some(&(lab, fault)) => fault.last(&labs.labs[lab].0, self.lasts),
            None => sleep(self.lasts.saturating_sub(start.elapsed())),
        }
        for &(lab, fault) in &self.faults {
            fault.end(&labs.labs[lab].0, DISTANCES[lab]);
        }
        sleep(self.pause);
    }
}

#[test]
#[ignore = "as long as TRUENAME_SOAK_S says; .ci/run has a short version"]
fn with_one_upstream_well_at_any_time_no_query_fails_and_nothing_grows() {
    let transports = [Transport::Tls, Transport::Https, Transport::Quic];
    let mut dice = Dice::new();
    let labs = Labs::start(&transports);
    let setup = Setup::new();
    let config = format!("{PLAIN}{CACHE}{}", labs.config(setup.path()));
    setup.write("truename.toml", &config);
    let truename = setup.start();
    let load = Load::start(truename.address(Transport::Udp), RATE);
    let start = Instant::now();
    let duration = duration();
    let mut rounds: Vec<(Instant, Round)> = Vec::new();
    let mut samples: Vec<(Duration, Held)> = Vec::new();
    while start.elapsed() < duration {
        let round = Round::draw(&mut dice, &transports);
        let began = Instant::now();
        round.happen(&labs, &truename);
        rounds.push((began, round));
        samples.push((start.elapsed(), held(&truename)));
    }
    let outcomes = load.finish();
    let bad: Vec<_> = outcomes
        .iter()
        .filter(|outcome| !outcome.is_good())
        .collect();
    let spread = Spread::of(outcomes.iter());
    // A fifth of the time is for settling.
    let after = |time: Duration| samples.iter().find(|(at, _)| *at >= time);
    let (first, last) = (after(duration / 5).unwrap().1, samples.last().unwrap().1);
    note(&format!(
        "soak of {} s, {} rounds: {} queries, {} failed; p50 {} ms, p99 {} ms, max {} ms; {first:?}, then {last:?}",
        duration.as_secs(),
        rounds.len(),
        outcomes.len(),
        bad.len(),
        ms(spread.percentile(50)),
        ms(spread.percentile(99)),
        ms(spread.max()),
    ));
    if let Some(path) = env::var_os("TRUENAME_SOAK_SAMPLES") {
        let lines = samples.iter().map(|(at, held)| {
            let Held {
                files,
                threads,
                resident_kib,
            } = held;
            format!("{},{files},{threads},{resident_kib}\n", at.as_secs())
        });
        fs::write(path, lines.collect::<String>()).unwrap();
    }
    let told: Vec<_> = bad
        .iter()
        .take(TOLD_MAX)
        .map(|outcome| {
            let round = rounds.iter().rfind(|(began, _)| *began <= outcome.at);
            let at = outcome.at - start;
            let into = round.map(|(began, _)| outcome.at - *began);
            format!("{at:?}, {into:?} into {round:?}: {outcome:?}")
        })
        .collect();
    assert!(told.is_empty(), "{} failed: {told:#?}", bad.len());
    assert_eq!(last.threads, first.threads);
    assert!(
        last.files <= first.files + FILES_MORE_MAX,
        "{first:?}, then {last:?}"
    );
    if duration > 2 * FILLED_AFTER {
        last.is_flat(&after(FILLED_AFTER.max(duration / 5)).unwrap().1);
    }
}
