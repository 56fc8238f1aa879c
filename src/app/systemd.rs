//! What systemd is told, if it started us (`sd_notify(3)`), and what it hands over
//! (`sd_listen_fds(3)`).

use std::{io, time::Duration};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{error, warn};

use super::{Parts, workers::Workers};
use crate::listener::Inherited;

/// The sockets that were handed over. Must be called while the process has one thread: what
/// says so is removed from the environment.
///
/// # Errors
/// One that is handed over is of no use: neither UDP nor listening TCP.
pub(super) fn inherited() -> io::Result<Inherited> {
    // Only what is meant for this very process; the other crate takes what is meant for nobody.
    let names: Vec<String> = sd_notify::listen_fds_with_names()?
        .map(|(_, name)| name)
        .collect();
    let mut inherited = Inherited::default();
    if names.is_empty() {
        return Ok(inherited);
    }
    let mut sockets = ListenFd::from_env();
    for (at, name) in names.iter().enumerate() {
        let taken = match sockets.take_udp_socket(at) {
            Ok(Some(socket)) => inherited.add_datagram(name, socket),
            _ => match sockets.take_tcp_listener(at) {
                Ok(Some(listener)) => inherited.add_stream(name, listener),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
        };
        taken.map_err(|error| {
            let message = format!("socket {} ({name}) handed over: {error}", at + 1);
            io::Error::new(error.kind(), message)
        })?;
    }
    Ok(inherited)
}

/// Everything is open and served.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] follows.
pub(super) fn reloading() {
    // systemd from 253 on takes the one only with the other.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "cannot read the clock for systemd"),
    }
}

/// Nothing more is taken.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot tell systemd of a change of state");
    }
}

/// Keeps `systemctl status` up to date: how many listeners and upstreams there are.
pub(super) async fn tell_status(mut parts: Parts) {
    loop {
        let listeners = parts.listening.borrow_and_update().len();
        let upstreams = parts.upstreams.borrow_and_update().names().count();
        let status = format!("{listeners} listeners, {upstreams} upstreams");
        notify(&[NotifyState::Status(&status)]);
        tokio::select! {
            Ok(()) = parts.listening.changed() => {}
            Ok(()) = parts.upstreams.changed() => {}
            else => return,
        }
    }
}

/// Tells systemd that all is well for as long as it is (`WatchdogSec=`); when it is not told,
/// systemd starts the service anew.
pub(super) struct Watchdog {
    turns: Option<Interval>,
    has_complained: bool,
}

impl Watchdog {
    /// As often as systemd wants to hear of us, if it does. Belongs into a runtime.
    pub(super) fn start() -> Self {
        Self::every(sd_notify::watchdog_enabled())
    }

    /// Twice in `limit`, as `sd_watchdog_enabled(3)` advises.
    fn every(limit: Option<Duration>) -> Self {
        let half = limit.map(|limit| limit / 2).filter(|half| !half.is_zero());
        Self {
            turns: half.map(|half| {
                let mut turns = interval(half);
                turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
                turns
            }),
            has_complained: false,
        }
    }

    /// Ends when it is time for [`Self::tell`]; never without a watchdog.
    pub(super) async fn turn(&mut self) {
        match &mut self.turns {
            Some(turns) => drop(turns.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Tells systemd if every worker has answered since the last time, and asks them again.
    pub(super) fn tell(&mut self, workers: &Workers) {
        let silent = workers.silent();
        if silent.is_empty() {
            notify(&[NotifyState::Watchdog]);
            self.has_complained = false;
        } else if !self.has_complained {
            error!(workers = ?silent, "workers do not answer; systemd is not told that all is well");
            self.has_complained = true;
        }
        workers.beat();
    }
}
