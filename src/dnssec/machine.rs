//! The step machine: a response in, questions out, a verdict at the end.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ahash::RandomState;

use crate::{
    clock::Now,
    entropy,
    wire::{CLASS_IN, Name, Question, Record, Response, rcode, rtype},
};

use super::{
    aggressive::Proven,
    chain::Cut,
    keys::{KeyCache, Learned},
    limits::{self, Budget},
    rrset::Sections,
    settings::Settings,
    signature::{Validated, When},
    verdict::{Reason, Verdict, Why},
};

/// What a validation wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The responses to these questions, some of which may be under way already. Asked with DO and
    /// CD set; given back by [`Validation::supply`] in any order. All that can be foreseen now is
    /// in it; the first ones are needed in any case.
    Need(Vec<Question>),
    /// It is done.
    Done(Box<Judged>),
}

/// Why a fetch of the chain brought no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchFailed {
    /// No upstream answered in time.
    Network,
    /// The answer was a failure such as SERVFAIL, or was cut short.
    Upstream,
}

/// A response after validation: what may be given out, and what was learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The state of the answer and why.
    pub verdict: Verdict,
    /// The rcode that the proofs bear out, or the message's own when the answer is insecure.
    /// Without meaning when the verdict is not usable.
    pub rcode: u16,
    /// The RRsets that answer the question, with their RRSIGs, in the order of the chain of
    /// aliases; TTLs capped by the signatures. Empty when the verdict is not usable.
    pub answer: Vec<Record>,
    /// SOA and proofs, with their RRSIGs. Empty when the verdict is not usable.
    pub authority: Vec<Record>,
    /// The most seconds the whole may be kept: no signature used expires earlier.
    pub ttl_cap_s: u32,
    /// For how many seconds all signatures used are valid still, whatever the TTLs.
    pub signed_s: u32,
    /// The answer ends in an alias to this name, and the response says nothing about it: ask for
    /// it, validate that by itself, and append it. The weaker verdict counts.
    pub next: Option<Name>,
    /// Whether some part came out of a wildcard.
    pub wildcard: bool,
    /// What was learned about zones, for [`KeyCache::learn`]. Filled for every verdict: what was
    /// proved stays proved.
    pub learned: Vec<Learned>,
    /// The proofs of absence that were validated, for [`super::Gaps::learn`]. Filled for every
    /// verdict too.
    pub proven: Vec<Proven>,
}

/// Which section of a response an RRset stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Section {
    Answer,
    Authority,
}

/// Where an RRset was found, and with which zone's keys it was checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SetId {
    pub(super) source: Question,
    pub(super) section: Section,
    pub(super) index: usize,
    pub(super) zone: Name,
}

/// What came back for a question.
#[derive(Clone, Debug)]
pub(super) enum Fetched {
    Got(Arc<Sections>),
    Failed(Why),
}

/// The validation of one response. Knows no clock, no socket and no cache: time is given at the
/// start, keys at each step, responses when they arrive.
#[derive(Debug)]
pub struct Validation {
    pub(super) question: Question,
    pub(super) settings: Arc<Settings>,
    pub(super) now: Now,
    pub(super) when: When,
    pub(super) fetched: HashMap<Question, Fetched, RandomState>,
    pub(super) cuts: HashMap<Name, Cut, RandomState>,
    pub(super) verified: HashMap<SetId, Result<Validated, Reason>, RandomState>,
    pub(super) learned: Vec<Learned>,
    pub(super) proven: Vec<Proven>,
    /// The names whose cut is being found, from the one asked for upwards.
    pub(super) visiting: Vec<Name>,
    pub(super) asked: HashSet<Question, RandomState>,
    pub(super) needs: Vec<Question>,
    pub(super) budget: Budget,
    /// What is known of this zone does not count.
    pub(super) renewed: Option<Name>,
}

impl Validation {
    /// Begins to validate `response` to `question`. `now` judges signatures to the end, however
    /// long the fetches take.
    #[must_use]
    pub fn new(question: Question, response: &Response, settings: Arc<Settings>, now: Now) -> Self {
        let when = When {
            // RRSIG times are serial numbers: the low 32 bits of the time.
            unix_s: u32::try_from(now.unix_s & 0xffff_ffff).unwrap_or(u32::MAX),
            skew_s: settings.skew_s,
            sha1: settings.sha1,
        };
        let sections = if response.truncated {
            Fetched::Failed(Why::UpstreamFailure)
        } else {
            Fetched::Got(Arc::new(Sections::new(response)))
        };
        let hasher = entropy::hasher();
        let mut fetched = HashMap::with_hasher(hasher.clone());
        fetched.insert(question.clone(), sections);
        Self {
            fetched,
            question,
            settings,
            now,
            when,
            cuts: HashMap::with_hasher(hasher.clone()),
            verified: HashMap::with_hasher(hasher.clone()),
            learned: Vec::new(),
            proven: Vec::new(),
            visiting: Vec::new(),
            asked: HashSet::with_hasher(hasher),
            needs: Vec::new(),
            budget: Budget::new(),
            renewed: None,
        }
    }

