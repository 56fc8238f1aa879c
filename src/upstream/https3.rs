//! DNS over HTTPS on one HTTP/3 connection (RFC 8484, RFC 9114).

use bytes::{Buf, Bytes};
use h3::{client::SendRequest, error::StreamError};
use http::Version;

use super::{
    error::Failure,
    https2::{self, Target},
    life::Life,
    message::Received,
};
use crate::{
    handler::Transport,
    net::http3::{Connection, Opener},
    wire::{MESSAGE_MAX_OCTETS, Question},
};

/// Unidirectional streams the upstream may open: HTTP/3's control stream, QPACK's two, and room
/// for reserved kinds (RFC 9114, section 6.2).
pub(super) const UNI_STREAMS_MAX: u32 = 8;
/// The most octets of response headers; DoH needs a few hundred.
const HEADERS_MAX_OCTETS: u32 = 16 * 1024;
/// The most octets of one response: headers, the longest message, and the frames around them, each
/// of which takes a few octets.
const STREAM_MAX_OCTETS: usize = HEADERS_MAX_OCTETS as usize + MESSAGE_MAX_OCTETS + 1024;

/// A connection that carries queries.
#[derive(Clone)]
pub(super) struct Https3 {
    connection: quinn::Connection,
    sender: SendRequest<Opener, Bytes>,
    target: Target,
    life: Life,
}

impl Https3 {
    /// Starts HTTP/3 on a QUIC connection that negotiated it.
    pub(super) async fn start(
        connection: quinn::Connection,
        target: Target,
        life: Life,
    ) -> Result<Self, String> {
        let (mut driver, sender) = h3::client::builder()
            .max_field_section_size(HEADERS_MAX_OCTETS.into())
            .send_grease(false)
            .build(Connection::new(connection.clone(), STREAM_MAX_OCTETS))
            .await
            .map_err(|error| format!("no HTTP/3: {error}"))?;
        tokio::spawn(async move {
            let reason = driver.wait_idle().await;
            tracing::debug!(%reason, "HTTP/3 connection to an upstream ended");
        });
        Ok(Self {
            connection,
            sender,
            target,
            life,
        })
    }

    /// Whether the connection is there as far as we know.
    pub(super) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// Asks `question` and waits for its response.
    pub(super) async fn exchange(&self, question: &Question) -> Result<Received, Failure> {
        let query = https2::encode(question);
        let request = https2::request(&self.target, query.len(), Version::HTTP_3)?;
        let lost = |error: StreamError| Failure::Lost(error.to_string());
        // The clone lives as long as the exchange: the connection closes with the last sender.
        let mut sender = self.sender.clone();
        let mut stream = sender.send_request(request).await.map_err(lost)?;
        stream
            .send_data(Bytes::from(query.clone()))
            .await
            .map_err(lost)?;
        stream.finish().await.map_err(lost)?;
        let head = stream.recv_response().await.map_err(lost)?;
        self.life.mark_answer();
        https2::check_head(head.status(), head.headers())?;
        let mut answer = Vec::new();
        while let Some(mut chunk) = stream.recv_data().await.map_err(lost)? {
            self.life.mark_answer();
            while chunk.has_remaining() {
                let part = chunk.chunk();
                https2::append(&mut answer, part)?;
                let octets = part.len();
                chunk.advance(octets);
            }
        }
        let octets = https2::check_answer(&query, answer)?;
        Ok(Received {
            transport: Some(Transport::Http3),
            ..Received::aged(octets, https2::age_s(head.headers()))
        })
    }
}
