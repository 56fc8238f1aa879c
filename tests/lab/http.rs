//! The lab's DoH upstream over TLS (RFC 8484): HTTP/2 by `h2` itself, so that streams and
//! connections can end badly, and HTTP/1.1 by hyper. What HTTP/3 shares with them is here too.

use super::host::Stream;
use super::respond::{Arrival, Plan, Service};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The path that is served.
pub const PATH: &str = "/dns-query";

/// A request body is one message.
pub(super) const BODY_MAX_OCTETS: usize = 65535;

const MEDIA_TYPE: &str = "application/dns-message";

/// An HTTP answer that is ready to be sent, after a wait.
pub(super) struct Reply {
    pub(super) wait: Duration,
    pub(super) head: Response<()>,
    pub(super) body: Vec<u8>,
    pub(super) cut: bool,
    pub(super) reset: bool,
    pub(super) go_away: bool,
    pub(super) close: bool,
    /// There is nothing to send, ever.
    pub(super) silent: bool,
}

/// Serves one TLS connection, whichever version of HTTP it speaks.
pub(super) async fn serve(
    acceptor: TlsAcceptor,
    stream: Stream,
    service: Arc<Service>,
    arrival: Arrival,
) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        serve_h2(stream, service, arrival).await;
    } else {
        serve_h1(stream, service, arrival).await;
    }
}

async fn serve_h2(stream: TlsStream<Stream>, service: Arc<Service>, arrival: Arrival) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    let mut streams: JoinSet<Option<Ending>> = JoinSet::new();
    loop {
        let idle = service.faults.current(arrival.transport).close_idle;
        let sleep = async {
            match idle {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else {
                    return;
                };
                streams.spawn(answer_h2(request, respond, service.clone(), arrival));
            }
            Some(ended) = streams.join_next() => match ended {
                Ok(Some(Ending::GoAway)) => connection.graceful_shutdown(),
                Ok(Some(Ending::Close)) => {
                    // The answer is written before the end.
                    connection.graceful_shutdown();
                    while let Some(Ok(_)) = connection.accept().await {}
                    return;
                }
                _ => {}
            },
            () = sleep, if streams.is_empty() => return,
        }
    }
}

/// What an answer does to its connection.
enum Ending {
    GoAway,
    Close,
}

async fn answer_h2(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    service: Arc<Service>,
    arrival: Arrival,
) -> Option<Ending> {
    let (head, mut body) = request.into_parts();
    let mut octets = Vec::new();
    while let Some(Ok(chunk)) = body.data().await {
        let _ = body.flow_control().release_capacity(chunk.len());
        octets.extend(&chunk);
        if octets.len() > BODY_MAX_OCTETS {
            respond.send_reset(h2::Reason::CANCEL);
            return None;
        }
    }
    let reply = reply(&head, &octets, &service, arrival);
    tokio::time::sleep(reply.wait).await;
    if reply.silent {
        // Kept open until the client gives up.
        let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        return None;
    }
    if reply.reset {
        respond.send_reset(h2::Reason::INTERNAL_ERROR);
        return None;
    }
    let mut sender = respond.send_response(reply.head, false).ok()?;
    if reply.cut {
        let half = Bytes::copy_from_slice(&reply.body[..reply.body.len() / 2]);
        let _ = sender.send_data(half, false);
        sender.send_reset(h2::Reason::INTERNAL_ERROR);
        return None;
    }
    let _ = sender.send_data(Bytes::from(reply.body), true);
    match (reply.close, reply.go_away) {
        (true, _) => Some(Ending::Close),
        (_, true) => Some(Ending::GoAway),
        _ => None,
    }
}

