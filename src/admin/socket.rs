//! The socket itself: nobody else can connect at any moment, and one that a dead process left
//! behind is no obstacle.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

/// Only truename's user, and root, may connect.
const MODE: u32 = 0o600;
/// Connections that wait to be accepted; commands are rare.
const BACKLOG: i32 = 16;

/// Why there is no control socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Another truename answers there.
    #[error(
        "another truename is running and answers at {}; stop it, or give this one a \
         state.directory or an admin.socket of its own",
        path.display()
    )]
    Alive {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there, which truename must not remove.
    #[error("{} is no socket; remove it, or write another path at admin.socket", path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error(
        "cannot open the control socket {}: {source}; check that truename's user may write there, \
         or write a shorter or another path at admin.socket",
        path.display()
    )]
    System {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that listens. It goes away with this.
#[derive(Debug)]
pub struct Bound {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode: whether the file at the path is still ours.
    identity: Option<(u64, u64)>,
}

impl Bound {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // A socket that stays is no obstacle for the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`, in place of a socket that nobody listens at any more.
///
/// # Errors
/// When somebody does, or the system refuses.
pub fn bind(path: &Path) -> Result<Bound, SocketError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NoSocket {
                path: path.to_owned(),
            });
        }
        Ok(_) if is_alive(path) => {
            return Err(SocketError::Alive {
                path: path.to_owned(),
            });
        }
        _ => {}
    }
    listen(path).map_err(|source| SocketError::System {
        path: path.to_owned(),
        source,
    })
}

/// Made under another name, and nobody can connect before it listens; by then it has its mode, and
/// only then its name.
fn listen(path: &Path) -> io::Result<Bound> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(&new)?)?;
    let listening = fs::set_permissions(&new, Permissions::from_mode(MODE))
        .and_then(|()| socket.listen(BACKLOG))
        .and_then(|()| socket.set_nonblocking(true))
        .and_then(|()| fs::rename(&new, path));
    if let Err(error) = listening {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    Ok(Bound {
        listener: socket.into(),
        path: path.to_owned(),
        identity: identity(path),
    })
}

/// Whether somebody listens there. Never waits: a listener too busy to take one more is alive.
fn is_alive(path: &Path) -> bool {
    let connected = Socket::new(Domain::UNIX, Type::STREAM, None).and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    });
    match connected {
        Ok(()) => true,
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
        ),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
