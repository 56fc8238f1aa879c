//! DNS on streams: plain TCP (RFC 7766) and, the same inside TLS, DoT (RFC 7858).
//!
//! One turn of a connection reads what is there, answers each complete query, collects what
//! upstreams brought meanwhile, and writes everything at once. Answers leave as they come, in any
//! order (RFC 7766, section 6.2.1.1).

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncWriteExt,
    sync::watch,
    task::{JoinSet, yield_now},
    time::{Sleep, sleep_until, timeout},
};

use super::{
    HEADER_OCTETS, Patience, QUERY_MAX_OCTETS,
    connections::Admission,
    serve::{DRAIN_MAX, Service, note_end, stopped},
    turn::{LENGTH_OCTETS, Source, finish_framed, give_spare, take_spare, try_framed},
};
use crate::{
    clock,
    handler::{Attempt, Client, Handler},
};

/// Queries of one connection answered before other connections of the worker have a turn.
const QUERIES_PER_TURN: usize = 32;

/// Replies that wait to be written, octets; over it no more queries are read from a client that
/// does not read its answers. One turn's replies may exceed it once.
const OUTPUT_MAX_OCTETS: usize = 128 * 1024;

/// The largest buffer that a connection keeps while nothing is in it, octets: room for the one query
/// that most clients send at a time.
const INPUT_KEPT_OCTETS: usize = 256;

/// How long a new connection may stay silent. Clients connect because they have a question.
const FIRST_QUERY: Duration = Duration::from_secs(10);

/// How long the last octets (TLS's goodbye) may take.
const CLOSE: Duration = Duration::from_secs(1);

/// Serves one connection to its end.
pub(super) async fn converse<IO, H>(
    io: IO,
    client: Client,
    service: &Service<H>,
    admission: &Admission,
    stop: watch::Receiver<bool>,
) where
    IO: Source,
    H: Handler,
{
    let now = clock::instant();
    let settings = &service.shared.settings;
    let mut conversation = Conversation {
        io,
        client,
        handler: Arc::clone(&service.handler),
        admission,
        pending_max: settings.queries_per_connection_max,
        idle: settings.idle,
        patience: settings.patience,
        input: Vec::new(),
        taken: 0,
        begun: None,
        output: Vec::new(),
        written: 0,
        late: None,
        flushed: true,
        pending: JoinSet::new(),
        reads: true,
        leaves: false,
        answered_one: false,
        changed: now,
        asleep: Box::pin(sleep_until((now + FIRST_QUERY).into())),
    };
    let ended = tokio::select! {
        biased;
        () = stopped(stop) => None,
        ended = poll_fn(|context| conversation.poll(context)) => Some(ended),
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        // What has come already is answered; the runtime may not have been told of it yet.
        conversation.leaves = true;
        yield_now().await;
        let rest = timeout(DRAIN_MAX, poll_fn(|context| conversation.poll(context)));
        rest.await.unwrap_or(End::Lost)
    };
    if ended == End::Done {
        let _ = timeout(CLOSE, conversation.io.shutdown()).await;
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With nothing left to say: it is closed politely.
    Done,
    /// It is broken, or the client does not read.
    Lost,
}

struct Conversation<'a, IO, H: Handler> {
    io: IO,
    client: Client,
    handler: Arc<H>,
    admission: &'a Admission,
    pending_max: usize,
    idle: Duration,
    patience: Patience,
    /// What was read; the first `taken` octets are done with.
    input: Vec<u8>,
    taken: usize,
    /// Since when the query that is not complete yet has been coming.
    begun: Option<Instant>,
    /// Replies; the first `written` octets have left.
    output: Vec<u8>,
    written: usize,
    /// Up to which octet of `output` replies must leave, and since when they have been there.
    late: Option<(usize, Instant)>,
    /// Whether what was written has also left TLS's own buffer.
    flushed: bool,
    pending: JoinSet<Vec<u8>>,
    /// Whether more queries are taken: not after the client's end, a broken frame, or our own
    /// shutdown.
    reads: bool,
    /// Whether queries are taken only for as long as there are any to read at once.
    leaves: bool,
    answered_one: bool,
    /// When a query was last complete, or a reply last went forward. What merely trickles in is no
    /// progress: a connection is not kept alive by it.
    changed: Instant,
    asleep: Pin<Box<Sleep>>,
}

