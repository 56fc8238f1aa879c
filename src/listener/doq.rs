//! DNS over dedicated QUIC connections (RFC 9250): one query per stream.

use std::{future::poll_fn, pin::Pin, task::Poll};

use quinn::{Connection, ReadError, ReadToEndError, RecvStream, SendStream, VarInt};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{
    HEADER_OCTETS, QUERY_MAX_OCTETS,
    connections::Admission,
    quic::{Newcomer, linger},
    serve::{DRAIN_MAX, Service, note_end, stopped},
    turn::{LENGTH_OCTETS, finish_framed, give_spare, take_spare, try_framed},
};
use crate::handler::{Attempt, Client, Handler};

/// RFC 9250, section 4.3: the connection or stream ends as it should.
const NO_ERROR: VarInt = VarInt::from_u32(0x0);
/// The client broke the protocol.
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(0x2);
/// The client withdrew the query; also said back on our half of its stream.
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(0x3);
/// The client asks for more than we give.
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x4);

/// Streams taken before other tasks of the worker have a turn.
pub(super) const STREAMS_PER_TURN: usize = 32;

/// Serves one connection, from its handshake to its end.
pub(super) async fn converse<H: Handler>(
    newcomer: Newcomer,
    service: Service<H>,
    stop: watch::Receiver<bool>,
) {
    let Newcomer {
        client,
        incoming,
        handshake,
    } = newcomer;
    let Ok(connecting) = incoming.accept() else {
        return;
    };
    // A server can always go on before the handshake is complete; early data, if the client sends
    // any, then comes through the first streams.
    let Ok((connection, complete)) = connecting.into_0rtt() else {
        return;
    };
    let settings = &service.shared.settings;
    let (is_complete, completed) = watch::channel(false);
    let mut session = Session {
        connection: connection.clone(),
        client,
        service: service.clone(),
        completed,
        tasks: JoinSet::new(),
    };
    let admission = tokio::select! {
        biased;
        admission = async {
            // What it yields is whether early data was taken, not whether the handshake went well.
            let ended = timeout(settings.handshake, complete).await;
            drop(handshake);
            if ended.is_err() || connection.close_reason().is_some() {
                return None;
            }
            // Only now is the address known to be the client's own, so that nobody can spend
            // another's share.
            service.shared.connections.admit(client.address, client.transport)
        } => admission,
        () = session.answer_streams(None) => return,
    };
    let Some(admission) = admission else {
        connection.close(EXCESSIVE_LOAD, b"no room");
        return;
    };
    is_complete.send_replace(true);
    tokio::select! {
        biased;
        () = admission.evicted() => connection.close(NO_ERROR, b"idle"),
        () = stopped(stop) => {
            session.finish().await;
            connection.close(NO_ERROR, b"");
        }
        () = session.answer_streams(Some(&admission)) => {}
    }
}

struct Session<H> {
    connection: Connection,
    client: Client,
    service: Service<H>,
    completed: watch::Receiver<bool>,
    tasks: JoinSet<()>,
}

