//! The cache as octets of a file, and back.
//!
//! ```text
//! magic version layout | unix_s uptime_s boot | judge | length entry | length entry | ... | 0 count | SHA-256
//! ```
//!
//! Numbers are big-endian; the digest is over all before it. Reading takes two passes, since nothing
//! is believed before the end: [`verify`], then [`load`]. A digest tells damage and not forgery, so
//! [`load`] checks every entry as if a stranger had written it.
//!
//! **Times.** Entries carry uptime, which ends with the boot. In the same boot they are true as they
//! are; but when the wall clock was set since, they were judged by another time than it shows, and
//! none is used. In a later boot the wall clock says how long ago the file was written; when it shows
//! a time before that, it was or is wrong, nobody knows how old the answers are, and none is used.
//!
//! Knows neither paths nor when to save.

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use thiserror::Error;

use super::{Cache, Entry, Place, Settings, entry::LAYOUT, restore::restore};
use crate::clock::{Now, STEP_S};

const MAGIC: [u8; 16] = *b"truename cache\r\n";
const VERSION: u16 = 1;

/// Octets before the first entry.
pub const HEAD_OCTETS: usize = 16 + 2 + 2 + 8 + 4 + 16 + 32;
/// The longest entry: two forms of a message, a name, a text.
const ENTRY_OCTETS_MAX: usize = 2 * 65_535 + 4_096;
/// Copied out of the cache before it is written, so that a lock is held for microseconds.
const CHUNK_OCTETS: usize = 64 * 1024;

/// What stands before the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Wall time when it was written, in seconds since 1970.
    pub unix_s: u64,
    /// [`Now::uptime_s`] when it was written.
    pub uptime_s: u32,
    /// Which boot that was of; all zero when unknown.
    pub boot: [u8; 16],
    /// A digest of all by which the answers were judged. Under another judge they mean nothing.
    pub judge: [u8; 32],
}

/// Why a file gives no answers.
#[derive(Debug, Error)]
pub enum FileError {
    /// The system failed to read it.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// Somebody else's file.
    #[error("it is no file of truename's cache")]
    Foreign,
    /// Another version of truename wrote it.
    #[error("another version of truename wrote it")]
    Version,
    /// The disk, or somebody, changed it.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// What came of loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Answers taken up.
    pub taken: u64,
    /// Answers that nobody may be given any more.
    pub expired: u64,
    /// Answers that cannot have been stored so. Somebody tampered with the file.
    pub refused: u64,
}

impl Head {
    /// How long ago the file was written, in seconds; `None` when nobody can say, or the wall clock
    /// was set meanwhile.
    #[must_use]
    pub fn age_s(&self, now: &Now, boot: [u8; 16]) -> Option<u32> {
        if boot == self.boot && boot != [0; 16] {
            let age_s = now.uptime_s.checked_sub(self.uptime_s)?;
            let expected_unix_s = self.unix_s.saturating_add(age_s.into());
            return (now.unix_s.abs_diff(expected_unix_s) <= STEP_S).then_some(age_s);
        }
        u32::try_from(now.unix_s.checked_sub(self.unix_s)?).ok()
    }

    fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(HEAD_OCTETS);
        octets.extend_from_slice(&MAGIC);
        octets.extend_from_slice(&VERSION.to_be_bytes());
        octets.extend_from_slice(&LAYOUT.to_be_bytes());
        octets.extend_from_slice(&self.unix_s.to_be_bytes());
        octets.extend_from_slice(&self.uptime_s.to_be_bytes());
        octets.extend_from_slice(&self.boot);
        octets.extend_from_slice(&self.judge);
        octets
    }

    fn read(from: &mut impl Read) -> Result<Self, FileError> {
        if take::<16>(from).map_err(foreign)? != MAGIC {
            return Err(FileError::Foreign);
        }
        let version = u16::from_be_bytes(take(from).map_err(damaged)?);
        let layout = u16::from_be_bytes(take(from).map_err(damaged)?);
        if (version, layout) != (VERSION, LAYOUT) {
            return Err(FileError::Version);
        }
        Ok(Self {
            unix_s: u64::from_be_bytes(take(from).map_err(damaged)?),
            uptime_s: u32::from_be_bytes(take(from).map_err(damaged)?),
            boot: take(from).map_err(damaged)?,
            judge: take(from).map_err(damaged)?,
        })
    }
}

/// Writes the head and every answer that somebody may still be given by these settings, and no
/// failure; how many answers. The cache is used meanwhile.
///
/// # Errors
/// When `out` fails.
pub fn save(
    cache: &Cache,
    head: &Head,
    settings: &Settings,
    out: &mut impl Write,
) -> io::Result<u64> {
    let mut out = Digesting::new(out);
    out.write_all(&head.octets())?;
    let (mut place, mut count) = (Place::default(), 0_u64);
    let mut chunk = Vec::with_capacity(CHUNK_OCTETS);
    loop {
        let more = cache.visit_from(&mut place, |entry| {
            if is_of_use(&entry, head.uptime_s, settings)
                && let Ok(length) = u32::try_from(entry.octets().len())
            {
                chunk.extend_from_slice(&length.to_be_bytes());
                chunk.extend_from_slice(entry.octets());
                count = count.saturating_add(1);
            }
            chunk.len() < CHUNK_OCTETS
        });
        out.write_all(&chunk)?;
        chunk.clear();
        if !more {
            break;
        }
    }
    out.write_all(&0_u32.to_be_bytes())?;
    out.write_all(&count.to_be_bytes())?;
    let (out, digest) = out.finish();
    out.write_all(&digest)?;
    Ok(count)
}

