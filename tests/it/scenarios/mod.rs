//! Scenarios in text: the real resolver, cache and validator, upstreams that follow a script, a
//! clock that is moved by hand; no sockets, no sleeping.
//!
//! A file begins with a comment that says what it is about. Then come lines of words:
//!
//! ```text
//! SETTINGS [clock] [starts=+-seconds] [clock-name=name]
//! SETTINGS [upstreams=2] [skew=0] [sha1] [off] [negative=name] [private=name] [stale=seconds]
//! UPSTREAM [one|two|all] name type    what is said to this question; the honest answer, changed by
//!     RCODE rcode                     the indented lines below:
//!     AD                              sets AD
//!     SILENT                          keeps silent
//!     LATE ms                         takes so long before it says that, or fails
//!     TIMES n                         only n times, honest then
//!     CLEAR [section]                 a section is answer or authority
//!     COPY section name type [from]   appends from the honest answer to another question
//!     ADD section owner type rdata    appends a record without signature
//!     SIGN section owner type rdata BY zone [option=value]
//!     RESIGN section owner type BY zone [option=value]
//!     NSEC3 section covers|matches name types salt iterations flags BY zone
//!     DROP section type [owner]       also RRSIG:type, and * for any type
//!     RENAME section owner owner
//!     TTL section seconds type [owner]
//!     RDATA section type rdata
//!     FLIP section type [owner]       breaks the last bit of the RDATA
//! HONEST                              all upstreams speak the truth from here on
//! DOWN | UP                           whether all upstreams are known to be down
//! QUERY name type [DO] [AD] [CD] [NO-EDNS]
//! EXPECT rcode [AD|NO-AD] [EDE=n,n|NO-EDE] [NO-ANSWER|ANSWER=type,type] [HAS=rdata]
//!        [NO-AUTHORITY] [TTL=n] [SAYS=text] [AT-ONCE|NOT-AT-ONCE] [AFTER=ms]
//! EXPECT-CACHE secure|insecure|failure|stale|nothing name type [CD]
//! ASKED =n|<n [name type]             exchanges since the last QUERY
//! COUNTED counter n                   what the resolver counted so far: stale, refreshes,
//!                                     refresh-failures, prefetches
//! SETTLE                              what goes on behind ends
//! BLAMED upstream
//! TIME +seconds [WALL]                moves all clocks, or the wall clock alone, also by -seconds
//! CLOCK +-seconds|right               the wall clock alone is set, by this much or to the truth
//! CLOCK-IS cold|plausible|synced
//! ROOT-SIGNATURES [prove-nothing]                     the upstream's are taken as evidence about the clock
//! ```
//!
//! [`lies`] says what the options of signatures are. What must hold always needs no line: SERVFAIL
//! has an extended error and no records, AD is for clients that know it, signatures and proofs are
//! for those with DO, and after every query the cache is searched for what does not belong there.

mod clock;
mod lies;
mod script;
mod stage;
mod words;

