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

mod lies;
mod script;
mod words;

use std::{
    cell::Cell,
    collections::HashMap,
    fs,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::FutureExt as _;
use truename::{
    access::{self, Access},
    cache,
    clock::{FLOOR_UNIX_S, Gate, Now, Trust},
    dnssec::{Settings, root_window},
    handler::{Attempt, Client, Handler},
    reply,
    resolver::{Resolver, Shared},
    upstream::Exchange as _,
    wire,
};

use crate::{
    lab::{
        Answered, Ask, Transport, Universe,
        message::{SERVFAIL, flag},
        name::Name,
        rdata::{Rdata, rtype, type_name, type_number},
    },
    validation::anchors,
};
use lies::Lie;
use script::Script;
pub(crate) use script::honest;
use words::{Words, rcode, read};

thread_local! {
    /// The time of the scenario that this thread runs.
    static NOW: Cell<Option<Now>> = const { Cell::new(None) };
    /// By how many seconds its wall clock is wrong.
    static WRONG_BY_S: Cell<i64> = const { Cell::new(0) };
}

fn now() -> Now {
    NOW.get().expect("a scenario runs")
}

/// Sets the wall clock so much ahead.
fn set_clock(by_s: i64) {
    let now = now();
    WRONG_BY_S.set(WRONG_BY_S.get() + by_s);
    NOW.set(Some(Now {
        unix_s: now.unix_s.checked_add_signed(by_s).expect("a time"),
        ..now
    }));
}

/// What a scenario's header decides.
struct Header {
    dnssec: Option<Settings>,
    cache: cache::Settings,
    upstreams: usize,
    /// Whether the clock is watched, and the names that set it.
    clock: Option<Vec<wire::Name>>,
}

/// A scenario on its way.
struct Stage {
    script: Arc<Script>,
    shared: Arc<Shared>,
    resolver: Resolver<Script>,
    gate: Option<Arc<Gate>>,
    serve_stale_s: u32,
    last: Option<Last>,
    /// The rcode of the latest reply to each question that was asked, by its cache key.
    replied: HashMap<Vec<u8>, u16>,
}

/// The latest query and its reply.
struct Last {
    ask: Ask,
    reply: Answered,
    at_once: bool,
    /// How long it took by the clock of timers.
    after: Duration,
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
    NOW.set(Some(Now {
        unix_s,
        ..Now::read()
    }));
    WRONG_BY_S.set(0);
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
                set_clock(read(value)?);
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
                    let until = now().unix_s + 3600;
                    dnssec.negative_trust_anchors.insert(name()?, until);
                }
                "private" => _ = dnssec.private_zones.insert(name()?),
                other => return Err(format!("{other} is no setting")),
            }
        }
        Ok(())
    }
}

impl Stage {
    fn new(universe: &Arc<Universe>, header: &Header) -> Self {
        let script = Arc::new(Script::new(Arc::clone(universe), header.upstreams));
        let shared = Shared::new(
            header.cache,
            Access::new(access::Settings::default()),
            reply::Settings::new(Duration::from_secs(30)),
            header.dnssec.clone(),
        );
        let mut shared = shared.with_clock(now);
        let names = header.clock.as_ref();
        let gate = names.map(|_| Arc::new(Gate::new(Trust::new(FLOOR_UNIX_S, None, &now()))));
        if let (Some(gate), Some(names)) = (&gate, names) {
            shared = shared.with_clock_gate(Arc::clone(gate), names);
        }
        let shared = Arc::new(shared);
        Self {
            resolver: Resolver::new(Arc::clone(&shared), Arc::clone(&script)),
            script,
            shared,
            gate,
            serve_stale_s: header.cache.serve_stale_s,
            last: None,
            replied: HashMap::new(),
        }
    }

