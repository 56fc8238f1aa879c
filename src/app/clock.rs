//! The keeper of the clock at work: the last good time on disk, a look at the clock each second,
//! and the root's signatures as evidence.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, error, warn};

use super::{Parts, complaint::Complaint};
use crate::{
    anchors::{time_from_text, time_text},
    clock::{self, FLOOR_UNIX_S, Gate, Now, State, Trust},
    dnssec::{self, Window},
    durable, resolver,
    upstream::{Exchange as _, Upstreams},
    wire::{CLASS_IN, Name, Question, Response, rtype},
};

/// The name of the file in the state directory.
const FILE: &str = "clock";
/// The first line of the file.
const HEADER: &str = "truename clock 1";
/// The file is two short lines; more is not read.
const FILE_OCTETS_MAX: u64 = 256;
/// Mode of the file: it holds no secret, and only truename may change it.
const MODE: u32 = 0o644;
/// While truename runs the file is written when it is so much behind: flash wears out.
const WRITE_EVERY_S: u64 = 86_400;
/// At the end it is written when it is so much behind.
const WRITE_AT_END_S: u64 = 3_600;
/// How often the clock is looked at. A query looks too, so nothing is judged by a clock that was
/// set in between; this is for what only the keeper does.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the root's signatures may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of the clock, and its file.
pub(super) struct ClockKeeper {
    gate: Arc<Gate>,
    file: PathBuf,
    written: Mutex<Written>,
    /// Something speaks against the clock, and the root's signatures are on their way.
    is_in_doubt: AtomicBool,
}

/// The file as it is.
#[derive(Default)]
struct Written {
    unix_s: Option<u64>,
    /// What was last said about writing it.
    complaint: Complaint,
}

impl ClockKeeper {
    /// Reads the last good time and judges the clock.
    pub(super) fn start(state_directory: &Path) -> Self {
        let file = state_directory.join(FILE);
        let stored = read(&file);
        let now = Now::read();
        let gate = Arc::new(Gate::new(Trust::new(FLOOR_UNIX_S, stored, &now)));
        let status = gate.status(&now);
        if status.state.is_cold() {
            warn!("{}", resolver::Wrong(&status));
        }
        let unix_s = stored;
        Self {
            gate,
            file,
            written: Mutex::new(Written {
                unix_s,
                complaint: Complaint::default(),
            }),
            is_in_doubt: AtomicBool::default(),
        }
    }

    /// The gate that everybody else looks at.
    pub(super) const fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The end of the receipt's last line: `, clock ok`.
    pub(super) fn describe(&self) -> String {
        let status = self.gate.status(&Now::read());
        if status.state.is_cold() {
            format!(", clock cold: {}", resolver::Wrong(&status))
        } else if self.is_in_doubt.load(Ordering::Relaxed) || self.gate.is_doubted() {
            ", clock in doubt, see the log".to_owned()
        } else {
            ", clock ok".to_owned()
        }
    }

    /// Writes the last good time down for the next start, when truename ends.
    pub(super) fn end(&self) {
        self.save(WRITE_AT_END_S);
    }

    /// Writes the time that has passed for sure, if somebody confirmed the clock and the file is so
    /// much behind.
    fn save(&self, behind_s: u64) {
        let status = self.gate.status(&Now::read());
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = written
            .unix_s
            .is_none_or(|unix_s| status.passed_unix_s >= unix_s.saturating_add(behind_s));
        if status.state != State::Synced || !is_due {
            return;
        }
        let text = to_text(status.passed_unix_s);
        let replaced = durable::replace(&self.file, MODE, |file| {
            io::Write::write_all(file, text.as_bytes())
        });
        match replaced {
            Ok(()) => {
                written.unix_s = Some(status.passed_unix_s);
                written.complaint.end();
            }
            Err(error) => {
                let text = error.to_string();
                if written.complaint.is_news(&text) {
                    warn!(
                        "cannot write {}: {text}; check that truename's user may write there and \
                         the disk has room",
                        self.file.display()
                    );
                }
            }
        }
    }
}

