//! Keys that are planned and ask for something this version cannot do. They are refused, never
//! ignored: a person who wrote `rebinding_protection = true` must not believe that it happens. Switching such
//! a thing off is accepted, so that a file says the same before and after the feature arrives.
//!
//! When a feature is built, its line here is deleted.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::Collector;

/// What may stand at a key whose feature is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Off {
    /// `false`.
    False,
    /// `[]`.
    EmptyList,
    /// This text.
    Text(&'static str),
}

/// Every key that is refused, and what may stand there.
pub(super) const UNBUILT: &[(&str, Off)] = &[
    ("record", Off::EmptyList),
    ("names.hosts", Off::EmptyList),
    ("names.rebinding_protection", Off::False),
    ("names.rebinding_allow", Off::EmptyList),
    ("admin.http", Off::EmptyList),
    ("log.queries", Off::Text("off")),
];

/// Whether the key at this path is planned and cannot be used yet.
pub(super) fn is_unbuilt(path: &str) -> bool {
    UNBUILT.iter().any(|(unbuilt, _)| *unbuilt == path)
}

/// Reports every key of [`UNBUILT`] that is not switched off. A value that was already found
/// wrong is left alone: its type comes first.
pub(super) fn refuse(root: &DeTable<'_>, problems: &mut Collector<'_>) {
    for (path, off) in UNBUILT {
        let mut asking = Vec::new();
        match path.split_once('.') {
            None => asking.extend(root.get(*path)),
            Some((table, key)) => match root.get(table).map(Spanned::get_ref) {
                Some(DeValue::Table(table)) => asking.extend(table.get(key)),
                Some(DeValue::Array(tables)) => asking.extend(
                    tables
                        .iter()
                        .filter_map(|table| table.get_ref().as_table()?.get(key)),
                ),
                _ => {}
            },
        }
        for value in asking {
            if !off.matches(value.get_ref()) {
                refuse_one(value.get_ref(), &value.span(), path, *off, problems);
            }
        }
    }
}

fn refuse_one(
    value: &DeValue<'_>,
    span: &Range<usize>,
    path: &str,
    off: Off,
    problems: &mut Collector<'_>,
) {
    // A [[table]] is refused once for each time it stands there, at its own line.
    if let DeValue::Array(tables) = value
        && tables.iter().all(|table| table.get_ref().is_table())
    {
        for table in tables {
            problems.add_first(&table.span(), path, "not built yet; remove the table");
        }
        return;
    }
    problems.add_first(span, path, format!("not built yet; {}", off.advice()));
}

impl Off {
    fn matches(self, value: &DeValue<'_>) -> bool {
        match (self, value) {
            (Self::False, DeValue::Boolean(flag)) => !flag,
            (Self::EmptyList, DeValue::Array(list)) => list.is_empty(),
            (Self::Text(off), DeValue::String(text)) => text == off,
            _ => false,
        }
    }

    fn advice(self) -> String {
        match self {
            Self::False => "remove the key or write false".to_owned(),
            Self::EmptyList => "remove the key or write []".to_owned(),
            Self::Text(text) => format!("remove the key or write \"{text}\""),
        }
    }
}
