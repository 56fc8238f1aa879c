//! How an upstream does, for people.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{profile::Profile, strategy::Standing};
use crate::handler::Transport;

/// How one upstream does.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its name.
    pub name: Arc<str>,
    /// How it is reached at present.
    pub transport: Transport,
    /// Whether it is asked.
    pub state: State,
    /// The smoothed time of its answers; `None` before the first.
    pub rtt: Option<Duration>,
    /// The time within which nearly all its answers come; `None` while too few came to tell.
    pub tail: Option<Duration>,
    /// The share of its exchanges that failed of late, 0 to 1.
    pub loss: f32,
    /// How often it was asked, probes included.
    pub exchanges: u64,
    /// How often that failed.
    pub failures: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// Whether an upstream is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is asked.
    Up,
    /// It leaves DNSSEC records out: the others are asked first, for ten minutes.
    Incomplete,
    /// An answer is late; a probe is finding out why.
    Probing,
    /// It is down: asked when nobody else is left, and probed until it is back.
    Down,
}

impl State {
    /// The name in output and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Incomplete => "incomplete",
            Self::Probing => "probing",
            Self::Down => "down",
        }
    }
}

impl Profile {
    pub(super) fn status(&self, now: Instant) -> Status {
        let report = self.health.report(now);
        Status {
            name: Arc::clone(&self.name),
            transport: self.transport_now(),
            state: match report.standing {
                Standing::Good => State::Up,
                Standing::Incomplete => State::Incomplete,
                Standing::Suspected => State::Probing,
                Standing::Down => State::Down,
            },
            rtt: report.rtt,
            tail: report.tail,
            loss: report.loss,
            exchanges: report.exchanges,
            failures: report.failures,
            last_error: report.last_error,
        }
    }
}
