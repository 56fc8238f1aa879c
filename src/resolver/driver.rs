//! From a question to an answer that can be stored: ask, judge, follow aliases.
//!
//! Here responses meet the judge. Everything passes through [`Driver::resolve`] before it is stored
//! or sent: a question with CD is answered with what upstream said, scrubbed but unjudged, under a
//! cache key of its own; every other goes through the validator.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Instant,
};

use crate::{
    dnssec::{self, Judged, Security, Verdict, Why},
    reply::{ExtendedError, Failure},
    upstream::Exchange,
    wire::{Name, Question, Record, rcode, rtype},
};

use super::{
    Shared,
    clock::{self, Ruling},
    fetch::Fetcher,
    local, refresh,
    scrub::{ALIASES_MAX, scrub},
    validate,
};

/// Exchanges with upstreams for one question of a client that is not validated.
const EXCHANGES_MAX: usize = 12;
/// The same when it is validated: chains of trust are asked for too, for each link of a chain of
/// aliases, and again when something is to be repaired.
const EXCHANGES_VALIDATED_MAX: usize = 64;

/// Records of one answer, all links of its chain together. No honest chain comes near.
const RECORDS_MAX: usize = 1_000;

/// What was found, ready to be packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) rcode: u16,
    /// Aliases and the records asked for, with their signatures, in the order of the chain.
    pub(super) answer: Vec<Record>,
    /// SOA and proofs, with their signatures.
    pub(super) authority: Vec<Record>,
    /// Whether every record was proved from a trust anchor.
    pub(super) secure: bool,
    /// The most seconds it may be kept.
    pub(super) ttl_cap_s: Option<u32>,
    /// For how many seconds the signatures that prove it are valid.
    pub(super) signed_s: Option<u32>,
    /// Whether it must not be given out beyond its time: what it rests on ends for good.
    pub(super) ends: bool,
    /// What a client may want to know about an answer that is not secure.
    pub(super) extended_error: Option<ExtendedError>,
}

/// Resolves one question.
pub(super) struct Driver<U> {
    pub(super) shared: Arc<Shared>,
    pub(super) fetcher: Fetcher<U>,
    /// The validator's settings; `None` to answer unjudged.
    pub(super) dnssec: Option<Arc<dnssec::Settings>>,
    /// Signature checks made so far.
    pub(super) checks: AtomicUsize,
}

/// One link of a chain of aliases.
struct Link {
    found: Found,
    /// Aliases passed.
    aliases: usize,
    /// The name the chain goes on at, if the response did not say.
    next: Option<Name>,
}

impl<U: Exchange> Driver<U> {
    /// A driver that asks `upstreams` until `deadline`, and judges by `dnssec`. `forgotten` is
    /// [`Shared::forgotten`] as of the time of asking.
    pub(super) fn new(
        shared: &Arc<Shared>,
        upstreams: Arc<U>,
        dnssec: Option<Arc<dnssec::Settings>>,
        deadline: Instant,
        forgotten: u64,
    ) -> Self {
        let budget = match dnssec {
            Some(_) => EXCHANGES_VALIDATED_MAX,
            None => EXCHANGES_MAX,
        };
        Self {
            shared: Arc::clone(shared),
            fetcher: Fetcher {
                upstreams,
                flights: Arc::clone(&shared.fetches),
                deadline,
                forgotten,
                budget: AtomicUsize::new(budget),
            },
            dnssec,
            checks: AtomicUsize::new(0),
        }
    }

    /// Asks upstreams until the chain of aliases from the question's name ends.
    pub(super) async fn resolve(&self, question: &Question) -> Result<Found, Failure> {
        let dnssec = match &self.dnssec {
            Some(settings) => match clock::ruling(&self.shared, question, settings) {
                Ruling::Judge => Some(settings),
                Ruling::Unjudged => None,
                Ruling::Wait(failure) => return Err(failure),
            },
            None => None,
        };
        let mut whole = Found {
            secure: dnssec.is_some(),
            ..Found::default()
        };
        // Where aliases led that the responses said nothing about, in order.
        let mut followed: Vec<Question> = Vec::new();
        let mut aliases = 0;
        loop {
            let asked = followed.last().unwrap_or(question);
            let link = match (self.here(asked), dnssec) {
                (Some(link), _) => link,
                (None, Some(settings)) => self.judged(asked, settings).await?,
                (None, None) => self.unjudged(asked).await?,
            };
            aliases += link.aliases;
            whole.take(link.found);
            let Some(next) = link.next else {
                if self.dnssec.is_some() && dnssec.is_none() {
                    clock::mark(&mut whole);
                }
                return Ok(whole);
            };
            let is_alias = |record: &Record| record.rtype == rtype::CNAME && record.owner == next;
            let is_next = |asked: &Question| asked.name == next;
            let been = is_next(question) || followed.iter().any(is_next);
            let circle = been || whole.answer.iter().any(is_alias);
            let records = whole.answer.len() + whole.authority.len();
            if circle || aliases > ALIASES_MAX || records > RECORDS_MAX {
                return Err(Failure::Upstream(
                    "the chain of aliases is too long or a circle".to_owned(),
                ));
            }
            followed.push(Question {
                name: next,
                ..*question
            });
        }
    }

