//! The keeper of trust anchors at work: seeds at start, a look at the zones' keys when it is due,
//! the state file, and the validator's settings (RFC 5011).

use std::{collections::HashMap, fs, path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tracing::{debug, error, info, warn};

use super::{Parts, complaint::Complaint};

use crate::{
    admin,
    anchors::{self, Change, Event, Keeper, ReadError, STATE_FILE, Seed, Source, store},
    clock,
    config::Settings,
    dnssec,
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
    complaint: Complaint,
    /// How the anchors stand, for whoever shows them.
    shown: watch::Sender<Vec<admin::Anchor>>,
}

impl AnchorKeeper {
    /// Reads the state file, takes the anchors written down, and makes the state directory. What
    /// is new is on disk after the first [`Self::save`].
    pub(super) fn start(settings: &Settings, seeds: &Seeds) -> Self {
        let started = Self::read(settings, seeds);
        // Failing to make the directory shows when the file is written.
        let _ = fs::create_dir_all(&settings.state_directory);
        started
    }

    /// Reads the state file and takes the anchors written down.
    fn read(settings: &Settings, seeds: &Seeds) -> Self {
        let state_file = settings.state_directory.join(STATE_FILE);
        let keeper = match store::load(&state_file, clock::FLOOR_UNIX_S) {
            Ok(keeper) => keeper,
            Err(error) => {
                warn!(
                    "{error}; meanwhile those of dnssec.trust_anchors are used, or else those built in"
                );
                None
            }
        };
        let mut read = Self {
            keeper: keeper.unwrap_or_else(|| Keeper::new(clock::FLOOR_UNIX_S)),
            state_file,
            base: base(settings),
            complaint: Complaint::default(),
            shown: watch::Sender::default(),
        };
        read.seed(seeds);
        read
    }

    /// Takes changed settings and anchors written down.
    fn apply(&mut self, settings: &Settings, seeds: &Seeds) {
        self.seed(seeds);
        self.base = base(settings);
        self.save();
    }

    fn seed(&mut self, seeds: &Seeds) {
        let now_s = clock::unix_s();
        let changes = self.keeper.seed(&seeds.seeds, seeds.source, now_s);
        Self::note(&changes);
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

    /// Asks for the keys of every zone that is due.
    async fn look(&mut self, upstreams: &Upstreams) {
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
        for zone in due {
            self.look_at(&zone, upstreams).await;
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

    /// How the anchors stand, now and whenever that changes.
    pub(super) fn shown(&self) -> watch::Receiver<Vec<admin::Anchor>> {
        self.shown.subscribe()
    }

    /// Writes the state file; failing is said once for each reason.
    pub(super) fn save(&mut self) {
        self.shown.send_replace(show(&self.keeper));
        match store::save(&self.state_file, &self.keeper) {
            Ok(()) => self.complaint.end(),
            Err(error) => {
                let text = error.to_string();
                if self.complaint.is_news(&text) {
                    warn!("{text}");
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
    let seeds = Seeds::read(settings)?;
    Ok(AnchorKeeper::read(settings, &seeds).settings())
}

fn show(keeper: &Keeper) -> Vec<admin::Anchor> {
    let keys = keeper
        .points()
        .flat_map(|(zone, point)| point.keys.iter().map(move |tracked| (zone, tracked)));
    keys.map(|(zone, tracked)| admin::Anchor {
        zone: zone.to_string(),
        key_tag: tracked.key.tag(),
        state: tracked.state.label().to_owned(),
        trusted: tracked.state.is_trusted(),
    })
    .collect()
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

/// The trust anchors written down, or else those built in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seeds {
    seeds: Vec<Seed>,
    source: Source,
}

impl Seeds {
    /// Reads the files that the settings name.
    pub(super) fn read(settings: &Settings) -> Result<Self, ReadError> {
        let files = &settings.dnssec.trust_anchors;
        if files.is_empty() {
            return Ok(Self {
                seeds: anchors::built_in(),
                source: Source::BuiltIn,
            });
        }
        let mut seeds = Vec::new();
        for file in files {
            seeds.extend(anchors::read(file)?);
        }
        Ok(Self {
            seeds,
            source: Source::Configured,
        })
    }
}

/// Keeps the anchors for as long as truename runs: follows the zones' keys, the settings, and the
/// anchors written down. The validator is told of what differs.
pub(super) async fn keep(
    mut keeper: AnchorKeeper,
    mut seeds: watch::Receiver<Arc<Seeds>>,
    mut parts: Parts,
) {
    let wanted = |keeper: &AnchorKeeper, settings: &Settings| {
        settings.dnssec.validate.then(|| keeper.settings())
    };
    let mut current = Arc::clone(&parts.settings.borrow_and_update());
    let mut told = wanted(&keeper, &current);
    loop {
        tokio::select! {
            Ok(()) = parts.settings.changed() => {
                let new = Arc::clone(&parts.settings.borrow_and_update());
                let differs = new.dnssec != current.dnssec;
                current = new;
                // Applying writes the state file.
                if differs {
                    keeper.apply(&current, &seeds.borrow_and_update());
                }
            }
            Ok(()) = seeds.changed() => keeper.apply(&current, &seeds.borrow_and_update()),
            () = sleep(keeper.wait()) => {
                // No timer moves by a clock that is wrong (RFC 5011 counts in days).
                if current.dnssec.validate && !parts.resolver.is_clock_cold() {
                    let asked = parts.upstreams.borrow_and_update().for_worker();
                    keeper.look(&asked).await;
                }
            }
        }
        let wanted = wanted(&keeper, &current);
        if wanted != told {
            told.clone_from(&wanted);
            parts.resolver.apply_dnssec(wanted);
        }
    }
}