impl<H: Handler> Session<H> {
    /// Answers streams until the connection ends. May be dropped between two streams.
    async fn answer_streams(&mut self, admission: Option<&Admission>) {
        let mut in_turn = 0;
        while self.answer_stream().await {
            if let Some(admission) = admission {
                admission.note(!self.tasks.is_empty());
            }
            in_turn += 1;
            if in_turn == STREAMS_PER_TURN {
                in_turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes the next stream, or notes the end of an earlier one's work. `false` when the
    /// connection has ended.
    async fn answer_stream(&mut self) -> bool {
        let pending_max = self.service.shared.settings.queries_per_connection_max;
        tokio::select! {
            biased;
            Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => note_end(ended),
            stream = self.connection.accept_bi(), if self.tasks.len() < pending_max => {
                let Ok((send, receive)) = stream else {
                    return false;
                };
                let exchange = Exchange {
                    connection: self.connection.clone(),
                    client: self.client,
                    service: self.service.clone(),
                    completed: self.completed.clone(),
                };
                self.start(Box::pin(exchange.run(send, receive))).await;
            }
        }
        true
    }

    /// Runs an exchange at once; only one that has to wait for something becomes a task.
    async fn start(&mut self, mut exchange: Pin<Box<impl Future<Output = ()> + Send + 'static>>) {
        let first = poll_fn(|context| Poll::Ready(exchange.as_mut().poll(context))).await;
        if first.is_pending() {
            self.tasks.spawn(exchange);
        }
    }

    /// Lets queries in flight finish.
    async fn finish(&mut self) {
        let rest = async {
            while let Some(ended) = self.tasks.join_next().await {
                note_end(ended);
            }
        };
        let _ = timeout(DRAIN_MAX, rest).await;
        linger(&self.connection).await;
    }
}

/// One query and its reply.
struct Exchange<H> {
    connection: Connection,
    client: Client,
    service: Service<H>,
    completed: watch::Receiver<bool>,
}

impl<H: Handler> Exchange<H> {
    async fn run(mut self, mut send: SendStream, mut receive: RecvStream) {
        let patience = self.service.shared.settings.patience;
        let framed = match timeout(patience.query, receive.read_to_end(FRAME_MAX)).await {
            Ok(Ok(framed)) => framed,
            Ok(Err(ReadToEndError::TooLong)) => {
                let _ = receive.stop(EXCESSIVE_LOAD);
                let _ = send.reset(EXCESSIVE_LOAD);
                return;
            }
            Ok(Err(ReadToEndError::Read(ReadError::Reset(_)))) => {
                let _ = send.reset(REQUEST_CANCELLED);
                return;
            }
            Ok(Err(ReadToEndError::Read(_))) => return,
            // The end of the stream must follow the query (section 4.2).
            Err(_) => return self.violation(b"query without end"),
        };
        let query = match unframe(&framed) {
            Ok(query) => query,
            Err(reason) => return self.violation(reason.as_bytes()),
        };
        // What may change something must not be replayed (section 4.5).
        if receive.is_0rtt() && opcode(query) != OPCODE_QUERY {
            let handshake = self.completed.wait_for(|completed| *completed);
            if handshake.await.is_err() {
                return;
            }
        }
        let mut reply = take_spare();
        let handler = &self.service.handler;
        match try_framed(&**handler, &handler.now(), query, &self.client, &mut reply) {
            Attempt::Answered(_) => {}
            Attempt::Malformed => return self.violation(b"no query"),
            Attempt::Refused => return self.connection.close(EXCESSIVE_LOAD, b"refused"),
            Attempt::Pending(pending) => {
                give_spare(reply);
                tokio::select! {
                    framed = finish_framed(&**handler, pending) => reply = framed,
                    // The client stopped listening, or the connection is gone.
                    _ = send.stopped() => {
                        let _ = send.reset(REQUEST_CANCELLED);
                        return;
                    }
                }
            }
        }
        match timeout(patience.reply, send.write_all(&reply)).await {
            Ok(Ok(())) => {
                let _ = send.finish();
            }
            Ok(Err(_)) => {}
            Err(_) => {
                let _ = send.reset(EXCESSIVE_LOAD);
            }
        }
        give_spare(reply);
    }

    fn violation(&self, reason: &[u8]) {
        self.connection.close(PROTOCOL_ERROR, reason);
    }
}

const FRAME_MAX: usize = LENGTH_OCTETS + QUERY_MAX_OCTETS;

const OPCODE_QUERY: u8 = 0;

fn opcode(query: &[u8]) -> u8 {
    query.get(2).map_or(0, |octet| (octet >> 3) & 0x0f)
}

/// Takes the message out of a stream's octets, or says which rule of RFC 9250, section 4.3.3 is
/// broken.
fn unframe(framed: &[u8]) -> Result<&[u8], &'static str> {
    let (prefix, message) = framed
        .split_first_chunk::<LENGTH_OCTETS>()
        .ok_or("no message")?;
    let length = usize::from(u16::from_be_bytes(*prefix));
    if message.len() < length {
        return Err("stream ends before the message");
    }
    if message.len() > length {
        return Err("more than one message");
    }
    if length < HEADER_OCTETS {
        return Err("shorter than a header");
    }
    if message.get(..2) != Some(&[0, 0]) {
        return Err("message id is not 0");
    }
    if has_keepalive(message).unwrap_or(false) {
        return Err("edns-tcp-keepalive");
    }
    Ok(message)
}

/// Whether the message has the option that is forbidden here, because QUIC has a timeout of its
/// own (RFC 9250, section 5.5.2). `None` when the message cannot be read: what is wrong with it is
/// for the handler to say.
fn has_keepalive(message: &[u8]) -> Option<bool> {
    const OPT: u16 = 41;
    const TCP_KEEPALIVE: u16 = 11;
    let mut reader = Reader(message.get(4..)?);
    let questions = reader.u16()?;
    let records = [reader.u16()?, reader.u16()?, reader.u16()?];
    for _ in 0..questions {
        reader.name()?;
        reader.take(4)?;
    }
    for _ in 0..records.iter().map(|count| u32::from(*count)).sum() {
        reader.name()?;
        let rtype = reader.u16()?;
        reader.take(6)?;
        let length = reader.u16()?;
        let mut options = Reader(reader.take(length.into())?);
        if rtype != OPT {
            continue;
        }
        while !options.0.is_empty() {
            let code = options.u16()?;
            let length = options.u16()?;
            options.take(length.into())?;
            if code == TCP_KEEPALIVE {
                return Some(true);
            }
        }
    }
    Some(false)
}

/// Reads from the front; `None` at the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, octets: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(octets)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*taken))
    }