    /// Proves anew what `zone` is, from the zone above it, whatever is known.
    #[must_use]
    pub fn renewing(self, zone: Name) -> Self {
        Self {
            renewed: Some(zone),
            ..self
        }
    }

    /// Takes in what came back for a question named by [`Step::Need`] or foreseen by
    /// [`super::foresee`]; in any order, also before it was named. A response to a question that
    /// was answered before, the client's own included, replaces the earlier one and starts the
    /// judgement anew with a fresh budget: that is how a bogus answer is repaired, and the driver
    /// bounds how often.
    pub fn supply(&mut self, question: Question, outcome: Result<&Response, FetchFailed>) {
        let fetched = match outcome {
            Ok(response) if response.truncated => Fetched::Failed(Why::UpstreamFailure),
            Ok(response) => Fetched::Got(Arc::new(Sections::new(response))),
            Err(FetchFailed::Network) => Fetched::Failed(Why::FetchFailed),
            Err(FetchFailed::Upstream) => Fetched::Failed(Why::UpstreamFailure),
        };
        if self.fetched.contains_key(&question) {
            self.cuts.retain(|_, cut| matches!(cut, Cut::Secure(_)));
            self.verified.retain(|id, _| id.source != question);
            self.budget = Budget::new();
        } else if self.fetched.len() > 2 * limits::SUB_FETCHES_MAX {
            return;
        }
        self.fetched.insert(question, fetched);
    }

    /// Goes on as far as what is known allows.
    pub fn step(&mut self, keys: &KeyCache) -> Step {
        // A need beyond the bound is answered with "over budget" at once, and the judgement goes
        // on; each time round one name fewer is left to ask for.
        for _ in 0..limits::SUB_FETCHES_MAX {
            self.needs.clear();
            if let Some(mut judged) = self.judge(keys) {
                judged.learned = std::mem::take(&mut self.learned);
                judged.proven = std::mem::take(&mut self.proven);
                return Step::Done(Box::new(judged));
            }
            if !self.needs.is_empty() {
                let mut needs = std::mem::take(&mut self.needs);
                needs.truncate(limits::QUESTIONS_PER_STEP_MAX);
                return Step::Need(needs);
            }
        }
        Step::Done(Box::new(self.failed(Why::OverBudget)))
    }

    /// Signature checks made so far.
    #[must_use]
    pub fn checks_made(&self) -> u16 {
        self.budget.checks_made()
    }

    fn judge(&mut self, keys: &KeyCache) -> Option<Judged> {
        let question = self.question.clone();
        let sections = match self.fetched.get(&question)? {
            Fetched::Got(sections) => Arc::clone(sections),
            Fetched::Failed(why) => return Some(self.failed(*why)),
        };
        if question.qclass != CLASS_IN || is_meta(question.qtype) {
            return Some(self.failed(Why::NotJudged));
        }
        if !matches!(
            sections.rcode,
            rcode::NOERROR | rcode::NXDOMAIN | rcode::YXDOMAIN
        ) {
            return Some(self.failed(Why::UpstreamFailure));
        }
        self.judge_answer(keys, &question, &sections)
    }

    /// The verdict when the answer as a whole cannot be judged.
    fn failed(&self, why: Why) -> Judged {
        let reason =
            Reason::new(why, &self.question.name, self.question.qtype).with_source(&self.question);
        Judged::unusable(Verdict::from_reason(reason))
    }

    /// Notes that the response to `question` is needed. `hard` says that there is no verdict
    /// without it.
    pub(super) fn want(&mut self, question: Question, hard: bool) {
        if self.fetched.contains_key(&question) || self.needs.contains(&question) {
            return;
        }
        if !self.asked.contains(&question) {
            if self.asked.len() >= limits::SUB_FETCHES_MAX {
                if hard {
                    self.fetched
                        .insert(question, Fetched::Failed(Why::OverBudget));
                }
                return;
            }
            if !hard && self.needs.len() >= limits::QUESTIONS_PER_STEP_MAX {
                return;
            }
            self.asked.insert(question.clone());
        }
        if hard {
            // In front of what is only foreseen, where the bound does not cut it off.
            let place = self.needs.len().min(limits::QUESTIONS_PER_STEP_MAX / 2);
            self.needs.insert(place, question);
        } else {
            self.needs.push(question);
        }
    }
}

impl Judged {
    /// A verdict without data.
    pub(super) fn unusable(verdict: Verdict) -> Self {
        Self {
            verdict,
            rcode: rcode::SERVFAIL,
            answer: Vec::new(),
            authority: Vec::new(),
            ttl_cap_s: 0,
            signed_s: 0,
            next: None,
            wildcard: false,
            learned: Vec::new(),
            proven: Vec::new(),
        }
    }
}

/// Types that ask for a treatment, not for an RRset. ANY and RRSIG are answered without us
/// (RFC 8482).
pub(super) fn is_meta(qtype: u16) -> bool {
    matches!(
        qtype,
        0 | rtype::OPT | rtype::RRSIG | rtype::SIG | 128..=255
    )
}
