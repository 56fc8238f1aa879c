//! `truename anchors`: the keys from which answers are proved.

use std::io::Write;

use serde_json::{Value, json};

use super::{CommandError, ExitStatus, arguments::AnchorsShow, load, write_json};
use crate::{
    anchors::{
        self, Keeper, STATE_FILE, Source, State, TrackedKey, TrustPoint, built_in, store, time_text,
    },
    clock,
    config::{Settings, Surroundings},
    wire::Name,
};

/// Shows the anchors in force: those of the state file, else those a first start begins with.
pub(super) fn show(
    arguments: AnchorsShow,
    surroundings: &Surroundings,
    out: &mut dyn Write,
) -> Result<ExitStatus, CommandError> {
    let settings = load(arguments.config, surroundings)?;
    let path = settings.state_directory.join(STATE_FILE);
    let stored = store::load(&path, clock::FLOOR_UNIX_S)?;
    let is_stored = stored.is_some();
    let keeper = match stored {
        Some(keeper) => keeper,
        None => seeded(&settings)?,
    };
    let path = path.display();
    if arguments.json {
        let zones: Vec<Value> = keeper
            .points()
            .map(|(zone, point)| zone_json(zone, point, is_stored))
            .collect();
        let value = json!({
            "state_file": path.to_string(),
            "stored": is_stored,
            "zones": zones,
        });
        write_json(out, &value)?;
        return Ok(ExitStatus::Success);
    }
    if is_stored {
        writeln!(out, "trust anchors of {path}")?;
    } else {
        let origin = if settings.dnssec.trust_anchors.is_empty() {
            "built in"
        } else {
            "configured"
        };
        writeln!(
            out,
            "trust anchors that are {origin}; {path} is written at the first start that validates"
        )?;
    }
    for (zone, point) in keeper.points() {
        write_zone(out, zone, point, is_stored)?;
    }
    Ok(ExitStatus::Success)
}

/// What a first start begins with.
fn seeded(settings: &Settings) -> Result<Keeper, CommandError> {
    let files = &settings.dnssec.trust_anchors;
    let (seeds, source) = if files.is_empty() {
        (built_in(), Source::BuiltIn)
    } else {
        let mut seeds = Vec::new();
        for file in files {
            seeds.extend(anchors::read(file)?);
        }
        (seeds, Source::Configured)
    };
    let mut keeper = Keeper::new(clock::FLOOR_UNIX_S);
    keeper.seed(&seeds, source, clock::unix_s());
    Ok(keeper)
}

fn write_zone(
    out: &mut dyn Write,
    zone: &Name,
    point: &TrustPoint,
    is_stored: bool,
) -> Result<(), CommandError> {
    write!(out, "\nzone {zone}")?;
    if is_stored {
        match point.proved_s {
            Some(proved_s) => write!(out, ", keys last proved {}", time_text(proved_s))?,
            None => write!(out, ", keys not proved yet")?,
        }
        write!(out, ", asked again {}", time_text(point.next_query_s))?;
    }
    writeln!(out)?;
    if !point.is_trusted() {
        writeln!(
            out,
            "  no key is trusted: everything in this zone is bogus; write down a new trust anchor"
        )?;
    }
    for tracked in &point.keys {
        write!(
            out,
            "  {:>5} algorithm {:<2} {:<7} ",
            tracked.key.tag(),
            tracked.key.algorithm(),
            tracked.state.label(),
        )?;
        if is_stored {
            write!(out, "since {} ", time_text(tracked.since_s))?;
        }
        writeln!(out, "{:<10} {}", tracked.source.label(), next(tracked))?;
    }
    Ok(())
}

/// What the state means, and when it ends.
fn next(tracked: &TrackedKey) -> String {
    match tracked.state {
        State::Pending { until_s } => format!(
            "not trusted before {}, and then if still in the zone",
            time_text(until_s)
        ),
        State::Valid => "trusted".to_owned(),
        State::Missing => "trusted, though the zone does not have it now".to_owned(),
        State::Revoked { until_s } => format!(
            "never trusted again; removed {} if not seen before",
            time_text(until_s)
        ),
        State::Removed => "never trusted again".to_owned(),
    }
}

fn zone_json(zone: &Name, point: &TrustPoint, is_stored: bool) -> Value {
    let stored = |unix_s| is_stored.then(|| time_text(unix_s));
    let keys: Vec<Value> = point
        .keys
        .iter()
        .map(|tracked| {
            json!({
                "key_tag": tracked.key.tag(),
                "algorithm": tracked.key.algorithm(),
                "state": tracked.state.label(),
                "trusted": tracked.state.is_trusted(),
                "since": stored(tracked.since_s),
                "until": tracked.state.until_s().map(time_text),
                "source": tracked.source.label(),
                "record": format!("{zone} IN {}", tracked.key),
            })
        })
        .collect();
    json!({
        "zone": zone.to_string(),
        "trusted": point.is_trusted(),
        "proved": point.proved_s.map(time_text),
        "next_query": stored(point.next_query_s),
        "keys": keys,
    })
}
