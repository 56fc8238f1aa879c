//! Starting, reloading, stopping: the only room that knows all the others.
//!
//! The main thread reads the configuration, opens every socket, starts one worker per core and
//! then waits for signals. What it prints on standard output is read by programs: one line per
//! listener, then the receipt.

mod anchors;
mod certificate;
mod clock;
mod descriptors;
mod log;
mod receipt;
mod worker;

use std::{io, num::NonZeroUsize, sync::Arc, thread, time::Duration};

use rustls::sign::CertifiedKey;
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use crate::{
    access::Access,
    anchors::ReadError,
    certificates::CertificateError,
    config::{self, LoadError, Options, Settings, Surroundings},
    listener::{self, BindError},
    net::server_tls::ServerTls,
    reply, resolver,
    upstream::{self, SetupError, Upstreams},
};
pub use anchors::validator_settings;

use anchors::AnchorKeeper;
use certificate::Keeper;
use clock::ClockKeeper;
use descriptors::Descriptors;
use worker::Alive;

/// Workers at most: beyond it a home or office has no use for more, each costs sockets and
/// upstream connections.
const WORKERS_MAX: usize = 16;
/// How often certificate files are looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(60);

/// Why truename cannot start. Each says what to do.
#[derive(Debug, Error)]
pub enum Error {
    /// The configuration is missing or wrong.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The certificate cannot be read or made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate cannot be used for TLS.
    #[error("the certificate cannot be used for TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A file with trust anchors cannot be read.
    #[error(transparent)]
    Anchors(#[from] ReadError),
    /// A socket cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Upstreams cannot be set up.
    #[error(transparent)]
    Upstreams(#[from] SetupError),
    /// The system gives no thread, timer or signal.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// A worker ended by itself; its own message is in the log.
    #[error("a worker stopped; see the log")]
    Worker,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start; afterwards only when a worker fails.
pub fn run(options: &Options) -> Result<(), Error> {
    let surroundings = Surroundings::read();
    let settings = config::load(options, &surroundings)?;
    let _log = log::start(settings.log);

    // What can be wrong is found out before anything runs, so that each mistake is one line.
    let asked = Upstreams::new(&settings.upstream)?;
    anchors::check(&settings)?;
    let encrypted = !(settings.listen.dot.is_empty()
        && settings.listen.doh.is_empty()
        && settings.listen.doq.is_empty());
    let workers = thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(WORKERS_MAX);
    let descriptors = Descriptors {
        limit: descriptors::raise_limit(),
        workers,
    };
    let share = descriptors.share(&settings);
    let clock = Arc::new(ClockKeeper::start(&settings.state_directory));
    let asked = asked.with_udp_sockets_max(share.udp_sockets_max);
    let asked = Arc::new(asked.under(clock.gate())?);
    let bound = listener::bind(&settings.listen, workers)?;
    let listening = bound.addresses();
    // After the ports, so that a second instance makes no authority before it finds them taken.
    let (keeper, tls) = if encrypted {
        let (keeper, key) = Keeper::start(&settings, clock.gate())?;
        (Some(keeper), Some(ServerTls::new(key)?))
    } else {
        (None, None)
    };
    let anchors = AnchorKeeper::start(&settings)?;
    let dnssec_line = if settings.dnssec.validate {
        anchors.describe()
    } else {
        "not validating".to_owned()
    };

    let shared = resolver::Shared::new(
        settings.cache,
        Access::new(settings.access.clone()),
        reply::Settings::new(settings.listen.idle),
        settings.dnssec.validate.then(|| anchors.settings()),
    );
    let names = &settings.dnssec.clock_names;
    let shared = Arc::new(shared.with_clock_gate(Arc::clone(clock.gate()), names));
    let listen = listener::Settings {
        connections_max: share.connections_max,
        ..settings.listen.clone()
    };
    let listeners = Arc::new(listener::Shared::new(listen, tls));
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // From here on a signal is a request, and no longer the end of a process half started.
    let signals = {
        let _inside = runtime.enter();
        Signals::catch()?
    };
    let (stop, stopped) = watch::channel(false);
    let (upstreams, upstreams_seen) = watch::channel(asked);
    let settings = Arc::new(settings);
    let (current, settings_seen) = watch::channel(Arc::clone(&settings));
    let (alive, ended) = mpsc::channel(workers);
    let (probe, probed) = oneshot::channel();
    let mut probe = Some(probe);
    let mut threads = Vec::new();
    for (number, sockets) in bound.into_workers().into_iter().enumerate() {
        threads.push(worker::start(worker::Share {
            number,
            sockets,
            listeners: Arc::clone(&listeners),
            resolver: Arc::clone(&shared),
            upstreams: upstreams_seen.clone(),
            stop: stopped.clone(),
            probe: probe.take(),
            alive: Alive(alive.clone()),
        })?);
    }
    drop((alive, stopped));
    let (clock_changed, clock_changes) = watch::channel(clock.gate().is_cold());
    runtime.spawn(clock::watch(
        Arc::clone(&clock),
        settings_seen.clone(),
        upstreams.clone(),
        Arc::clone(&shared),
        clock_changed,
    ));
    runtime.spawn(clock::ask(
        Arc::clone(&clock),
        upstreams_seen.clone(),
        Arc::clone(&shared),
    ));
    runtime.spawn(anchors::keep(
        anchors,
        settings_seen,
        upstreams_seen,
        Arc::clone(&shared),
    ));
    receipt::listening(&listening);

    let running = Running {
        options,
        surroundings,
        settings,
        current,
        dnssec_line,
        descriptors,
        shared,
        listeners,
        keeper,
        clock: Arc::clone(&clock),
        clock_changes,
        upstreams,
        stop,
        ended,
        probed: Some(probed),
    };
    let outcome = runtime.block_on(running.watch(signals));
    clock.end();
    for thread in threads {
        if thread.join().is_err() {
            return Err(Error::Worker);
        }
    }
    outcome
}

/// The signals that are caught.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// What the main thread holds while the workers work.
struct Running<'a> {
    options: &'a Options,
    surroundings: Surroundings,
    settings: Arc<Settings>,
    /// Tells those who follow the settings.
    current: watch::Sender<Arc<Settings>>,
    dnssec_line: String,
    descriptors: Descriptors,
    shared: Arc<resolver::Shared>,
    listeners: Arc<listener::Shared>,
    keeper: Option<Keeper>,
    clock: Arc<ClockKeeper>,
    /// Changes when the clock becomes cold or right.
    clock_changes: watch::Receiver<bool>,
    upstreams: watch::Sender<Arc<Upstreams>>,
    stop: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
    probed: Option<oneshot::Receiver<Vec<upstream::Probe>>>,
}

impl Running<'_> {
    /// Waits for signals, for certificates to change and for the first answers of upstreams.
    async fn watch(mut self, mut signals: Signals) -> Result<(), Error> {
        let mut look = interval(CERTIFICATE_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        notify(&[NotifyState::Ready]);
        loop {
            tokio::select! {
                () = either(&mut signals.terminate, &mut signals.interrupt) => break,
                _ = signals.hangup.recv() => self.reload(),
                _ = look.tick() => self.look_at_certificate(),
                Ok(()) = self.clock_changes.changed() => self.look_at_certificate(),
                probes = probes(&mut self.probed) => {
                    let mut dnssec = self.dnssec_line.clone();
                    if self.shared.validates() {
                        dnssec.push_str(&self.clock.describe());
                    }
                    receipt::upstreams(&self.settings, &probes, &dnssec);
                }
                _ = self.ended.recv() => {
                    error!("a worker ended by itself");
                    let _ = self.stop.send(true);
                    return Err(Error::Worker);
                }
            }
        }
        info!("stopping: finishing the queries in flight");
        notify(&[NotifyState::Stopping]);
        // Workers that are gone need not be told.
        let _ = self.stop.send(true);
        while self.ended.recv().await.is_some() {}
        Ok(())
    }

    /// Reads the configuration again. A broken one changes nothing.
    fn reload(&mut self) {
        // systemd from 253 on takes the one only with the other.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => warn!(%error, "cannot read the clock for systemd"),
        }
        match config::load(self.options, &self.surroundings) {
            Ok(settings) => self.apply(settings),
            Err(error) => error!("the configuration stays as it was: {error}"),
        }
        notify(&[NotifyState::Ready]);
    }

    fn apply(&mut self, settings: Settings) {
        let upstreams = match Upstreams::new(&settings.upstream) {
            Ok(upstreams) => {
                let share = self.descriptors.share(&settings);
                upstreams.with_udp_sockets_max(share.udp_sockets_max)
            }
            Err(error) => {
                error!("the configuration stays as it was: {error}");
                return;
            }
        };
        let upstreams = match upstreams.under(self.clock.gate()) {
            Ok(upstreams) => Arc::new(upstreams),
            Err(error) => {
                error!("the configuration stays as it was: {error}");
                return;
            }
        };
        if let Some(keeper) = &mut self.keeper {
            match keeper.apply(&settings) {
                Ok(key) => replace_certificate(&self.listeners, key),
                Err(error) => {
                    error!("the configuration stays as it was: {error}");
                    return;
                }
            }
        }
        if settings.dnssec != self.settings.dnssec
            && let Err(error) = anchors::check(&settings)
        {
            error!("the configuration stays as it was: {error}");
            return;
        }
        if settings.access != self.settings.access {
            let access = Access::new(settings.access.clone());
            self.shared.access.store(Arc::new(access));
        }
        if settings.upstream != self.settings.upstream {
            self.upstreams.send_replace(upstreams);
        }
        self.shared.apply_cache_settings(settings.cache);
        for (part, changed) in [
            ("[listen]", settings.listen != self.settings.listen),
            ("[log]", settings.log != self.settings.log),
            (
                "cache.size",
                settings.cache.size_octets != self.settings.cache.size_octets,
            ),
        ] {
            if changed {
                warn!("{part} changed; this takes effect when truename is started again");
            }
        }
        info!("the configuration was read again");
        let settings = Arc::new(settings);
        if settings.dnssec != self.settings.dnssec {
            self.current.send_replace(Arc::clone(&settings));
        }
        self.settings = settings;
    }

    fn look_at_certificate(&mut self) {
        let fresh = self.keeper.as_mut().and_then(Keeper::look);
        if let Some(key) = fresh {
            info!("the certificate was replaced");
            replace_certificate(&self.listeners, key);
        }
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
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

/// Tells systemd, if it started us. Nobody else listens.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot tell systemd of a change of state");
    }
}

fn replace_certificate(listeners: &listener::Shared, key: Arc<CertifiedKey>) {
    if let Some(tls) = &listeners.tls {
        tls.replace(key);
    }
}
