//! Files with trust anchors: DS and DNSKEY records in presentation form (RFC 1035, section 5.1),
//! or IANA's XML (RFC 9718).

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::wire::Name;

use super::{
    key::{Key, RecordError, shown},
    xml::{self, XmlError},
};

/// The most octets of a file with anchors or their state. IANA's has three thousand, a state file
/// with every bound reached stays below.
pub const FILE_OCTETS_MAX: u64 = 2 * 1024 * 1024;
/// The most anchors in one file: the root has two or three, an islander a dozen.
pub const ANCHORS_PER_FILE_MAX: usize = 64;

/// An anchor somebody wrote down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The zone whose key it is.
    pub zone: Name,
    /// The key.
    pub key: Key,
    /// From when on it counts, in seconds since 1970; only XML says.
    pub valid_from_s: Option<u64>,
    /// Until when it counts, this moment not included.
    pub valid_until_s: Option<u64>,
}

impl Seed {
    /// Whether it counts at this time.
    #[must_use]
    pub fn holds_at(&self, unix_s: u64) -> bool {
        self.valid_from_s.is_none_or(|from| from <= unix_s)
            && self.valid_until_s.is_none_or(|until| unix_s < until)
    }
}

/// Why a file gives no anchors. Whoever wrote or named the file is at fault.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system refused to read it.
    #[error("cannot read {}: {source}; check the path, and that truename's user may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is far too large, or no text.
    #[error("{} is no text of at most {FILE_OCTETS_MAX} octets, so no file of trust anchors; check the path", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A record cannot be understood.
    #[error("{}:{line}: {fault}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The line in which the record begins, from 1.
        line: usize,
        /// What is wrong.
        fault: RecordError,
    },
    /// The XML cannot be understood.
    #[error("{}:{line}: {fault}", path.display())]
    Xml {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        fault: XmlError,
    },
    /// A parenthesis opens and never closes, or closes and never opened.
    #[error("{}:{line}: the parentheses of this record do not match; close each `(` with `)`", path.display())]
    Parentheses {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// More anchors than anybody has.
    #[error("{} holds more than {ANCHORS_PER_FILE_MAX} anchors; leave only those you need", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
    },
    /// It holds nothing.
    #[error("{} holds no anchor; write at least one record such as `. IN DS 20326 8 2 E06D44B8...`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a file of anchors in either form.
///
/// # Errors
/// When the file cannot be read or understood; see [`ReadError`].
pub fn read(path: &Path) -> Result<Vec<Seed>, ReadError> {
    let octets = octets(path)?;
    let text = String::from_utf8(octets).map_err(|_| ReadError::NotText {
        path: path.to_owned(),
    })?;
    parse(path, &text)
}

/// Reads the text of a file of anchors; `path` is for messages only.
///
/// # Errors
/// When the text cannot be understood; see [`ReadError`].
pub fn parse(path: &Path, text: &str) -> Result<Vec<Seed>, ReadError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let seeds = if text.trim_start().starts_with('<') {
        xml::parse(text).map_err(|(line, fault)| ReadError::Xml {
            path: path.to_owned(),
            line,
            fault,
        })?
    } else {
        parse_records(path, text)?
    };
    if seeds.is_empty() {
        return Err(ReadError::Empty {
            path: path.to_owned(),
        });
    }
    if seeds.len() > ANCHORS_PER_FILE_MAX {
        return Err(ReadError::TooMany {
            path: path.to_owned(),
        });
    }
    Ok(seeds)
}

/// A whole file, bounded.
pub(super) fn octets(path: &Path) -> Result<Vec<u8>, ReadError> {
    let mut octets = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets))
        .map_err(|source| ReadError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
    if octets.len() as u64 > FILE_OCTETS_MAX {
        return Err(ReadError::NotText {
            path: path.to_owned(),
        });
    }
    Ok(octets)
}

