//! Files that are replaced whole or not at all: how state reaches the disk.
//!
//! Whatever happens meanwhile (a crash, a full disk, the end of the power), the file is afterwards
//! the old or the new one. Knows paths and octets, not what they mean.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// What the new file is called beside the old one before it takes its name.
const NEW_SUFFIX: &str = ".new";

/// Replaces the file at `path` by what `write` writes, with the rights `mode`. Only one at a time
/// may replace one path.
///
/// # Errors
/// When the system refuses or `write` does; the old file is whole then.
pub fn replace(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    replace_in_steps(path, mode, write, |_| Ok(())).inspect_err(|_| {
        // Best effort: the next one removes it too.
        let _ = fs::remove_file(beside(path, NEW_SUFFIX));
    })
}

/// What has been done when the next step begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Created,
    Written,
    Synced,
    Renamed,
}

/// Writes beside, syncs, renames, syncs the directory. `between` is called after each step; tests
/// stop there as a crash would.
fn replace_in_steps(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
    mut between: impl FnMut(Step) -> io::Result<()>,
) -> io::Result<()> {
    let new = beside(path, NEW_SUFFIX);
    // What a crash left behind. Not opened but removed: it might be a link to elsewhere.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)?;
    between(Step::Created)?;
    write(&mut file)?;
    between(Step::Written)?;
    file.sync_all()?;
    between(Step::Synced)?;
    fs::rename(&new, path)?;
    between(Step::Renamed)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

/// Gives the file at `path`, which is of no use, another name, so that somebody can look at what
/// became of it. That name; what had it before is lost.
///
/// # Errors
/// When the system refuses.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = beside(path, ".bad");
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

    use super::*;

    const OLD: &[u8] = b"old";
    const NEW: &[u8] = b"new, and longer";

    fn write(path: &Path, octets: &[u8]) -> io::Result<()> {
        replace(path, 0o600, |file| file.write_all(octets))
    }

    #[test]
    fn a_crash_between_steps_leaves_one_file_whole() {
        for crash in [Step::Created, Step::Written, Step::Synced, Step::Renamed] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("state");
            write(&path, OLD).unwrap();
            let crashed = replace_in_steps(
                &path,
                0o600,
                |file| file.write_all(NEW),
                |step| {
                    if step == crash {
                        Err(io::Error::other("crash"))
                    } else {
                        Ok(())
                    }
                },
            );
            assert!(crashed.is_err());
            let expected = if crash == Step::Renamed { NEW } else { OLD };
            assert_eq!(fs::read(&path).unwrap(), expected, "{crash:?}");
            // The next one goes on as if nothing had happened.
            write(&path, NEW).unwrap();
            assert_eq!(fs::read(&path).unwrap(), NEW);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        write(&path, OLD).unwrap();
        let failed = replace(&path, 0o600, |file| {
            file.write_all(b"half of")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), OLD);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_reader_of_the_old_file_is_not_disturbed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        write(&path, OLD).unwrap();
        let reader = File::open(&path).unwrap();
        write(&path, NEW).unwrap();
        assert_eq!(io::read_to_string(reader).unwrap().as_bytes(), OLD);
    }

    #[test]
    fn the_mode_is_the_one_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        write(&path, NEW).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