/// The last good time; a file that cannot be understood is set aside.
fn read(file: &Path) -> Option<u64> {
    let octets = fs::File::open(file).and_then(|open| {
        let mut octets = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(open, FILE_OCTETS_MAX), &mut octets)?;
        Ok(octets)
    });
    let shown = file.display();
    let octets = match octets {
        Ok(octets) => octets,
        Err(error) => {
            // A state directory that is none shows when something is written there.
            let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
            if !absent.contains(&error.kind()) {
                warn!("cannot read {shown}: {error}; the last good time is not known");
            }
            return None;
        }
    };
    let found = str::from_utf8(&octets).ok().and_then(from_text);
    if found.is_none() {
        match durable::set_aside(file) {
            Ok(aside) => warn!(
                "{shown} is damaged; it is now {}, and the last good time is not known",
                aside.display()
            ),
            Err(error) => warn!(
                "{shown} is damaged, and the last good time is not known. It cannot be renamed: \
                 {error}"
            ),
        }
    }
    found
}

/// The text of the file: the time for people and for programs, which must agree.
fn to_text(unix_s: u64) -> String {
    format!("{HEADER}\n{} {unix_s}\n", time_text(unix_s))
}

fn from_text(text: &str) -> Option<u64> {
    let line = text.strip_prefix(HEADER)?.strip_prefix('\n')?;
    let (date, number) = line.strip_suffix('\n')?.split_once(' ')?;
    let unix_s: u64 = number.parse().ok()?;
    (time_from_text(date) == Some(unix_s)).then_some(unix_s)
}

/// Looks at the clock for as long as truename runs. When it becomes right, everything begins anew
/// with the upstreams, since their certificates were not held to a date, and each worker forgets what
/// came over the old connections; `changed` tells others.
pub(super) async fn watch(
    keeper: Arc<ClockKeeper>,
    mut parts: Parts,
    upstreams: watch::Sender<Arc<Upstreams>>,
    changed: watch::Sender<bool>,
) {
    let shared = Arc::clone(&parts.resolver);
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_cold = keeper.gate.is_cold();
    loop {
        tokio::select! {
            found = parts.settings.changed() => {
                if found.is_err() {
                    return;
                }
                let names = &parts.settings.borrow_and_update().dnssec.clock_names.clone();
                shared.apply_clock_names(names);
            }
            _ = ticks.tick() => {}
        }
        shared.look_at_clock(&Now::read());
        keeper.save(WRITE_EVERY_S);
        let is_cold = keeper.gate.is_cold();
        if is_cold == was_cold {
            continue;
        }
        was_cold = is_cold;
        if is_cold {
            // Those that failed by the date of a certificate will not any more.
            upstreams.borrow().retry_now();
        } else {
            let current = Arc::clone(&upstreams.borrow());
            match current.under(&keeper.gate) {
                Ok(anew) => _ = upstreams.send_replace(Arc::new(anew)),
                Err(error) => error!("the upstreams cannot be set up again: {error}"),
            }
        }
        changed.send_replace(is_cold);
    }
}

/// When the root's signatures are to be looked at. They cost two exchanges.
#[derive(Debug)]
struct Schedule {
    attempted: Option<Instant>,
    succeeded: Option<Instant>,
    /// Attempts in a row that brought nothing.
    failures: u32,
    is_doubted: bool,
    was_cold: bool,
}

/// The first look waits so long, so that clients come first.
const FIRST_AFTER: Duration = Duration::from_secs(2);
/// Between looks while the clock is cold or doubted, and after a failure, which doubles it ...
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// ... up to this. A clock that was confirmed within this time is not doubted either.
const AGAIN_MAX: Duration = Duration::from_secs(3600);
/// Between looks when all is well.
const REGULARLY: Duration = Duration::from_secs(86_400);

impl Schedule {
    const fn new() -> Self {
        Self {
            attempted: None,
            succeeded: None,
            failures: 0,
            is_doubted: false,
            was_cold: false,
        }
    }

    fn is_due(&mut self, started: Instant, state: State, doubted: bool, now: Instant) -> bool {
        let since = |then: Instant| now.saturating_duration_since(then);
        self.is_doubted |= doubted;
        if self.was_cold != state.is_cold() {
            // It was set, and is to be confirmed.
            self.attempted = None;
            self.was_cold = state.is_cold();
        }
        if state == State::Synced && self.succeeded.is_some_and(|then| since(then) < AGAIN_MAX) {
            self.is_doubted = false;
        }
        let is_urgent = self.is_doubted || state.is_cold();
        let Some(attempted) = self.attempted else {
            return is_urgent || since(started) >= FIRST_AFTER;
        };
        let wait = if is_urgent {
            AGAIN_AFTER
        } else if self.failures > 0 {
            AGAIN_AFTER
                .saturating_mul(1 << self.failures.min(8))
                .min(AGAIN_MAX)
        } else {
            REGULARLY
        };
        since(attempted) >= wait
    }

