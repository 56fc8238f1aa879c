//! DNS over HTTPS on HTTP/2 (RFC 8484, RFC 9113), on the h2 crate itself.
//!
//! A client of HTTP/2 asks many things at once. One turn first takes every request that has
//! arrived, then answers, so that the answers leave in one write.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    server::{Builder, Connection, SendResponse},
};
use http::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};

use super::{
    Patience, QUERY_MAX_OCTETS,
    doh::{self, Endpoint, Rejection, body_query},
    https::{
        HEADERS_MAX_OCTETS, Outcome, REFUSED_BODY_MAX_OCTETS, Reply, Session, finish_query,
        read_head, reject, reject_request, try_query,
    },
    serve::{DRAIN_MAX, Service, note_end, stopped},
};
use crate::{
    clock,
    handler::{Client, Handler},
};

/// What one HTTP/2 stream may send before we have read it, octets: a query.
const STREAM_WINDOW_OCTETS: u32 = 16 * 1024;

/// What one HTTP/2 connection may send before we have read it, octets.
const CONNECTION_WINDOW_OCTETS: u32 = 64 * 1024;

/// What is held of one response that the client does not take, octets: the largest message.
const SEND_BUFFER_OCTETS: usize = 128 * 1024;

/// Streams that a client reset before we took them, and streams that we had to reset because of
/// the client's errors: over either the connection is closed (rapid reset, MadeYouReset).
const RESETS_MAX: usize = 32;

/// Requests that a client may withdraw after we took them without being looked at. From then on a
/// client that withdraws more than half of what it asks is attacking (rapid reset).
const WITHDRAWN_FREE: usize = 128;

/// How long the goodbye may take.
const CLOSE: Duration = Duration::from_secs(1);

/// Requests taken from one connection before they are answered; the rest come next turn.
const REQUESTS_PER_TURN: usize = 128;

impl<H: Handler> Session<'_, H> {
    /// Serves a connection that agreed on HTTP/2, to its end.
    pub(super) async fn http2<IO>(&self, io: IO, stop: watch::Receiver<bool>)
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let settings = &self.service.shared.settings;
        let streams_max = u32::try_from(settings.queries_per_connection_max).unwrap_or(u32::MAX);
        let handshake = Builder::new()
            .max_concurrent_streams(streams_max)
            .max_header_list_size(HEADERS_MAX_OCTETS)
            .initial_window_size(STREAM_WINDOW_OCTETS)
            .initial_connection_window_size(CONNECTION_WINDOW_OCTETS)
            .max_send_buffer_size(SEND_BUFFER_OCTETS)
            .max_pending_accept_reset_streams(RESETS_MAX)
            .max_local_error_reset_streams(Some(RESETS_MAX))
            .max_concurrent_reset_streams(RESETS_MAX)
            .handshake(io);
        let Ok(Ok(connection)) = timeout(settings.handshake, handshake).await else {
            return;
        };
        let mut tasks = Tasks::new();
        self.take_turns(connection, &mut tasks, stop).await;
    }

    async fn take_turns<IO>(
        &self,
        mut connection: Connection<IO, Bytes>,
        tasks: &mut Tasks,
        stop: watch::Receiver<bool>,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let settings = &self.service.shared.settings;
        let mut stopping = std::pin::pin!(stopped(stop));
        let mut asleep = std::pin::pin!(sleep(settings.idle));
        let mut changed = clock::instant();
        let mut batch = Vec::new();
        let mut tally = Tally::default();
        // Set when the goodbye has been said: nothing lasts longer than this.
        let mut leaving = false;
        loop {
            tokio::select! {
                biased;
                open = poll_fn(|context| poll_batch(&mut connection, context, &mut batch)) => {
                    while let Some(ended) = tasks.try_join_next() {
                        tally.note(ended);
                    }
                    for (request, respond) in batch.drain(..) {
                        tally.taken += 1;
                        if self.answer_request(request, respond, tasks) == Fate::Withdrawn {
                            tally.withdrawn += 1;
                        }
                    }
                    if tally.is_attack() {
                        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    }
                    if !open {
                        return;
                    }
                    changed = self.admission.note(!tasks.is_empty());
                }
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    tally.note(ended);
                    changed = self.admission.note(!tasks.is_empty());
                }
                () = &mut stopping, if !leaving => {
                    leaving = true;
                    connection.graceful_shutdown();
                    asleep.as_mut().reset((clock::instant() + DRAIN_MAX).into());
                }
                () = &mut asleep => {
                    let deadline = changed + settings.idle;
                    if leaving {
                        return;
                    } else if tasks.is_empty() && clock::instant() >= deadline {
                        leaving = true;
                        connection.graceful_shutdown();
                        asleep.as_mut().reset((clock::instant() + CLOSE).into());
                    } else {
                        let next = deadline.max(clock::instant() + CLOSE);
                        asleep.as_mut().reset(next.into());
                    }
                }
            }
        }
    }

    /// Answers one request, at once when its body is here and memory has the answer.
    fn answer_request(
        &self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        tasks: &mut Tasks,
    ) -> Fate {
        let mut context = Context::from_waker(Waker::noop());
        if respond.poll_reset(&mut context).is_ready() {
            return Fate::Withdrawn;
        }
        let (head, mut body) = request.into_parts();
        let endpoint = self.endpoint;
        let full = tasks.len() >= self.service.shared.settings.queries_per_connection_max;
        match read_head(endpoint, &head) {
            Err(rejection) => {
                let reply = reject_request(endpoint, &head, rejection);
                self.refuse(respond, reply, body, tasks);
            }
            Ok(_) if full => {
                let reply = reject(endpoint, Rejection::Unavailable);
                self.refuse(respond, reply, body, tasks);
            }
            Ok(doh::Request::Query(query)) => self.answer_query(&query, respond, tasks),
            Ok(doh::Request::Body) => {
                let mut query = Vec::new();
                match poll_body(&mut body, &mut context, &mut query) {
                    Poll::Ready(Ok(())) => self.answer_query(&query, respond, tasks),
                    Poll::Ready(Err(Failure::Rejected(rejection))) => {
                        self.refuse(respond, reject(endpoint, rejection), body, tasks);
                    }
                    Poll::Ready(Err(Failure::Gone)) => return Fate::Withdrawn,
                    Poll::Pending => {
                        let service = self.service.clone();
                        let endpoint = Arc::clone(endpoint);
                        let client = self.client;
                        tasks.spawn(async move {
                            answer_rest(body, query, respond, client, &service, &endpoint).await
                        });
                    }
                }
            }
        }
        Fate::Answered
    }

    fn answer_query(&self, query: &[u8], respond: SendResponse<Bytes>, tasks: &mut Tasks) {
        let handler = &self.service.handler;
        let patience = self.service.shared.settings.patience;
        match try_query(&**handler, query, &self.client, self.endpoint) {
            Outcome::Reply(reply) => send(respond, reply, patience, tasks),
            Outcome::Pending(pending) => {
                let handler = Arc::clone(handler);
                let endpoint = Arc::clone(self.endpoint);
                tasks.spawn(async move {
                    finish(&*handler, pending, respond, &endpoint, patience).await
                });
            }
        }
    }

    /// Sends a refusal, and lets the rest of the request's body come.
    fn refuse(
        &self,
        respond: SendResponse<Bytes>,
        reply: Reply,
        body: RecvStream,
        tasks: &mut Tasks,
    ) {
        let patience = self.service.shared.settings.patience;
        send(respond, reply, patience, tasks);
        if !body.is_end_stream() {
            tasks.spawn(async move {
                discard(body, patience).await;
                Fate::Answered
            });
        }
    }
}