impl<IO, H> Conversation<'_, IO, H>
where
    IO: Source,
    H: Handler,
{
    /// One turn.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if self.output.capacity() == 0 {
            self.output = take_spare();
        }
        let mut budget = QUERIES_PER_TURN;
        let mut progress = false;
        loop {
            if self.answer(&mut budget) {
                progress = true;
                self.begun = None;
            }
            // After answering, so that the tasks just started can wake this one.
            progress |= self.collect(context);
            if budget == 0 || !self.has_room() || !self.reads {
                break;
            }
            match self.io.poll_take(context, &mut self.input) {
                Poll::Ready(Ok(0)) => self.reads = false,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(End::Lost),
                Poll::Pending => {
                    self.reads &= !self.leaves;
                    break;
                }
            }
        }
        match self.write(context) {
            Poll::Ready(Ok(wrote)) => progress |= wrote,
            Poll::Ready(Err(_)) => return Poll::Ready(End::Lost),
            Poll::Pending => {}
        }
        if progress {
            let busy = !self.pending.is_empty() || self.unwritten();
            self.changed = self.admission.note(busy);
        }
        self.release();
        self.note_waits();
        if !self.reads && self.pending.is_empty() && !self.unwritten() && !self.has_frame() {
            return Poll::Ready(End::Done);
        }
        if budget == 0 || (self.has_frame() && self.has_room()) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.poll_deadline(context)
    }

    /// Answers complete queries, at most `budget` of them. Whether there were any.
    fn answer(&mut self, budget: &mut usize) -> bool {
        let before = *budget;
        while *budget > 0 && self.has_room() {
            let rest = self.input.get(self.taken..).unwrap_or_default();
            let Some((prefix, rest)) = rest.split_first_chunk::<LENGTH_OCTETS>() else {
                break;
            };
            let length = usize::from(u16::from_be_bytes(*prefix));
            if !(HEADER_OCTETS..=QUERY_MAX_OCTETS).contains(&length) {
                self.hang_up();
                break;
            }
            let Some(query) = rest.get(..length) else {
                break;
            };
            *budget -= 1;
            let handler = &self.handler;
            match try_framed(&**handler, query, &self.client, &mut self.output) {
                Attempt::Answered(_) => {}
                Attempt::Pending(pending) => {
                    let handler = Arc::clone(handler);
                    self.pending
                        .spawn(async move { finish_framed(&*handler, pending).await });
                }
                Attempt::Malformed | Attempt::Refused => {
                    self.hang_up();
                    break;
                }
            }
            self.answered_one = true;
            self.taken += LENGTH_OCTETS + length;
        }
        if self.taken >= self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
        before != *budget
    }

    /// Takes the replies that tasks have ready. Whether there were any.
    fn collect(&mut self, context: &mut Context<'_>) -> bool {
        let mut any = false;
        while self.backlog() < OUTPUT_MAX_OCTETS {
            match self.pending.poll_join_next(context) {
                Poll::Ready(Some(Ok(reply))) => self.output.extend_from_slice(&reply),
                Poll::Ready(Some(Err(error))) => note_end::<()>(Err(error)),
                Poll::Ready(None) | Poll::Pending => break,
            }
            any = true;
        }
        any
    }

    /// Writes all replies at once. Ready with whether anything left.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut any = false;
        while let Some(rest) = self.output.get(self.written..)
            && !rest.is_empty()
        {
            match Pin::new(&mut self.io).poll_write(context, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(octets)) => {
                    self.written += octets;
                    self.flushed = false;
                    any = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Ready(Ok(any)),
            }
        }
        if !self.flushed {
            ready!(Pin::new(&mut self.io).poll_flush(context))?;
            self.flushed = true;
            any = true;
        }
        Poll::Ready(Ok(any))
    }

    /// Forgets what is done with, and lets go of the buffers when nothing is left in them.
    fn release(&mut self) {
        self.input.drain(..self.taken);
        self.taken = 0;
        if self.input.is_empty() && self.input.capacity() > INPUT_KEPT_OCTETS {
            self.input = Vec::new();
        }
        if self.backlog() == 0 {
            give_spare(std::mem::take(&mut self.output));
            self.forget_written();
        } else if self.written >= OUTPUT_MAX_OCTETS {
            // A client that is always a little behind would otherwise make this grow for ever.
            self.output.drain(..self.written);
            self.forget_written();
        }
    }

    fn forget_written(&mut self) {
        if let Some((end, _)) = &mut self.late {
            *end = end.saturating_sub(self.written);
        }
        self.written = 0;
    }

    /// Remembers since when what is incomplete or unsent has been so.
    fn note_waits(&mut self) {
        if self.input.is_empty() {
            self.begun = None;
        } else if self.begun.is_none() {
            self.begun = Some(clock::instant());
        }
        if !self.unwritten() {
            self.late = None;
        } else if self
            .late
            .is_none_or(|(end, _)| self.written >= end && self.backlog() > 0)
        {
            // All that was there then has left: what came since has its own time.
            self.late = Some((self.output.len(), clock::instant()));
        }
    }

    /// Ends the connection when the wait that is going on has lasted too long. One timer is moved
    /// forward when it fires, rather than for every query.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let (deadline, end) = if let Some((_, since)) = self.late {
            let stalled = self.changed + self.patience.stall;
            (stalled.min(since + self.patience.reply), End::Lost)
        } else if !self.pending.is_empty() {
            // The handler has a deadline of its own and always answers.
            return Poll::Pending;
        } else if let Some(begun) = self.begun {
            (begun + self.patience.query, End::Done)
        } else if !self.answered_one {
            (self.changed + FIRST_QUERY.min(self.idle), End::Done)
        } else {
            (self.changed + self.idle, End::Done)
        };
        let deadline = deadline.into();
        if deadline < self.asleep.deadline() {
            self.asleep.as_mut().reset(deadline);
        }
        loop {
            ready!(self.asleep.as_mut().poll(context));
            if self.asleep.deadline() >= deadline {
                return Poll::Ready(end);
            }
            self.asleep.as_mut().reset(deadline);
        }
    }

    /// Takes no more queries: what comes after a broken frame has no meaning.
    fn hang_up(&mut self) {
        self.reads = false;
        self.taken = self.input.len();
    }

    fn backlog(&self) -> usize {
        self.output.len().saturating_sub(self.written)
    }

    fn unwritten(&self) -> bool {
        self.backlog() > 0 || !self.flushed
    }

    fn has_room(&self) -> bool {
        self.pending.len() < self.pending_max && self.backlog() < OUTPUT_MAX_OCTETS
    }

    /// Whether a complete query, or one that cannot become complete, waits to be answered.
    fn has_frame(&self) -> bool {
        let rest = self.input.get(self.taken..).unwrap_or_default();
        rest.split_first_chunk::<LENGTH_OCTETS>()
            .is_some_and(|(prefix, rest)| {
                let length = usize::from(u16::from_be_bytes(*prefix));
                length > QUERY_MAX_OCTETS || rest.len() >= length
            })
    }
}
