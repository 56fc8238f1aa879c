//! One pipelined connection, TCP or DoT (RFC 7766, RFC 7858): many queries under way at once,
//! answers in any order.
//!
//! One task owns the connection, reads and writes. Everything that was queued when it gets its
//! turn leaves in one write, which is one TLS record and one packet where it fits.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{mpsc, oneshot},
    time::{sleep_until, timeout},
};

use super::{
    error::Failure,
    life::Life,
    message::{self, QUERY_CAPACITY_OCTETS},
};
use crate::{clock, entropy, net::framing, wire::Question};

/// Queries that wait for the task's turn. They come from at most
/// [`super::connection::OUTSTANDING_MAX`] exchanges, so a full queue means the upstream does not read.
const QUEUE_MAX: usize = 1024;
/// Queries whose answer has not come yet, those nobody waits for any more included. Far below the
/// 65,536 ids, so that a free one is found at once.
const PENDING_MAX: usize = 4096;
/// An id nobody waits for stays taken for so long, in case its answer still comes.
const ABANDONED: Duration = Duration::from_secs(10);
/// Octets queued for writing at which no further query is taken in.
const WRITE_BUFFER_MAX_OCTETS: usize = 128 * 1024;
/// Octets made free in the read buffer before each read.
const READ_OCTETS: usize = 8 * 1024;
/// How long a connection that takes no more queries waits for its last answers.
const LINGER: Duration = Duration::from_secs(10);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The way to the task that owns the connection. When all handles are dropped, the task waits for
/// the last answers and closes.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    queue: mpsc::Sender<Request>,
    pad_to: Option<usize>,
}

#[derive(Debug)]
struct Request {
    /// Length and query; the id is set by the task.
    framed: Vec<u8>,
    reply: oneshot::Sender<Result<Vec<u8>, Failure>>,
}

#[derive(Debug)]
struct Pending {
    framed: Vec<u8>,
    reply: oneshot::Sender<Result<Vec<u8>, Failure>>,
    sent: Instant,
}

impl Stream {
    /// Takes over a connection that is ready for queries.
    pub(super) fn start<S>(connection: S, pad_to: Option<usize>, life: Life) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(run(connection, queue, life));
        Self {
            queue: sender,
            pad_to,
        }
    }

    /// Whether the connection is there as far as we know.
    pub(super) fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Asks `question` and waits for its response.
    pub(super) async fn exchange(&self, question: &Question) -> Result<Vec<u8>, Failure> {
        let mut framed = Vec::with_capacity(QUERY_CAPACITY_OCTETS);
        let at = framing::open(&mut framed);
        message::encode_query(
            question,
            0,
            None,
            self.pad_to,
            message::UDP_PAYLOAD_OCTETS,
            &mut framed,
        );
        framing::close(&mut framed, at);
        let (reply, answer) = oneshot::channel();
        self.queue
            .try_send(Request { framed, reply })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Failure::Busy,
                mpsc::error::TrySendError::Closed(_) => closed(),
            })?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

fn closed() -> Failure {
    Failure::Lost("closed before the query was sent".to_owned())
}

async fn run<S>(connection: S, queue: mpsc::Receiver<Request>, life: Life)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, mut writer) = tokio::io::split(connection);
    let mut table = Table::new();
    let mut queue = queue;
    let failure = drive(&mut reader, &mut writer, &mut queue, &mut table, &life).await;
    // First nobody can queue any more, then whoever did is told.
    queue.close();
    table.fail(&failure);
    while let Ok(request) = queue.try_recv() {
        drop(request.reply.send(Err(failure.clone())));
    }
    // The far side may be gone already; there is nothing to do about a goodbye that fails.
    drop(timeout(GOODBYE, writer.shutdown()).await);
}

