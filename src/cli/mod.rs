//! The command line: flags in, words and an exit status out.
//!
//! Each subcommand is one file; all write to a handle they are given, so that a reader who leaves
//! early (`truename check | head -1`) is an end and not a panic. Knows the app and every room it
//! shows; no room knows it.
//!
//! Exit statuses: 0 success, 1 failure, 2 usage; `query` also 3 bogus, 4 no answer.

mod anchors;
mod answer;
mod arguments;
mod cert;
mod check;
mod control;
mod explain;
mod mnemonic;
mod private_zones;
mod query;
mod rdata;
mod status;
mod stub;

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser as _;
use thiserror::Error;

use self::arguments::{Anchors, Arguments, Cert, Command};
use crate::{
    admin::AskError,
    anchors::{ReadError, store::StoreError},
    app,
    certificates::CertificateError,
    config::{self, LoadError, Options, Settings, Surroundings},
};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum ExitStatus {
    Success = 0,
    Failure = 1,
    Usage = 2,
    Bogus = 3,
    NoAnswer = 4,
}

/// Why a subcommand did not do what it was asked.
#[derive(Debug, Error)]
enum CommandError {
    /// The person wrote something that cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// The configuration cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The state of the trust anchors cannot be read.
    #[error(transparent)]
    Anchors(#[from] StoreError),
    /// A file with trust anchors cannot be read.
    #[error(transparent)]
    AnchorFile(#[from] ReadError),
    /// A running truename was asked, and did not do it.
    #[error(transparent)]
    Control(#[from] AskError),
    /// The server could not be started.
    #[error(transparent)]
    App(#[from] app::Error),
    /// What was asked for is not there; says what to do.
    #[error("{0}")]
    Absent(String),
    /// Nobody answered a query.
    #[error("{0}")]
    NoAnswer(String),
    /// Output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    fn exit(&self) -> ExitStatus {
        match self {
            Self::Usage(_) => ExitStatus::Usage,
            Self::Load(error) if error.is_usage() => ExitStatus::Usage,
            Self::App(app::Error::Config(error)) if error.is_usage() => ExitStatus::Usage,
            Self::NoAnswer(_) => ExitStatus::NoAnswer,
            // The reader has seen enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitStatus::Success,
            _ => ExitStatus::Failure,
        }
    }
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let surroundings = Surroundings::read();
    let status = run(
        env::args_os(),
        &surroundings,
        &mut io::stdout(),
        &mut io::stderr(),
    );
    ExitCode::from(status as u8)
}

/// The settings of the file that `--config` names, or of the usual place.
fn load(config: Option<PathBuf>, surroundings: &Surroundings) -> Result<Settings, CommandError> {
    let options = Options {
        config,
        ..Options::default()
    };
    Ok(config::load(&options, surroundings)?)
}

fn run(
    arguments: impl IntoIterator<Item = OsString>,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> ExitStatus {
    let outcome = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => dispatch(arguments, surroundings, out),
        // Help and version are asked for; all else is a mistake, told as clap tells it.
        Err(error) if error.use_stderr() => {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let _ = write!(errors, "truename: {text}");
            return ExitStatus::Usage;
        }
        Err(help) => write!(out, "{help}")
            .map(|()| ExitStatus::Success)
            .map_err(CommandError::from),
    };
    let outcome = outcome.and_then(|status| {
        out.flush()?;
        Ok(status)
    });
    outcome.unwrap_or_else(|error| {
        let status = error.exit();
        if status != ExitStatus::Success {
            // Nobody is left to tell when this fails.
            for line in error.to_string().lines() {
                let _ = writeln!(errors, "truename: {line}");
            }
        }
        status
    })
}

fn dispatch(
    arguments: Arguments,
    surroundings: &Surroundings,
    out: &mut dyn Write,
) -> Result<ExitStatus, CommandError> {
    match arguments.command {
        None => serve(arguments.run, surroundings),
        Some(Command::Run(run)) => serve(run, surroundings),
        Some(Command::Check(check)) => check::run(check, surroundings, out),
        Some(Command::Query(query)) => query::run(&query, surroundings, out),
        Some(Command::Cert(Cert::Show(show))) => cert::show(show, surroundings, out),
        Some(Command::Cert(Cert::Export(export))) => cert::export(export, surroundings, out),
        Some(Command::Anchors(Anchors::Show(show))) => anchors::show(show, surroundings, out),
        Some(Command::Status(status)) => control::status(status, surroundings, out),
        Some(Command::Flush(flush)) => control::flush(flush, surroundings, out),
        Some(Command::Reload(reload)) => control::reload(reload, surroundings, out),
    }
}

fn serve(run: arguments::Run, surroundings: &Surroundings) -> Result<ExitStatus, CommandError> {
    app::run(&run.into(), surroundings)?;
    Ok(ExitStatus::Success)
}

/// The runtime of a subcommand that asks upstreams: one thread is plenty for one question.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Writes JSON, one value on lines of its own.
fn write_json(out: &mut dyn Write, value: &serde_json::Value) -> io::Result<()> {
    writeln!(out, "{value:#}")
}

#[cfg(test)]
mod tests;
