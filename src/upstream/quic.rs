//! DNS over dedicated QUIC connections (RFC 9250): a stream per query, id 0, a length in front.

use std::time::Duration;

use quinn::{Connection, ReadError, VarInt};
use tokio::time::timeout;

use super::{
    error::Failure,
    life::Life,
    message::{self, PADDING_BLOCK_OCTETS, QUERY_CAPACITY_OCTETS, UDP_PAYLOAD_OCTETS},
};
use crate::{
    net::{client_quic, framing},
    wire::{MESSAGE_MAX_OCTETS, Question},
};

/// The longest message with its length.
const LONGEST_OCTETS: usize = framing::LENGTH_OCTETS + MESSAGE_MAX_OCTETS;
/// The upstream has no business opening streams (RFC 9250, section 4.2).
pub(super) const UNI_STREAMS_MAX: u32 = 0;
/// The error code for "no longer wanted" (RFC 9250, section 4.3).
const DOQ_REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);

/// A connection that carries queries.
#[derive(Clone, Debug)]
pub(super) struct Quic {
    connection: Connection,
    life: Life,
}

impl Quic {
    /// Takes over a QUIC connection that negotiated `doq`.
    pub(super) const fn start(connection: Connection, life: Life) -> Self {
        Self { connection, life }
    }

    /// Whether the connection is there as far as we know.
    pub(super) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// Asks `question` and waits for its response.
    pub(super) async fn exchange(&self, question: &Question) -> Result<Vec<u8>, Failure> {
        let mut framed = Vec::with_capacity(QUERY_CAPACITY_OCTETS);
        let at = framing::open(&mut framed);
        message::encode_query(
            question,
            0,
            None,
            Some(PADDING_BLOCK_OCTETS),
            UDP_PAYLOAD_OCTETS,
            &mut framed,
        );
        framing::close(&mut framed, at);

        let (mut sending, receiving) = self
            .connection
            .open_bi()
            .await
            .map_err(|error| Failure::Lost(client_quic::explain(&error)))?;
        // A receive half that is dropped early tells the upstream to stop.
        let mut receiving = Cancelling(receiving);
        sending
            .write_all(&framed)
            .await
            .map_err(|error| Failure::Lost(error.to_string()))?;
        sending
            .finish()
            .map_err(|error| Failure::Lost(error.to_string()))?;

        // The buffer grows with what arrives, not with what the length promises.
        let mut input = Vec::new();
        loop {
            let chunk = receiving
                .0
                .read_chunk(LONGEST_OCTETS.saturating_sub(input.len()), true)
                .await
                .map_err(lost)?;
            let Some(chunk) = chunk else {
                return Err(Failure::Lost(
                    "the stream ended before the answer".to_owned(),
                ));
            };
            self.life.mark_answer();
            input.extend_from_slice(&chunk.bytes);
            if framing::split(&input).is_some() {
                break;
            }
        }
        // The end of the stream usually came with the answer; taking note of it saves telling the
        // upstream to stop. It is not worth waiting for.
        drop(timeout(Duration::ZERO, receiving.0.read_chunk(1, true)).await);
        input.drain(..framing::LENGTH_OCTETS.min(input.len()));
        let query = framed.get(framing::LENGTH_OCTETS..).unwrap_or_default();
        super::https2::check_answer(query, input)
    }
}

fn lost(error: ReadError) -> Failure {
    Failure::Lost(match error {
        ReadError::ConnectionLost(reason) => client_quic::explain(&reason),
        other => other.to_string(),
    })
}

/// Sends STOP_SENDING with DoQ's own code when it is dropped before the end of the stream.
struct Cancelling(quinn::RecvStream);

impl Drop for Cancelling {
    fn drop(&mut self) {
        // Fails when the stream has ended already, which is as good.
        drop(self.0.stop(DOQ_REQUEST_CANCELLED));
    }
}