    fn note(&mut self, found: bool, now: Instant) {
        self.attempted = Some(now);
        self.is_doubted = false;
        if found {
            self.succeeded = Some(now);
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
        }
    }
}

/// Asks for the root's signatures when it is time to, for as long as truename runs.
///
/// `anchors` are used while nothing is validated: the clock only matters to certificates then, and
/// is only looked at when one looks out of date.
pub(super) async fn ask(keeper: Arc<ClockKeeper>, parts: Parts, anchors: dnssec::Settings) {
    let shared = &*parts.resolver;
    let anchors = Arc::new(anchors);
    let started = clock::instant();
    let mut schedule = Schedule::new();
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Now::read();
        let state = keeper.gate.status(&now).state;
        let doubted = keeper.gate.take_doubt();
        let settings = shared.dnssec_settings();
        let is_wanted = settings.is_some() || doubted || state.is_cold();
        if !is_wanted || !schedule.is_due(started, state, doubted, now.instant) {
            continue;
        }
        let settings = settings.unwrap_or_else(|| Arc::clone(&anchors));
        let current = parts.upstreams.borrow().for_worker();
        keeper
            .is_in_doubt
            .store(schedule.is_doubted, Ordering::Relaxed);
        let found = evidence(&current, &keeper.gate, &settings).await;
        keeper.is_in_doubt.store(false, Ordering::Relaxed);
        let now = Now::read();
        schedule.note(found.is_some(), now.instant);
        if let Some(window) = found {
            debug!(
                from = %time_text(window.from_unix_s),
                until = %time_text(window.until_unix_s),
                "the root's signatures"
            );
            shared.root_signed(&window, &now);
        }
    }
}

/// The newest signatures of the root that upstreams show. One that shows old ones does not decide
/// alone; and when it is the certificates' dates that keep upstreams away, the signatures are
/// fetched all the same, since they prove themselves.
async fn evidence(
    upstreams: &Upstreams,
    gate: &Gate,
    settings: &dnssec::Settings,
) -> Option<Window> {
    let (first, upstream) = signed(upstreams, None, settings).await;
    let is_good = |signed: &Window| clock::unix_s() <= signed.until_unix_s;
    if first.as_ref().is_some_and(is_good) {
        return first;
    }
    let second = match upstream {
        Some(upstream) if upstreams.names().count() > 1 => {
            signed(upstreams, Some(&upstream), settings).await.0
        }
        _ => None,
    };
    let newest = first
        .into_iter()
        .chain(second)
        .max_by_key(|signed| signed.from_unix_s);
    if newest.is_some() || !gate.take_doubt() {
        return newest;
    }
    let now = Now::read();
    let lenient = Gate::lenient(gate.status(&now).passed_unix_s, &now);
    let undated = upstreams.under(&Arc::new(lenient)).ok()?;
    signed(&undated, None, settings).await.0
}

