//! Starting, reloading, stopping: the only room that knows all the others.
//!
//! [`run`] reads the configuration, opens every socket and starts one worker per core. Then the
//! main thread is `running::Running`: one loop that waits for signals and `Command`s, each
//! concern in its own file. What else goes on beside the workers (trust anchors, the clock, the
//! network, the control socket) are tasks on the main thread's runtime, which are given
//! `Parts`. What is printed on standard output is read by programs: one line per listener, then
//! the receipt.

mod anchors;
mod cache_file;
mod certificate;
mod changes;
mod clock;
mod complaint;
mod control;
mod descriptors;
mod files;
mod log;
mod network;
mod receipt;
mod reload;
mod running;
mod signals;
mod systemd;
mod worker;
mod workers;

use std::{io, net::SocketAddr, num::NonZeroUsize, sync::Arc, thread};

use thiserror::Error;
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
};
use tracing::warn;

use crate::{
    access::Access,
    admin::SocketError,
    anchors::ReadError,
    certificates::CertificateError,
    config::{self, LoadError, Options, Settings, Surroundings},
    handler::Transport,
    listener::{self, BindError, Bound},
    net::server_tls::ServerTls,
    reply, resolver,
    upstream::{SetupError, Upstreams},
};
pub use anchors::validator_settings;

use anchors::{AnchorKeeper, Seeds};
use cache_file::CacheFile;
use certificate::Keeper;
use clock::ClockKeeper;
use control::{Control, LastReload};
use descriptors::Descriptors;
use files::Files;
use log::Log;
use running::{Complaints, Running};
use signals::Signals;
use workers::Workers;

/// Workers at most: beyond it a home or office has no use for more, each costs sockets and
/// upstream connections.
const WORKERS_MAX: usize = 16;
/// Commands that wait for the main thread. It carries out one at a time; who asks while so many
/// wait must wait himself.
const COMMANDS_MAX: usize = 8;

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
    /// Another truename answers at the control socket.
    #[error(transparent)]
    Control(#[from] SocketError),
    /// Upstreams cannot be set up.
    #[error(transparent)]
    Upstreams(#[from] SetupError),
    /// A socket that the service manager handed over is of no use.
    #[error(
        "cannot use a socket of the service manager: {0}; see ListenStream= and \
             ListenDatagram= of its socket unit"
    )]
    Inherited(io::Error),
    /// The system gives no thread, timer or signal.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// Workers ended by themselves again and again; their own messages are in the log.
    #[error("workers stopped again and again; see the log")]
    Worker,
}

/// What the main thread is asked to do by tasks beside it.
#[derive(Debug)]
pub(in crate::app) enum Command {
    /// Reads the configuration again, as SIGHUP does. The answer says what changed, or why nothing
    /// did; who asked may be gone by then.
    Reload(oneshot::Sender<Result<String, String>>),
}

