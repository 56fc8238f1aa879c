//! The signals that are caught.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::Command;

/// The signals that are caught. Belongs into a runtime.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Splits them into those that end the process and the one that does not.
    pub(super) fn split(self) -> (Stop, Hangup) {
        let Self {
            terminate,
            interrupt,
            hangup,
        } = self;
        let stop = Stop {
            terminate,
            interrupt,
        };
        (stop, Hangup(hangup))
    }
}

/// SIGTERM and SIGINT.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// The next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// SIGHUP.
pub(super) struct Hangup(Signal);

impl Hangup {
    /// Turns each into a command. Those that come while one waits become one.
    pub(super) async fn forward(mut self, commands: mpsc::Sender<Command>) {
        while self.0.recv().await.is_some() {
            // What comes of it is in the log.
            let (answer, _) = oneshot::channel();
            if commands.send(Command::Reload(answer)).await.is_err() {
                return;
            }
        }
    }
}