    /// Skips a name, which ends with the root or a pointer.
    fn name(&mut self) -> Option<()> {
        loop {
            let length = *self.take(1)?.first()?;
            match length {
                0 => return Some(()),
                1..=63 => {
                    self.take(length.into())?;
                }
                0xc0..=0xff => {
                    self.take(1)?;
                    return Some(());
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A query for the root with one OPT record that has `options`.
    fn framed(options: &[u8]) -> Vec<u8> {
        let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        message.extend([1, b'x', 0, 0, 1, 0, 1]);
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
        message.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
        message.extend(options);
        let mut framed = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
        framed.extend(message);
        framed
    }

    #[test]
    fn a_query_comes_out_of_its_frame() {
        let framed = framed(&[0, 12, 0, 1, 0]);
        assert_eq!(unframe(&framed), Ok(&framed[2..]));
    }

    #[test]
    fn each_broken_rule_is_named() {
        let good = framed(&[]);
        let mut with_id = good.clone();
        with_id[3] = 1;
        let mut twice = good.clone();
        twice.extend(&good);
        for (framed, reason) in [
            (&good[..1], "no message"),
            (&good[..good.len() - 1], "stream ends before the message"),
            (&twice, "more than one message"),
            (&[0, 0], "shorter than a header"),
            (&with_id, "message id is not 0"),
            (
                &framed(&[0, 12, 0, 1, 0, 0, 11, 0, 0]),
                "edns-tcp-keepalive",
            ),
        ] {
            assert_eq!(unframe(framed), Err(reason));
        }
    }

    #[test]
    fn an_unreadable_message_is_left_to_the_handler() {
        let mut bad = framed(&[0, 11, 0, 99]);
        assert!(unframe(&bad).is_ok());
        bad[4 + 2] = 0xff;
        assert!(unframe(&bad).is_ok());
    }

    proptest! {
        #[test]
        fn any_octets_are_a_query_or_a_violation(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = unframe(&octets);
            let _ = has_keepalive(&octets);
        }
    }
}
