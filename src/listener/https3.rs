//! DNS over HTTPS on HTTP/3 (RFC 8484, RFC 9114).

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll};

use bytes::{Buf, Bytes};
use h3::{
    error::Code,
    server::{RequestResolver, RequestStream},
};
use quinn::{Connection, VarInt};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{
    QUERY_MAX_OCTETS,
    connections::Admission,
    doh::{Endpoint, Rejection, Request, body_query},
    doq::STREAMS_PER_TURN,
    https::{
        HEADERS_MAX_OCTETS, Outcome, Reply, finish_query, read_head, reject_request, try_query,
    },
    quic::{Newcomer, linger},
    serve::{DRAIN_MAX, Service, note_end, stopped},
};
use crate::{
    handler::{Client, Handler},
    net::http3,
};

/// RFC 9114, section 8.1.
const H3_NO_ERROR: VarInt = VarInt::from_u32(0x100);
const H3_EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);

/// What one request's stream may carry, octets: headers, a query, and the frames around them with
/// room for those that clients make up to keep servers tolerant (RFC 9114, section 7.2.8).
const STREAM_MAX_OCTETS: usize = HEADERS_MAX_OCTETS as usize + QUERY_MAX_OCTETS + 1024;

type Stream = RequestStream<http3::BothWays, Bytes>;

/// Serves one connection, from its handshake to its end.
pub(super) async fn converse<H: Handler>(
    newcomer: Newcomer,
    service: Service<H>,
    endpoint: Arc<Endpoint>,
    stop: watch::Receiver<bool>,
) {
    let Newcomer {
        client,
        incoming,
        handshake,
    } = newcomer;
    let settings = &service.shared.settings;
    let Ok(connecting) = incoming.accept() else {
        return;
    };
    let Ok(Ok(connection)) = timeout(settings.handshake, connecting).await else {
        return;
    };
    drop(handshake);
    let connections = &service.shared.connections;
    let Some(admission) = connections.admit(client.address, client.transport) else {
        connection.close(H3_EXCESSIVE_LOAD, b"no room");
        return;
    };
    let streams = http3::Connection::new(connection.clone(), STREAM_MAX_OCTETS);
    let mut builder = h3::server::builder();
    builder
        .max_field_section_size(HEADERS_MAX_OCTETS.into())
        .send_grease(false);
    let Ok(Ok(http)) = timeout(settings.handshake, builder.build(streams)).await else {
        return;
    };
    let mut session = Session {
        connection: connection.clone(),
        http,
        client,
        service: service.clone(),
        endpoint,
        tasks: JoinSet::new(),
    };
    tokio::select! {
        biased;
        () = admission.evicted() => {}
        () = stopped(stop) => session.finish().await,
        () = session.answer_requests(&admission) => {}
    }
    connection.close(H3_NO_ERROR, b"");
}

struct Session<H> {
    connection: Connection,
    http: h3::server::Connection<http3::Connection, Bytes>,
    client: Client,
    service: Service<H>,
    endpoint: Arc<Endpoint>,
    tasks: JoinSet<()>,
}

impl<H: Handler> Session<H> {
    /// Answers requests until the connection ends.
    async fn answer_requests(&mut self, admission: &Admission) {
        let mut in_turn = 0;
        let pending_max = self.service.shared.settings.queries_per_connection_max;
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => note_end(ended),
                request = self.http.accept(), if self.tasks.len() < pending_max => {
                    let Ok(Some(request)) = request else {
                        return;
                    };
                    let exchange = Exchange {
                        client: self.client,
                        service: self.service.clone(),
                        endpoint: Arc::clone(&self.endpoint),
                    };
                    self.start(Box::pin(exchange.run(request))).await;
                }
            }
            admission.note(!self.tasks.is_empty());
            in_turn += 1;
            if in_turn == STREAMS_PER_TURN {
                in_turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Runs an exchange at once; only one that has to wait for something becomes a task.
    async fn start(&mut self, mut exchange: Pin<Box<impl Future<Output = ()> + Send + 'static>>) {
        let first = poll_fn(|context| Poll::Ready(exchange.as_mut().poll(context))).await;
        if first.is_pending() {
            self.tasks.spawn(exchange);
        }
    }

    /// Says that no more requests are taken, and lets those in flight finish.
    async fn finish(&mut self) {
        let rest = async {
            let _ = self.http.shutdown(0).await;
            while let Some(ended) = self.tasks.join_next().await {
                note_end(ended);
            }
        };
        let _ = timeout(DRAIN_MAX, rest).await;
        linger(&self.connection).await;
        self.connection.close(H3_NO_ERROR, b"");
    }
}

/// One request and its response.
struct Exchange<H> {
    client: Client,
    service: Service<H>,
    endpoint: Arc<Endpoint>,
}

impl<H: Handler> Exchange<H> {
    async fn run(self, request: RequestResolver<http3::Connection, Bytes>) {
        let patience = self.service.shared.settings.patience;
        let Ok(resolved) = timeout(patience.query, request.resolve_request()).await else {
            return;
        };
        let Ok((request, mut stream)) = resolved else {
            return;
        };
        let (head, ()) = request.into_parts();
        let query = match read_head(&self.endpoint, &head) {
            Ok(Request::Query(query)) => Ok(query),
            Ok(Request::Body) => match timeout(patience.query, read_body(&mut stream)).await {
                Ok(Some(result)) => result,
                // Reset, or lost with its connection.
                Ok(None) => return,
                Err(_) => Err(Rejection::Timeout),
            },
            Err(rejection) => Err(rejection),
        };
        let handler = &*self.service.handler;
        let reply = match query {
            Ok(query) => match try_query(handler, &query, &self.client, &self.endpoint) {
                Outcome::Reply(reply) => reply,
                Outcome::Pending(pending) => finish_query(handler, pending, &self.endpoint).await,
            },
            Err(rejection) => {
                // Nothing is wrong with what comes too late to be wanted (RFC 9114, section 4.1).
                stream.stop_sending(Code::H3_NO_ERROR);
                reject_request(&self.endpoint, &head, rejection)
            }
        };
        if timeout(patience.reply, respond(&mut stream, reply))
            .await
            .is_err()
        {
            stream.stop_stream(Code::H3_EXCESSIVE_LOAD);
        }
    }
}

async fn respond(stream: &mut Stream, (head, body): Reply) {
    if stream.send_response(head).await.is_ok() && stream.send_data(body).await.is_ok() {
        let _ = stream.finish().await;
    }
}

/// Reads a POST's body. `None` when there is nobody left to answer.
async fn read_body(stream: &mut Stream) -> Option<Result<Vec<u8>, Rejection>> {
    let mut query = Vec::new();
    while let Some(mut data) = stream.recv_data().await.ok()? {
        if query.len() + data.remaining() > QUERY_MAX_OCTETS {
            return Some(Err(Rejection::TooLarge));
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            query.extend_from_slice(chunk);
            let octets = chunk.len();
            data.advance(octets);
        }
    }
    Some(body_query(&query).map(|()| query))
}
