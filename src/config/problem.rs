//! What is wrong with a configuration, and where.

use std::{
    fmt, mem,
    ops::Range,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// The most problems shown of one file: a person repairs a screenful at a time, and a file that is
/// no configuration at all must not fill the terminal.
pub const PROBLEMS_MAX: usize = 20;

/// One thing that is wrong, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// The key it is about, such as `cache.size`; empty when it is about no key.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Where a problem stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the configuration file; line and column count from 1, columns in characters.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// On the command line, after this flag.
    Flag(&'static str),
    /// In a default: our fault, or the surroundings'.
    Default,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, line, column } => {
                write!(f, "{}:{line}:{column}: ", path.display())?;
            }
            Place::Flag(flag) => write!(f, "{flag}: ")?,
            Place::Default => {}
        }
        if self.key.is_empty() || matches!(self.place, Place::Flag(_)) {
            f.write_str(&self.message)
        } else {
            write!(f, "`{}`: {}", self.key, self.message)
        }
    }
}

/// Everything that is wrong with one configuration, in the order of the file. Never empty.
///
/// Displays one problem per line, at most [`PROBLEMS_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(PROBLEMS_MAX).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        match self.0.len().checked_sub(PROBLEMS_MAX) {
            Some(more @ 1..) => write!(f, "\nand {more} more"),
            _ => Ok(()),
        }
    }
}

/// Collects the problems of one file.
#[derive(Debug)]
pub(super) struct Collector<'a> {
    path: &'a Path,
    text: &'a str,
    found: Vec<Problem>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self {
            path,
            text,
            found: Vec::new(),
        }
    }

    /// Notes a problem with what stands at `span`, octets of the text.
    pub(super) fn add(&mut self, span: &Range<usize>, key: &str, message: impl Into<String>) {
        self.add_at(self.place(span.start), key, message);
    }

    /// As [`Collector::add`], unless something was already found wrong at the same place.
    pub(super) fn add_first(&mut self, span: &Range<usize>, key: &str, message: impl Into<String>) {
        let place = self.place(span.start);
        if self.found.iter().all(|problem| problem.place != place) {
            self.add_at(place, key, message);
        }
    }

    /// Notes a problem with a value that was given at `place`.
    pub(super) fn add_at(&mut self, place: Place, key: &str, message: impl Into<String>) {
        self.found.push(Problem {
            place,
            key: key.to_owned(),
            message: message.into(),
        });
    }

    /// Line and column of the octet at `offset`.
    pub(super) fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place::File {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or("").chars().count() + 1,
        }
    }

    /// What was found, in the order of the file; `Ok` when nothing was.
    pub(super) fn finish(&mut self) -> Result<(), Problems> {
        let mut found = mem::take(&mut self.found);
        if found.is_empty() {
            return Ok(());
        }
        found.sort_by_key(|problem| match problem.place {
            Place::File { line, column, .. } => (line, column),
            Place::Flag(_) | Place::Default => (usize::MAX, usize::MAX),
        });
        Err(Problems(found))
    }
}
