//! The lab's upstreams on QUIC: DoQ (RFC 9250) and DoH over HTTP/3 (RFC 9114).

use super::Transport;
use super::http::{BODY_MAX_OCTETS, reply};
use super::respond::{Arrival, Plan, Service};
use bytes::{Buf, Bytes};
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// DOQ_NO_ERROR (RFC 9250, section 4.3).
const DOQ_NO_ERROR: VarInt = VarInt::from_u32(0);
/// DOQ_INTERNAL_ERROR.
const DOQ_INTERNAL_ERROR: VarInt = VarInt::from_u32(1);
/// DOQ_PROTOCOL_ERROR.
const DOQ_PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
/// H3_NO_ERROR (RFC 9114, section 8.1).
const H3_NO_ERROR: VarInt = VarInt::from_u32(0x100);

/// The length in front and the message.
const STREAM_MAX_OCTETS: usize = 2 + 65535;

/// Accepts connections until aborted; they end with this task.
pub(super) async fn accept(endpoint: Endpoint, service: Arc<Service>, transport: Transport) {
    let _close = CloseOnDrop(endpoint.clone());
    let mut connections = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        while connections.try_join_next().is_some() {}
        let faults = service.faults.current(transport);
        if faults.refuse {
            incoming.refuse();
            continue;
        }
        let peer = incoming.remote_address();
        let arrival = Arrival {
            transport,
            peer,
            connection: service.record.add_connection(transport),
            early_data: false,
        };
        if faults.stall {
            connections.spawn(async move {
                let _held = incoming;
                std::future::pending::<()>().await;
            });
            continue;
        }
        let service = service.clone();
        connections.spawn(async move {
            let Ok(connecting) = incoming.accept() else {
                return;
            };
            // A server can always go on before the handshake ends; early data arrives then.
            let connection = match connecting.into_0rtt() {
                Ok((connection, _)) => connection,
                Err(connecting) => match connecting.await {
                    Ok(connection) => connection,
                    Err(_) => return,
                },
            };
            if transport == Transport::Quic {
                serve_doq(connection, service, arrival).await;
            } else {
                serve_h3(connection, service, arrival).await;
            }
        });
    }
}

/// An aborted endpoint tells its clients.
struct CloseOnDrop(Endpoint);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(DOQ_NO_ERROR, b"the lab stops");
    }
}

/// Waits for a time without streams, if there is to be one.
async fn idle(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

async fn serve_doq(connection: Connection, service: Arc<Service>, arrival: Arrival) {
    let mut streams = JoinSet::new();
    loop {
        let limit = service.faults.current(arrival.transport).close_idle;
        tokio::select! {
            accepted = connection.accept_bi() => {
                let Ok((send, recv)) = accepted else {
                    return;
                };
                let arrival = Arrival { early_data: recv.is_0rtt(), ..arrival };
                streams.spawn(answer_doq(connection.clone(), send, recv, service.clone(), arrival));
            }
            Some(_) = streams.join_next() => {}
            () = idle(limit), if streams.is_empty() => {
                connection.close(DOQ_NO_ERROR, b"idle");
                return;
            }
        }
    }
}

async fn answer_doq(
    connection: Connection,
    mut send: SendStream,
    mut recv: RecvStream,
    service: Arc<Service>,
    arrival: Arrival,
) {
    let Ok(octets) = recv.read_to_end(STREAM_MAX_OCTETS).await else {
        return;
    };
    let message = match octets.split_at_checked(2) {
        Some((length, message))
            if usize::from(u16::from_be_bytes([length[0], length[1]])) == message.len() =>
        {
            message
        }
        _ => return connection.close(DOQ_PROTOCOL_ERROR, b"framing"),
    };
    let plan = service.plan(arrival, message);
    // RFC 9250, section 4.2.1: the id is 0 on QUIC.
    if message.get(..2) != Some(&[0, 0]) {
        return connection.close(DOQ_PROTOCOL_ERROR, b"the id is not 0");
    }
    let Plan {
        wait,
        replies,
        faults,
        ..
    } = plan;
    tokio::time::sleep(wait).await;
    let Some(reply) = replies.first() else {
        // Silence: the stream stays open until the client stops it.
        let _ = send.stopped().await;
        return;
    };
    if faults.reset_stream {
        let _ = send.reset(DOQ_INTERNAL_ERROR);
        return;
    }
    let mut framed = u16::try_from(reply.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes()
        .to_vec();
    framed.extend(reply);
    if faults.cut {
        framed.truncate(framed.len() / 2);
    }
    let _ = send.write_all(&framed).await;
    let _ = send.finish();
    if faults.close_after_answer || faults.go_away {
        let _ = send.stopped().await;
        connection.close(DOQ_NO_ERROR, b"");
    }
}

async fn serve_h3(connection: Connection, service: Arc<Service>, arrival: Arrival) {
    let handle = connection.clone();
    let Ok(mut server) =
        h3::server::Connection::<_, Bytes>::new(h3_quinn::Connection::new(connection)).await
    else {
        return;
    };
    let mut streams: JoinSet<Option<Ending>> = JoinSet::new();
    loop {
        let limit = service.faults.current(arrival.transport).close_idle;
        tokio::select! {
            accepted = server.accept() => {
                let Ok(Some(request)) = accepted else {
                    return;
                };
                streams.spawn(answer_h3(request, service.clone(), arrival));
            }
            Some(ended) = streams.join_next() => match ended {
                Ok(Some(Ending::GoAway)) => {
                    let _ = server.shutdown(0).await;
                }
                Ok(Some(Ending::Close)) => {
                    // The client has the answer when it has seen the end of its stream.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    handle.close(H3_NO_ERROR, b"");
                    return;
                }
                _ => {}
            },
            () = idle(limit), if streams.is_empty() => {
                handle.close(H3_NO_ERROR, b"idle");
                return;
            }
        }
    }
}

/// What an answer does to its connection.
enum Ending {
    GoAway,
    Close,
}

async fn answer_h3(
    request: h3::server::RequestResolver<h3_quinn::Connection, Bytes>,
    service: Arc<Service>,
    arrival: Arrival,
) -> Option<Ending> {
    let (request, mut stream) = request.resolve_request().await.ok()?;
    let (head, ()) = request.into_parts();
    let mut octets = Vec::new();
    while let Ok(Some(mut chunk)) = stream.recv_data().await {
        octets.extend(chunk.copy_to_bytes(chunk.remaining()));
        if octets.len() > BODY_MAX_OCTETS {
            stream.stop_sending(h3::error::Code::H3_EXCESSIVE_LOAD);
            return None;
        }
    }
    let reply = reply(&head, &octets, &service, arrival);
    tokio::time::sleep(reply.wait).await;
    if reply.silent {
        std::future::pending::<()>().await;
    }
    if reply.reset {
        stream.stop_stream(h3::error::Code::H3_INTERNAL_ERROR);
        return None;
    }
    stream.send_response(reply.head).await.ok()?;
    if reply.cut {
        let half = Bytes::copy_from_slice(&reply.body[..reply.body.len() / 2]);
        let _ = stream.send_data(half).await;
        stream.stop_stream(h3::error::Code::H3_INTERNAL_ERROR);
        return None;
    }
    let _ = stream.send_data(Bytes::from(reply.body)).await;
    let _ = stream.finish().await;
    match (reply.close, reply.go_away) {
        (true, _) => Some(Ending::Close),
        (_, true) => Some(Ending::GoAway),
        _ => None,
    }
}
