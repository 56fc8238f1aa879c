//! DNS over HTTPS (RFC 8484): from a request to the handler and back, which `https2` and `https3` share
//! (`doh` has the mapping itself); and HTTP/1.1 on hyper.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, header::CONTENT_TYPE, request::Parts};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Body, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    QUERY_MAX_OCTETS,
    connections::Admission,
    doh::{self, Endpoint, Rejection, body_query, doh_request},
    serve::{DRAIN_MAX, Service, stopped},
    turn::{give_spare, take_spare},
};
use crate::{
    clock,
    handler::{Answer, Attempt, Client, Handler},
};

/// Octets of one request's header fields; browsers send less than one thousand.
pub(super) const HEADERS_MAX_OCTETS: u32 = 16 * 1024;

/// Header fields of one HTTP/1.1 request.
const HEADERS_MAX: usize = 64;

/// What is read of a refused request's body, octets: all that a client of HTTP/2 sends before it
/// hears that it is refused, since no window of a connection is larger; for HTTP/1.1 simply a bound.
pub(super) const REFUSED_BODY_MAX_OCTETS: usize = 64 * 1024;

/// How long the rest of a refused request's body is waited for.
const REFUSED_BODY_WAIT: Duration = Duration::from_secs(1);

/// One connection's surroundings.
pub(super) struct Session<'a, H> {
    pub(super) client: Client,
    pub(super) service: &'a Service<H>,
    pub(super) endpoint: &'a Arc<Endpoint>,
    pub(super) admission: &'a Admission,
}

/// A response's head and body.
pub(super) type Reply = (Response<()>, Bytes);

/// What a query came to at first sight.
pub(super) enum Outcome<P> {
    Reply(Reply),
    Pending(P),
}

/// Lets the handler try and clothes the result in HTTP.
pub(super) fn try_query<H: Handler>(
    handler: &H,
    query: &[u8],
    client: &Client,
    endpoint: &Endpoint,
) -> Outcome<H::Pending> {
    let mut message = take_spare();
    let outcome = match handler.try_answer(&handler.now(), query, client, &mut message) {
        Attempt::Answered(answer) => {
            let head = endpoint.reply(answer, message.len());
            Outcome::Reply((head, Bytes::copy_from_slice(&message)))
        }
        Attempt::Malformed => Outcome::Reply(reject(endpoint, Rejection::BadRequest)),
        Attempt::Refused => Outcome::Reply(reject(endpoint, Rejection::TooMany)),
        Attempt::Pending(pending) => Outcome::Pending(pending),
    };
    give_spare(message);
    outcome
}

/// Waits for the handler and clothes its reply in HTTP.
pub(super) async fn finish_query<H: Handler>(
    handler: &H,
    pending: H::Pending,
    endpoint: &Endpoint,
) -> Reply {
    let mut message = Vec::new();
    let answer: Answer = handler.finish(pending, &mut message).await;
    (endpoint.reply(answer, message.len()), Bytes::from(message))
}

pub(super) fn reject(endpoint: &Endpoint, rejection: Rejection) -> Reply {
    let text = Bytes::from_static(rejection.explanation().as_bytes());
    (endpoint.rejection(rejection), text)
}

/// Refuses a request of a known head. One by HEAD gets no content (RFC 9110, section 9.3.2); HTTP/2
/// clients treat it as a malformed response otherwise.
pub(super) fn reject_request(endpoint: &Endpoint, head: &Parts, rejection: Rejection) -> Reply {
    let (response, text) = reject(endpoint, rejection);
    if head.method == Method::HEAD {
        return (response, Bytes::new());
    }
    (response, text)
}

/// Reads a request's head, whichever HTTP it came by.
pub(super) fn read_head(endpoint: &Endpoint, head: &Parts) -> Result<doh::Request, Rejection> {
    doh_request(
        &endpoint.path(),
        &head.method,
        head.uri.path(),
        head.uri.query(),
        head.headers
            .get(CONTENT_TYPE)
            .map(http::HeaderValue::as_bytes),
    )
}

impl<H: Handler> Session<'_, H> {
    /// Serves a connection that speaks HTTP/1.1, to its end.
    pub(super) async fn http1<IO>(&self, io: IO, stop: watch::Receiver<bool>)
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let settings = &self.service.shared.settings;
        let begun = AtomicUsize::new(0);
        let ended = AtomicUsize::new(0);
        let answer = service_fn(|request| {
            let (begun, ended) = (&begun, &ended);
            async move {
                begun.fetch_add(1, Ordering::Relaxed);
                self.admission.note(true);
                let response = self.answer_http1(request).await;
                ended.fetch_add(1, Ordering::Relaxed);
                self.admission.note(false);
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(settings.idle)
            .max_buf_size(HEADERS_MAX_OCTETS as usize)
            .max_headers(HEADERS_MAX)
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(io), answer);
        let mut connection = std::pin::pin!(connection);
        let mut stopping = std::pin::pin!(stopped(stop));
        let mut leaving = false;
        let mut seen = 0;
        let mut asleep = std::pin::pin!(sleep(settings.idle));
        loop {
            tokio::select! {
                biased;
                _ = &mut connection => return,
                () = &mut stopping, if !leaving => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                    asleep.as_mut().reset((clock::instant() + DRAIN_MAX).into());
                }
                // A whole period without a new request and nothing to wait for: the client is
                // silent, or does not read its response.
                () = &mut asleep => {
                    let now = begun.load(Ordering::Relaxed);
                    if leaving || (now == seen && now == ended.load(Ordering::Relaxed)) {
                        return;
                    }
                    seen = now;
                    asleep.as_mut().reset((clock::instant() + settings.idle).into());
                }
            }
        }
    }

    async fn answer_http1(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, mut body) = request.into_parts();
        let (head, body) = match self.read_http1(&head, &mut body).await {
            Ok(query) => {
                let handler = &self.service.handler;
                match try_query(&**handler, &query, &self.client, self.endpoint) {
                    Outcome::Reply(reply) => reply,
                    Outcome::Pending(pending) => {
                        finish_query(&**handler, pending, self.endpoint).await
                    }
                }
            }
            Err(rejection) => {
                discard_http1(&mut body).await;
                reject(self.endpoint, rejection)
            }
        };
        head.map(|()| Full::new(body))
    }

    async fn read_http1(&self, head: &Parts, body: &mut Incoming) -> Result<Vec<u8>, Rejection> {
        if let doh::Request::Query(query) = read_head(self.endpoint, head)? {
            return Ok(query);
        }
        if body.size_hint().lower() > QUERY_MAX_OCTETS as u64 {
            return Err(Rejection::TooLarge);
        }
        let collecting = Limited::new(body, QUERY_MAX_OCTETS).collect();
        let patience = self.service.shared.settings.patience.query;
        let collected = timeout(patience, collecting).await;
        let body = collected
            .map_err(|_| Rejection::Timeout)?
            .map_err(|error| {
                if error.is::<http_body_util::LengthLimitError>() {
                    Rejection::TooLarge
                } else {
                    Rejection::BadRequest
                }
            })?
            .to_bytes();
        body_query(&body)?;
        Ok(body.into())
    }
}

/// Reads the rest of a body that nobody wants, within bounds: closing a connection with octets
/// unread resets it, and the client may lose the response (RFC 9112, section 9.6).
async fn discard_http1(body: &mut Incoming) {
    let reading = Limited::new(body, REFUSED_BODY_MAX_OCTETS).collect();
    // What comes later, or is more, is not worth waiting for.
    let _ = timeout(REFUSED_BODY_WAIT, reading).await;
}
