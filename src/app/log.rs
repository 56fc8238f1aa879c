//! Where log events go: standard error, one line each.

use std::{env, io};

use tracing::level_filters::LevelFilter;

use crate::config::{Level, LogFormat, LogSettings};

/// Sends events to standard error from now on. Later calls change nothing.
pub(super) fn start(settings: LogSettings) {
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
        .with_writer(io::stderr)
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
}