/// What a task beside the workers may need of the rest. Cheap to clone.
#[derive(Clone)]
pub(in crate::app) struct Parts {
    /// Cache, counters, access and validator.
    pub(in crate::app) resolver: Arc<resolver::Shared>,
    /// Connections and their bounds.
    pub(in crate::app) listeners: Arc<listener::Shared>,
    /// The settings in force.
    pub(in crate::app) settings: watch::Receiver<Arc<Settings>>,
    /// The upstreams in use. Their health is everybody's; for connections of one's own there is
    /// [`Upstreams::for_worker`].
    pub(in crate::app) upstreams: watch::Receiver<Arc<Upstreams>>,
    /// Where truename listens, in the order in which transports are listed to people.
    pub(in crate::app) listening: watch::Receiver<Vec<(Transport, SocketAddr)>>,
    /// What came of the last reload; `None` before the first.
    pub(in crate::app) last_reload: watch::Receiver<Option<LastReload>>,
    /// What happens to the network.
    pub(in crate::app) network: watch::Receiver<network::Seen>,
    /// To the main thread.
    pub(in crate::app) commands: mpsc::Sender<Command>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start; afterwards only when a worker fails.
pub fn run(options: &Options, surroundings: &Surroundings) -> Result<(), Error> {
    // Before there is a second thread.
    let inherited = systemd::inherited().map_err(Error::Inherited)?;
    let started = crate::clock::instant();
    let mut settings = config::load(options, surroundings)?;
    inherited.override_addresses(&mut settings.listen);
    let log = Log::start(settings.log);

    // What can be wrong is found out before anything runs, so that each mistake is one line.
    let seeds = Seeds::read(&settings)?;
    let clock = Arc::new(ClockKeeper::start(&settings.state_directory));
    let asked = Upstreams::new_under(&settings.upstream, clock.gate())?;
    let count = thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(WORKERS_MAX);
    let descriptors = Descriptors {
        limit: descriptors::raise_limit(),
        workers: count,
    };
    let share = descriptors.share(&settings);
    let asked = Arc::new(asked.with_udp_sockets_max(share.udp_sockets_max));
    let places = settings.listen.places();
    let mut bound = Bound::new(count);
    bound.add(bound.open(&places, &[], &inherited)?);
    for socket in inherited.unwanted(&places) {
        warn!(
            socket,
            "a socket was handed over that no listener wants; see [listen]"
        );
    }
    // After the ports, so that a second instance makes no authority before it finds them taken.
    let (keeper, tls) = if settings.listen.needs_certificate() {
        let (keeper, key) = Keeper::start(&settings, clock.gate())?;
        (Some(keeper), Some(ServerTls::new(key)?))
    } else {
        (None, None)
    };
    let mut anchors = AnchorKeeper::start(&settings, &seeds);
    // The anchors' keeper made the state directory, in which it is.
    let control_socket = control::bind(&settings)?;
    let dnssec_line = if settings.dnssec.validate {
        anchors.describe()
    } else {
        "not validating".to_owned()
    };

    let resolver = resolver::Shared::new(
        settings.cache,
        Access::new(settings.access.clone()),
        reply::Settings::new(settings.listen.idle),
        settings.dnssec.validate.then(|| anchors.settings()),
    );
    let clock_names = &settings.dnssec.clock_names;
    let resolver = Arc::new(resolver.with_clock_gate(Arc::clone(clock.gate()), clock_names));
    resolver.apply_names(settings.names.clone());
    let listen = listener::Settings {
        connections_max: share.connections_max,
        ..settings.listen.clone()
    };
    let listeners = Arc::new(listener::Shared::new(listen, tls));
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // From here on a signal is a request, and no longer the end of a process half started.
    let ((stopping, hangup), files) = {
        let _inside = runtime.enter();
        (Signals::catch()?.split(), Files::start(&settings))
    };
    let (seeds, seeds_seen) = watch::channel(Arc::new(seeds));
    let (upstreams, upstreams_seen) = watch::channel(asked);
    let (current, settings_seen) = watch::channel(Arc::new(settings));
    let cache_file = CacheFile::start(settings_seen.clone(), &resolver)?;
    let (listening, listening_seen) = watch::channel(bound.addresses());
    let (last_reload, last_reload_seen) = watch::channel(None);
    let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
    let (network, network_seen) = watch::channel(network::Seen::default());
    let parts = Parts {
        resolver,
        listeners,
        network: network_seen,
        settings: settings_seen,
        upstreams: upstreams_seen,
        listening: listening_seen,
        last_reload: last_reload_seen,
        commands,
    };
    let (probe, probed) = oneshot::channel();
    let workers = Workers::start(count, &bound, parts.clone(), probe)?;
    // Here, so that no client waits for the disk.
    anchors.save();
    let written_down = anchors.settings();
    let (clock_changed, clock_changes) = watch::channel(clock.gate().is_cold());
    // The tasks beside the workers: one call each.
    runtime.spawn(hangup.forward(parts.commands.clone()));
    runtime.spawn(network::watch(network));
    runtime.spawn(systemd::tell_status(parts.clone()));
    runtime.spawn(clock::watch(
        Arc::clone(&clock),
        parts.clone(),
        upstreams.clone(),
        clock_changed,
    ));
    runtime.spawn(clock::ask(Arc::clone(&clock), parts.clone(), written_down));
    if let Some(bound) = control_socket {
        let control = Control {
            parts: parts.clone(),
            started,
            anchors: anchors.shown(),
            saver: cache_file
                .as_ref()
                .map(CacheFile::saver)
                .unwrap_or_default(),
        };
        runtime.spawn(control::serve(bound, control));
    }
    runtime.spawn(anchors::keep(anchors, seeds_seen, parts.clone()));
    receipt::listening(&listening.borrow());

    let running = Running {
        options,
        surroundings,
        log,
        settings: current,
        seeds,
        files,
        complaints: Complaints::default(),
        dnssec_line,
        descriptors,
        parts,
        keeper,
        clock: Arc::clone(&clock),
        clock_changes,
        upstreams,
        inherited,
        bound,
        listening,
        last_reload,
        commanded,
        workers,
        cache_file,
        probed: Some(probed),
    };
    let outcome = runtime.block_on(running.watch(stopping));
    clock.end();
    outcome
}