/// Takes every request that has arrived. Ready with whether the connection is still open; only
/// then are there more to come. Answering after taking is what puts all answers in one write,
/// since each look for another request also flushes.
///
/// Once there is a request nobody need be woken, because this is called again before the task
/// waits. h2 must not know the task then: each answer would wake it for a turn of its own.
fn poll_batch<IO>(
    connection: &mut Connection<IO, Bytes>,
    context: &mut Context<'_>,
    batch: &mut Vec<(Request<RecvStream>, SendResponse<Bytes>)>,
) -> Poll<bool>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut nobody = Context::from_waker(Waker::noop());
    loop {
        let context = if batch.is_empty() {
            &mut *context
        } else {
            &mut nobody
        };
        match connection.poll_accept(context) {
            Poll::Ready(Some(Ok(request))) => {
                batch.push(request);
                if batch.len() >= REQUESTS_PER_TURN {
                    return Poll::Ready(true);
                }
            }
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(false),
            Poll::Pending if batch.is_empty() => return Poll::Pending,
            Poll::Pending => return Poll::Ready(true),
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// With a response, or on its way to one.
    Answered,
    /// The client reset it first.
    Withdrawn,
}

type Tasks = JoinSet<Fate>;

/// One connection's requests.
#[derive(Debug, Default)]
struct Tally {
    taken: usize,
    withdrawn: usize,
}

impl Tally {
    fn note(&mut self, ended: Result<Fate, JoinError>) {
        if matches!(ended, Ok(Fate::Withdrawn)) {
            self.withdrawn += 1;
        }
        note_end(ended);
    }

    const fn is_attack(&self) -> bool {
        self.withdrawn > WITHDRAWN_FREE && self.withdrawn > self.taken / 2
    }
}

/// Why a body gives no query.
enum Failure {
    Rejected(Rejection),
    /// The stream was reset or the connection lost: there is nobody to tell.
    Gone,
}

/// Reads what has arrived of a body; ready when it is complete or refused.
fn poll_body(
    body: &mut RecvStream,
    context: &mut Context<'_>,
    query: &mut Vec<u8>,
) -> Poll<Result<(), Failure>> {
    loop {
        match body.poll_data(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => {
                return Poll::Ready(body_query(query).map_err(Failure::Rejected));
            }
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Failure::Gone)),
            Poll::Ready(Some(Ok(data))) => {
                let _ = body.flow_control().release_capacity(data.len());
                if query.len() + data.len() > QUERY_MAX_OCTETS {
                    return Poll::Ready(Err(Failure::Rejected(Rejection::TooLarge)));
                }
                query.extend_from_slice(&data);
            }
        }
    }
}

