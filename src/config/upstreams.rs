//! From upstreams as written to the upstream room's settings.

use super::{
    problem::{Collector, Place},
    settings::UpstreamEntry,
    table::Written,
};
use crate::upstream::{self, Overrides, UpstreamSettings, UrlError};

/// An upstream as written, still to be checked.
pub(super) struct Draft {
    pub(super) entry: UpstreamEntry,
    pub(super) places: Places,
}

/// Where the keys of one upstream stand.
pub(super) struct Places {
    url: Place,
    others: Vec<(&'static str, Place)>,
}

impl Places {
    pub(super) fn new(url: Place) -> Self {
        Self {
            url,
            others: Vec::new(),
        }
    }

    /// Remembers where `key` stands, if it does.
    pub(super) fn note<T>(
        &mut self,
        key: &'static str,
        written: Option<&Written<T>>,
        problems: &Collector<'_>,
    ) {
        let place = written.map(|written| problems.place(written.span.start));
        self.others.extend(place.map(|place| (key, place)));
    }

    /// Where to point to for a problem with `key`: itself, or the URL when it is not there.
    fn of(&self, key: &str) -> Place {
        self.others
            .iter()
            .find(|(other, _)| *other == key)
            .map_or(&self.url, |(_, place)| place)
            .clone()
    }
}

/// Checks every upstream. Returned are the settings and the entries they came from, pairwise; an
/// upstream with a problem is in neither.
pub(super) fn all(
    drafts: Vec<Draft>,
    problems: &mut Collector<'_>,
) -> (Vec<UpstreamSettings>, Vec<UpstreamEntry>) {
    let mut checked: Vec<UpstreamSettings> = Vec::new();
    let mut kept = Vec::new();
    for Draft { entry, places } in drafts {
        let settings = match one(&entry) {
            Ok(settings) => settings,
            Err(error) => {
                let key = error.key();
                let path = format!("upstream.{key}");
                problems.add_at(places.of(key), &path, error.to_string());
                continue;
            }
        };
        if checked.iter().any(|other| other.name == settings.name) {
            let message = match places.url {
                Place::Flag(_) => format!("{:?} is given twice; remove one", entry.url),
                _ => format!(
                    "another upstream is already called {:?}; give this one a `name` of its own",
                    settings.name
                ),
            };
            problems.add_at(places.of("name"), "upstream.name", message);
            continue;
        }
        checked.push(settings);
        kept.push(entry);
    }
    (checked, kept)
}

fn one(entry: &UpstreamEntry) -> Result<UpstreamSettings, UrlError> {
    let settings = upstream::parse(
        &entry.url,
        Overrides {
            name: entry.name.clone(),
            server_name: entry.server_name.clone(),
            addresses: entry.addresses.clone(),
            ca: Vec::new(), // read later, see `Settings::read_files`
            pins: entry.pins.clone(),
            weight: entry.weight,
        },
    )?;
    if entry.ca.is_some() && !settings.transport.is_encrypted() {
        return Err(UrlError::NotEncrypted {
            key: "ca",
            scheme: settings.transport.label(),
        });
    }
    Ok(settings)
}
