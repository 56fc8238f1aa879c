//! One question resolved with everything kept that was seen on the way, for a person to look at:
//! the same driver and validator as for clients, with nothing known beforehand and nothing
//! remembered afterwards. What the upstreams said is written down where it arrives, so the
//! validator itself need not keep a diary.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    access::{self, Access},
    cache,
    clock::Now,
    dnssec::{self, Ds, Inspected, KeyCache, Reason, Security, Verdict, Why, ZoneStatus},
    handler::Transport,
    reply::{self, Failure},
    upstream::{Exchange, ExchangeError, Exchanged},
    wire::{CLASS_IN, Name, Question, Record, Response, rcode, rtype},
};

use super::{Shared, driver::Driver, scrub::ALIASES_MAX, validate};

/// What was found for a question, and everything seen on the way.
#[derive(Debug)]
pub struct Explanation {
    /// What was asked.
    pub question: Question,
    /// When; signatures are judged by it.
    pub now: Now,
    /// The outcome of the whole chain of aliases; `Err` when some link has no response to judge.
    pub outcome: Result<Verdict, Failure>,
    /// The rcode a client would get.
    pub rcode: u16,
    /// The answer a client would get, with signatures; empty unless the verdict is usable.
    pub answer: Vec<Record>,
    /// SOA and proofs, with signatures; empty unless the verdict is usable.
    pub authority: Vec<Record>,
    /// The zones on the way, each behind the one it lies in.
    pub zones: Vec<ExplainedZone>,
    /// The questions that make the answer: the one asked, and the aliases asked for by themselves.
    pub links: Vec<Link>,
    /// Everything that was asked, in the order in which it came back.
    pub exchanges: Vec<Heard>,
}

/// A zone of the chain of trust.
#[derive(Debug)]
pub struct ExplainedZone {
    /// Its apex.
    pub name: Name,
    /// What it is; `None` when nothing was decided about it, since something above it failed.
    pub security: Option<Security>,
    /// Why it is not secure.
    pub reason: Option<Reason>,
    /// The trust anchors at it; empty at most zones.
    pub anchors: Vec<Ds>,
    /// The DS of its parent, or the proof that there is none; `None` where nobody asked.
    pub ds: Option<Looked>,
    /// Its keys; `None` where nobody asked.
    pub dnskey: Option<Looked>,
}

/// One question whose answer is part of the answer.
#[derive(Debug)]
pub struct Link {
    /// The question.
    pub question: Question,
    /// What was judged; `None` when there was no response to judge.
    pub verdict: Option<Verdict>,
    /// The response.
    pub looked: Option<Looked>,
}

/// A response looked into.
#[derive(Debug)]
pub struct Looked {
    /// Its place in [`Explanation::exchanges`].
    pub exchange: usize,
    /// Its sets and signatures.
    pub inspected: Inspected,
}

/// One exchange.
#[derive(Clone, Debug)]
pub struct Heard {
    /// What was asked.
    pub question: Question,
    /// What came back; `Err` says in words why nothing usable did.
    pub outcome: Result<Said, String>,
}

/// A response and where it came from.
#[derive(Clone, Debug)]
pub struct Said {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// What it came over.
    pub transport: Transport,
    /// How many octets it had.
    pub octets: usize,
    /// The response.
    pub response: Response,
}

/// Upstreams that write down what they say.
struct Recorder<U> {
    inner: Arc<U>,
    heard: Mutex<Vec<Heard>>,
}

impl<U: Exchange> Recorder<U> {
    fn note(&self, heard: Heard) {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(heard);
    }
}

impl<U: Exchange> Exchange for Recorder<U> {
    async fn exchange(
        &self,
        question: &Question,
        deadline: Instant,
        avoid: Option<&str>,
    ) -> Result<Exchanged, ExchangeError> {
        let exchanged = self.inner.exchange(question, deadline, avoid).await;
        let outcome = match &exchanged {
            Ok(exchanged) => match Response::parse(&exchanged.octets) {
                Ok(response) => Ok(Said {
                    upstream: Arc::clone(&exchanged.upstream),
                    transport: exchanged.transport,
                    octets: exchanged.octets.len(),
                    response,
                }),
                Err(error) => Err(format!(
                    "{} sent a broken message: {error}",
                    exchanged.upstream
                )),
            },
            Err(error) => Err(error.to_string()),
        };
        self.note(Heard {
            question: question.clone(),
            outcome,
        });
        exchanged
    }

    fn timeout(&self) -> Duration {
        self.inner.timeout()
    }

    fn count(&self, question: &Question) -> usize {
        self.inner.count(question)
    }