    /// Does one step; what the resolver did wrong.
    async fn step(&mut self, step: &str, words: &mut Words<'_>) -> Result<Vec<String>, String> {
        match step {
            "HONEST" => self.script.be_honest(),
            "DOWN" => self.script.be_down(true),
            "UP" => self.script.be_down(false),
            "SETTLE" => tokio::time::sleep(Duration::from_secs(10)).await,
            "COUNTED" => return self.counted(words),
            "QUERY" => return self.query(words).await,
            "EXPECT" => {
                let last = self.last.as_ref().ok_or("nothing was asked")?;
                return last.expect(words);
            }
            "EXPECT-CACHE" => return self.expect_cache(words),
            "ASKED" => {
                let bound = words.word("a bound")?;
                let question = match words.optional() {
                    Some(name) => Some((Name::parse(name), words.rtype()?)),
                    None => None,
                };
                let asked = self.script.asked(question.as_ref().map(|it| (&it.0, it.1)));
                let holds = match bound.split_at_checked(1) {
                    Some(("=", number)) => asked == read::<usize>(number)?,
                    Some(("<", number)) => asked < read::<usize>(number)?,
                    _ => return Err(format!("{bound} is no bound")),
                };
                return Ok(complaint(holds, || format!("asked {asked} times")));
            }
            "BLAMED" => {
                let blamed = self.script.is_blamed(words.word("an upstream")?);
                return Ok(complaint(blamed, || "it is not blamed".to_owned()));
            }
            "CLOCK" => match words.word("seconds")? {
                "right" => set_clock(-WRONG_BY_S.get()),
                word => set_clock(read(word)?),
            },
            "CLOCK-IS" => {
                let gate = self.gate.as_ref().ok_or("nobody watches the clock")?;
                let state = gate.status(&now()).state.label();
                let wanted = words.word("a state")?;
                return Ok(complaint(state == wanted, || {
                    format!("the clock is {state}")
                }));
            }
            "ROOT-SIGNATURES" => {
                let soa = self.root(rtype::SOA).await?;
                let keys = self.root(rtype::DNSKEY).await?;
                let settings = self.shared.dnssec_settings().ok_or("validation is off")?;
                let found = root_window(&soa, &keys, &settings, &now());
                if let Some(window) = found {
                    self.shared.root_signed(&window, &now());
                }
                let proves = words.optional() != Some("prove-nothing");
                return Ok(complaint(found.is_some() == proves, || {
                    format!("they prove {found:?}")
                }));
            }
            "TIME" => pass(words)?,
            other => return Err(format!("{other} is no step")),
        }
        Ok(Vec::new())
    }

    /// What the first upstream says of the root.
    async fn root(&self, qtype: u16) -> Result<wire::Response, String> {
        let question = wire::Question {
            name: wire::Name::root(),
            qtype,
            qclass: wire::CLASS_IN,
        };
        let exchanged = self.script.exchange(&question, now().instant, None).await;
        let octets = exchanged.map_err(|error| error.to_string())?.octets;
        wire::Response::parse(&octets).map_err(|error| error.to_string())
    }

    async fn query(&mut self, words: &mut Words<'_>) -> Result<Vec<String>, String> {
        let name = words.word("a name")?;
        let mut ask = Ask::new(name, words.word("a type")?);
        for word in words.rest() {
            ask = match word {
                "DO" => ask.dnssec(),
                "AD" => ask.flags(flag::AD),
                "CD" => ask.flags(flag::CD),
                "NO-EDNS" => ask.udp_octets(None),
                other => return Err(format!("{other} is no flag")),
            };
        }
        self.script.forget_asked();
        let octets = ask.encode();
        let client = Client {
            address: "127.0.0.1:4000".parse().unwrap(),
            transport: Transport::Tls,
        };
        let mut out = Vec::new();
        let began = tokio::time::Instant::now();
        let now = self.resolver.now();
        let at_once = match self.resolver.try_answer(&now, &octets, &client, &mut out) {
            Attempt::Answered(_) => true,
            Attempt::Pending(pending) => {
                self.resolver.finish(pending, &mut out).await;
                false
            }
            other => return Err(format!("no answer: {other:?}")),
        };
        let reply = Answered::parse(&out).ok_or("the reply cannot be read")?;
        let key = wire::Query::peek(&octets).map_err(|fault| format!("{fault:?}"))?;
        self.replied.insert(key.key().to_vec(), reply.rcode);
        let mut wrong = always(&ask, &reply);
        wrong.extend(self.search_cache());
        self.last = Some(Last {
            ask,
            reply,
            at_once,
            after: began.elapsed(),
        });
        Ok(wrong)
    }

