//! Where log events go: standard error, one line each.

use std::{env, io};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Layered, SubscriberExt as _},
    reload,
};

use crate::config::{Level, LogFormat, LogSettings};

/// Lines that wait to be written. When whoever reads them stops reading, those beyond are lost and
/// truename goes on. The queue has its memory from the start, 32 octets for each.
const WAITING_LINES_MAX: usize = 1_024;

/// What decides which events become lines.
type Threshold = reload::Layer<LevelFilter, Registry>;
/// What makes lines of them.
type Lines = Box<dyn Layer<Layered<Threshold, Registry>> + Send + Sync>;

/// The log of this process. What waits is written when this is dropped.
pub(super) struct Log {
    _guard: WorkerGuard,
    writer: NonBlocking,
    threshold: reload::Handle<LevelFilter, Registry>,
    lines: reload::Handle<Lines, Layered<Threshold, Registry>>,
}

impl Log {
    /// Sends events to standard error from now on. Later calls change nothing.
    pub(super) fn start(settings: LogSettings) -> Self {
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(WAITING_LINES_MAX)
            .lossy(true)
            .thread_name("log")
            .finish(io::stderr());
        let (threshold, threshold_handle) = reload::Layer::new(level(settings.level));
        let (lines, lines_handle) = reload::Layer::new(lines(settings.format, writer.clone()));
        let subscriber = Registry::default().with(threshold).with(lines);
        // A second start, as tests make it, keeps the first.
        let _ = tracing::subscriber::set_global_default(subscriber);
        Self {
            _guard: guard,
            writer,
            threshold: threshold_handle,
            lines: lines_handle,
        }
    }

    /// Logs as these settings say from now on.
    pub(super) fn apply(&self, settings: LogSettings) {
        // Fails only when this log was never the first one started.
        let _ = self.threshold.reload(level(settings.level));
        let _ = self
            .lines
            .reload(lines(settings.format, self.writer.clone()));
    }
}

fn lines(format: LogFormat, writer: NonBlocking) -> Lines {
    // The journal stamps every line itself.
    let journal = env::var_os("JOURNAL_STREAM").is_some();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    match (format, journal) {
        (LogFormat::Json, true) => lines.json().without_time().boxed(),
        (LogFormat::Json, false) => lines.json().boxed(),
        (LogFormat::Text, true) => lines.without_time().boxed(),
        (LogFormat::Text, false) => lines.boxed(),
    }
}

const fn level(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}
