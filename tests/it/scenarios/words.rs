//! One line of a scenario as words, read from left to right.

use std::str::FromStr;

use crate::lab::{name::Name, rdata::type_number};

/// The words of a line that are not read yet.
pub(super) struct Words<'a>(std::vec::IntoIter<&'a str>);

impl<'a> Words<'a> {
    /// Splits a line; what stands behind a semicolon is a comment.
    pub(super) fn of(line: &'a str) -> Self {
        let text = line.split(';').next().unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        Self(words.into_iter())
    }

    /// The next word; `what` says what it should have been when there is none.
    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| format!("{what} is missing"))
    }

    /// The next word, if there is one.
    pub(super) fn optional(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    pub(super) fn name(&mut self) -> Result<Name, String> {
        Ok(Name::parse(self.word("a name")?))
    }

    pub(super) fn rtype(&mut self) -> Result<u16, String> {
        Ok(type_number(self.word("a type")?))
    }

    /// Takes the words up to `stop`, which is left out, or to the end.
    pub(super) fn until(&mut self, stop: &str) -> Vec<&'a str> {
        self.0.by_ref().take_while(|word| *word != stop).collect()
    }

    /// Takes all that are left.
    pub(super) fn rest(&mut self) -> Vec<&'a str> {
        self.0.by_ref().collect()
    }

    /// Complains about a word too many.
    pub(super) fn end(&mut self) -> Result<(), String> {
        match self.0.next() {
            None => Ok(()),
            Some(word) => Err(format!("{word} is one word too many")),
        }
    }
}

/// Reads a number, or whatever else reads from text.
pub(super) fn read<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{text} cannot be understood"))
}

/// The number of an rcode.
pub(super) fn rcode(text: &str) -> Result<u16, String> {
    let rcodes = [
        ("NOERROR", 0),
        ("FORMERR", 1),
        ("SERVFAIL", 2),
        ("NXDOMAIN", 3),
        ("NOTIMP", 4),
        ("REFUSED", 5),
        ("YXDOMAIN", 6),
    ];
    let found = rcodes.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, number)| *number)
        .ok_or_else(|| format!("{text} is no rcode"))
}