    /// Compares one of the resolver's counters.
    fn counted(&self, words: &mut Words<'_>) -> Result<Vec<String>, String> {
        let counters = &self.shared.counters;
        let found = match words.word("a counter")? {
            "stale" => counters.stale.value(),
            "refreshes" => counters.refreshes.value(),
            "prefetches" => counters.prefetches.value(),
            "refresh-failures" => counters.refresh_failures.value(),
            other => return Err(format!("{other} is not counted")),
        };
        let wanted: u64 = read(words.word("a number")?)?;
        Ok(complaint(found == wanted, || format!("counted {found}")))
    }

    /// Looks for what must never be in the cache: what nobody asked for, records beside a failure,
    /// an answer where clients were told that there is none.
    fn search_cache(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        self.shared.cache.for_each(|entry| {
            let records = entry.form(true).answers + entry.form(true).authorities;
            let Some(rcode) = self.replied.get(entry.key()) else {
                wrong.push("the cache holds what nobody asked for".to_owned());
                return;
            };
            let failed = *rcode == SERVFAIL;
            if failed && (entry.failure().is_none() || entry.is_secure()) {
                wrong.push("the cache holds an answer where SERVFAIL was said".to_owned());
            }
            if entry.failure().is_some() && records > 0 {
                wrong.push("the cache holds records beside a failure".to_owned());
            }
        });
        wrong
    }

    fn expect_cache(&self, words: &mut Words<'_>) -> Result<Vec<String>, String> {
        let state = words.word("a state")?;
        let name = words.word("a name")?;
        let mut ask = Ask::new(name, words.word("a type")?);
        match words.optional() {
            None => {}
            Some("CD") => ask = ask.flags(flag::CD),
            Some(other) => return Err(format!("{other} is no flag")),
        }
        let octets = ask.encode();
        let query = wire::Query::peek(&octets).map_err(|fault| format!("{fault:?}"))?;
        let found = self.shared.cache.read(query.key(), |entry| {
            if entry.is_stale(now().uptime_s, self.serve_stale_s) {
                "stale"
            } else if !entry.is_fresh(now().uptime_s) {
                "nothing"
            } else if entry.failure().is_some() {
                "failure"
            } else if entry.is_secure() {
                "secure"
            } else {
                "insecure"
            }
        });
        let found = found.unwrap_or("nothing");
        Ok(complaint(found == state, || {
            format!("the cache has {found}")
        }))
    }
}

/// Moves the clocks.
fn pass(words: &mut Words<'_>) -> Result<(), String> {
    let word = words.word("seconds")?;
    let mut then = now();
    match (word.split_at_checked(1), words.optional()) {
        (Some(("+", seconds)), None) => then = then.plus(Duration::from_secs(read(seconds)?)),
        (Some(("+", seconds)), Some("WALL")) => then.unix_s += read::<u64>(seconds)?,
        (Some(("-", seconds)), Some("WALL")) => then.unix_s -= read::<u64>(seconds)?,
        (_, None) => return Err(format!("{word} does not begin with +")),
        (_, Some(other)) => return Err(format!("{word} {other} cannot be understood")),
    }
    NOW.set(Some(then));
    Ok(())
}