    fn is_down(&self, question: &Question) -> bool {
        self.inner.is_down(question)
    }

    fn incomplete(&self, upstream: &str) {
        self.inner.incomplete(upstream);
    }
}

/// Asks `upstreams` until `deadline` and validates by `settings`, from the anchors on.
pub async fn explain<U: Exchange>(
    upstreams: Arc<U>,
    settings: dnssec::Settings,
    question: Question,
    deadline: Instant,
) -> Explanation {
    let recorder = Arc::new(Recorder {
        inner: upstreams,
        heard: Mutex::default(),
    });
    let shared = Arc::new(Shared::new(
        cache::Settings::default(),
        Access::new(access::Settings::default()),
        reply::Settings::new(Duration::ZERO),
        None,
    ));
    let settings = settings.shared();
    // What is found out about zones is learned only under the settings in force.
    shared.dnssec.store(Some(Arc::clone(&settings)));
    let judge = Some(Arc::clone(&settings));
    let forgotten = shared.forgotten();
    let driver = Driver::new(&shared, Arc::clone(&recorder), judge, deadline, forgotten);
    let mut explanation = Explanation {
        question: question.clone(),
        now: Now::read(),
        outcome: Ok(Verdict::Secure),
        rcode: rcode::NOERROR,
        answer: Vec::new(),
        authority: Vec::new(),
        zones: Vec::new(),
        links: Vec::new(),
        exchanges: Vec::new(),
    };
    let mut asked = Some(question);
    while let Some(question) = asked.take() {
        asked = explanation.follow(&driver, question, &settings).await;
    }
    if explanation.has_upstream() {
        explanation.reach(&driver, &recorder, &settings).await;
    }
    let mut heard = recorder
        .heard
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    explanation.exchanges = std::mem::take(&mut *heard);
    drop(heard);
    let keys = shared.keys.read().unwrap_or_else(PoisonError::into_inner);
    explanation.look(&keys, &settings);
    explanation
}

