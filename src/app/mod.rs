//! Start, reload and shutdown.

use thiserror::Error;

use crate::config::{self, LoadError, Options, Surroundings};

/// Why the server could not be started.
#[derive(Debug, Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] LoadError),
}

/// Serves until stopped.
pub fn run(options: &Options) -> Result<(), Error> {
    config::load(options, &Surroundings::read())?;
    Ok(())
}