/// What holds of every reply.
fn always(ask: &Ask, reply: &Answered) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |holds: bool, what: &str| wrong.extend(complaint(holds, || what.to_owned()));
    let records = reply.sections.iter().flatten();
    if reply.rcode == SERVFAIL {
        expect(records.count() == 0, "records beside SERVFAIL");
        expect(
            ask.udp_octets.is_none() || !reply.extended_errors().is_empty(),
            "SERVFAIL without an extended error",
        );
        expect(!reply.has(flag::AD), "AD on SERVFAIL");
    } else if !ask.dnssec_ok {
        let proofs = [rtype::RRSIG, rtype::NSEC, rtype::NSEC3];
        expect(
            records
                .filter(|record| record.rtype != ask.rtype)
                .all(|record| !proofs.contains(&record.rtype)),
            "signatures or proofs without DO",
        );
        let knows = ask.flags & flag::AD != 0;
        expect(knows || !reply.has(flag::AD), "AD for who does not know it");
    }
    let checking_disabled = ask.flags & flag::CD != 0;
    expect(!checking_disabled || !reply.has(flag::AD), "AD with CD");
    expect(
        reply.has(flag::CD) == checking_disabled,
        "CD is not repeated",
    );
    wrong
}

impl Last {
    fn expect(&self, words: &mut Words<'_>) -> Result<Vec<String>, String> {
        let reply = &self.reply;
        let wanted = rcode(words.word("an rcode")?)?;
        let mut wrong = complaint(reply.rcode == wanted, || {
            format!("rcode {}, {:?}", reply.rcode, reply.extended_errors())
        });
        for word in words.rest() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let holds = match key {
                "AD" => reply.has(flag::AD),
                "NO-AD" => !reply.has(flag::AD),
                "NO-EDE" => reply.extended_errors().is_empty(),
                "EDE" => {
                    let codes = value.split(',').map(read::<u16>);
                    let codes: Vec<u16> = codes.collect::<Result<_, _>>()?;
                    let mut errors = reply.extended_errors().into_iter();
                    errors.any(|(code, _)| codes.contains(&code))
                }
                "SAYS" => {
                    let mut errors = reply.extended_errors().into_iter();
                    errors.any(|(_, text)| text.contains(value))
                }
                "NO-ANSWER" => reply.answer().is_empty(),
                "NO-AUTHORITY" => reply.sections[1].is_empty(),
                "ANSWER" => {
                    let mut found: Vec<u16> = reply.answer().iter().map(|it| it.rtype).collect();
                    let mut types: Vec<u16> = value.split(',').map(type_number).collect();
                    found.sort_unstable();
                    types.sort_unstable();
                    found == types
                }
                "HAS" => {
                    let rdata = Rdata::parse(self.ask.rtype, value, "").served;
                    let wanted = type_name(self.ask.rtype);
                    reply.rdata(&wanted) == [rdata]
                }
                "TTL" => {
                    let ttl_s: u32 = read(value)?;
                    let mut records = reply.sections.iter().flatten();
                    records.all(|record| record.ttl_s == ttl_s)
                }
                "AT-ONCE" => self.at_once,
                "NOT-AT-ONCE" => !self.at_once,
                "AFTER" => self.after == Duration::from_millis(read(value)?),
                _ => return Err(format!("{word} cannot be expected")),
            };
            wrong.extend(complaint(holds, || {
                let types = |records: &[crate::lab::message::Record]| -> Vec<String> {
                    let records = records.iter();
                    records
                        .map(|it| format!("{} {}", type_name(it.rtype), it.ttl_s))
                        .collect()
                };
                format!(
                    "not {word}: AD {}, {:?}, answer {:?}, authority {:?}",
                    reply.has(flag::AD),
                    reply.extended_errors(),
                    types(&reply.sections[0]),
                    types(&reply.sections[1]),
                )
            }));
        }
        Ok(wrong)
    }
}

fn complaint(holds: bool, say: impl FnOnce() -> String) -> Vec<String> {
    if holds { Vec::new() } else { vec![say()] }
}
