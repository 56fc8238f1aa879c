//! The state file on disk: read whole, replaced whole or not at all.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    keeper::Keeper,
    read::{self, ReadError},
    state_file::StateError,
};
use crate::durable;

/// Mode of the state file: it holds public keys, and only truename may change them.
const MODE: u32 = 0o644;

/// Why the state cannot be loaded or saved.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file is there and cannot be read: wrong rights, or no text.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// Somebody edited it wrongly, or the disk lost part of it. Its revocations are lost with it,
    /// so nobody should start from scratch without a word.
    #[error(
        "{}: {source}; repair it, or remove it to start again from dnssec.trust_anchors, or else \
         from those built in",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: StateError,
    },
    /// The system refused to write it. The old one is still whole.
    #[error(
        "cannot write {}: {source}; check that truename's user may write there and the disk has room",
        path.display()
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Loads the state; `None` if there is no file, which is so at the first start. `floor_s` as for
/// [`Keeper::new`].
///
/// # Errors
/// When there is a file and it cannot be read or understood.
pub fn load(path: &Path, floor_s: u64) -> Result<Option<Keeper>, StoreError> {
    let octets = match read::octets(path) {
        Err(ReadError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        octets => octets?,
    };
    let text = String::from_utf8(octets).map_err(|_| ReadError::NotText {
        path: path.to_owned(),
    })?;
    Keeper::from_text(&text, floor_s)
        .map(Some)
        .map_err(|source| StoreError::Malformed {
            path: path.to_owned(),
            source,
        })
}

/// Saves the state: whatever happens meanwhile, the file is afterwards the old or the new one,
/// whole. Only one at a time may save to one path.
///
/// # Errors
/// When the system refuses; the old file is whole then.
pub fn save(path: &Path, keeper: &Keeper) -> Result<(), StoreError> {
    let text = keeper.to_text();
    durable::replace(path, MODE, |file| file.write_all(text.as_bytes())).map_err(|source| {
        StoreError::Unwritable {
            path: path.to_owned(),
            source,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        anchors::{Source, built_in},
        clock,
    };

    const NOW_S: u64 = clock::FLOOR_UNIX_S + 1;

    fn keeper() -> Keeper {
        let mut keeper = Keeper::new(clock::FLOOR_UNIX_S);
        keeper.seed(&built_in(), Source::BuiltIn, NOW_S);
        keeper
    }

    #[test]
    fn saved_state_is_loaded_and_none_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        assert_eq!(load(&path, clock::FLOOR_UNIX_S).unwrap(), None);
        save(&path, &keeper()).unwrap();
        save(&path, &keeper()).unwrap();
        assert_eq!(load(&path, clock::FLOOR_UNIX_S).unwrap(), Some(keeper()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_a_fresh_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let text = keeper().to_text();
        for cut in [0, 10, text.len() / 2, text.len() - 5] {
            fs::write(&path, &text[..cut]).unwrap();
            let error = load(&path, clock::FLOOR_UNIX_S).unwrap_err();
            assert!(
                error.to_string().contains(path.to_str().unwrap()),
                "{error}"
            );
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(load(&path, clock::FLOOR_UNIX_S).is_err());
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("absent/state");
        let error = save(&path, &keeper()).unwrap_err();
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}
