//! What the listeners share about one turn of the event loop: buffers, and framing in them.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::HEADER_OCTETS;
use crate::{
    clock::Now,
    handler::{Answer, Attempt, Client, Handler},
};

/// The most octets read from a TCP connection at once.
const READ_MAX_OCTETS: usize = 16 * 1024;

/// A spare buffer larger than this is given back to the allocator.
const SPARE_MAX_OCTETS: usize = 64 * 1024;

/// The length in front of a message on a stream (RFC 1035, section 4.2.2).
pub(super) const LENGTH_OCTETS: usize = 2;

thread_local! {
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX_OCTETS]);
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Takes the worker's spare buffer, empty: a turn that ends with nothing left to write costs no
/// allocation, and a connection that waits holds no buffer.
pub(super) fn take_spare() -> Vec<u8> {
    SPARE.take()
}

/// Gives the buffer back for the next turn of any connection of this worker.
pub(super) fn give_spare(mut buffer: Vec<u8>) {
    if buffer.capacity() <= SPARE_MAX_OCTETS {
        buffer.clear();
        SPARE.set(buffer);
    }
}

/// A client's stream, from which idle connections need no buffer to read.
pub(super) trait Source: AsyncRead + AsyncWrite + Unpin {
    /// Adds what is there to `out`, at most [`READ_MAX_OCTETS`], through a buffer of the worker. 0
    /// is the end.
    fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        READ.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(self).poll_read(context, &mut buffer))?;
            out.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }
}

impl Source for TcpStream {}

impl Source for Box<TlsStream<TcpStream>> {
    /// The buffer is rustls's own.
    fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let octets = ready!(poll_plain(self, context))?;
        let taken = octets.len();
        out.extend_from_slice(octets);
        Pin::new(self).consume(taken);
        Poll::Ready(Ok(taken))
    }
}

/// Shows the octets of one TLS record, to be consumed. Nothing is the end.
///
/// A turn looks for more until there is none. The socket knows that at once; rustls would prepare
/// for each of these looks as for a read.
pub(super) fn poll_plain<'a>(
    tls: &'a mut TlsStream<TcpStream>,
    context: &mut Context<'_>,
) -> Poll<io::Result<&'a [u8]>> {
    let (tcp, session) = tls.get_ref();
    if session.wants_read() {
        ready!(tcp.poll_read_ready(context))?;
    }
    Pin::new(tls).poll_fill_buf(context)
}

/// Lets the handler try, with room for the length in front of the reply.
pub(super) fn try_framed<H: Handler>(
    handler: &H,
    now: &Now,
    query: &[u8],
    client: &Client,
    out: &mut Vec<u8>,
) -> Attempt<H::Pending> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_OCTETS]);
    let attempt = handler.try_answer(now, query, client, out);
    if !matches!(attempt, Attempt::Answered(_)) || !write_length(out, start) {
        out.truncate(start);
    }
    attempt
}

/// Waits for the handler's reply and puts the length in front.
pub(super) async fn finish_framed<H: Handler>(handler: &H, pending: H::Pending) -> Vec<u8> {
    let mut out = vec![0; LENGTH_OCTETS];
    let _: Answer = handler.finish(pending, &mut out).await;
    if !write_length(&mut out, 0) {
        out.clear();
    }
    out
}

/// Fills in the length of the message that begins `LENGTH_OCTETS` after `start`. `false` when it
/// is no message that a stream can carry; the handler does not make such replies.
fn write_length(out: &mut [u8], start: usize) -> bool {
    let Some((prefix, message)) = out
        .get_mut(start..)
        .and_then(|frame| frame.split_first_chunk_mut::<LENGTH_OCTETS>())
    else {
        return false;
    };
    match u16::try_from(message.len()) {
        Ok(length) if message.len() >= HEADER_OCTETS => {
            *prefix = length.to_be_bytes();
            true
        }
        _ => false,
    }
}
