//! The keeper's state as text: one line for each zone and each key, for people to read.
//!
//! ```text
//! truename-trust-anchors 1
//! passed 2026-11-20T08:00:00Z
//! zone . built-in 5e1f0c2d9a3b4c6d proved 2026-11-20T08:00:00Z next 2026-11-21T08:00:00Z
//! key valid since 2026-11-01T08:00:00Z until - built-in DS 38696 8 2 683D2D0A... ; 38696
//! end
//! ```
//!
//! A line that starts with `;` and everything behind a `;` is for the reader only. The last line
//! is `end`, so that a file cut short is not taken for a smaller one.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use thiserror::Error;

use crate::wire::Name;

use super::{
    keeper::{Keeper, TRUST_POINTS_MAX},
    key::{Key, RecordError, shown},
    point::{KEYS_PER_TRUST_POINT_MAX, Source, State, TrackedKey, TrustPoint},
    times,
};

/// The first line: what the file is, and the version of its form.
const FIRST_LINE: &str = "truename-trust-anchors 1";
const LAST_LINE: &str = "end";

/// Why text is no state. Whoever edited the file, or the disk, is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {fault}")]
pub struct StateError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: StateFault,
}

/// What is wrong with a line of a state file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StateFault {
    /// The first line is another: another file, or one of a later version.
    #[error("the file does not begin with `{FIRST_LINE}`")]
    FirstLine,
    /// The last line is missing.
    #[error("the file is cut short: its last line is not `{LAST_LINE}`")]
    CutShort,
    /// A line begins or goes on with a word that does not belong there.
    #[error("{0:?} does not belong here")]
    Word(String),
    /// A field is missing.
    #[error("the line is cut short")]
    Missing,
    /// A time is none.
    #[error("{0:?} is no time such as 2026-10-11T00:00:00Z")]
    Time(String),
    /// A zone stands twice, or a key stands before any zone.
    #[error("the zone stands twice, or is missing")]
    Zone,
    /// More zones or keys than are ever written.
    #[error("too many zones or keys")]
    TooMany,
    /// A key's record cannot be understood.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Keeper {
    /// The state as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{FIRST_LINE}\n\
             ; The trust anchors that truename keeps (RFC 5011). It writes this file itself;\n\
             ; `truename anchors show` explains it. Without it, it starts from the anchors\n\
             ; written down in the configuration, else from those built in.\n\
             passed {}\n",
            times::to_text(self.last_s)
        );
        for (zone, point) in &self.points {
            let proved = point.proved_s.map_or("never".to_owned(), times::to_text);
            let _ = writeln!(
                text,
                "zone {zone} {} {} proved {proved} next {}",
                point.source.label(),
                HEXLOWER.encode(&point.seeded_by),
                times::to_text(point.next_query_s),
            );
            for tracked in &point.keys {
                let until = tracked
                    .state
                    .until_s()
                    .map_or("-".to_owned(), times::to_text);
                let _ = writeln!(
                    text,
                    "key {} since {} until {until} {} {} ; {}",
                    tracked.state.label(),
                    times::to_text(tracked.since_s),
                    tracked.source.label(),
                    tracked.key,
                    tracked.key.tag(),
                );
            }
        }
        text.push_str(LAST_LINE);
        text.push('\n');
        text
    }

    /// Reads what [`Keeper::to_text`] wrote. `floor_s` as for [`Keeper::new`].
    ///
    /// # Errors
    /// The line that is wrong, and why.
    pub fn from_text(text: &str, floor_s: u64) -> Result<Self, StateError> {
        let mut keeper = Self::new(floor_s);
        let mut lines = (1..).zip(text.lines());
        let at = |line, fault| StateError { line, fault };
        match lines.next() {
            Some((_, first)) if first.trim_end() == FIRST_LINE => {}
            _ => return Err(at(1, StateFault::FirstLine)),
        }
        let mut zone = None;
        let mut last = 1;
        for (number, line) in lines {
            last = number;
            let line = line.split(';').next().unwrap_or("").trim();
            if line == LAST_LINE {
                return Ok(keeper);
            }
            if !line.is_empty() {
                keeper
                    .take_line(line, &mut zone)
                    .map_err(|fault| at(number, fault))?;
            }
        }
        Err(at(last, StateFault::CutShort))
    }

    fn take_line(&mut self, line: &str, zone: &mut Option<Name>) -> Result<(), StateFault> {
        let mut words = Words(line.split_ascii_whitespace());
        match words.next()? {
            "passed" => {
                self.last_s = words.time()?;
                words.end()
            }
            "zone" => {
                let (name, point) = read_zone(&mut words)?;
                words.end()?;
                if self.points.len() >= TRUST_POINTS_MAX {
                    return Err(StateFault::TooMany);
                }
                if self.points.insert(name.clone(), point).is_some() {
                    return Err(StateFault::Zone);
                }
                *zone = Some(name);
                Ok(())
            }
            "key" => {
                let point = zone
                    .as_ref()
                    .and_then(|zone| self.points.get_mut(zone))
                    .ok_or(StateFault::Zone)?;
                if point.keys.len() >= KEYS_PER_TRUST_POINT_MAX {
                    return Err(StateFault::TooMany);
                }
                point.keys.push(read_key(&mut words)?);
                Ok(())
            }
            other => Err(StateFault::Word(shown(other))),
        }
    }
}

