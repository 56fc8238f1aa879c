//! One table of the file: takes keys out by name and type, and at the end knows which were not
//! asked for. Every problem found carries the place of the value it is about.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{problem::Collector, unbuilt};

/// The most elements of one list: a list of addresses or networks beyond this is a mistake, and
/// every element costs a check.
const LIST_MAX: usize = 1024;

/// How alike two keys must be (Jaro-Winkler, 1 is equal) for one to be offered for the other.
const ALIKE: f64 = 0.85;

/// A value and the octets of the text it came from.
#[derive(Clone, Debug)]
pub(super) struct Written<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// A table being read. Created by [`Table::root`] and [`Table::table`], ended by
/// [`Table::finish`].
pub(super) struct Table<'t, 'c, 'x> {
    /// `None` for a table that is not in the file: every key of it is absent.
    keys: Option<&'t DeTable<'t>>,
    /// `""` for the whole file, else the path with a dot behind it.
    prefix: String,
    known: Vec<&'static str>,
    problems: &'c mut Collector<'x>,
}

impl<'t, 'c, 'x> Table<'t, 'c, 'x> {
    pub(super) fn root(table: &'t DeTable<'t>, problems: &'c mut Collector<'x>) -> Self {
        Self {
            keys: Some(table),
            prefix: String::new(),
            known: Vec::new(),
            problems,
        }
    }

    fn take(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.keys?.get(key)
    }

    fn problem(&mut self, span: &Range<usize>, key: &str, message: impl Into<String>) {
        let path = format!("{}{key}", self.prefix);
        self.problems.add(span, &path, message);
    }

