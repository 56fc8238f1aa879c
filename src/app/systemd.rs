//! What systemd is told, if it started us (`sd_notify(3)`). Nobody else listens.

use sd_notify::NotifyState;
use tracing::warn;

use super::Parts;

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