impl Explanation {
    /// Why the outcome is not secure, when it was judged.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        self.outcome.as_ref().ok().and_then(Verdict::reason)
    }

    /// What was said to `question` last.
    #[must_use]
    pub fn said(&self, question: &Question) -> Option<(usize, &Said)> {
        let heard = self.exchanges.iter().enumerate().rev();
        heard
            .filter(|(_, heard)| heard.question == *question)
            .find_map(|(place, heard)| Some((place, heard.outcome.as_ref().ok()?)))
    }

    /// Judges one link and returns the question the chain of aliases goes on with.
    async fn follow<U: Exchange>(
        &mut self,
        driver: &Driver<U>,
        question: Question,
        settings: &Arc<dnssec::Settings>,
    ) -> Option<Question> {
        let judged =
            match validate::validate(driver, &question, settings, &driver.shared.now()).await {
                Ok(judged) => judged,
                Err(failure) => {
                    self.fail(failure);
                    self.links.push(Link {
                        question,
                        verdict: None,
                        looked: None,
                    });
                    return None;
                }
            };
        let verdict = judged.verdict;
        self.links.push(Link {
            question: question.clone(),
            verdict: Some(verdict.clone()),
            looked: None,
        });
        self.outcome = Ok(
            match std::mem::replace(&mut self.outcome, Ok(Verdict::Secure)) {
                Ok(before) => before.and(verdict.clone()),
                Err(_) => verdict.clone(),
            },
        );
        if !verdict.is_usable() {
            self.withhold();
            return None;
        }
        self.rcode = judged.rcode;
        self.answer.extend(judged.answer);
        self.authority.extend(judged.authority);
        let next = judged.next?;
        if self.links.len() > ALIASES_MAX
            || self.links.iter().any(|link| link.question.name == next)
        {
            self.fail(Failure::Upstream(
                "the chain of aliases is too long or a circle".to_owned(),
            ));
            return None;
        }
        Some(Question {
            name: next,
            ..question
        })
    }

    /// Whether an upstream is there, so that asking for more is no waste of time.
    fn has_upstream(&self) -> bool {
        match &self.outcome {
            Ok(verdict) => {
                verdict.is_usable()
                    || verdict
                        .reason()
                        .is_some_and(|reason| reason.why == Why::UpstreamFailure)
            }
            Err(_) => false,
        }
    }

    /// Follows the chain of trust to the deepest zone that was heard of, which the answer itself
    /// may not have taken: a DS is proved by the parent alone, and a failure by nothing.
    async fn reach<U: Exchange>(
        &self,
        driver: &Driver<Recorder<U>>,
        recorder: &Recorder<U>,
        settings: &Arc<dnssec::Settings>,
    ) {
        let deepest = {
            let heard = recorder.heard.lock();
            let heard = heard.unwrap_or_else(PoisonError::into_inner);
            let delegated = heard.iter().filter(|heard| {
                let said = heard.outcome.as_ref().ok();
                let mut answer = said.into_iter().flat_map(|said| &said.response.answer);
                heard.question.qtype == rtype::DS
                    && answer.any(|record| {
                        record.rtype == rtype::DS && record.owner == heard.question.name
                    })
            });
            let names = delegated.map(|heard| heard.question.name.clone());
            names.max_by_key(Name::label_count)
        };
        // When the answer failed before anything was judged, the chain to it is followed.
        let last = self.links.last().map(|link| &link.question.name);
        let target = match self.reason() {
            Some(reason) if reason.why == Why::UpstreamFailure => last.and_then(Name::parent),
            _ => deepest,
        };
        let Some(zone) = target else { return };
        let is_reached = {
            let keys = driver.shared.keys.read();
            let keys = keys.unwrap_or_else(PoisonError::into_inner);
            keys.lookup(&zone, &self.now).is_some()
        };
        if !is_reached {
            // What it proves is learned; what fails shows in what is drawn.
            let keys = ask(&zone, rtype::DNSKEY);
            let _ = validate::validate(driver, &keys, settings, &driver.shared.now()).await;
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.outcome = Err(failure);
        self.withhold();
    }

    /// Leaves no data beside a failure.
    fn withhold(&mut self) {
        self.rcode = rcode::SERVFAIL;
        self.answer.clear();
        self.authority.clear();
    }

    /// Fills in zones and responses from what was heard.
    fn look(&mut self, keys: &KeyCache, settings: &dnssec::Settings) {
        let look = |this: &Self, question: &Question| {
            let (exchange, said) = this.said(question)?;
            Some(Looked {
                exchange,
                inspected: Inspected::new(&said.response, keys, settings, &this.now),
            })
        };
        let mut names: Vec<Name> = Vec::new();
        for heard in &self.exchanges {
            let name = &heard.question.name;
            if matches!(heard.question.qtype, rtype::DS | rtype::DNSKEY) && !names.contains(name) {
                names.push(name.clone());
            }
        }
        names.sort_by_cached_key(|name| (name.label_count(), name.to_string()));
        for name in names {
            let status = keys.lookup(&name, &self.now);
            let blamed = self.reason().filter(|reason| blames(reason, &name));
            let (security, reason) = match (status, blamed) {
                (Some(ZoneStatus::Secure(_)), _) => (Some(Security::Secure), None),
                (Some(ZoneStatus::Insecure(reason)), _) => {
                    (Some(Security::Insecure), Some(reason.clone()))
                }
                (_, Some(reason)) => (Some(reason.why.security()), Some(reason.clone())),
                (Some(ZoneStatus::NotACut { .. }) | None, None) => (None, None),
            };
            let anchors = settings.anchors.get(&name).cloned().unwrap_or_default();
            let ds = look(self, &ask(&name, rtype::DS)).filter(|_| !name.is_root());
            let is_delegated = ds.as_ref().is_some_and(|looked| {
                let mut sets = looked.inspected.answer.iter();
                sets.any(|set| set.rtype == rtype::DS && set.owner == name)
            });
            if security.is_none() && anchors.is_empty() && !is_delegated {
                continue;
            }
            let dnskey = look(self, &ask(&name, rtype::DNSKEY));
            self.zones.push(ExplainedZone {
                name,
                security,
                reason,
                anchors,
                ds,
                dnskey,
            });
        }
        let looked: Vec<Option<Looked>> = self
            .links
            .iter()
            .map(|link| look(self, &link.question))
            .collect();
        for (link, looked) in self.links.iter_mut().zip(looked) {
            link.looked = looked;
        }
    }
}

/// Whether a reason is about the keys of the zone at `name`, or about what its parent says of it.
fn blames(reason: &Reason, name: &Name) -> bool {
    let of_a_zone = |qtype| matches!(qtype, rtype::DS | rtype::DNSKEY);
    let asked = reason
        .source
        .as_ref()
        .is_some_and(|source| source.name == *name && of_a_zone(source.qtype));
    asked || (reason.owner == *name && of_a_zone(reason.rtype))
}

fn ask(name: &Name, qtype: u16) -> Question {
    Question {
        name: name.clone(),
        qtype,
        qclass: CLASS_IN,
    }
}
