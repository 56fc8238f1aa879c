//! The keeper of trust anchors at work: seeds at start, a look at the zones' keys when it is due,
//! the state file, and the validator's settings (RFC 5011).

use std::{collections::HashMap, fs, path::PathBuf, sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::Parts;

use crate::{
    anchors::{self, Change, Event, Keeper, ReadError, STATE_FILE, Source, store},
    clock,
    config::Settings,
    dnssec, resolver,
    upstream::{Exchange as _, Upstreams},
    wire::{CLASS_IN, Name, Question, Response, rtype},
};

/// The longest sleep between two looks at the schedule: the wall clock may be set meanwhile.
const LOOK_MAX: Duration = Duration::from_secs(3600);
/// The shortest, so that a zone that cannot be reached is not asked in a loop.
const LOOK_MIN: Duration = Duration::from_secs(60);
/// A route with `dnssec = "off"` is a negative trust anchor that does not end.
const FOR_GOOD: u64 = u64::MAX;
/// How long the keys of one zone may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// The anchors of this process.
pub(super) struct AnchorKeeper {
    keeper: Keeper,
    state_file: PathBuf,
    /// The operator's part of the validator's settings.
    base: dnssec::Settings,
    /// What was last said about writing the state file.
    complained: Option<String>,
}

impl AnchorKeeper {
    /// Reads the state file and the anchors written down, and keeps the state from now on.
    pub(super) fn start(settings: &Settings) -> Result<Self, ReadError> {
        let mut started = Self::read(settings)?;
        // Failing to make the directory shows when the file is written.
        let _ = fs::create_dir_all(&settings.state_directory);
        started.save();
        Ok(started)
    }

    /// Reads the state file and the anchors written down.
    fn read(settings: &Settings) -> Result<Self, ReadError> {
        let state_file = settings.state_directory.join(STATE_FILE);
        let keeper = match store::load(&state_file, clock::FLOOR_UNIX_S) {
            Ok(keeper) => keeper,
            Err(error) => {
                warn!("{error}; meanwhile the anchors written down are used");
                None
            }
        };
        let mut read = Self {
            keeper: keeper.unwrap_or_else(|| Keeper::new(clock::FLOOR_UNIX_S)),
            state_file,
            base: base(settings),
            complained: None,
        };
        read.seed(settings)?;
        Ok(read)
    }

    /// Takes changed settings; what was there stays when a file cannot be read.
    fn apply(&mut self, settings: &Settings) -> Result<(), ReadError> {
        self.seed(settings)?;
        self.base = base(settings);
        Ok(())
    }

    fn seed(&mut self, settings: &Settings) -> Result<(), ReadError> {
        let files = &settings.dnssec.trust_anchors;
        let (seeds, source) = if files.is_empty() {
            (anchors::built_in(), Source::BuiltIn)
        } else {
            let mut seeds = Vec::new();
            for file in files {
                seeds.extend(anchors::read(file)?);
            }
            (seeds, Source::Configured)
        };
        let changes = self.keeper.seed(&seeds, source, clock::unix_s());
        Self::note(&changes);
        Ok(())
    }

    /// Its part of the receipt: `validating, anchors 20326 38696`.
    pub(super) fn describe(&self) -> String {
        let tags: Vec<String> = self.root_tags().iter().map(u16::to_string).collect();
        format!("validating, anchors {}", tags.join(" "))
    }

    /// The settings for the validator.
    pub(super) fn settings(&self) -> dnssec::Settings {
        dnssec::Settings {
            anchors: self.keeper.anchors(),
            ..self.base.clone()
        }
    }

    /// The tags of the root's anchors, ascending.
    fn root_tags(&self) -> Vec<u16> {
        let anchors = self.keeper.anchors();
        let root = anchors.get(&Name::root()).into_iter().flatten();
        let mut tags: Vec<u16> = root.map(|ds| ds.key_tag).collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// How long until a zone's keys are to be looked at.
    fn wait(&self) -> Duration {
        let now_s = clock::unix_s();
        let due = self
            .keeper
            .points()
            .filter_map(|(zone, _)| self.keeper.next_query_s(zone))
            .min();
        due.map_or(LOOK_MAX, |due| {
            Duration::from_secs(due.saturating_sub(now_s))
        })
        .clamp(LOOK_MIN, LOOK_MAX)
    }

    /// Asks for the keys of every zone that is due and gives what follows to the validator.
    async fn look(&mut self, upstreams: &Upstreams, shared: &resolver::Shared) {
        let now_s = clock::unix_s();
        let due: Vec<Name> = self
            .keeper
            .points()
            .map(|(zone, _)| zone.clone())
            .filter(|zone| {
                self.keeper
                    .next_query_s(zone)
                    .is_some_and(|due| due <= now_s)
            })
            .collect();
        if due.is_empty() {
            return;
        }
        let before = self.keeper.anchors();
        for zone in due {
            self.look_at(&zone, upstreams).await;
        }
        if self.keeper.anchors() != before {
            shared.apply_dnssec(Some(self.settings()));
        }
        self.save();
    }

    async fn look_at(&mut self, zone: &Name, upstreams: &Upstreams) {
        let question = Question {
            name: zone.clone(),
            qtype: rtype::DNSKEY,
            qclass: CLASS_IN,
        };
        let deadline = clock::instant() + PATIENCE;
        let exchanged = upstreams.exchange(&question, deadline, None).await;
        let response = exchanged
            .ok()
            .and_then(|exchanged| Response::parse(&exchanged.octets).ok());
        let Some(response) = response else {
            debug!(%zone, "the zone's keys could not be fetched");
            self.keeper.failed(zone, clock::unix_s());
            return;
        };
        let settings = self.settings();
        match self
            .keeper
            .observe(zone, &response, &settings, clock::unix_s())
        {
            Ok(changes) => Self::note(&changes),
            Err(error) => debug!(%zone, %error, "the zone's keys change nothing"),
        }
    }

    fn note(changes: &[Change]) {
        for change in changes {
            if change.event == Event::Seeded {
                // The receipt names the anchors; this is no news.
                debug!("trust anchors: {change}");
            } else if change.event.is_alarm() {
                error!("trust anchors: {change}");
            } else {
                info!("trust anchors: {change}");
            }
        }
    }

    /// Writes the state file; failing is said once for each reason.
    fn save(&mut self) {
        match store::save(&self.state_file, &self.keeper) {
            Ok(()) => self.complained = None,
            Err(error) => {
                let text = error.to_string();
                if self.complained.as_ref() != Some(&text) {
                    warn!("{text}");
                    self.complained = Some(text);
                }
            }
        }
    }
}

/// The validator's settings as a start would find them. Writes nothing.
///
/// # Errors
/// When a file with anchors cannot be read.
pub fn validator_settings(settings: &Settings) -> Result<dnssec::Settings, ReadError> {
    AnchorKeeper::read(settings).map(|keeper| keeper.settings())
}

/// What the operator decides, without anchors.
fn base(settings: &Settings) -> dnssec::Settings {
    let dnssec = &settings.dnssec;
    dnssec::Settings {
        anchors: HashMap::new(),
        negative_trust_anchors: dnssec
            .negative_trust_anchors
            .iter()
            .cloned()
            .chain(
                dnssec
                    .unvalidated_zones
                    .iter()
                    .map(|zone| (zone.clone(), FOR_GOOD)),
            )
            .collect(),
        private_zones: dnssec.private_zones.iter().cloned().collect(),
        sha1: dnssec.sha1,
        skew_s: u32::try_from(dnssec.skew.as_secs()).unwrap_or(u32::MAX),
    }
}

/// Whether the files with anchors can be read, so that settings can be refused as a whole.
pub(super) fn check(settings: &Settings) -> Result<(), ReadError> {
    let mut files = settings.dnssec.trust_anchors.iter();
    files.try_for_each(|file| anchors::read(file).map(drop))
}

/// Keeps the anchors for as long as truename runs: follows the zones' keys and the settings.
pub(super) async fn keep(mut keeper: AnchorKeeper, mut parts: Parts) {
    let mut current = parts.settings.borrow_and_update().dnssec.clone();
    loop {
        tokio::select! {
            changed = parts.settings.changed() => {
                if changed.is_err() {
                    return;
                }
                let new = Arc::clone(&parts.settings.borrow_and_update());
                if new.dnssec == current {
                    continue;
                }
                current = new.dnssec.clone();
                if let Err(error) = keeper.apply(&new) {
                    warn!("the trust anchors stay as they were: {error}");
                }
                keeper.save();
                let settings = current.validate.then(|| keeper.settings());
                parts.resolver.apply_dnssec(settings);
            }
            () = sleep(keeper.wait()) => {
                // No timer moves by a clock that is wrong (RFC 5011 counts in days).
                if current.validate && !parts.resolver.is_clock_cold() {
                    let asked = parts.upstreams.borrow_and_update().for_worker();
                    keeper.look(&asked, &parts.resolver).await;
                }
            }
        }
    }
}