async fn serve_h1(stream: TlsStream<Stream>, service: Arc<Service>, arrival: Arrival) {
    let handler = service_fn(|request: Request<Incoming>| {
        let service = service.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = Limited::new(body, BODY_MAX_OCTETS).collect().await;
            let octets = body.map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
            let reply = reply(&head, &octets, &service, arrival);
            tokio::time::sleep(reply.wait).await;
            if reply.silent {
                std::future::pending::<()>().await;
            }
            let (mut head, ()) = reply.head.into_parts();
            if reply.close || reply.go_away {
                let close = header::HeaderValue::from_static("close");
                head.headers.insert(header::CONNECTION, close);
            }
            let body = Whole::new(reply.body, reply.cut || reply.reset);
            Ok::<_, Infallible>(Response::from_parts(head, body))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), handler)
        .await;
}

/// A body in one piece, or half of one and then an error.
struct Whole {
    octets: Option<Bytes>,
    length: u64,
    breaks: bool,
}

impl Whole {
    fn new(mut octets: Vec<u8>, breaks: bool) -> Self {
        let length = octets.len() as u64;
        if breaks {
            octets.truncate(octets.len() / 2);
        }
        Self {
            octets: Some(Bytes::from(octets)),
            length,
            breaks,
        }
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(match self.octets.take() {
            Some(octets) => Some(Ok(Frame::data(octets))),
            None if self.breaks => Some(Err(std::io::Error::other("cut on purpose"))),
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

/// The answer to a request, in any version of HTTP.
pub(super) fn reply(
    head: &http::request::Parts,
    body: &[u8],
    service: &Service,
    arrival: Arrival,
) -> Reply {
    let message = match message_of(head, body) {
        Ok(message) => message,
        Err(status) => return bare(status),
    };
    let Plan {
        wait,
        replies,
        faults,
        ..
    } = service.plan(arrival, &message);
    let silent = replies.is_empty();
    let mut body = replies.into_iter().next().unwrap_or_default();
    if let Some(octets) = faults.http_body_octets {
        body.resize(octets, 0);
    }
    let status = faults.http_status.unwrap_or(200);
    let media_type = faults.http_type.as_deref().unwrap_or(MEDIA_TYPE);
    let mut head = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, media_type)
        .header(header::CACHE_CONTROL, "max-age=0")
        // Not needed from HTTP/2 on, but `dig` reads nothing without it.
        .header(header::CONTENT_LENGTH, body.len());
    if let Some(location) = &faults.http_location {
        head = head.header(header::LOCATION, location);
    }
    if let Some(offer) = &faults.http_alt_svc {
        head = head.header(header::ALT_SVC, offer);
    }
    Reply {
        wait,
        head: head.body(()).unwrap_or_default(),
        body,
        cut: faults.cut,
        reset: faults.reset_stream,
        go_away: faults.go_away,
        close: faults.close_after_answer,
        silent,
    }
}

fn bare(status: StatusCode) -> Reply {
    let mut head = Response::new(());
    *head.status_mut() = status;
    Reply {
        wait: Duration::ZERO,
        head,
        body: Vec::new(),
        cut: false,
        reset: false,
        go_away: false,
        close: false,
        silent: false,
    }
}

/// The DNS message of a request (RFC 8484, section 4.1).
fn message_of(head: &http::request::Parts, body: &[u8]) -> Result<Vec<u8>, StatusCode> {
    if head.uri.path() != PATH {
        return Err(StatusCode::NOT_FOUND);
    }
    match head.method {
        Method::GET => {
            let query = head.uri.query().unwrap_or_default();
            let value = query.split('&').find_map(|pair| pair.strip_prefix("dns="));
            let value = value.ok_or(StatusCode::BAD_REQUEST)?;
            data_encoding::BASE64URL_NOPAD
                .decode(value.as_bytes())
                .map_err(|_| StatusCode::BAD_REQUEST)
        }
        Method::POST => {
            let media_type = head.headers.get(header::CONTENT_TYPE);
            if media_type.is_none_or(|value| value != MEDIA_TYPE) {
                return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            }
            Ok(body.to_vec())
        }
        _ => Err(StatusCode::METHOD_NOT_ALLOWED),
    }
}
