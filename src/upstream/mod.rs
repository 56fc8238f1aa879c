//! Placeholder for the room `upstream`.

mod settings;

pub use settings::{Pin, Settings, Strategy, UpstreamSettings};

use std::{fmt, sync::Arc, time::Instant};

use crate::{handler::Transport, wire::Question};

/// Asks an upstream one question. Implemented by the upstreams of one worker, and by a scripted
/// one in tests.
pub trait Exchange: Send + Sync + 'static {
    /// Sends the question with RD, CD and DO set and waits for the response that belongs to it.
    ///
    /// What is sent is made from the question alone, so nothing of the client can leak.
    fn exchange(
        &self,
        question: &Question,
        deadline: Instant,
    ) -> impl Future<Output = Result<Exchanged, ExchangeError>> + Send;
}

/// A response as it came, which matched the query's id, question and source.
#[derive(Clone, Debug)]
pub struct Exchanged {
    /// The whole DNS message, wire form; its id is of no meaning any more.
    pub octets: Vec<u8>,
    /// The name of the upstream that gave it.
    pub upstream: Arc<str>,
    /// The transport it came over.
    pub transport: Transport,
}

/// What went wrong between us and an upstream, ordered by stage.
#[derive(Debug)]
pub struct ExchangeError;

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no upstream answered")
    }
}

impl std::error::Error for ExchangeError {}
