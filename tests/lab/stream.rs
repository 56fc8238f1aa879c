//! The lab's TCP and DoT upstreams (RFC 7766, RFC 7858): pipelined queries are answered as soon
//! as each answer is ready.

use super::Transport;
use super::faults::FaultSet;
use super::host::Stream;
use super::respond::{Arrival, Plan, Service};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Answers of one connection that wait to be written.
const WRITE_QUEUE_MAX: usize = 64;

/// How long answers are held back for reordering when no further one comes.
const REORDER_WAIT: Duration = Duration::from_millis(200);

/// Accepts until aborted; every connection ends with this task. What is done with a connection
/// is `serve_one`'s.
pub(super) async fn accept<F>(
    listener: TcpListener,
    service: Arc<Service>,
    transport: Transport,
    serve_one: impl Fn(Stream, Arc<Service>, Arrival) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let faults = service.faults.current(transport);
        if faults.refuse && !service.faults.has_vanished() {
            // No linger: the client sees a reset.
            let _ = stream.set_zero_linger();
            continue;
        }
        let _ = stream.set_nodelay(true);
        let stream = Stream::new(stream, service.faults.clone());
        let arrival = Arrival {
            transport,
            peer,
            connection: service.record.add_connection(transport),
            early_data: false,
        };
        if faults.stall {
            connections.spawn(async move {
                let _held = stream;
                pending::<()>().await;
            });
        } else {
            connections.spawn(serve_one(stream, service.clone(), arrival));
        }
    }
}

/// Serves a TCP connection.
pub(super) async fn serve_tcp(stream: Stream, service: Arc<Service>, arrival: Arrival) {
    serve(stream, service, arrival).await;
}

/// Serves a DoT connection.
pub(super) async fn serve_tls(
    acceptor: TlsAcceptor,
    stream: Stream,
    service: Arc<Service>,
    arrival: Arrival,
) {
    if let Ok(stream) = acceptor.accept(stream).await {
        serve(stream, service, arrival).await;
    }
}

async fn serve<S>(stream: S, service: Arc<Service>, arrival: Arrival)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    let (sender, receiver) = mpsc::channel(WRITE_QUEUE_MAX);
    let write = write_replies(writer, receiver);
    tokio::pin!(write);
    tokio::select! {
        () = &mut write => return,
        () = read_queries(reader, sender, service, arrival) => {}
    }
    write.await;
}

/// Reads until the end, an error or idleness, then waits for the answers still to come.
async fn read_queries(
    mut reader: impl AsyncRead + Unpin,
    sender: mpsc::Sender<Plan>,
    service: Arc<Service>,
    arrival: Arrival,
) {
    let mut answers = JoinSet::new();
    loop {
        let idle = service.faults.current(arrival.transport).close_idle;
        let read = read_message(&mut reader);
        let message = match idle {
            Some(limit) => tokio::time::timeout(limit, read).await.unwrap_or(None),
            None => read.await,
        };
        let Some(message) = message else {
            break;
        };
        let mut plan = service.plan(arrival, &message);
        let sender = sender.clone();
        answers.spawn(async move {
            if !plan.forged.is_empty() {
                let forged = plan.forged.drain(..).map(|forged| forged.octets).collect();
                let faults = FaultSet::default();
                let first = Plan {
                    forged: Vec::new(),
                    wait: Duration::ZERO,
                    replies: forged,
                    faults,
                };
                let _ = sender.send(first).await;
            }
            if !plan.wait.is_zero() {
                tokio::time::sleep(plan.wait).await;
            }
            let _ = sender.send(plan).await;
        });
        while answers.try_join_next().is_some() {}
    }
    while answers.join_next().await.is_some() {}
}

async fn read_message(reader: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = reader.read_u16().await.ok()?;
    let mut message = vec![0; usize::from(length)];
    reader.read_exact(&mut message).await.ok()?;
    Some(message)
}

/// Writes answers as they come, or in reverse when asked to; ends where a fault says so.
async fn write_replies(mut writer: impl AsyncWrite + Unpin, mut plans: mpsc::Receiver<Plan>) {
    let mut held: Vec<Plan> = Vec::new();
    loop {
        let next = if held.is_empty() {
            plans.recv().await
        } else {
            let next = tokio::time::timeout(REORDER_WAIT, plans.recv()).await;
            next.unwrap_or(None)
        };
        let ended = next.is_none() && held.is_empty();
        let reorder = next.as_ref().and_then(|plan| plan.faults.reorder);
        let complete = next.is_none();
        held.extend(next);
        if !complete && reorder.is_some_and(|wanted| held.len() < wanted) {
            continue;
        }
        for plan in held.drain(..).rev() {
            if !write_plan(&mut writer, &plan).await {
                let _ = writer.shutdown().await;
                return;
            }
        }
        if ended {
            let _ = writer.shutdown().await;
            return;
        }
    }
}

/// Whether the connection goes on.
async fn write_plan(writer: &mut (impl AsyncWrite + Unpin), plan: &Plan) -> bool {
    for reply in &plan.replies {
        let mut framed = u16::try_from(reply.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes()
            .to_vec();
        framed.extend(reply);
        if plan.faults.cut {
            framed.truncate(framed.len() / 2);
        }
        if writer.write_all(&framed).await.is_err() || writer.flush().await.is_err() {
            return false;
        }
        if plan.faults.cut {
            return false;
        }
    }
    !plan.faults.close_after_answer || plan.replies.is_empty()
}