/// The root's signatures as an upstream shows them, and its name.
async fn signed(
    upstreams: &Upstreams,
    avoid: Option<&str>,
    settings: &dnssec::Settings,
) -> (Option<Window>, Option<Arc<str>>) {
    let deadline = clock::instant() + PATIENCE;
    let ask = |qtype| async move {
        let question = Question {
            name: Name::root(),
            qtype,
            qclass: CLASS_IN,
        };
        let exchanged = upstreams.exchange(&question, deadline, avoid).await.ok()?;
        let response = Response::parse(&exchanged.octets).ok()?;
        Some((response, exchanged.upstream))
    };
    let (soa, keys) = tokio::join!(ask(rtype::SOA), ask(rtype::DNSKEY));
    let (Some((soa, _)), Some((keys, upstream))) = (soa, keys) else {
        return (None, None);
    };
    let found = dnssec::root_window(&soa, &keys, settings, &Now::read());
    (found, Some(upstream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Signed;

    #[test]
    fn the_file_says_the_last_good_time() {
        let text = to_text(FLOOR_UNIX_S + 7);
        assert!(text.starts_with("truename clock 1\n20"), "{text}");
        assert_eq!(from_text(&text), Some(FLOOR_UNIX_S + 7));
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_a_missing_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        assert_eq!(read(&file), None);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let good = to_text(FLOOR_UNIX_S);
        let wrong = good.replace("T00", "T01");
        let mut damaged: Vec<Vec<u8>> = (0..good.len())
            .map(|end| good.as_bytes()[..end].to_vec())
            .collect();
        damaged.push(wrong.into_bytes());
        damaged.push(vec![0xff; 300]);
        damaged.push(good.replace('1', "2").into_bytes());
        damaged.push(format!("{good} ").into_bytes());
        for octets in damaged {
            fs::write(&file, &octets).unwrap();
            assert_eq!(read(&file), None, "{}", String::from_utf8_lossy(&octets));
            assert!(!file.exists());
            let aside = directory.path().join("clock.bad");
            assert_eq!(fs::read(aside).unwrap(), octets);
        }
        fs::write(&file, &good).unwrap();
        assert_eq!(read(&file), Some(FLOOR_UNIX_S));
        assert!(file.exists());
    }

    #[test]
    fn only_a_confirmed_clock_is_written_and_rarely() {
        let directory = tempfile::tempdir().unwrap();
        let keeper = ClockKeeper::start(directory.path());
        let file = directory.path().join(FILE);
        keeper.save(0);
        assert!(!file.exists(), "nobody confirmed it");
        let now = Now::read();
        let signed = |from_unix_s| Signed {
            from_unix_s,
            until_unix_s: now.unix_s + 1_000_000,
        };
        let first = FLOOR_UNIX_S + 1;
        let _ = keeper.gate.root_signed(signed(first), &now);
        keeper.save(WRITE_EVERY_S);
        let text = fs::read_to_string(&file).unwrap();
        assert!(from_text(&text).unwrap() >= first, "{text}");
        keeper.save(WRITE_EVERY_S);
        keeper.end();
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        // The next start knows it.
        let next = ClockKeeper::start(directory.path());
        assert!(next.gate.status(&now).passed_unix_s >= first);
    }

    #[test]
    fn the_root_is_asked_soon_when_there_is_doubt_and_seldom_otherwise() {
        let start = clock::instant();
        let after = |seconds| start + Duration::from_secs(seconds);
        let cold = State::Cold(clock::Cause::BeforeBuild);
        let mut schedule = Schedule::new();
        assert!(!schedule.is_due(start, State::Plausible, false, after(1)));
        assert!(schedule.is_due(start, State::Plausible, false, after(2)));
        assert!(Schedule::new().is_due(start, cold, false, start));
        assert!(Schedule::new().is_due(start, State::Plausible, true, start));
        // Failures wait longer each time, up to an hour.
        let mut waits = Vec::new();
        let mut at = 2;
        for _ in 0..9 {
            schedule.note(false, after(at));
            let wait = (1..=AGAIN_MAX.as_secs())
                .find(|wait| schedule.is_due(start, State::Plausible, false, after(at + wait)))
                .unwrap();
            waits.push(wait);
            at += wait;
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        // A clock confirmed just now is not doubted; one confirmed long ago is, at once.
        schedule.note(true, after(at));
        assert!(!schedule.is_due(start, State::Synced, true, after(at + 3000)));
        assert!(schedule.is_due(start, State::Synced, true, after(at + 4000)));
        schedule.note(true, after(at + 4000));
        assert!(!schedule.is_due(start, State::Synced, false, after(at + 90_000)));
        assert!(schedule.is_due(start, State::Synced, false, after(at + 90_400)));
        // A set clock is not synced any more: doubt counts, but not every second.
        // Cold, and then set: at once.
        schedule.note(true, after(at));
        assert!(schedule.is_due(start, cold, false, after(at + 1)));
        schedule.note(false, after(at + 1));
        assert!(!schedule.is_due(start, cold, false, after(at + 30)));
        assert!(schedule.is_due(start, cold, false, after(at + 31)));
        schedule.note(true, after(at + 31));
        assert!(schedule.is_due(start, State::Plausible, true, after(at + 32)));
        schedule.note(true, after(at));
        assert!(!schedule.is_due(start, State::Plausible, true, after(at + 29)));
        assert!(schedule.is_due(start, State::Plausible, false, after(at + 30)));
    }
}
