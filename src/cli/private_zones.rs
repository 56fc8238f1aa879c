//! What becomes of the zones that have a route of their own: whether their answers validate, or
//! are taken unvalidated, and why.

use std::{io, sync::Arc, time::Duration};

use super::runtime;
use crate::{
    clock,
    config::Settings,
    dnssec::{self, Security, Verdict, Why},
    reply::Failure,
    resolver::explain::{Explanation, explain},
    upstream::Upstreams,
    wire::{CLASS_IN, Name, Question, rcode, rtype},
};

/// How long one zone may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found out about a zone.
pub(super) enum Finding {
    /// Its answers are taken.
    Taken(String),
    /// Its answers are withheld.
    Withheld(String),
    /// Nothing that settles it: somebody did not answer, or nothing is there.
    Unknown(String),
}

/// Asks for the SOA of every zone that has a route and is to be validated.
pub(super) fn find_out(
    settings: &Settings,
    validator: &dnssec::Settings,
    upstreams: Upstreams,
) -> io::Result<Vec<(Name, Finding)>> {
    let upstreams = Arc::new(upstreams);
    runtime()?.block_on(async {
        let mut found = Vec::new();
        for zone in &settings.dnssec.private_zones {
            let question = Question {
                name: zone.clone(),
                qtype: rtype::SOA,
                qclass: CLASS_IN,
            };
            let deadline = clock::instant() + PATIENCE;
            let upstreams = Arc::clone(&upstreams);
            let explained = explain(upstreams, validator.clone(), question, deadline).await;
            found.push((zone.clone(), finding(&explained)));
        }
        Ok(found)
    })
}

fn finding(explained: &Explanation) -> Finding {
    match &explained.outcome {
        Ok(verdict) => judged(verdict, explained.rcode),
        Err(failure) => unanswered(failure),
    }
}

fn judged(verdict: &Verdict, code: u16) -> Finding {
    let reason = verdict.reason();
    let because = reason.map(ToString::to_string).unwrap_or_default();
    match verdict.security() {
        Security::Secure if code == rcode::NXDOMAIN => Finding::Unknown(
            "does not exist: its upstreams say so, with the public tree's proof; are they the \
             right ones for it?"
                .to_owned(),
        ),
        Security::Secure => {
            Finding::Taken("is signed in the public tree, and its answers validate".to_owned())
        }
        Security::Insecure => {
            let public = match reason.map(|reason| reason.why) {
                Some(Why::PrivateZone) => "is not in the public tree (proved)".to_owned(),
                Some(Why::UnsignedDelegation | Why::OptOut) => {
                    format!("is unsigned in the public tree (proved: {because})")
                }
                _ => format!("is not validated ({because})"),
            };
            Finding::Taken(format!("{public}; its answers are taken unvalidated"))
        }
        Security::Bogus => Finding::Withheld(format!(
            "is signed in the public tree, so its answers must validate, and they do not \
             ({because}); if its upstreams are right, write dnssec = \"off\" into the route"
        )),
        Security::Indeterminate => Finding::Unknown(unknown(&because)),
    }
}

fn unanswered(failure: &Failure) -> Finding {
    Finding::Unknown(unknown(&failure.extended_error().text))
}

fn unknown(because: &str) -> String {
    format!(
        "could not be found out ({because}); until it can be, its answers are withheld, unless \
         dnssec = \"off\" is written into the route"
    )
}
