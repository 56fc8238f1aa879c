//! From a question to an answer that can be stored: ask, scrub, follow aliases.
//!
//! Here responses meet the judge. Each one passes through [`Driver::resolve`] before anything is
//! stored or sent; the validator's steps belong between the scrub and the chain's end, with their
//! look-ups going through the same [`Exchange`]. Until then no answer is called secure.

use std::{sync::Arc, time::Instant};

use tracing::debug;

use crate::{
    reply::Failure,
    upstream::Exchange,
    wire::{Question, Response},
};

use super::{
    counters::Counters,
    scrub::{ALIASES_MAX, Scrubbed, scrub},
};

/// Exchanges with upstreams for one question of a client, whatever the answers say.
const EXCHANGES_MAX: usize = 12;

/// Resolves one question.
pub(super) struct Driver<U> {
    pub(super) upstreams: Arc<U>,
    pub(super) deadline: Instant,
}

impl<U: Exchange> Driver<U> {
    /// Asks upstreams until the chain of aliases from the question's name ends.
    pub(super) async fn resolve(
        &self,
        question: &Question,
        counters: &Counters,
    ) -> Result<Scrubbed, Failure> {
        let mut found = Scrubbed::default();
        let mut asked = question.clone();
        for _ in 0..EXCHANGES_MAX {
            let step = self.exchange(&asked, counters).await?;
            found.rcode = step.rcode;
            found.aliases += step.aliases;
            for record in step.answer {
                if !found.answer.contains(&record) {
                    found.answer.push(record);
                }
            }
            found.authority.extend(step.authority);
            let Some(next) = step.next else {
                return Ok(found);
            };
            let circle =
                next == question.name || found.answer.iter().any(|record| record.owner == next);
            if circle || found.aliases > ALIASES_MAX {
                break;
            }
            asked.name = next;
        }
        Err(Failure::Upstream(
            "the chain of aliases is too long or a circle".to_owned(),
        ))
    }

    async fn exchange(
        &self,
        question: &Question,
        counters: &Counters,
    ) -> Result<Scrubbed, Failure> {
        counters.exchanges.add();
        let exchanged = match self.upstreams.exchange(question, self.deadline).await {
            Ok(exchanged) => exchanged,
            Err(error) => {
                debug!(name = %question.name, qtype = question.qtype, %error, "exchange failed");
                return Err(if error.is_silent() {
                    Failure::Unreachable
                } else {
                    Failure::Upstream(error.to_string())
                });
            }
        };
        let upstream = exchanged.upstream;
        let response = Response::parse(&exchanged.octets).map_err(|error| {
            Failure::Upstream(format!("{upstream} sent a broken message: {error}"))
        })?;
        scrub(question, &response).map_err(|error| Failure::Upstream(format!("{upstream} {error}")))
    }
}
