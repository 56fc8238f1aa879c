//! The steps of a scenario: what is done to the resolver, and what is held against it. SETTINGS and
//! UPSTREAM come before, or change what upstreams say, and are the reader's.

use std::{collections::HashMap, sync::Arc, time::Duration};

use truename::{
    access::{self, Access},
    clock::{FLOOR_UNIX_S, Gate, Trust},
    dnssec::root_window,
    handler::{Attempt, Client, Handler},
    reply,
    resolver::{Resolver, Shared},
    upstream::Exchange as _,
    wire,
};

use crate::lab::{
    Answered, Ask, Transport, Universe,
    message::{SERVFAIL, flag},
    name::Name,
    rdata::{Rdata, rtype, type_name, type_number},
};

use super::{
    Header,
    clock::{self, now},
    script::Script,
    words::{Words, rcode, read},
};

/// A scenario on its way.
pub(super) struct Stage {
    pub(super) script: Arc<Script>,
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

impl Stage {
    pub(super) fn new(universe: &Arc<Universe>, header: &Header) -> Self {
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
    pub(super) async fn step(
        &mut self,
        step: &str,
        words: &mut Words<'_>,
    ) -> Result<Vec<String>, String> {
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
                "right" => clock::set_right(),
                word => clock::set(read(word)?),
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
            "TIME" => clock::pass(words)?,
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