use std::{
    cell::Cell,
    fs,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::FutureExt as _;
use truename::{cache, dnssec::Settings, wire};

use crate::{
    lab::{Universe, name::Name},
    validation::anchors,
};
use lies::Lie;
pub(crate) use script::honest;
use stage::Stage;
use words::{Words, read};

/// What a scenario's header decides.
struct Header {
    dnssec: Option<Settings>,
    cache: cache::Settings,
    upstreams: usize,
    /// Whether the clock is watched, and the names that set it.
    clock: Option<Vec<wire::Name>>,
}

#[test]
fn every_scenario_ends_as_it_must() {
    let folder = folder();
    let files = files(&folder);
    let present = fs::read_dir(&folder).unwrap().filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.extension().is_none_or(|extension| extension != "rs")
    });
    assert_eq!(present.count(), files.len(), "a file that is no .rpl");
    assert!(!files.is_empty());
    let now = SystemTime::now();
    let universe = Arc::new(Universe::new(now));
    let unix_s = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        for mistake in run(&universe, unix_s, &text) {
            wrong.push(format!("{name}:{mistake}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_mistake_in_a_file_is_named_by_its_line() {
    let universe = Arc::new(Universe::new(SystemTime::now()));
    for (text, mistake) in [
        ("QUERY www.secure.com A", "1: the first line says nothing"),
        ("; About.\nQUREY www.secure.com A", "2: QUREY is no step"),
        ("; About.\n\n    CLEAR", "3: no UPSTREAM above"),
        (
            "; About.\nUPSTREAM a.com A\n    CLAER",
            "3: CLAER is no directive",
        ),
        ("; About.\nEXPECT NOERROR", "2: nothing was asked"),
        ("; About.\nTIME 3", "2: 3 does not begin with +"),
    ] {
        let found = run(&universe, 1_800_000_000, text);
        assert!(
            found.iter().any(|found| found.starts_with(mistake)),
            "{text}: {found:?}"
        );
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scenarios")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rpl"))
        .collect();
    files.sort();
    files
}

/// Runs one scenario; what is wrong, line by line.
fn run(universe: &Arc<Universe>, unix_s: u64, text: &str) -> Vec<String> {
    clock::begin(unix_s);
    // Timers run as soon as nothing else can.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let line = Cell::new(1);
    let mut wrong = Vec::new();
    let walk = AssertUnwindSafe(walk(universe, text, &line, &mut wrong));
    let ended = runtime.block_on(walk.catch_unwind());
    let broken = match ended {
        Ok(Ok(())) => None,
        Ok(Err(mistake)) => Some(mistake),
        Err(panic) => Some(
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
                .unwrap_or_else(|| "panicked".to_owned()),
        ),
    };
    wrong.extend(broken.map(|mistake| format!("{}: {mistake}", line.get())));
    wrong
}

/// Goes through the lines. Mistakes of the resolver are collected, those of the file end it.
async fn walk(
    universe: &Arc<Universe>,
    text: &str,
    at: &Cell<usize>,
    wrong: &mut Vec<String>,
) -> Result<(), String> {
    if !text.starts_with("; ") {
        return Err("the first line says nothing".to_owned());
    }
    let mut header = Header {
        dnssec: Some(Settings::with_root_anchors(anchors(
            &universe.trust_anchor_ds(),
        ))),
        cache: cache::Settings::default(),
        upstreams: 1,
        clock: None,
    };
    let mut stage: Option<Stage> = None;
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        at.set(number);
        let mut words = Words::of(line);
        let Some(step) = words.optional() else {
            continue;
        };
        if line.starts_with(' ') {
            return Err("no UPSTREAM above".to_owned());
        }
        if step == "SETTINGS" {
            header.read(&mut words)?;
            continue;
        }
        let stage = stage.get_or_insert_with(|| Stage::new(universe, &header));
        if step == "UPSTREAM" {
            let first = words.word("a name")?;
            let (who, name) = match stage.script.meant(first) {
                Some(who) => (who, words.name()?),
                None => (
                    stage.script.meant("all").unwrap_or_default(),
                    Name::parse(first),
                ),
            };
            let rtype = words.rtype()?;
            words.end()?;
            let mut lie = Lie::new(universe, &name, rtype);
            while let Some((line, number)) = lines.next_if(|(line, _)| line.starts_with(' ')) {
                at.set(number);
                lie.change(&mut Words::of(line))?;
            }
            let times = lie.times;
            let act = lie.act();
            for one in who {
                let key = (one, name.clone(), rtype);
                stage.script.tell(key, act.clone(), times);
            }
            continue;
        }
        let found = stage.step(step, &mut words).await?;
        words.end()?;
        wrong.extend(
            found
                .into_iter()
                .map(|mistake| format!("{number}: {mistake}")),
        );
    }
    Ok(())
}

impl Header {
    fn read(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        for word in words.rest() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            if key == "upstreams" {
                self.upstreams = read(value)?;
                continue;
            }
            if key == "stale" {
                self.cache.serve_stale_s = read(value)?;
                continue;
            }
            if key == "clock" {
                self.clock.get_or_insert_default();
                continue;
            }
            if key == "clock-name" {
                let name = wire::Name::parse(value).map_err(|error| error.to_string())?;
                self.clock.get_or_insert_default().push(name);
                continue;
            }
            if key == "starts" {
                clock::set(read(value)?);
                continue;
            }
            if key == "off" {
                self.dnssec = None;
                continue;
            }
            let name = || wire::Name::parse(value).map_err(|error| error.to_string());
            let dnssec = self.dnssec.as_mut().ok_or("validation is off")?;
            match key {
                "skew" => dnssec.skew_s = read(value)?,
                "sha1" => dnssec.sha1 = true,
                "negative" => {
                    let until = clock::now().unix_s + 3600;
                    dnssec.negative_trust_anchors.insert(name()?, until);
                }
                "private" => _ = dnssec.private_zones.insert(name()?),
                other => return Err(format!("{other} is no setting")),
            }
        }
        Ok(())
    }
}
