//! Plain DNS over UDP (RFC 1035, section 4.2.1).
//!
//! One turn: up to [`BATCH`] queries come in with one system call, those that memory answers are
//! answered in place, and their replies leave with one system call (one each where the socket has
//! several addresses). Only a miss becomes a task; the replies of those that end in the same turn
//! leave together too.

use std::{
    future::ready,
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr},
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::{
    MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, addr::SocketAddrArg, sendmmsg,
};
use tokio::{
    io::Interest,
    net::UdpSocket,
    sync::watch,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};

use super::{
    HEADER_OCTETS, QUERY_MAX_OCTETS,
    serve::{DRAIN_MAX, Service, note_cut_off, note_end, stopped},
};
use crate::{
    clock::Now,
    handler::{Attempt, Client, Handler, Transport},
    net::sockets,
};

/// Datagrams received and sent with one system call; what quinn-udp takes at most.
const BATCH: usize = quinn_udp::BATCH_SIZE;

/// Full batches answered before other tasks of the worker have a turn. So many usual replies also fit
/// a default receive buffer (212,992 octets), should one client wait for all of them.
const BATCHES_PER_TURN: usize = 8;

/// Room for most replies; longer ones make it grow.
const REPLY_OCTETS_USUAL: usize = 256;

/// Batches taken at most once the listener is told to stop. A full receive buffer of ours holds
/// some thousand datagrams; what a flood adds meanwhile is nobody's accepted query.
const LAST_BATCHES_MAX: usize = 256;

/// How long replies wait for room in the socket's buffer before they are dropped: clients ask
/// again, and those who ask meanwhile wait in the receive buffer.
const SEND_WAIT: Duration = Duration::from_millis(5);

