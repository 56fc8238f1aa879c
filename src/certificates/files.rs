//! Files: bounded reads, whole writes, and stamps that tell whether a file changed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;

use super::CertificateError;
use crate::entropy;

/// The most octets read from one file: a chain of [`super::load::CERTIFICATES_MAX`] RSA
/// certificates with long name lists stays well below.
const FILE_OCTETS_MAX: u64 = 256 * 1024;

/// Mode of a file with a private key: nobody else reads it.
pub(super) const KEY_MODE: u32 = 0o600;

/// Mode of a file with a certificate, which is public.
pub(super) const CERTIFICATE_MODE: u32 = 0o644;

/// Mode of a directory we create.
const DIRECTORY_MODE: u32 = 0o700;

/// What a set of files looked like at one moment: modification time, size and inode of each.
///
/// Two stamps of the same paths differ when a file was written, replaced, created or removed in
/// between. Symbolic links are followed, so that a renewed certificate behind a link counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Vec<Option<FileStamp>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    mtime_s: i64,
    mtime_ns: i64,
    size_octets: u64,
    inode: u64,
}

impl Stamp {
    /// Looks at `paths` now. A file that is missing or out of reach has a stamp of its own.
    #[must_use]
    pub fn of<P: AsRef<Path>>(paths: &[P]) -> Self {
        let one = |path: &P| {
            let metadata = fs::metadata(path).ok()?;
            Some(FileStamp {
                mtime_s: metadata.mtime(),
                mtime_ns: metadata.mtime_nsec(),
                size_octets: metadata.size(),
                inode: metadata.ino(),
            })
        };
        Self(paths.iter().map(one).collect())
    }
}

/// Reads a whole file, up to [`FILE_OCTETS_MAX`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let mut octets = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets))
        .map_err(|source| CertificateError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
    if octets.len() as u64 > FILE_OCTETS_MAX {
        return Err(CertificateError::TooLarge {
            path: path.to_owned(),
            limit_octets: FILE_OCTETS_MAX,
        });
    }
    Ok(octets)
}

/// Whether users other than the owner and the group may read `path`.
pub(super) fn is_world_readable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o004 != 0)
}

/// Takes from group and others what a restored backup may have given them on one of our own keys.
/// A missing file is fine.
pub(super) fn tighten(path: &Path) -> Result<(), CertificateError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => {
            fs::set_permissions(path, Permissions::from_mode(KEY_MODE))
                .map_err(|source| unwritable(path, source))
        }
        _ => Ok(()),
    }
}

/// Creates `directory` with mode 0700 if it is missing. One that exists is left as it is, since
/// its owner chose its mode, unless everybody may write to it.
pub(super) fn prepare_directory(directory: &Path) -> Result<(), CertificateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .map_err(|source| unwritable(directory, source))?;
    let metadata = fs::metadata(directory).map_err(|source| unwritable(directory, source))?;
    if metadata.mode() & 0o002 != 0 {
        return Err(CertificateError::DirectoryExposed {
            path: directory.to_owned(),
        });
    }
    Ok(())
}

/// What one file shall become.
pub(super) struct NewFile<'a> {
    /// Where it goes, over what is there.
    pub(super) path: &'a Path,
    /// All of its octets.
    pub(super) octets: &'a [u8],
    /// Its mode.
    pub(super) mode: u32,
}

/// Replaces files of one directory, each whole or not at all: every one is written and synced
/// under a temporary name first, then they are renamed in the order given. A full disk therefore
/// leaves all the old files, and a crash leaves some of each at worst.
///
/// Not by way of [`crate::durable`]: its temporary name is fixed, so that what a crash leaves behind
/// goes with the next write, and so only one process may write. Here two may (see [`super::ensure`]).
pub(super) fn replace(files: &[NewFile<'_>]) -> Result<(), CertificateError> {
    let mut temporaries = Vec::with_capacity(files.len());
    let replaced = replace_through(files, &mut temporaries);
    if replaced.is_err() {
        for temporary in temporaries {
            // Best effort, and those already renamed are gone: the failure worth telling is the
            // first one.
            let _ = fs::remove_file(temporary);
        }
    }
    replaced
}

fn replace_through(
    files: &[NewFile<'_>],
    temporaries: &mut Vec<PathBuf>,
) -> Result<(), CertificateError> {
    for file in files {
        let temporary = temporary_beside(file.path);
        temporaries.push(temporary.clone());
        write_new(&temporary, file.octets, file.mode)
            .map_err(|source| unwritable(file.path, source))?;
    }
    for (file, temporary) in files.iter().zip(temporaries.iter()) {
        fs::rename(temporary, file.path).map_err(|source| unwritable(file.path, source))?;
    }
    match files.first() {
        Some(file) => sync_directory_of(file.path).map_err(|source| unwritable(file.path, source)),
        None => Ok(()),
    }
}

fn write_new(path: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(octets)?;
    file.sync_all()
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut random = [0; 8];
    entropy::fill(&mut random);
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(HEXLOWER.encode(&random));
    name.push(".tmp");
    PathBuf::from(name)
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn unwritable(path: &Path, source: io::Error) -> CertificateError {
    CertificateError::Unwritable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, octets: &[u8], mode: u32) -> Result<(), CertificateError> {
        replace(&[NewFile { path, octets, mode }])
    }

    #[test]
    fn stamp_changes_when_a_file_is_written_replaced_or_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let absent = Stamp::of(&[&path]);
        assert_eq!(absent, Stamp::of(&[&path]));
        fs::write(&path, "one").unwrap();
        let first = Stamp::of(&[&path]);
        assert_ne!(absent, first);
        assert_eq!(first, Stamp::of(&[&path]));
        fs::write(&path, "three").unwrap();
        let second = Stamp::of(&[&path]);
        assert_ne!(first, second);
        write(&path, b"three", KEY_MODE).unwrap();
        let third = Stamp::of(&[&path]);
        assert_ne!(second, third, "same octets, another inode");
        fs::remove_file(&path).unwrap();
        assert_eq!(absent, Stamp::of(&[&path]));
    }

    #[test]
    fn write_sets_the_mode_and_leaves_nothing_beside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.key");
        write(&path, b"x", KEY_MODE).unwrap();
        write(&path, b"y", KEY_MODE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"y");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn failed_write_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        // A directory of that name stands in the way of the rename.
        let path = directory.path().join("ca.pem");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inhabitant"), "").unwrap();
        let error = write(&path, b"x", CERTIFICATE_MODE).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_that_cannot_all_be_written_are_all_left() {
        let directory = tempfile::tempdir().unwrap();
        let first = directory.path().join("first");
        fs::write(&first, "old").unwrap();
        let absent = directory.path().join("absent/second");
        let new = |path| NewFile {
            path,
            octets: b"new",
            mode: KEY_MODE,
        };
        let error = replace(&[new(&first), new(&absent)]).unwrap_err();
        assert!(error.to_string().contains(absent.to_str().unwrap()));
        assert_eq!(fs::read(&first).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn file_past_the_bound_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("huge");
        File::create(&path)
            .unwrap()
            .set_len(FILE_OCTETS_MAX + 1)
            .unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(error, CertificateError::TooLarge { .. }));
        assert!(error.to_string().contains(path.to_str().unwrap()));
    }

    #[test]
    fn directory_open_to_everybody_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        let error = prepare_directory(&path).unwrap_err();
        assert!(matches!(error, CertificateError::DirectoryExposed { .. }));
        assert!(error.to_string().contains(path.to_str().unwrap()));
    }
}
