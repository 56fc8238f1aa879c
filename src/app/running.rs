//! The main thread while the workers work.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::sign::CertifiedKey;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info};

use super::{
    Command, Error, Parts, certificate::Keeper, clock::ClockKeeper, descriptors::Descriptors,
    receipt, signals::Stop, systemd,
};
use crate::{
    config::{Options, Settings, Surroundings},
    handler::Transport,
    listener,
    upstream::{self, Upstreams},
};

/// How often certificate files are looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(60);

/// What the main thread holds while the workers work.
pub(super) struct Running<'a> {
    pub(super) options: &'a Options,
    pub(super) surroundings: Surroundings,
    /// The settings in force; tells those who follow them.
    pub(super) settings: watch::Sender<Arc<Settings>>,
    pub(super) dnssec_line: String,
    pub(super) descriptors: Descriptors,
    /// What others have of this; holding it also keeps their channels open.
    pub(super) parts: Parts,
    pub(super) keeper: Option<Keeper>,
    pub(super) clock: Arc<ClockKeeper>,
    /// Changes when the clock becomes cold or right.
    pub(super) clock_changes: watch::Receiver<bool>,
    pub(super) upstreams: watch::Sender<Arc<Upstreams>>,
    pub(super) _listening: watch::Sender<Vec<(Transport, SocketAddr)>>,
    pub(super) commanded: mpsc::Receiver<Command>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) ended: mpsc::Receiver<()>,
    pub(super) probed: Option<oneshot::Receiver<Vec<upstream::Probe>>>,
}

impl Running<'_> {
    /// Waits for the signal to stop, for commands, for certificates to change and for the first answers of
    /// upstreams.
    pub(super) async fn watch(mut self, mut stopping: Stop) -> Result<(), Error> {
        let mut look = interval(CERTIFICATE_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        systemd::ready();
        loop {
            tokio::select! {
                () = stopping.next() => break,
                Some(command) = self.commanded.recv() => self.obey(command),
                _ = look.tick() => self.look_at_certificate(),
                Ok(()) = self.clock_changes.changed() => self.look_at_certificate(),
                probes = probes(&mut self.probed) => {
                    let mut dnssec = self.dnssec_line.clone();
                    if self.parts.resolver.dnssec_settings().is_some() {
                        dnssec.push_str(&self.clock.describe());
                    }
                    receipt::upstreams(&self.settings.borrow(), &probes, &dnssec);
                }
                _ = self.ended.recv() => {
                    error!("a worker ended by itself");
                    let _ = self.stop.send(true);
                    return Err(Error::Worker);
                }
            }
        }
        info!("stopping: finishing the queries in flight");
        systemd::stopping();
        // Workers that are gone need not be told.
        let _ = self.stop.send(true);
        while self.ended.recv().await.is_some() {}
        Ok(())
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Reload(answer) => {
                // Who asked may have left.
                let _ = answer.send(self.reload());
            }
        }
    }

    fn look_at_certificate(&mut self) {
        let fresh = self.keeper.as_mut().and_then(Keeper::look);
        if let Some(key) = fresh {
            info!("the certificate was replaced");
            replace_certificate(&self.parts.listeners, key);
        }
    }
}

/// The probes once they are there; never again afterwards.
async fn probes(
    probed: &mut Option<oneshot::Receiver<Vec<upstream::Probe>>>,
) -> Vec<upstream::Probe> {
    if let Some(receiver) = probed {
        let received = receiver.await;
        *probed = None;
        if let Ok(probes) = received {
            return probes;
        }
    }
    std::future::pending().await
}

pub(super) fn replace_certificate(listeners: &listener::Shared, key: Arc<CertifiedKey>) {
    if let Some(tls) = &listeners.tls {
        tls.replace(key);
    }
}
