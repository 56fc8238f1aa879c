//! Asking a running truename.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use super::{Command, Outcome, Request, Response, VERSION};

/// How long truename may take: a reload reads files and opens sockets.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest response: a status with every upstream and listener there may be stays far below.
const RESPONSE_OCTETS_MAX: u64 = 1024 * 1024;

/// Why there is no answer. Each says what to do.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error(
        "no truename answers at {}; is it running? Name the configuration it runs with by \
         --config, and ask as the user it runs as",
        path.display()
    )]
    Absent {
        /// The socket.
        path: PathBuf,
    },
    /// The socket is another user's.
    #[error(
        "{} is not for this user; ask as the user truename runs as, or as root",
        path.display()
    )]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// It did not answer in time, or left.
    #[error("the truename at {} does not answer: {source}; see its log", path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What it said cannot be understood.
    #[error(
        "the truename at {} is of another version ({reason}); use the program it was started with",
        path.display()
    )]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It refused, and said why.
    #[error("{0}")]
    Refused(String),
}

/// Asks the truename that listens at `path`.
///
/// # Errors
/// When it does not answer, or answers with an error.
pub fn ask(path: &Path, command: Command) -> Result<Outcome, AskError> {
    let path = path.to_owned();
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) => {
            return Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    AskError::Absent { path }
                }
                io::ErrorKind::PermissionDenied => AskError::Denied { path },
                _ => AskError::Silent {
                    path,
                    source: error,
                },
            });
        }
    };
    let line = match exchange(stream, command) {
        Ok(line) => line,
        Err(source) => return Err(AskError::Silent { path, source }),
    };
    let foreign = |reason: String| AskError::Foreign {
        path: path.clone(),
        reason,
    };
    let response: Response =
        serde_json::from_slice(&line).map_err(|error| foreign(error.to_string()))?;
    if response.version != VERSION {
        return Err(foreign(format!("it speaks version {}", response.version)));
    }
    match response.outcome {
        Outcome::Error(why) => Err(AskError::Refused(why)),
        outcome => Ok(outcome),
    }
}

fn exchange(mut stream: UnixStream, command: Command) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = Request {
        version: VERSION,
        command,
    };
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    line.clear();
    let mut reader = BufReader::new(stream.take(RESPONSE_OCTETS_MAX));
    reader.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}