    /// A text that `read` turns into a value. `example` is shown when it is no text.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Written<T>> {
        let value = self.take(key)?;
        self.read_text(key, value, example, read)
    }

    fn read_text<T>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Written<T>> {
        let span = value.span();
        let outcome = match value.get_ref() {
            DeValue::String(text) => read(text),
            other => Err(format!(
                "is {}, but must be text; write it like \"{example}\"",
                kind(other)
            )),
        };
        match outcome {
            Ok(value) => Some(Written { value, span }),
            Err(message) => {
                self.problem(&span, key, message);
                None
            }
        }
    }

    /// A list of texts.
    pub(super) fn texts<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<Written<T>>> {
        let value = self.take(key)?;
        let DeValue::Array(list) = value.get_ref() else {
            let example = match value.get_ref() {
                DeValue::String(text) => text,
                _ => example,
            };
            let message = format!(
                "is {}, but must be a list; write it like [\"{example}\"]",
                kind(value.get_ref())
            );
            self.problem(&value.span(), key, message);
            return None;
        };
        if list.len() > LIST_MAX {
            let message = format!("has {} elements; at most {LIST_MAX} are taken", list.len());
            self.problem(&value.span(), key, message);
            return None;
        }
        let mut read_all = Vec::new();
        for element in list {
            read_all.extend(self.read_text(key, element, example, &read));
        }
        Some(read_all)
    }

    /// A text with a unit, or a whole number without: sizes.
    pub(super) fn size(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<u64, String>,
    ) -> Option<Written<u64>> {
        if let Some(DeValue::Integer(_)) =
            self.keys.and_then(|table| Some(table.get(key)?.get_ref()))
        {
            return self.count(key, u64::MAX);
        }
        self.text(key, "32MiB", read)
    }

    /// A whole number from 0 to `max`.
    pub(super) fn count(&mut self, key: &'static str, max: u64) -> Option<Written<u64>> {
        let value = self.take(key)?;
        let span = value.span();
        let number = match value.get_ref() {
            DeValue::Integer(number) => {
                u64::from_str_radix(&number.as_str().replace('_', ""), number.radix())
                    .ok()
                    .filter(|number| *number <= max)
                    .ok_or_else(|| format!("must be a whole number from 0 to {max}"))
            }
            other => Err(format!(
                "is {}, but must be a whole number without quotes",
                kind(other)
            )),
        };
        match number {
            Ok(value) => Some(Written { value, span }),
            Err(message) => {
                self.problem(&span, key, message);
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<Written<bool>> {
        let value = self.take(key)?;
        let span = value.span();
        if let DeValue::Boolean(value) = *value.get_ref() {
            return Some(Written { value, span });
        }
        let message = format!(
            "is {}, but must be true or false, without quotes",
            kind(value.get_ref())
        );
        self.problem(&span, key, message);
        None
    }

    /// The table `[key]`, read by `read`; one that is absent is read as empty.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Table<'t, '_, 'x>) -> T,
    ) -> T {
        let table = self.take(key).and_then(|value| match value.get_ref() {
            DeValue::Table(table) => Some(table),
            other => {
                let message = format!("is {}, but must be a table; write [{key}]", kind(other));
                self.problem(&value.span(), key, message);
                None
            }
        });
        self.read_table(key, table, read)
    }

    /// Every table `[[key]]`, read by `read`, with the span of each.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Table<'t, '_, 'x>) -> T,
    ) -> Vec<Written<T>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let DeValue::Array(list) = value.get_ref() else {
            let message = format!(
                "is {}, but must be a list of tables; write [[{key}]]",
                kind(value.get_ref())
            );
            self.problem(&value.span(), key, message);
            return Vec::new();
        };
        if list.len() > LIST_MAX {
            let message = format!("stands {} times; at most {LIST_MAX} are taken", list.len());
            self.problem(&value.span(), key, message);
            return Vec::new();
        }
        let mut all = Vec::new();
        for element in list {
            if let DeValue::Table(table) = element.get_ref() {
                all.push(Written {
                    value: self.read_table(key, Some(table), &mut read),
                    span: element.span(),
                });
            } else {
                let message = format!(
                    "is {}, but must be a table; write [[{key}]]",
                    kind(element.get_ref())
                );
                self.problem(&element.span(), key, message);
            }
        }
        all
    }

    fn read_table<T>(
        &mut self,
        key: &str,
        table: Option<&'t DeTable<'t>>,
        read: impl FnOnce(&mut Table<'t, '_, 'x>) -> T,
    ) -> T {
        let mut inner = Table {
            keys: table,
            prefix: format!("{}{key}.", self.prefix),
            known: Vec::new(),
            problems: &mut *self.problems,
        };
        let value = read(&mut inner);
        inner.finish();
        value
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(mut self) {
        let Some(table) = self.keys else { return };
        for key in table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let message = match nearest(name, &self.known) {
                Some(alike) => format!("unknown key; did you mean `{}{alike}`?", self.prefix),
                None => format!("unknown key; known here: {}", self.usable().join(", ")),
            };
            let path = format!("{}{name}", self.prefix);
            self.problems.add(&key.span(), &path, message);
        }
        self.known.clear();
    }

    /// The keys that were asked for, without those that would be refused.
    fn usable(&self) -> Vec<&'static str> {
        let known = self.known.iter().copied();
        known
            .filter(|key| !unbuilt::is_unbuilt(&format!("{}{key}", self.prefix)))
            .collect()
    }
}

/// The key among `known` that `name` was probably meant to be: one that it shortens word by word,
/// else the most alike.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    if let Some(whole) = known.iter().find(|key| shortens(name, key)) {
        return Some(whole);
    }
    known
        .iter()
        .map(|key| (strsim::jaro_winkler(name, key), *key))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, key)| key)
}

/// Whether `name` is `key` with its words cut short, as `max_neg_ttl` is of `max_negative_ttl`.
fn shortens(name: &str, key: &str) -> bool {
    let words = name.split('_').count();
    words == key.split('_').count()
        && name
            .split('_')
            .zip(key.split('_'))
            .all(|(short, long)| !short.is_empty() && long.starts_with(short))
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
