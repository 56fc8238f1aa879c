//! What clients notice of trouble with one upstream, as a row of a table.

use std::{
    env,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    DISTANCES, Labs, is_full,
    load::{Load, Outcome, Spread},
    ms, note,
};
use crate::{
    lab::Transport,
    process::{PLAIN, Setup},
};

/// Queries a second.
const RATE: u32 = 300;

/// How long the load runs before anything is measured: connections are made, keys are fetched.
const WARM_UP: Duration = Duration::from_secs(2);

/// How long an upstream that is well again may take to be asked again before that counts as never.
const COME_BACK_MAX: Duration = Duration::from_secs(60);

/// The most that is told of a row's failures.
const TOLD_MAX: usize = 10;

/// How long the load runs before, during and after the fault.
fn phases() -> [Duration; 3] {
    let asked = env::var("TRUENAME_FAULT_PHASES_S").ok();
    let short = if is_full() { "10,15,10" } else { "3,5,3" };
    let text = asked.unwrap_or_else(|| short.to_owned());
    let seconds: Vec<u64> = text.split(',').map(|part| part.parse().unwrap()).collect();
    [0, 1, 2].map(|phase| Duration::from_secs(seconds[phase]))
}

/// One row of the table.
pub(super) struct Row {
    what: String,
    text: String,
    failures: Vec<String>,
    came_back: bool,
}

/// The head of the table.
pub(super) const HEAD: &str = "\
| fault | upstream | queries | failed | before p50/p99/max ms | during p50/p99/max ms | after p50/p99/max ms | aim p99 ms | asked first during | noticed s | clients settled s | asked again s | all back s |
|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// What goes wrong with the first upstream.
pub(super) trait Trouble {
    /// Fault and transport, for the table.
    fn title(&self) -> (String, String);

    /// Begins.
    fn begin(&mut self);

    /// Lets time pass while it lasts.
    fn last(&mut self, time: Duration) {
        sleep(time);
    }

    /// All is well again.
    fn end(&mut self);

    /// Whether the upstream is to be asked first again soon, since nothing is held against it.
    fn is_forgotten_soon(&self) -> bool {
        true
    }
}

/// Runs truename with this configuration under load, lets trouble come over the first of its
/// upstreams, which has the first lab behind it, and goes on until that is asked again.
pub(super) fn measure(
    labs: &Labs,
    config: impl FnOnce(&Path) -> String,
    mut trouble: impl Trouble,
) -> Row {
    let setup = Setup::new();
    let config = format!("{PLAIN}{}", config(setup.path()));
    setup.write("truename.toml", &config);
    let truename = setup.start();
    let load = Load::start(truename.address(Transport::Udp), RATE);
    let [before, during, after] = phases();
    sleep(WARM_UP);
    let warm = Instant::now();
    sleep(before);
    let began = Instant::now();
    trouble.begin();
    trouble.last(during);
    let ended = Instant::now();
    trouble.end();
    sleep(after);
    // The load goes on until it is asked again; in the long version, until it has its share again.
    let is_back = || {
        let asked = &labs.asked_first()[0];
        if is_full() {
            all_back(asked, [warm, began, ended]).is_some()
        } else {
            asked.iter().any(|&at| at > ended)
        }
    };
    let waiting = Instant::now();
    while trouble.is_forgotten_soon() && !is_back() && waiting.elapsed() < COME_BACK_MAX {
        sleep(Duration::from_secs(1));
    }
    let outcomes = load.finish();
    let asked = &labs.asked_first()[0];
    let mut row = Row::of(trouble.title(), &outcomes, asked, [warm, began, ended]);
    row.came_back |= !trouble.is_forgotten_soon();
    note(&row.text);
    row
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
        || "not yet".to_owned(),
        |time| format!("{:.2}", time.as_secs_f64()),
    )
}

impl Row {
    fn of(
        (fault, upstream): (String, String),
        outcomes: &[Outcome],
        asked: &[Instant],
        [warm, began, ended]: [Instant; 3],
    ) -> Self {
        // What was on its way when the fault began belongs to it.
        let is_before = |outcome: &Outcome| {
            outcome
                .latency
                .is_some_and(|latency| outcome.at + latency <= began)
        };
        let of = |wanted: &dyn Fn(&Outcome) -> bool| {
            Spread::of(outcomes.iter().filter(|outcome| wanted(outcome)))
        };
        let healthy = of(&|outcome| outcome.at >= warm && is_before(outcome));
        let during = of(&|outcome| outcome.at < ended && !is_before(outcome));
        let after = of(&|outcome| outcome.at >= ended);
        let spreads = [&healthy, &during, &after];
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
            outcome.at < ended
                && !is_before(outcome)
                && outcome.latency.is_none_or(|latency| latency > aim)
        });
        let settled = late
            .next_back()
            .map(|outcome| outcome.at.saturating_duration_since(began));
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
        let asked_first = asked
            .iter()
            .filter(|&&at| (began..ended).contains(&at))
            .count();
        let again = asked.iter().find(|&&at| at >= ended).map(|&at| at - ended);
        let text = format!(
            "| {fault} | {upstream} | {} | {} | {} | {} | {} | {} | {asked_first} | {} | {} | {} | {} |",
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
            what: format!("{fault}, {upstream}"),
            text,
            failures,
            came_back: again.is_some(),
        }
    }
}

/// Checks that no query failed and that every upstream was asked again.
#[track_caller]
pub(super) fn all_held(rows: &[Row]) {
    let mut told = Vec::new();
    for row in rows {
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