/// Reads and writes until the connection ends or nobody needs it; gives back why.
async fn drive<S>(
    reader: &mut ReadHalf<S>,
    writer: &mut WriteHalf<S>,
    queue: &mut mpsc::Receiver<Request>,
    table: &mut Table,
    life: &Life,
) -> Failure
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut input = BytesMut::new();
    let mut output = BytesMut::new();
    let mut batch = Vec::new();
    let mut unflushed = false;
    // Set when all handles are gone: until when to wait for the last answers.
    let mut leaving: Option<Instant> = None;
    loop {
        if leaving.is_some() && table.pending.is_empty() {
            return Failure::Lost("no longer needed".to_owned());
        }
        let takes_more =
            leaving.is_none() && output.len() < WRITE_BUFFER_MAX_OCTETS && table.has_room();
        let flushing = output.is_empty();
        input.reserve(READ_OCTETS);
        tokio::select! {
            biased;
            read = reader.read_buf(&mut input) => match read {
                Ok(0) => return Failure::Lost("the upstream closed it".to_owned()),
                Ok(_) => {
                    life.mark_answer();
                    while let Some((response, octets)) = framing::split(&input) {
                        table.answer(response);
                        input.advance(octets);
                    }
                    if input.is_empty() && input.capacity() > READ_OCTETS {
                        // A long answer made it grow; the next wait needs less.
                        input = BytesMut::new();
                    }
                }
                Err(error) => return Failure::Lost(error.to_string()),
            },
            count = queue.recv_many(&mut batch, QUEUE_MAX), if takes_more => {
                if count == 0 {
                    leaving = Some(clock::instant() + LINGER);
                }
                for request in batch.drain(..) {
                    table.enter(request, &mut output);
                }
            },
            written = push(writer, &mut output), if unflushed || !flushing => match written {
                Ok(()) if flushing => {
                    unflushed = false;
                    // A connection that only waits keeps no write buffer.
                    output = BytesMut::new();
                }
                Ok(()) => unflushed = true,
                Err(error) => return Failure::Send(Arc::new(error)),
            },
            () = sleep_until(leaving.unwrap_or_else(clock::instant).into()), if leaving.is_some() => {
                return Failure::Lost("no longer needed".to_owned());
            },
        }
    }
}

/// Writes what is queued, as much as goes at once, or flushes when nothing is. Dropping the future
/// loses no octet.
async fn push<S: AsyncWrite>(writer: &mut WriteHalf<S>, output: &mut BytesMut) -> io::Result<()> {
    if output.is_empty() {
        return writer.flush().await;
    }
    match writer.write_buf(output).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        _ => Ok(()),
    }
}

/// The queries under way, by the id they have on this connection.
#[derive(Debug)]
struct Table {
    pending: HashMap<u16, Pending, ahash::RandomState>,
}

impl Table {
    fn new() -> Self {
        Self {
            pending: HashMap::with_hasher(entropy::hasher()),
        }
    }

    /// Whether another query can be entered; makes room by forgetting those given up long ago.
    fn has_room(&mut self) -> bool {
        if self.pending.len() < PENDING_MAX {
            return true;
        }
        let now = clock::instant();
        self.pending.retain(|_, pending| {
            !pending.reply.is_closed() || now.saturating_duration_since(pending.sent) < ABANDONED
        });
        self.pending.len() < PENDING_MAX
    }

    /// Gives the query an id that is not in use, remembers it and appends it to `output`.
    ///
    /// A batch is taken in whole, so the table may exceed [`PENDING_MAX`] by one queue.
    fn enter(&mut self, request: Request, output: &mut BytesMut) {
        let Request { mut framed, reply } = request;
        if reply.is_closed() {
            return;
        }
        let mut id = entropy::u16();
        loop {
            if let Entry::Vacant(place) = self.pending.entry(id) {
                if let Some(query) = framed.get_mut(framing::LENGTH_OCTETS..) {
                    message::set_id(query, id);
                }
                output.extend_from_slice(&framed);
                place.insert(Pending {
                    framed,
                    reply,
                    sent: clock::instant(),
                });
                return;
            }
            // At most PENDING_MAX + QUEUE_MAX of 65,536 ids are taken, so this ends soon.
            id = id.wrapping_add(1);
        }
    }

    /// Hands a response to whoever waits for it. One that nobody waits for is dropped.
    fn answer(&mut self, response: &[u8]) {
        let Some(pending) = self.pending.remove(&message::id(response)) else {
            return;
        };
        let query = pending
            .framed
            .get(framing::LENGTH_OCTETS..)
            .unwrap_or_default();
        // No third party can write into this stream, so a wrong question under the right id is
        // the upstream's own mistake: better to ask elsewhere than to wait for another.
        let outcome = if message::belongs(query, response) {
            Ok(response.to_vec())
        } else if response.len() < crate::wire::HEADER_OCTETS {
            Err(Failure::Parse)
        } else {
            Err(Failure::Mismatch)
        };
        // The one who asked may have given up meanwhile.
        drop(pending.reply.send(outcome));
    }

    /// Tells everybody who waits that no answer will come.
    fn fail(&mut self, failure: &Failure) {
        for (_, pending) in self.pending.drain() {
            drop(pending.reply.send(Err(failure.clone())));
        }
    }
}