/// How long the listener rests after the system refused to receive, so that a lasting error does
/// not take the whole core.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Runs one socket until told to stop, then lets waiting queries finish.
pub(super) async fn listen<H: Handler>(
    socket: std::net::UdpSocket,
    service: Service<H>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut receiver = Receiver {
        datagrams: Datagrams::new(socket)?,
        tasks: JoinSet::new(),
        replies: Replies::default(),
        full_batches: 0,
        service,
    };
    let mut buffers = vec![0; BATCH * QUERY_MAX_OCTETS];
    let mut stop = std::pin::pin!(stopped(stop));
    // Once told to stop: how many batches more are taken. What reached the socket before the word
    // came is answered too.
    let mut last_batches = None;
    while last_batches != Some(0) {
        tokio::select! {
            biased;
            () = &mut stop, if last_batches.is_none() => {
                last_batches = Some(LAST_BATCHES_MAX);
                continue;
            }
            () = ready(()), if last_batches.is_some() => {}
            Some(ended) = receiver.tasks.join_next(), if !receiver.tasks.is_empty() => {
                receiver.send_finished(ended).await;
                continue;
            }
            ready = receiver.datagrams.socket.readable() => ready?,
        }
        // A defect in the handler must not end the listener: it costs the rest of its batch.
        let receive = match &mut last_batches {
            None => Datagrams::receive,
            Some(left) => {
                *left -= 1;
                Datagrams::receive_now
            }
        };
        let batch = AssertUnwindSafe(|| receiver.answer_batch(receive, &mut buffers));
        let Ok(answered) = catch_unwind(batch) else {
            tracing::error!("answering a datagram panicked; its client got no answer");
            receiver.replies.drop_unfinished();
            receiver.flush().await;
            continue;
        };
        match answered {
            Ok(received) => receiver.end_batch(received == BATCH).await,
            Err(_) if last_batches.is_some() => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::debug!(%error, "cannot receive datagrams");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
    let ending = async {
        while let Some(ended) = receiver.tasks.join_next().await {
            receiver.send_finished(ended).await;
        }
    };
    if timeout(DRAIN_MAX, ending).await.is_err() {
        note_cut_off(receiver.tasks.len());
    }
    Ok(())
}

/// A socket and what is known about it.
struct Datagrams {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

impl Datagrams {
    fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let local = socket.local_addr()?;
        // This also forbids fragmentation, so that no reply can be completed by a forged
        // fragment, and asks for the address each query was sent to.
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        sockets::receive_bare(&socket, local);
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self {
            socket,
            state,
            local,
        })
    }

    fn receive(&self, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> io::Result<usize> {
        self.socket
            .try_io(Interest::READABLE, || self.receive_now(buffers, metas))
    }

    /// Asks the system itself, which may have what the runtime does not know of yet.
    fn receive_now(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        let socket = UdpSockRef::from(&self.socket);
        self.state.recv(socket, buffers, metas)
    }

    /// Sends one reply, from the address the query was sent to.
    fn send(&self, contents: &[u8], to: &Destination) -> io::Result<()> {
        if to.local.is_none() {
            return self.socket.try_send_to(contents, to.client).map(drop);
        }
        let transmit = Transmit {
            destination: to.client,
            ecn: None,
            contents,
            segment_size: None,
            src_ip: to.local,
        };
        self.socket.try_io(Interest::WRITABLE, || {
            self.state
                .try_send(UdpSockRef::from(&self.socket), &transmit)
        })
    }

    /// Waits a little for room to send. `false`: there is none.
    async fn has_room(&self) -> bool {
        matches!(timeout(SEND_WAIT, self.socket.writable()).await, Ok(Ok(())))
    }
}

/// How a batch is received.
type Receive = fn(&Datagrams, &mut [IoSliceMut<'_>], &mut [RecvMeta]) -> io::Result<usize>;

/// Where a reply goes, and which of our addresses it comes from.
#[derive(Clone, Copy)]
struct Destination {
    client: SocketAddr,
    local: Option<IpAddr>,
}

/// Replies that leave together, one after the other in one buffer that is kept.
#[derive(Default)]
struct Replies {
    octets: Vec<u8>,
    each: Vec<(Range<usize>, Destination)>,
}

impl Replies {
    fn clear(&mut self) {
        self.octets.clear();
        self.each.clear();
    }

    /// Forgets octets that no finished reply covers.
    fn drop_unfinished(&mut self) {
        let end = self.each.last().map_or(0, |(range, _)| range.end);
        self.octets.truncate(end);
    }

    fn reply(&self, index: usize) -> Option<(&[u8], &Destination)> {
        let (range, to) = self.each.get(index)?;
        Some((self.octets.get(range.clone())?, to))
    }
}

struct Receiver<H: Handler> {
    datagrams: Datagrams,
    service: Service<H>,
    /// Misses; each ends with its reply.
    tasks: JoinSet<Finished>,
    replies: Replies,
    /// How many batches without a turn for others were full.
    full_batches: usize,
}

/// A reply that took an upstream, and where it goes.
type Finished = (Vec<u8>, Destination);

impl<H: Handler> Receiver<H> {
    /// Receives a batch and answers what it can at once; how many datagrams came.
    fn answer_batch(&mut self, receive: Receive, buffers: &mut [u8]) -> io::Result<usize> {
        let mut metas = [RecvMeta::default(); BATCH];
        let mut chunks = buffers.chunks_exact_mut(QUERY_MAX_OCTETS);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let received = receive(&self.datagrams, &mut slices, &mut metas)?;
        let now = self.service.handler.now();
        for (meta, slice) in metas.iter().zip(&slices).take(received) {
            // A datagram that fills its buffer may have been cut: no query is that long.
            if meta.len >= QUERY_MAX_OCTETS {
                continue;
            }
            let octets = slice.get(..meta.len).unwrap_or_default();
            let local = self.datagrams.local.ip().is_unspecified();
            let to = Destination {
                client: meta.addr,
                local: meta.dst_ip.filter(|_| local),
            };
            for query in octets.chunks(meta.stride.max(1)) {
                self.answer(&now, query, to);
            }
        }
        Ok(received)
    }

    fn answer(&mut self, now: &Now, query: &[u8], to: Destination) {
        // Nobody can receive at port 0, and a query from our own address is a forgery that would
        // have us talk to ourselves.
        if query.len() < HEADER_OCTETS || to.client.port() == 0 || to.client == self.datagrams.local
        {
            return;
        }
        let client = Client {
            address: to.client,
            transport: Transport::Udp,
        };
        let start = self.replies.octets.len();
        let handler = &self.service.handler;
        match handler.try_answer(now, query, &client, &mut self.replies.octets) {
            Attempt::Answered(_) => self.keep_reply(start, to),
            Attempt::Malformed | Attempt::Refused => {}
            Attempt::Pending(pending) => {
                let pending_max = self.service.shared.settings.datagram_pending_max;
                if self.tasks.len() < pending_max {
                    self.finish_later(pending, to);
                } else {
                    // An answer, however short, keeps the client from asking again and again.
                    handler.decline(pending, &mut self.replies.octets);
                    self.keep_reply(start, to);
                    self.service.shared.count_refused_datagram();
                }
            }
        }
    }

    /// Keeps what was appended since `start` to be sent with the others.
    fn keep_reply(&mut self, start: usize, to: Destination) {
        let range = start..self.replies.octets.len();
        self.replies.each.push((range, to));
    }

    /// Starts a task for a reply that takes an upstream.
    fn finish_later(&mut self, pending: H::Pending, to: Destination) {
        let handler = Arc::clone(&self.service.handler);
        // Boxed, since the runtime moves what it runs more than once.
        self.tasks.spawn(Box::pin(async move {
            let mut reply = Vec::with_capacity(REPLY_OCTETS_USUAL);
            handler.finish(pending, &mut reply).await;
            (reply, to)
        }));
    }

    /// Sends the reply of a task that has ended, with those of others that have.
    async fn send_finished(&mut self, ended: Result<Finished, JoinError>) {
        let mut next = Some(ended);
        while let Some(ended) = next {
            match ended {
                Ok((reply, to)) => {
                    let start = self.replies.octets.len();
                    self.replies.octets.extend(reply);
                    self.keep_reply(start, to);
                }
                failed => note_end(failed),
            }
            if self.replies.each.len() == BATCH {
                self.end_batch(true).await;
            }
            next = self.tasks.try_join_next();
        }
        self.end_batch(false).await;
    }

    /// Sends the replies. After many full batches others have a turn.
    async fn end_batch(&mut self, is_full: bool) {
        self.flush().await;
        self.full_batches = if is_full { self.full_batches + 1 } else { 0 };
        if self.full_batches == BATCHES_PER_TURN {
            self.full_batches = 0;
            tokio::task::yield_now().await;
        }
    }

    /// Sends the replies. What finds no room after a short wait is dropped.
    async fn flush(&mut self) {
        let mut sent = 0;
        let mut waited = false;
        while sent < self.replies.each.len() {
            match self.send_some(sent) {
                Ok(more) => sent += more.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if waited || !self.datagrams.has_room().await {
                        let lost = self.replies.each.len() - sent;
                        tracing::debug!(lost, "no room to send replies");
                        break;
                    }
                    waited = true;
                }
                // This one reply cannot be sent, perhaps because its address was forged.
                Err(_) => sent += 1,
            }
        }
        self.replies.clear();
    }

    /// Sends replies from number `first` on: many at once when the socket has one address, one
    /// when each must say which of our addresses it comes from.
    fn send_some(&self, first: usize) -> io::Result<usize> {
        let Some((reply, to)) = self.replies.reply(first) else {
            return Ok(1);
        };
        if to.local.is_some() || self.replies.each.len() - first == 1 {
            return self.datagrams.send(reply, to).map(|()| 1);
        }
        let rest = self.replies.each.len().min(first + BATCH) - first;
        let nobody = self.datagrams.local;
        let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|index| {
            let reply = self.replies.reply(first + index);
            [IoSlice::new(reply.map_or(&[], |(octets, _)| octets))]
        });
        let addresses: [SocketAddrAny; BATCH] = std::array::from_fn(|index| {
            let reply = self.replies.reply(first + index);
            reply.map_or(nobody, |(_, to)| to.client).as_any()
        });
        let mut control: [SendAncillaryBuffer<'_, '_, '_>; BATCH] =
            std::array::from_fn(|_| SendAncillaryBuffer::default());
        let mut parts = addresses.iter().zip(&slices).zip(&mut control);
        let mut messages: [MMsgHdr<'_>; BATCH] = std::array::from_fn(|_| {
            let ((address, slice), control) = parts.next().expect("each array has BATCH members");
            MMsgHdr::new_with_addr(address, slice, control)
        });
        let batch = messages.get_mut(..rest).unwrap_or_default();
        self.datagrams.socket.try_io(Interest::WRITABLE, || {
            sendmmsg(&self.datagrams.socket, batch, SendFlags::DONTWAIT).map_err(io::Error::from)
        })
    }
}
