//! Exchanges with upstreams, shared: equal questions on their way at the same time, whoever wants
//! them, are one exchange.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::timeout_at;
use tracing::debug;

use crate::{
    clock,
    reply::Failure,
    upstream::{Class, Exchange},
    wire::{Question, Response, rcode, rtype},
};

use super::{
    counters::Counters,
    flights::{Flight, Flights, Joined},
};

/// One who asks with so much less than the whole time left fails for himself alone.
const LATE: Duration = Duration::from_millis(100);

/// What an exchange brought.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The response, well-formed and to the question.
    pub(super) response: Response,
    /// The upstream that gave it.
    pub(super) upstream: Arc<str>,
}

/// The end of an exchange, for all who wait for it.
pub(super) type Outcome = Result<Arc<Fetched>, Failure>;

/// Fetches for one question of a client.
pub(super) struct Fetcher<U> {
    pub(super) upstreams: Arc<U>,
    pub(super) flights: Arc<Flights<Outcome>>,
    pub(super) deadline: Instant,
    /// How often answers were forgotten before: what was asked for earlier than that is not joined.
    pub(super) forgotten: u64,
    /// Exchanges that may still be begun.
    pub(super) budget: AtomicUsize,
}

impl<U: Exchange> Fetcher<U> {
    /// Asks `question`, not of the upstream `avoid`, or joins those who are asking it.
    ///
    /// The exchange belongs to the first who asked: when that one is withdrawn the next of those
    /// who wait begins anew, and when nobody waits it ends.
    pub(super) async fn fetch(
        &self,
        question: &Question,
        avoid: Option<&str>,
        counters: &Counters,
    ) -> Outcome {
        let key = key(question, avoid, self.forgotten);
        loop {
            let joined = self.flights.join(&key).map_err(Failure::Overloaded)?;
            let landed = match joined {
                Joined::Passenger(landed) => landed,
                Joined::Pilot(flight) => return self.fly(flight, question, avoid, counters).await,
            };
            match timeout_at(self.deadline.into(), landed).await {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(_)) => {}
                Err(_) => return Err(Failure::Unreachable),
            }
        }
    }

    async fn fly(
        &self,
        flight: Flight<Outcome>,
        question: &Question,
        avoid: Option<&str>,
        counters: &Counters,
    ) -> Outcome {
        if !self.take_budget() {
            return Err(Failure::Upstream(
                "the answer takes more exchanges than are allowed".to_owned(),
            ));
        }
        let left = self.deadline.saturating_duration_since(clock::instant());
        let is_late = left + LATE < self.upstreams.timeout();
        let outcome = self.exchange(question, avoid, counters).await;
        // A failure for want of our time or budget is not that of those who joined: they begin
        // anew.
        if outcome.is_ok() || !is_late {
            flight.land(&outcome);
        }
        outcome
    }

    fn take_budget(&self) -> bool {
        self.budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }

    async fn exchange(
        &self,
        question: &Question,
        avoid: Option<&str>,
        counters: &Counters,
    ) -> Outcome {
        counters.exchanges.add();
        let exchanged = self
            .upstreams
            .exchange(question, self.deadline, avoid)
            .await
            .map_err(|error| {
                debug!(name = %question.name, qtype = question.qtype, %error, "exchange failed");
                match error.class() {
                    Class::Silent => Failure::Unreachable,
                    Class::Network => Failure::Network(error.to_string()),
                    Class::Answerless => Failure::Upstream(error.to_string()),
                }
            })?;
        let upstream = exchanged.upstream;
        let age_s = exchanged.age_s;
        match Response::parse(&exchanged.octets) {
            Ok(response) if is_referral(&response) => Err(Failure::Upstream(format!(
                "{upstream} refers to other servers; it does not resolve"
            ))),
            Ok(mut response) => {
                grow_older(&mut response, age_s);
                Ok(Arc::new(Fetched { response, upstream }))
            }
            Err(error) => Err(Failure::Upstream(format!(
                "{upstream} sent a broken message: {error}"
            ))),
        }
    }
}

/// Takes the time that the response lay in an HTTP cache off its TTLs (RFC 8484, section 5.1).
fn grow_older(response: &mut Response, age_s: u32) {
    for record in response.answer.iter_mut().chain(&mut response.authority) {
        record.ttl_s = record.ttl_s.saturating_sub(age_s);
    }
}

/// Whether the response is what an authoritative server says of names it has delegated (RFC 2308,
/// section 2.2). Taken for an answer it would deny the name.
fn is_referral(response: &Response) -> bool {
    let has = |wanted| {
        response
            .authority
            .iter()
            .any(|record| record.rtype == wanted)
    };
    response.rcode == rcode::NOERROR
        && response.answer.is_empty()
        && has(rtype::NS)
        && !has(rtype::SOA)
}

/// The name of a flight: the question, when answers were last forgotten, and whom it is not asked of.
fn key(question: &Question, avoid: Option<&str>, forgotten: u64) -> Vec<u8> {
    let name = question.name.as_wire();
    let avoid = avoid.unwrap_or_default().as_bytes();
    let mut key = Vec::with_capacity(name.len() + 12 + avoid.len());
    key.extend_from_slice(name);
    key.extend_from_slice(&forgotten.to_be_bytes());
    key.extend_from_slice(&question.qtype.to_be_bytes());
    key.extend_from_slice(&question.qclass.to_be_bytes());
    key.extend_from_slice(avoid);
    key
}