/// Waits for the rest of a body, then answers.
async fn answer_rest<H: Handler>(
    mut body: RecvStream,
    mut query: Vec<u8>,
    respond: SendResponse<Bytes>,
    client: Client,
    service: &Service<H>,
    endpoint: &Endpoint,
) -> Fate {
    let reading = poll_fn(|context| poll_body(&mut body, context, &mut query));
    let patience = service.shared.settings.patience;
    let reply = match timeout(patience.query, reading).await {
        Ok(Ok(())) => match try_query(&*service.handler, &query, &client, endpoint) {
            Outcome::Reply(reply) => reply,
            Outcome::Pending(pending) => {
                let handler = &*service.handler;
                return finish(handler, pending, respond, endpoint, patience).await;
            }
        },
        Ok(Err(Failure::Rejected(rejection))) => reject(endpoint, rejection),
        Ok(Err(Failure::Gone)) => return Fate::Withdrawn,
        Err(_) => reject(endpoint, Rejection::Timeout),
    };
    let fate = match begin_response(respond, reply) {
        Some((stream, rest)) => send_when_open(stream, rest, patience).await,
        None => Fate::Answered,
    };
    discard(body, patience).await;
    fate
}

/// Waits for the handler, unless the client withdraws its question.
async fn finish<H: Handler>(
    handler: &H,
    pending: H::Pending,
    mut respond: SendResponse<Bytes>,
    endpoint: &Endpoint,
    patience: Patience,
) -> Fate {
    let reply = tokio::select! {
        biased;
        _ = poll_fn(|context| respond.poll_reset(context)) => return Fate::Withdrawn,
        reply = finish_query(handler, pending, endpoint) => reply,
    };
    match begin_response(respond, reply) {
        Some((stream, body)) => send_when_open(stream, body, patience).await,
        None => Fate::Answered,
    }
}

/// Sends a response now when the client's window has room, else in a task.
fn send(respond: SendResponse<Bytes>, reply: Reply, patience: Patience, tasks: &mut Tasks) {
    if let Some((stream, body)) = begin_response(respond, reply) {
        tasks.spawn(send_when_open(stream, body, patience));
    }
}

/// Reads the rest of a body that nobody wants, within bounds. To reset the stream instead would
/// be right too (RFC 9113, section 8.1), but curl 7.88, which Debian 12 has, then reports an error
/// of the connection in place of the status.
async fn discard(mut body: RecvStream, patience: Patience) {
    let reading = async {
        let mut octets: usize = 0;
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
            octets = octets.saturating_add(data.len());
            if octets > REFUSED_BODY_MAX_OCTETS {
                return;
            }
        }
    };
    // A body that does not end is cut off when the stream is dropped.
    let _ = timeout(patience.query, reading).await;
}

/// Sends the head, and the body too when the window has room for it; otherwise returns what is
/// left to do.
fn begin_response(
    mut respond: SendResponse<Bytes>,
    (head, body): Reply,
) -> Option<(SendStream<Bytes>, Bytes)> {
    let mut stream = respond.send_response(head, false).ok()?;
    stream.reserve_capacity(body.len());
    if stream.capacity() < body.len() {
        return Some((stream, body));
    }
    let _ = stream.send_data(body, true);
    None
}

/// Sends a body as the client's window makes room for it, and gives up when all of it has not left
/// in time, however steadily the client opens its window an octet.
async fn send_when_open(
    mut stream: SendStream<Bytes>,
    mut body: Bytes,
    patience: Patience,
) -> Fate {
    let sending = send_all(&mut stream, &mut body);
    if let Ok(fate) = timeout(patience.reply, sending).await {
        return fate;
    }
    stream.send_reset(Reason::CANCEL);
    Fate::Answered
}

/// Streams share the connection's window, so each takes what it is given rather than wait for all
/// it needs.
async fn send_all(stream: &mut SendStream<Bytes>, body: &mut Bytes) -> Fate {
    loop {
        stream.reserve_capacity(body.len());
        let room = stream.capacity();
        if room >= body.len() {
            let _ = stream.send_data(std::mem::take(body), true);
            return Fate::Answered;
        }
        if room > 0 && stream.send_data(body.split_to(room), false).is_err() {
            return Fate::Withdrawn;
        }
        match poll_fn(|context| stream.poll_capacity(context)).await {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Fate::Withdrawn,
        }
    }
}
