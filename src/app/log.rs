//! Where log events go: standard error, one line each.

use std::{env, io};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

use crate::config::{Level, LogFormat, LogSettings};

/// Lines that wait to be written. When whoever reads them stops reading, those beyond are lost and
/// truename goes on.
const WAITING_LINES_MAX: usize = 8_192;

/// Sends events to standard error from now on; what waits is written when the guard is dropped.
/// Later calls change nothing.
pub(super) fn start(settings: LogSettings) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(io::stderr());
    let level = match settings.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    // The journal stamps every line itself.
    let journal = env::var_os("JOURNAL_STREAM").is_some();
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(writer)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    // A second start, as tests make it, keeps the first.
    let _ = match (settings.format, journal) {
        (LogFormat::Json, true) => {
            tracing::subscriber::set_global_default(lines.json().without_time().finish())
        }
        (LogFormat::Json, false) => tracing::subscriber::set_global_default(lines.json().finish()),
        (LogFormat::Text, true) => {
            tracing::subscriber::set_global_default(lines.without_time().finish())
        }
        (LogFormat::Text, false) => tracing::subscriber::set_global_default(lines.finish()),
    };
    guard
}