fn parse_records(path: &Path, text: &str) -> Result<Vec<Seed>, ReadError> {
    let mut seeds: Vec<Seed> = Vec::new();
    let mut fields: Vec<&str> = Vec::new();
    // The line in which an open parenthesis stands.
    let mut open = None;
    let mut first_line = 1;
    for (number, line) in (1..).zip(text.lines()) {
        let parentheses = || ReadError::Parentheses {
            path: path.to_owned(),
            line: number,
        };
        let (line, comment) = line.split_once(';').unwrap_or((line, ""));
        if !is_trusted_by_autotrust(comment) {
            return Err(ReadError::Record {
                path: path.to_owned(),
                line: number,
                fault: RecordError::Untrusted,
            });
        }
        if open.is_none() {
            first_line = number;
        }
        let mut rest = line;
        while let Some(at) = rest.find(['(', ')']) {
            let (before, after) = rest.split_at(at);
            fields.extend(before.split_ascii_whitespace());
            let opens = after.starts_with('(');
            if opens == open.is_some() {
                return Err(parentheses());
            }
            open = opens.then_some(number);
            rest = after.get(1..).unwrap_or("");
        }
        fields.extend(rest.split_ascii_whitespace());
        if open.is_some() || fields.is_empty() {
            continue;
        }
        let is_directive = fields
            .first()
            .is_some_and(|first| first.eq_ignore_ascii_case("$TTL") && fields.len() == 2);
        if !is_directive {
            let seed = parse_record(&fields).map_err(|fault| ReadError::Record {
                path: path.to_owned(),
                line: first_line,
                fault,
            })?;
            if seeds.len() > ANCHORS_PER_FILE_MAX {
                break;
            }
            if !seeds.contains(&seed) {
                seeds.push(seed);
            }
        }
        fields.clear();
    }
    match open {
        Some(line) => Err(ReadError::Parentheses {
            path: path.to_owned(),
            line,
        }),
        None => Ok(seeds),
    }
}

/// Reads `owner [TTL] [IN] type fields`, TTL and class in either order.
fn parse_record(fields: &[&str]) -> Result<Seed, RecordError> {
    let [owner, rest @ ..] = fields else {
        return Err(RecordError::NotARecord);
    };
    let is_word = |word: &str| {
        ["IN", "DS", "DNSKEY"]
            .iter()
            .any(|known| word.eq_ignore_ascii_case(known))
    };
    // A blank owner means the one before in zone files; guessing is not for trust anchors.
    if is_word(owner) || is_ttl(owner) {
        return Err(RecordError::Owner(shown(owner)));
    }
    let zone = Name::parse(owner).map_err(|_| RecordError::Owner(shown(owner)))?;
    let (mut ttl_seen, mut class_seen) = (false, false);
    let mut rest = rest;
    while let [word, after @ ..] = rest {
        if !ttl_seen && is_ttl(word) {
            ttl_seen = true;
        } else if !class_seen && word.eq_ignore_ascii_case("IN") {
            class_seen = true;
        } else {
            break;
        }
        rest = after;
    }
    let [rtype, rdata @ ..] = rest else {
        return Err(RecordError::NotARecord);
    };
    if !rtype.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
        return Err(RecordError::NotARecord);
    }
    Ok(Seed {
        zone,
        key: Key::parse(rtype, rdata)?,
        valid_from_s: None,
        valid_until_s: None,
    })
}

/// Unbound's own state file is made of records too, and says behind each in a comment which of
/// them it trusts: 2 is VALID and 3 is MISSING.
fn is_trusted_by_autotrust(comment: &str) -> bool {
    comment
        .split_once(";state=")
        .is_none_or(|(_, state)| state.starts_with(['2', '3']))
}

/// A TTL, `172800` or `2d`.
fn is_ttl(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit())
        && word
            .bytes()
            .all(|octet| octet.is_ascii_digit() || b"smhdwSMHDW".contains(&octet))
}