    /// What is answered without upstreams: special-use names that an alias leads to leak no more than
    /// those that are asked for.
    fn here(&self, question: &Question) -> Option<Link> {
        let local = self.shared.names.load().answer(question)?;
        let extended_error = local::explain(&local);
        Some(Link {
            aliases: 0,
            next: None,
            found: Found {
                rcode: local.rcode,
                answer: local.answer,
                authority: local.authority,
                extended_error,
                ..Found::default()
            },
        })
    }

    async fn unjudged(&self, question: &Question) -> Result<Link, Failure> {
        let counters = &self.shared.counters;
        let fetched = self.fetcher.fetch(question, None, counters).await?;
        let kept = scrub(question, &fetched.response)
            .map_err(|error| Failure::Upstream(format!("{} {error}", fetched.upstream)))?;
        Ok(Link {
            aliases: kept.aliases,
            next: kept.next,
            found: Found {
                rcode: kept.rcode,
                answer: kept.answer,
                authority: kept.authority,
                ..Found::default()
            },
        })
    }

    async fn judged(
        &self,
        question: &Question,
        settings: &Arc<dnssec::Settings>,
    ) -> Result<Link, Failure> {
        let now = self.shared.now();
        if let Some(denied) = validate::deny(self, question, settings, &now) {
            if dnssec::sentinel_fails(question, Security::Secure, settings) {
                return Err(Failure::Sentinel);
            }
            return Ok(Link {
                aliases: 0,
                next: None,
                found: Found {
                    rcode: denied.rcode,
                    authority: denied.authority,
                    secure: true,
                    ttl_cap_s: Some(denied.ttl_s),
                    // They may be valid for longer, which is not known here.
                    signed_s: Some(denied.ttl_s),
                    ..Found::default()
                },
            });
        }
        let judged = validate::validate(self, question, settings, &now).await?;
        refresh::look_after_zones(self, question, settings, &now);
        let Judged {
            verdict,
            rcode,
            answer,
            authority,
            ttl_cap_s,
            signed_s,
            next,
            ..
        } = judged;
        let extended_error = match &verdict {
            Verdict::Secure => None,
            Verdict::Insecure(reason) => reason.why.extended_error().map(|code| ExtendedError {
                code,
                text: reason.to_string().into(),
            }),
            Verdict::Indeterminate(reason) => {
                return Err(Failure::Indeterminate(ExtendedError {
                    code: reason.why.extended_error().unwrap_or(5),
                    text: reason.to_string().into(),
                }));
            }
            Verdict::Bogus(reason) => {
                return Err(Failure::Bogus(ExtendedError {
                    code: reason.why.extended_error().unwrap_or(6),
                    text: reason.to_string().into(),
                }));
            }
        };
        if dnssec::sentinel_fails(question, verdict.security(), settings) {
            return Err(Failure::Sentinel);
        }
        Ok(Link {
            aliases: usize::from(next.is_some()),
            next,
            found: Found {
                rcode,
                answer,
                authority,
                secure: verdict == Verdict::Secure,
                ttl_cap_s: Some(ttl_cap_s),
                signed_s: Some(signed_s),
                // It would be judged once the anchor has ended (RFC 7646, section 2).
                ends: verdict
                    .reason()
                    .is_some_and(|reason| reason.why == Why::NegativeTrustAnchor),
                extended_error,
            },
        })
    }
}

impl Found {
    /// Appends the next link; the weaker verdict and the shorter life count.
    fn take(&mut self, link: Self) {
        self.rcode = link.rcode;
        // Links of one chain have different owners, so their answers do not overlap.
        self.answer.extend(link.answer);
        let before = self.authority.len();
        for record in link.authority {
            let known = self.authority.get(..before).unwrap_or_default();
            if !known.contains(&record) {
                self.authority.push(record);
            }
        }
        self.secure &= link.secure;
        self.ttl_cap_s = shorter(self.ttl_cap_s, link.ttl_cap_s);
        self.signed_s = shorter(self.signed_s, link.signed_s);
        self.ends |= link.ends;
        self.extended_error = self.extended_error.take().or(link.extended_error);
        debug_assert!(self.rcode != rcode::SERVFAIL, "a failure is an Err");
    }
}

/// The shorter of two times, of which `None` is endless.
fn shorter(ours: Option<u32>, theirs: Option<u32>) -> Option<u32> {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
        (ours, theirs) => ours.or(theirs),
    }
}
