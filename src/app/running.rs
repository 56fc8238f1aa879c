//! The main thread while the workers work.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::sign::CertifiedKey;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{
    Command, Error, LastReload, Parts,
    anchors::Seeds,
    cache_file::CacheFile,
    certificate::Keeper,
    clock::ClockKeeper,
    complaint::Complaint,
    descriptors::{Descriptors, Share},
    files::Files,
    log::Log,
    receipt,
    signals::Stop,
    systemd::{self, Watchdog},
    workers::Workers,
};
use crate::{
    config::{Options, Settings, Surroundings},
    handler::Transport,
    listener::{self, Bound, Inherited},
    upstream::{self, SetupError, Upstreams},
};

/// How often the certificate is looked at beside changes of its files: one of ours ends some day.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(60);

/// What the main thread holds while the workers work.
pub(super) struct Running<'a> {
    pub(super) options: &'a Options,
    pub(super) surroundings: &'a Surroundings,
    pub(super) log: Log,
    /// The settings in force; tells those who follow them.
    pub(super) settings: watch::Sender<Arc<Settings>>,
    /// The trust anchors written down.
    pub(super) seeds: watch::Sender<Arc<Seeds>>,
    pub(super) files: Files,
    pub(super) complaints: Complaints,
    pub(super) dnssec_line: String,
    pub(super) descriptors: Descriptors,
    /// What others have of this; holding it also keeps their channels open.
    pub(super) parts: Parts,
    pub(super) keeper: Option<Keeper>,
    pub(super) clock: Arc<ClockKeeper>,
    /// Changes when the clock becomes cold or right.
    pub(super) clock_changes: watch::Receiver<bool>,
    pub(super) upstreams: watch::Sender<Arc<Upstreams>>,
    pub(super) inherited: Inherited,
    /// The listeners that are open.
    pub(super) bound: Bound,
    pub(super) listening: watch::Sender<Vec<(Transport, SocketAddr)>>,
    pub(super) last_reload: watch::Sender<Option<LastReload>>,
    pub(super) commanded: mpsc::Receiver<Command>,
    pub(super) workers: Workers,
    pub(super) cache_file: Option<CacheFile>,
    pub(super) probed: Option<oneshot::Receiver<Vec<upstream::Probe>>>,
}

impl Running<'_> {
    /// Waits for the signal to stop, for commands, for files to change and for the first answers
    /// of upstreams.
    pub(super) async fn watch(mut self, mut stopping: Stop) -> Result<(), Error> {
        let served = self.serve(&mut stopping).await;
        if served.is_ok() {
            info!("stopping: finishing the queries in flight");
            systemd::stopping();
            // Whoever connects from now on is better off with a refusal than in a queue.
            drop(self.bound);
            tokio::select! {
                () = self.workers.stop() => self.workers.join()?,
                () = stopping.next() => {
                    warn!("told to stop again: ending at once");
                    return Ok(());
                }
            }
        }
        if let Some(file) = self.cache_file {
            file.finish();
        }
        served
    }

    /// Until it is time to stop.
    async fn serve(&mut self, stopping: &mut Stop) -> Result<(), Error> {
        let mut look = interval(CERTIFICATE_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog = Watchdog::start();
        systemd::ready();
        loop {
            tokio::select! {
                () = stopping.next() => return Ok(()),
                Some(command) = self.commanded.recv() => self.obey(command),
                number = self.workers.ended() => self.workers.replace(number, &self.bound)?,
                () = watchdog.turn() => watchdog.tell(&self.workers),
                () = self.files.changed() => self.look_at_files(),
                _ = look.tick() => self.look_at_certificate(),
                Ok(()) = self.clock_changes.changed() => self.look_at_certificate(),
                probes = probes(&mut self.probed) => {
                    let mut dnssec = self.dnssec_line.clone();
                    if self.parts.resolver.dnssec_settings().is_some() {
                        dnssec.push_str(&self.clock.describe());
                    }
                    receipt::upstreams(&self.settings.borrow(), &probes, &dnssec);
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Reload(answer) => {
                // Who asked may have left.
                let _ = answer.send(self.reload());
            }
        }
    }

    /// Takes what files that were given say now; one that is broken leaves what was there.
    fn look_at_files(&mut self) {
        self.look_at_certificate();
        self.look_at_roots();
        self.look_at_anchors();
    }

    fn look_at_roots(&mut self) {
        let mut settings = Settings::clone(&self.settings.borrow());
        let read = settings.read_files().map_err(|error| error.to_string());
        if read.is_ok() && settings.upstream == self.settings.borrow().upstream {
            self.complaints.roots.end();
            return;
        }
        let made = read.and_then(|()| {
            let share = self.descriptors.share(&settings);
            let made = self.make_upstreams(&settings, share);
            made.map_err(|error| error.to_string())
        });
        match made {
            Ok(upstreams) => {
                info!(
                    "the roots of upstreams (`ca`) were replaced; those upstreams are connected anew"
                );
                self.complaints.roots.end();
                self.upstreams.send_replace(Arc::new(upstreams));
                self.settings.send_replace(Arc::new(settings));
            }
            Err(text) => {
                if self.complaints.roots.is_news(&text) {
                    warn!("the roots of upstreams stay as they were: {text}");
                }
            }
        }
    }

    fn look_at_anchors(&mut self) {
        let read = Seeds::read(&self.settings.borrow());
        match read {
            Ok(seeds) => {
                self.complaints.anchors.end();
                self.apply_seeds(seeds);
            }
            Err(error) => {
                let text = error.to_string();
                if self.complaints.anchors.is_news(&text) {
                    warn!("the trust anchors stay as they were: {text}");
                }
            }
        }
    }

    /// Tells the keeper of trust anchors of others that were written down.
    pub(super) fn apply_seeds(&self, seeds: Seeds) {
        self.seeds.send_if_modified(|current| {
            let differs = **current != seeds;
            if differs {
                info!("the files of dnssec.trust_anchors were read again");
                *current = Arc::new(seeds);
            }
            differs
        });
    }

    /// Upstreams for these settings, which take over what they share with those in use.
    pub(super) fn make_upstreams(
        &self,
        settings: &Settings,
        share: Share,
    ) -> Result<Upstreams, SetupError> {
        let upstreams = self.upstreams.borrow().renewed(&settings.upstream)?;
        Ok(upstreams.with_udp_sockets_max(share.udp_sockets_max))
    }

    fn look_at_certificate(&mut self) {
        let fresh = self.keeper.as_mut().and_then(Keeper::look);
        if let Some(key) = fresh {
            info!("the certificate was replaced");
            replace_certificate(&self.parts.listeners, key);
        }
    }
}

/// What was last said about files that cannot be used; each reason is said once.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    roots: Complaint,
    anchors: Complaint,
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
    if let Some(tls) = listeners.tls() {
        tls.replace(key);
    }
}
