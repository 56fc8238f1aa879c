//! Notices when this machine moves to another network, or wakes from sleep, and tells everybody
//! who has connections.

use std::{io, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::info;

use crate::{
    clock::{self, SleepWatch},
    net::netlink::{Change, Changes},
    upstream::Upstreams,
};

/// One event makes several messages: addresses, routes, links. They come within so long.
const SETTLES_WITHIN: Duration = Duration::from_millis(100);
/// How often to look whether the machine has slept, for the sake of queries under way; whoever
/// begins an exchange looks by itself.
const LOOK_FOR_SLEEP: Duration = Duration::from_secs(1);

/// How often the network changed and the machine slept since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    changes: u64,
    sleeps: u64,
}

impl Seen {
    /// Tells `upstreams` what is new since `before`.
    pub(super) fn tell(self, before: Self, upstreams: &Upstreams) {
        if self.changes != before.changes {
            upstreams.network_changed();
        } else if self.sleeps != before.sleeps {
            // They may have noticed already.
            upstreams.look_for_sleep(clock::instant());
        }
    }
}

/// Watches for as long as the process lives.
pub(super) async fn watch(seen: watch::Sender<Seen>) {
    let mut changes = Changes::open().inspect_err(unavailable).ok();
    let sleeps = SleepWatch::new(clock::asleep(clock::instant()));
    let mut look = interval(LOOK_FOR_SLEEP);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            change = next(&mut changes) => match change {
                Ok(change) => {
                    settle(&mut changes).await;
                    info!(reason = change.describe(), "the network changed; connecting anew");
                    seen.send_modify(|seen| seen.changes = seen.changes.wrapping_add(1));
                }
                Err(error) => {
                    unavailable(&error);
                    changes = None;
                }
            },
            _ = look.tick() => {
                if let Some(slept) = sleeps.slept(clock::asleep(clock::instant())) {
                    info!(slept_s = slept.as_secs(), "woke from sleep; connecting anew");
                    seen.send_modify(|seen| seen.sleeps = seen.sleeps.wrapping_add(1));
                }
            }
        }
    }
}

fn unavailable(error: &io::Error) {
    info!(
        %error,
        "the kernel does not tell when the network changes, so dead connections are noticed by \
         their silence; a unit with RestrictAddressFamilies= must name AF_NETLINK"
    );
}

/// Waits until the rest of an event is told.
async fn settle(changes: &mut Option<Changes>) {
    let rest = async {
        // An error comes again at the next reading, which handles it.
        while next(changes).await.is_ok() {}
    };
    // What comes after this time is an event of its own.
    drop(timeout(SETTLES_WITHIN, rest).await);
}

/// The next change; never when the system does not tell.
async fn next(changes: &mut Option<Changes>) -> io::Result<Change> {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}