fn read_zone(words: &mut Words<'_>) -> Result<(Name, TrustPoint), StateFault> {
    let owner = words.next()?;
    let name = Name::parse(owner).map_err(|_| RecordError::Owner(shown(owner)))?;
    let source = words.source()?;
    let digest = words.next()?;
    let seeded_by = HEXLOWER
        .decode(digest.as_bytes())
        .ok()
        .and_then(|octets| octets.try_into().ok())
        .ok_or_else(|| StateFault::Word(shown(digest)))?;
    words.expect("proved")?;
    let proved_s = match words.next()? {
        "never" => None,
        text => Some(time(text)?),
    };
    words.expect("next")?;
    let mut point = TrustPoint::new(source, seeded_by, words.time()?);
    point.proved_s = proved_s;
    Ok((name, point))
}

fn read_key(words: &mut Words<'_>) -> Result<TrackedKey, StateFault> {
    let label = words.next()?;
    words.expect("since")?;
    let since_s = words.time()?;
    words.expect("until")?;
    let until = words.next()?;
    let state = match label {
        "pending" => State::Pending {
            until_s: time(until)?,
        },
        "revoked" => State::Revoked {
            until_s: time(until)?,
        },
        "valid" => State::Valid,
        "missing" => State::Missing,
        "removed" => State::Removed,
        other => return Err(StateFault::Word(shown(other))),
    };
    if state.until_s().is_none() && until != "-" {
        return Err(StateFault::Word(shown(until)));
    }
    let source = words.source()?;
    let rtype = words.next()?;
    let fields: Vec<&str> = words.0.by_ref().collect();
    // A dead key is only compared, never trusted, and need not be fit for it.
    let key = if state.is_dead() {
        Key::parse_any(rtype, &fields)?
    } else {
        Key::parse(rtype, &fields)?
    };
    Ok(TrackedKey {
        key,
        state,
        since_s,
        source,
    })
}

fn time(text: &str) -> Result<u64, StateFault> {
    times::from_text(text).ok_or_else(|| StateFault::Time(shown(text)))
}

/// The words of a line.
struct Words<'a>(std::str::SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Result<&'a str, StateFault> {
        self.0.next().ok_or(StateFault::Missing)
    }

    fn time(&mut self) -> Result<u64, StateFault> {
        time(self.next()?)
    }

    fn expect(&mut self, word: &str) -> Result<(), StateFault> {
        match self.next()? {
            next if next == word => Ok(()),
            other => Err(StateFault::Word(shown(other))),
        }
    }

    fn source(&mut self) -> Result<Source, StateFault> {
        let word = self.next()?;
        [Source::BuiltIn, Source::Configured, Source::Learned]
            .into_iter()
            .find(|source| source.label() == word)
            .ok_or_else(|| StateFault::Word(shown(word)))
    }

    fn end(&mut self) -> Result<(), StateFault> {
        match self.0.next() {
            None => Ok(()),
            Some(word) => Err(StateFault::Word(shown(word))),
        }
    }
}
