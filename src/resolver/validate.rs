//! The driver of validations: runs the fetches a validation names, early where they can be
//! foreseen, and repairs before it believes in a forgery.
//!
//! ```text
//!  attempt 1   the question and what is foreseen, together      -> a cold chain costs one round trip
//!  attempt 2   bogus? ask again for what is not proved yet      -> a fault on the way, rolled keys
//!  attempt 3   still bogus? ask another upstream                -> an upstream that strips signatures
//! ```
//!
//! What an attempt proved about zones stays proved, so a later one asks only for the rest.

use std::{
    pin::pin,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use futures_util::{
    future::{Either, select},
    stream::{FuturesUnordered, StreamExt as _},
};
use tokio::task::yield_now;
use tracing::debug;

use crate::{
    clock::Now,
    dnssec::{self, Denied, FetchFailed, Judged, Step, Validation, Verdict, Why, foresee},
    reply::{ExtendedError, Failure},
    upstream::Exchange,
    wire::{CLASS_IN, Name, Question, rtype},
};

use super::{driver::Driver, fetch::Outcome};

/// Signature checks for one question of a client, over all links of its chain of aliases and all
/// attempts; each validation has its own, smaller bound.
const SIGNATURE_CHECKS_MAX: usize = 96;

/// Asks `question` and validates the response. The verdict may be any; a failure means that there
/// was no response to judge. `now` is the time of asking.
pub(super) async fn validate<U: Exchange>(
    driver: &Driver<U>,
    question: &Question,
    settings: &Arc<dnssec::Settings>,
    now: &Now,
) -> Result<Judged, Failure> {
    let now_s = now.uptime_s;
    if let Some(reason) = driver.shared.broken.find(question, now_s) {
        return Err(Failure::Bogus(ExtendedError {
            code: reason.why.extended_error().unwrap_or(6),
            text: reason.to_string().into(),
        }));
    }
    let judged = repaired(driver, question, settings, now).await?;
    let counters = &driver.shared.counters;
    match &judged.verdict {
        Verdict::Secure => counters.secure.add(),
        Verdict::Insecure(_) => counters.insecure.add(),
        Verdict::Indeterminate(_) => counters.indeterminate.add(),
        Verdict::Bogus(reason) => {
            counters.bogus.add();
            let forgotten = driver.fetcher.forgotten;
            if let Some(_held) = driver.shared.unforgotten(forgotten, Some(settings)) {
                driver.shared.broken.note(reason, now_s);
            }
            if matches!(
                reason.why,
                Why::SignatureExpired | Why::SignatureNotYetValid
            ) {
                driver.shared.doubt_clock();
            }
            if reason.why == Why::OverBudget {
                counters.over_budget.add();
            }
        }
    }
    Ok(judged)
}

/// The verdict after as many attempts as it takes.
async fn repaired<U: Exchange>(
    driver: &Driver<U>,
    question: &Question,
    settings: &Arc<dnssec::Settings>,
    now: &Now,
) -> Result<Judged, Failure> {
    let (first, upstream) = attempt(driver, question, settings, Asked::OfAny, now).await?;
    let Verdict::Bogus(reason) = &first.verdict else {
        return Ok(first);
    };
    debug!(name = %question.name, %upstream, %reason, "bogus, asking again");
    let incomplete = matches!(reason.why, Why::SignatureMissing | Why::DenialMissing);
    forget_old_keys(driver, reason);
    let now = driver.shared.now();
    let again = attempt(driver, question, settings, Asked::OfAny, &now).await;
    let Ok((second, upstream)) = again else {
        return Ok(first);
    };
    if !matches!(second.verdict, Verdict::Bogus(_)) {
        return Ok(second);
    }
    if driver.fetcher.upstreams.count(question) < 2 {
        return Ok(second);
    }
    let (how, now) = (Asked::OfOthers(&upstream), driver.shared.now());
    match attempt(driver, question, settings, how, &now).await {
        Ok((third, _)) if third.verdict.is_usable() => {
            if incomplete {
                driver.fetcher.upstreams.incomplete(&upstream);
            }
            Ok(third)
        }
        _ => Ok(second),
    }
}

/// Proves anew what `zone` is. What comes of it is learned; a failure or a forgery changes nothing,
/// since what is known holds for a while.
pub(super) async fn renew<U: Exchange>(
    driver: &Driver<U>,
    zone: &Name,
    settings: &Arc<dnssec::Settings>,
) -> Result<Verdict, Failure> {
    let question = Question {
        name: zone.clone(),
        qtype: rtype::DNSKEY,
        qclass: CLASS_IN,
    };
    let now = driver.shared.now();
    let (judged, _) = attempt(driver, &question, settings, Asked::Anew(zone), &now).await?;
    Ok(judged.verdict)
}

/// How an attempt asks.
#[derive(Clone, Copy)]
enum Asked<'a> {
    /// What is not known, of any upstream.
    OfAny,
    /// What is not known, and not of the upstream called so.
    OfOthers(&'a str),
    /// What is known of this zone too.
    Anew(&'a Name),
}

/// One validation from the question to a verdict, and the upstream that it rests on: the one that gave
/// what is bogus, else the one that answered the question.
async fn attempt<U: Exchange>(
    driver: &Driver<U>,
    question: &Question,
    settings: &Arc<dnssec::Settings>,
    how: Asked<'_>,
    now: &Now,
) -> Result<(Judged, Arc<str>), Failure> {
    if driver.checks.load(Ordering::Relaxed) >= SIGNATURE_CHECKS_MAX {
        driver.shared.counters.over_budget.add();
        return Err(Failure::Bogus(ExtendedError {
            code: 6,
            text: "validating takes more work than is allowed".into(),
        }));
    }
    let counters = &driver.shared.counters;
    let keys = &driver.shared.keys;
    let avoid = match how {
        Asked::OfOthers(upstream) => Some(upstream),
        Asked::OfAny | Asked::Anew(_) => None,
    };
    let fetch = |question: Question| async move {
        let outcome = driver.fetcher.fetch(&question, avoid, counters).await;
        (question, outcome)
    };
    let mut own = pin!(driver.fetcher.fetch(question, avoid, counters));
    let foreseen = {
        let keys = keys.read().unwrap_or_else(PoisonError::into_inner);
        foresee(question, &keys, settings, now)
    };
    let mut asked = foreseen.clone();
    // Most answers come from zones that are known; an empty set would allocate for nothing.
    let mut fetches = (!foreseen.is_empty()).then(|| {
        foreseen
            .into_iter()
            .map(fetch)
            .collect::<FuturesUnordered<_>>()
    });

    // What is foreseen may be there before the answer is.
    let mut early: Vec<(Question, Outcome)> = Vec::new();
    let answered = loop {
        let Some(others) = fetches.as_mut().filter(|fetches| !fetches.is_empty()) else {
            break own.await?;
        };
        match select(own.as_mut(), others.next()).await {
            Either::Left((outcome, _)) => break outcome?,
            Either::Right((other, _)) => early.extend(other),
        }
    };
    let mut validation = Validation::new(
        question.clone(),
        &answered.response,
        Arc::clone(settings),
        *now,
    );
    if let Asked::Anew(zone) = how {
        validation = validation.renewing(zone.clone());
    }
    // Who said what, to know whom to doubt.
    let mut sources: Vec<(Question, Arc<str>)> = Vec::new();
    let mut note = |question: &Question, outcome: &Outcome| {
        if let Ok(fetched) = outcome {
            sources.push((question.clone(), Arc::clone(&fetched.upstream)));
        }
    };
    for (question, outcome) in early {
        note(&question, &outcome);
        supply(&mut validation, question, &outcome);
    }
    loop {
        let step = {
            let keys = keys.read().unwrap_or_else(PoisonError::into_inner);
            validation.step(&keys)
        };
        let needs = match step {
            Step::Done(judged) => {
                let checks = usize::from(validation.checks_made());
                driver.checks.fetch_add(checks, Ordering::Relaxed);
                // Signatures are checked on the worker's thread; others have their turn now. After one
                // alone, what is left to do is less work than coming back for it.
                if checks > 1 {
                    yield_now().await;
                }
                let mut judged = *judged;
                learn(driver, &mut judged, settings, now);
                let doubted = match &judged.verdict {
                    Verdict::Bogus(reason) => sources
                        .into_iter()
                        .find(|(asked, _)| reason.source.as_ref() == Some(asked))
                        .map(|(_, upstream)| upstream),
                    _ => None,
                };
                let upstream = doubted.unwrap_or_else(|| Arc::clone(&answered.upstream));
                return Ok((judged, upstream));
            }
            Step::Need(needs) => needs,
        };
        for need in needs {
            if !asked.contains(&need) {
                asked.push(need.clone());
                let fetches = fetches.get_or_insert_with(FuturesUnordered::new);
                fetches.push(fetch(need));
            }
        }
        let fetched = match &mut fetches {
            Some(fetches) => fetches.next().await,
            None => None,
        };
        match fetched {
            Some((question, outcome)) => {
                note(&question, &outcome);
                supply(&mut validation, question, &outcome);
            }
            // It asks for what was supplied already; that would go on for ever.
            None => return Err(Failure::Internal),
        }
    }
}

/// What proofs seen before deny of `question` (RFC 8198).
pub(super) fn deny<U: Exchange>(
    driver: &Driver<U>,
    question: &Question,
    settings: &dnssec::Settings,
    now: &Now,
) -> Option<Denied> {
    let gaps = driver.shared.gaps.read();
    let gaps = gaps.unwrap_or_else(PoisonError::into_inner);
    gaps.deny(question, settings, now)
}

/// Keeps what a validation found out about zones, whatever its verdict: what was proved stays
/// proved. Not if something was forgotten meanwhile: what was asked for before is not known again.
fn learn<U: Exchange>(
    driver: &Driver<U>,
    judged: &mut Judged,
    settings: &Arc<dnssec::Settings>,
    now: &Now,
) {
    let shared = &driver.shared;
    let (learned, proven) = (
        std::mem::take(&mut judged.learned),
        std::mem::take(&mut judged.proven),
    );
    let Some(_held) = shared.unforgotten(driver.fetcher.forgotten, Some(settings)) else {
        return;
    };
    if !learned.is_empty() {
        let mut keys = shared.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.learn(learned, now);
    }
    if !proven.is_empty() {
        let mut gaps = shared.gaps.write().unwrap_or_else(PoisonError::into_inner);
        gaps.learn(proven, now);
    }
}

fn supply(validation: &mut Validation, question: Question, outcome: &Outcome) {
    match outcome {
        Ok(fetched) => validation.supply(question, Ok(&fetched.response)),
        Err(Failure::Unreachable | Failure::Network(_)) => {
            validation.supply(question, Err(FetchFailed::Network));
        }
        Err(_) => validation.supply(question, Err(FetchFailed::Upstream)),
    }
}

/// Keys that do not fit may have been replaced since they were learnt: forget those of the zone
/// concerned, unless that was just done. A DNSKEY set that fails was never learnt, and what is over
/// a bound says nothing about keys.
fn forget_old_keys<U: Exchange>(driver: &Driver<U>, reason: &dnssec::Reason) {
    if reason.rtype == rtype::DNSKEY || matches!(reason.why, Why::OverBudget | Why::AliasLoop) {
        return;
    }
    let now = driver.shared.now();
    let keys = driver.shared.keys.write();
    keys.unwrap_or_else(PoisonError::into_inner)
        .doubt(&reason.owner, &now);
}