/// Whether it may be given out, or stand in for an answer that cannot be had.
fn is_of_use(entry: &Entry<'_>, now_s: u32, settings: &Settings) -> bool {
    entry.failure().is_none()
        && (entry.is_fresh(now_s) || entry.is_stale(now_s, settings.serve_stale_s))
}

/// Reads a whole file and says whether it is one and undamaged. Takes constant memory; `from`
/// decides how much is read at most.
///
/// # Errors
/// When it is not.
pub fn verify(from: &mut impl Read) -> Result<Head, FileError> {
    let mut from = Digesting::new(from);
    let head = Head::read(&mut from)?;
    let mut entry = Vec::new();
    let mut count = 0_u64;
    while next(&mut from, &mut entry)? {
        count = count.saturating_add(1);
    }
    if u64::from_be_bytes(take(&mut from).map_err(damaged)?) != count {
        return Err(FileError::Damaged("answers are missing"));
    }
    let (from, digest) = from.finish();
    if take(from).map_err(damaged)? != digest {
        return Err(FileError::Damaged("its digest is another"));
    }
    match take::<1>(from) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(head),
        Err(error) => Err(error.into()),
        Ok(_) => Err(FileError::Damaged("it goes on behind its end")),
    }
}

/// Puts the answers of a file that [`verify`] found undamaged, and that was written `age_s` before
/// `now_s`, into the cache, as long as `goes_on` says so. None lives longer than the settings of now
/// allow.
///
/// # Errors
/// When it is not that file, or the system fails. What was put in before is whole and stays.
pub fn load(
    from: &mut impl Read,
    cache: &Cache,
    age_s: u32,
    now_s: u32,
    settings: &Settings,
    mut goes_on: impl FnMut() -> bool,
) -> Result<Loaded, FileError> {
    let head = Head::read(from)?;
    let mut loaded = Loaded::default();
    let mut octets = Vec::new();
    while goes_on() && next(from, &mut octets)? {
        // The times of the file are moved onto the axis of this boot.
        let written_s = octets.first_chunk().map_or(0, |at| u32::from_be_bytes(*at));
        let stored_s = head
            .uptime_s
            .saturating_sub(written_s)
            .checked_add(age_s)
            .and_then(|age_s| now_s.checked_sub(age_s));
        let Some(stored_s) = stored_s else {
            loaded.expired = loaded.expired.saturating_add(1);
            continue;
        };
        match restore(&octets, stored_s) {
            Some(stored)
                if stored.entry().ttl_s() <= settings.ttl_max_s
                    && is_of_use(&stored.entry(), now_s, settings) =>
            {
                cache.insert(stored);
                loaded.taken = loaded.taken.saturating_add(1);
            }
            Some(_) => loaded.expired = loaded.expired.saturating_add(1),
            None => loaded.refused = loaded.refused.saturating_add(1),
        }
    }
    Ok(loaded)
}

/// Reads the next entry into `entry`; whether there is one.
fn next(from: &mut impl Read, entry: &mut Vec<u8>) -> Result<bool, FileError> {
    let length = u32::from_be_bytes(take(from).map_err(damaged)?);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > ENTRY_OCTETS_MAX {
        return Err(FileError::Damaged("an answer is longer than any can be"));
    }
    entry.clear();
    entry.resize(length, 0);
    from.read_exact(entry).map_err(damaged)?;
    Ok(length > 0)
}

fn take<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    from.read_exact(&mut octets)?;
    Ok(octets)
}

/// A file that ends early is a fault of the file, all else of the system.
fn damaged(error: io::Error) -> FileError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FileError::Damaged("it ends too early"),
        _ => FileError::Unreadable(error),
    }
}

/// As [`damaged`], where not even the magic number was read.
fn foreign(error: io::Error) -> FileError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FileError::Foreign,
        _ => FileError::Unreadable(error),
    }
}

/// Digests what passes through.
struct Digesting<'a, T> {
    inner: &'a mut T,
    context: Context,
}

impl<'a, T> Digesting<'a, T> {
    fn new(inner: &'a mut T) -> Self {
        Self {
            inner,
            context: Context::new(&SHA256),
        }
    }

    /// The digest, and what comes behind it.
    fn finish(self) -> (&'a mut T, [u8; SHA256_OUTPUT_LEN]) {
        let mut digest = [0; SHA256_OUTPUT_LEN];
        for (to, from) in digest.iter_mut().zip(self.context.finish().as_ref()) {
            *to = *from;
        }
        (self.inner, digest)
    }
}

impl<T: Write> Write for Digesting<'_, T> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(octets)?;
        self.context
            .update(octets.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Digesting<'_, T> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(octets)?;
        self.context.update(octets.get(..read).unwrap_or_default());
        Ok(read)
    }
}
