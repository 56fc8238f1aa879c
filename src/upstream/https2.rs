//! DNS over HTTPS on one HTTP/2 connection (RFC 8484, RFC 9113).
//!
//! Every query is a POST on a stream of its own. Only status 200 with the right media type counts;
//! redirects are not followed, and bodies stop at what a DNS message can be.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::{HeaderMap, Request, StatusCode, Version, header};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use super::{
    error::Failure,
    life::Life,
    message::{self, PADDING_BLOCK_OCTETS, QUERY_CAPACITY_OCTETS, Received, UDP_PAYLOAD_OCTETS},
    upgrade::Upgrade,
};
use crate::{
    clock,
    net::doh,
    wire::{HEADER_OCTETS, MESSAGE_MAX_OCTETS, Question},
};

/// Octets in flight towards us on one stream: a whole message, so that no answer waits.
const STREAM_WINDOW_OCTETS: u32 = 65_536;
/// Octets in flight towards us on the connection; it bounds what a hostile upstream can make us
/// hold.
const CONNECTION_WINDOW_OCTETS: u32 = 1 << 20;
/// The most octets of response headers; DoH needs a few hundred.
const HEADERS_MAX_OCTETS: u32 = 16 * 1024;

/// A connection that carries queries.
#[derive(Clone, Debug)]
pub(super) struct Https2 {
    sender: SendRequest<Bytes>,
    /// Closed when the connection's task has ended.
    ended: watch::Receiver<()>,
    target: Target,
    life: Life,
    upgrade: Arc<Upgrade>,
}

/// The resource that answers queries, and its name.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Host and, unless it is 443, port.
    pub(super) authority: String,
    /// The path, from the slash on.
    pub(super) path: String,
}

impl Https2 {
    /// Starts HTTP/2 on a TLS connection that negotiated it. What its answers say of HTTP/3 goes
    /// to `upgrade`.
    pub(super) async fn start<S>(
        connection: S,
        target: Target,
        life: Life,
        upgrade: Arc<Upgrade>,
    ) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, driver) = client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_OCTETS)
            .initial_connection_window_size(CONNECTION_WINDOW_OCTETS)
            .max_header_list_size(HEADERS_MAX_OCTETS)
            .handshake::<_, Bytes>(connection)
            .await
            .map_err(|error| format!("no HTTP/2: {error}"))?;
        let (alive, ended) = watch::channel(());
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "HTTP/2 connection to an upstream ended");
            }
            drop(alive);
        });
        Ok(Self {
            sender,
            ended,
            target,
            life,
            upgrade,
        })
    }

    /// Whether the connection is there as far as we know.
    pub(super) fn is_open(&self) -> bool {
        self.ended.has_changed().is_ok()
    }

    /// Asks `question` and waits for its response.
    pub(super) async fn exchange(&self, question: &Question) -> Result<Received, Failure> {
        let query = encode(question);
        let request = request(&self.target, query.len(), Version::HTTP_2)?;
        // GOAWAY, RST_STREAM, REFUSED_STREAM: whichever it is, no answer comes on this stream, and
        // the pool asks once more on a fresh connection.
        let lost = |error: h2::Error| Failure::Lost(error.to_string());
        let mut sender = self.sender.clone().ready().await.map_err(lost)?;
        let (response, mut body) = sender.send_request(request, false).map_err(lost)?;
        body.send_data(Bytes::from(query.clone()), true)
            .map_err(lost)?;
        let (head, mut body) = response.await.map_err(lost)?.into_parts();
        self.life.mark_answer();
        check_head(head.status, &head.headers)?;
        self.upgrade.learn(&head.headers, clock::instant());
        let mut answer = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(lost)?;
            self.life.mark_answer();
            append(&mut answer, &chunk)?;
            body.flow_control()
                .release_capacity(chunk.len())
                .map_err(lost)?;
        }
        let octets = check_answer(&query, answer)?;
        Ok(Received::aged(octets, age_s(&head.headers)))
    }
}

/// The query as DoH sends it: id 0, so that caches can share it, and padded.
pub(super) fn encode(question: &Question) -> Vec<u8> {
    let mut query = Vec::with_capacity(QUERY_CAPACITY_OCTETS);
    message::encode_query(
        question,
        0,
        None,
        Some(PADDING_BLOCK_OCTETS),
        UDP_PAYLOAD_OCTETS,
        &mut query,
    );
    query
}

/// The POST request without its body (RFC 8484, section 4.1). It names no user agent.
pub(super) fn request(
    target: &Target,
    octets: usize,
    version: Version,
) -> Result<Request<()>, Failure> {
    Request::post(format!("https://{}{}", target.authority, target.path))
        .version(version)
        .header(header::ACCEPT, doh::MEDIA_TYPE)
        .header(header::CONTENT_TYPE, doh::MEDIA_TYPE)
        .header(header::CONTENT_LENGTH, octets)
        .body(())
        .map_err(|error| Failure::Lost(format!("the url makes no request: {error}")))
}

/// Refuses everything but 200 with a DNS message of a possible length.
pub(super) fn check_head(status: StatusCode, headers: &HeaderMap) -> Result<(), Failure> {
    // Early data was not to this server's liking; a connection without any is (RFC 8470, section 5.2).
    if status == StatusCode::TOO_EARLY {
        return Err(Failure::Lost("refused as early data".to_owned()));
    }
    if status != StatusCode::OK {
        return Err(Failure::Status(status.as_u16()));
    }
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !doh::is_media_type(content_type) {
        return Err(Failure::ContentType(
            content_type.chars().take(CONTENT_TYPE_SHOWN).collect(),
        ));
    }
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if announced.is_some_and(|octets| octets > MESSAGE_MAX_OCTETS) {
        return Err(Failure::TooLong);
    }
    Ok(())
}

/// The Age header: how long a cache on the way has kept the response, by which its TTLs are too
/// long (RFC 8484, section 5.1). 0 when it is missing or no number; a number that does not fit is
/// as long as can be (RFC 9111, section 1.2.2).
pub(super) fn age_s(headers: &HeaderMap) -> u32 {
    headers
        .get(header::AGE)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
        .map_or(0, |digits| digits.parse().unwrap_or(u32::MAX))
}

/// How much of a foreign content type an error message repeats.
const CONTENT_TYPE_SHOWN: usize = 64;

/// Appends a part of the body, up to what a message can be.
pub(super) fn append(answer: &mut Vec<u8>, chunk: &[u8]) -> Result<(), Failure> {
    if answer.len() + chunk.len() > MESSAGE_MAX_OCTETS {
        return Err(Failure::TooLong);
    }
    answer.extend_from_slice(chunk);
    Ok(())
}

/// The answer, when it belongs to the query.
pub(super) fn check_answer(query: &[u8], answer: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if answer.len() < HEADER_OCTETS {
        return Err(Failure::Parse);
    }
    if !message::belongs(query, &answer) {
        return Err(Failure::Mismatch);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_or_nothing() {
        for (text, age) in [
            ("0", 0),
            ("250", 250),
            (" 7 ", 7),
            ("99999999999999999999", u32::MAX),
            ("", 0),
            ("-1", 0),
            ("+1", 0),
            ("1.5", 0),
            ("soon", 0),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AGE, text.parse().unwrap());
            assert_eq!(age_s(&headers), age, "{text:?}");
        }
        assert_eq!(age_s(&HeaderMap::new()), 0);
    }
}
