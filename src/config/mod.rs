//! The configuration: from one TOML file, flags and the surroundings to checked [`Settings`].
//!
//! Three steps, each a function of its arguments until the last:
//! 1. [`Surroundings::read`] looks around, [`Surroundings::find_file`] chooses the file;
//! 2. [`parse`] turns text into settings or into [`Problems`], each with file, line, column, key
//!    and what to write instead. Nothing is opened or resolved;
//! 3. [`Settings::read_files`] reads the roots that upstreams name as `ca`.
//!
//! [`load`] does all three. Certificates and keys of `[tls]` are opened by the app, which also
//! watches them. Does not know running parts, sockets or what a change means to them.
//!
//! Relative paths in the file are seen from the file's own directory.
//!
//! Standards: TOML 1.1; XDG Base Directory Specification; CIDR notation (RFC 4632).

mod check;
mod effective;
mod file;
mod problem;
mod routes;
mod settings;
mod surroundings;
mod table;
#[cfg(test)]
mod tests;
mod unbuilt;
mod upstreams;
mod values;

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;
use toml::de::DeTable;

use problem::Collector;

pub use check::DEFAULT_UPSTREAMS;
pub use problem::{PROBLEMS_MAX, Place, Problem, Problems};
pub use settings::{
    CertificateFiles, DnssecSettings, Level, LogFormat, LogSettings, NamedFile, Settings,
    TlsSettings, UpstreamEntry,
};
pub use surroundings::{PLACES, Surroundings};

/// The most octets read of a configuration file or of a file of roots: the whole bundle of public
/// authorities takes a quarter of it.
const FILE_OCTETS_MAX: u64 = 1024 * 1024;

/// What the command line says about the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// The file to read; it must exist.
    pub config: Option<PathBuf>,
    /// Upstreams that replace all of the file's, as in `[[upstream]] url`.
    pub upstreams: Vec<String>,
    /// Listeners that replace all of the file's: `IP:PORT` for plain DNS, or `dot://IP:PORT`,
    /// `doq://IP:PORT`, `doh://IP:PORT`.
    pub listen: Vec<String>,
    /// Whether nobody is served with these settings, so that an upstream may be a truename which
    /// runs here.
    pub serves_nobody: bool,
}

/// Why there are no settings. The person who configures is at fault, but for `Unreadable`, which
/// may be the disk's.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file that was asked for is not there.
    #[error("{}: no such file; correct `--config` or TRUENAME_CONFIG", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {source}; check that truename's user may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not text.
    #[error("{}:{line}: this line is not UTF-8; save the file as UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first line that is not, from 1.
        line: usize,
    },
    /// The file, a flag or a file of roots is wrong.
    #[error(transparent)]
    Invalid(#[from] Problems),
}

impl LoadError {
    /// Whether only flags are wrong, so that the command line and no file has to be corrected.
    pub fn is_usage(&self) -> bool {
        let Self::Invalid(Problems(problems)) = self else {
            return false;
        };
        problems
            .iter()
            .all(|problem| matches!(problem.place, Place::Flag(_)))
    }
}

/// Finds, reads and checks the configuration, and reads the roots it names.
pub fn load(options: &Options, surroundings: &Surroundings) -> Result<Settings, LoadError> {
    let path = surroundings.find_file(options.config.as_deref(), Path::exists);
    let text = match &path {
        Some(path) => read_text(path)?,
        None => String::new(),
    };
    let mut settings = parse(&text, path.as_deref(), surroundings, options)?;
    settings.read_files()?;
    Ok(settings)
}

/// Finds the control socket of the truename that runs with this configuration; `None` when it is
/// switched off. Whatever else is wrong in the file is overlooked, since a running truename goes on
/// with what it read before.
///
/// # Errors
/// When the file cannot be read.
pub fn admin_socket(
    options: &Options,
    surroundings: &Surroundings,
) -> Result<Option<PathBuf>, LoadError> {
    let path = surroundings.find_file(options.config.as_deref(), Path::exists);
    let text = match &path {
        Some(path) => read_text(path)?,
        None => String::new(),
    };
    let mut overlooked = Collector::new(path.as_deref().unwrap_or(Path::new("")), &text);
    let (root, _) = DeTable::parse_recoverable(&text);
    let file = file::read(root.get_ref(), &mut overlooked);
    let base = surroundings.base(path.as_deref());
    Ok(check::state_places(&file, &base, surroundings).admin_socket)
}

/// Checks the text of a configuration file, empty for none, under flags and surroundings.
///
/// `source` is the file's path, which problems and relative paths are given by.
///
/// # Errors
/// All problems, in the order of the file.
pub fn parse(
    text: &str,
    source: Option<&Path>,
    surroundings: &Surroundings,
    options: &Options,
) -> Result<Settings, Problems> {
    let mut problems = Collector::new(source.unwrap_or(Path::new("")), text);
    let (root, syntax_errors) = DeTable::parse_recoverable(text);
    if !syntax_errors.is_empty() {
        // What else the recovered rest seems to say would only confuse.
        for error in syntax_errors {
            let message = format!("is not TOML here: {}", error.message());
            problems.add(&error.span().unwrap_or_default(), "", message);
        }
        problems.finish()?;
    }
    let file = file::read(root.get_ref(), &mut problems);
    unbuilt::refuse(root.get_ref(), &mut problems);
    let settings = check::check(file, source, surroundings, options, &mut problems);
    problems.finish()?;
    Ok(settings)
}

impl Settings {
    /// Reads the files that the configuration names and that must be whole before upstreams can
    /// be built: their roots (`ca`).
    ///
    /// # Errors
    /// One problem for each file that cannot be used, at the place of its upstream.
    pub fn read_files(&mut self) -> Result<(), Problems> {
        let mut problems = Vec::new();
        for (upstream, entry) in self
            .upstream
            .upstreams
            .iter_mut()
            .zip(&self.upstream_entries)
        {
            let Some(file) = &entry.ca else { continue };
            match read_roots(&file.path) {
                Ok(roots) => upstream.ca = roots,
                Err(message) => problems.push(Problem {
                    place: file.place.clone(),
                    key: "upstream.ca".to_owned(),
                    message,
                }),
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Problems(problems))
        }
    }
}

fn read_text(path: &Path) -> Result<String, LoadError> {
    let octets = read(path).map_err(|source| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            LoadError::Missing { path }
        } else {
            LoadError::Unreadable { path, source }
        }
    })?;
    String::from_utf8(octets).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(valid);
        LoadError::NotText {
            path: path.to_owned(),
            line: 1 + before.filter(|octet| **octet == b'\n').count(),
        }
    })
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let octets = read(path)
        .map_err(|error| format!("cannot read {shown}: {error}; check the path and its rights"))?;
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    match roots {
        Ok(roots) if roots.is_empty() => Err(format!(
            "no certificate in {shown}: PEM with \"BEGIN CERTIFICATE\" is needed"
        )),
        Ok(roots) => Ok(roots),
        Err(error) => Err(format!("{shown} is damaged PEM ({error}); copy it again")),
    }
}

/// Reads a whole file of at most [`FILE_OCTETS_MAX`].
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?
        .take(FILE_OCTETS_MAX + 1)
        .read_to_end(&mut octets)?;
    if octets.len() as u64 > FILE_OCTETS_MAX {
        let message = format!("larger than {FILE_OCTETS_MAX} octets");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(octets)
}
