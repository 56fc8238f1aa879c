//! A bound on what HTTP/3's peer can make us hold.
//!
//! h3 keeps every frame but DATA whole until its last octet is here, and h3-quinn gives flow
//! control credit back as it reads, so that QUIC's own windows do not bound such a frame: one that
//! announces a gigabyte would be kept as far as it comes. The streams here count what they read
//! and end when it is more than DNS has use for. They also know whether a read is under way, when
//! h3-quinn's own `stop_sending` and `recv_id` panic.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h3::{
    error::Code,
    quic::{
        Connection as Http3Connection, ConnectionErrorIncoming, OpenStreams, RecvStream,
        SendStream, StreamErrorIncoming, StreamId, WriteBuf,
    },
};
use quinn::VarInt;

/// What the peer may send on all its one-way streams together, over the connection's life, octets:
/// its settings, a few reserved streams and frames, and word about priorities for thousands of
/// requests. QPACK's streams are not read at all, since the dynamic table is not offered.
const ONE_WAY_MAX_OCTETS: usize = 64 * 1024;

/// RFC 9114, section 8.1: the peer asks for more than we give.
const H3_EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);

/// A QUIC connection for h3 to run on.
pub struct Connection {
    quic: quinn::Connection,
    inner: h3_quinn::Connection,
    stream_max_octets: usize,
    /// What is left of [`ONE_WAY_MAX_OCTETS`].
    one_way_left: Arc<AtomicUsize>,
}

impl Connection {
    /// The peer may send `stream_max_octets` on one request's stream: headers, content and the
    /// frames around them.
    #[must_use]
    pub fn new(quic: quinn::Connection, stream_max_octets: usize) -> Self {
        Self {
            inner: h3_quinn::Connection::new(quic.clone()),
            quic,
            stream_max_octets,
            one_way_left: Arc::new(AtomicUsize::new(ONE_WAY_MAX_OCTETS)),
        }
    }
}

impl Http3Connection<Bytes> for Connection {
    type RecvStream = OneWay;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<OneWay, ConnectionErrorIncoming>> {
        let accepted = Http3Connection::<Bytes>::poll_accept_recv(&mut self.inner, context);
        accepted.map_ok(|inner| OneWay {
            id: inner.recv_id(),
            inner,
            reading: false,
            quic: self.quic.clone(),
            left: Arc::clone(&self.one_way_left),
        })
    }

    fn poll_accept_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<BothWays, ConnectionErrorIncoming>> {
        let max = self.stream_max_octets;
        let accepted = self.inner.poll_accept_bidi(context);
        accepted.map_ok(|inner| BothWays::new(inner, max))
    }

    fn opener(&self) -> Opener {
        Opener {
            inner: Http3Connection::<Bytes>::opener(&self.inner),
            stream_max_octets: self.stream_max_octets,
        }
    }
}

impl OpenStreams<Bytes> for Connection {
    type BidiStream = BothWays;
    type SendStream = h3_quinn::SendStream<Bytes>;

    fn poll_open_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<BothWays, StreamErrorIncoming>> {
        let max = self.stream_max_octets;
        let opened = self.inner.poll_open_bidi(context);
        opened.map_ok(|inner| BothWays::new(inner, max))
    }

    fn poll_open_send(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        self.inner.poll_open_send(context)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        OpenStreams::<Bytes>::close(&mut self.inner, code, reason);
    }
}

/// Opens streams of a connection.
#[derive(Clone)]
pub struct Opener {
    inner: h3_quinn::OpenStreams,
    stream_max_octets: usize,
}

impl OpenStreams<Bytes> for Opener {
    type BidiStream = BothWays;
    type SendStream = h3_quinn::SendStream<Bytes>;

    fn poll_open_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<BothWays, StreamErrorIncoming>> {
        let max = self.stream_max_octets;
        let opened = self.inner.poll_open_bidi(context);
        opened.map_ok(|inner| BothWays::new(inner, max))
    }

    fn poll_open_send(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        self.inner.poll_open_send(context)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        OpenStreams::<Bytes>::close(&mut self.inner, code, reason);
    }
}

/// A stream on which the peer only sends.
pub struct OneWay {
    id: StreamId,
    inner: h3_quinn::RecvStream,
    reading: bool,
    quic: quinn::Connection,
    left: Arc<AtomicUsize>,
}

impl RecvStream for OneWay {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.reading = true;
        let data = ready!(self.inner.poll_data(context));
        self.reading = false;
        let octets = octets_of(&data);
        let left = self.left.load(Ordering::Relaxed).checked_sub(octets);
        // Only the connection's own task reads its one-way streams, so nobody comes between.
        let Some(left) = left else {
            self.quic
                .close(H3_EXCESSIVE_LOAD, b"too much beside requests");
            return Poll::Ready(Err(too_much()));
        };
        self.left.store(left, Ordering::Relaxed);
        Poll::Ready(data)
    }

    fn stop_sending(&mut self, error_code: u64) {
        // While h3-quinn reads it cannot stop; the stream stops when it is dropped.
        if !self.reading {
            self.inner.stop_sending(error_code);
        }
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

/// A request's stream.
pub struct BothWays {
    inner: h3_quinn::BidiStream<Bytes>,
    reading: bool,
    has_sent: bool,
    left: usize,
}

impl BothWays {
    const fn new(inner: h3_quinn::BidiStream<Bytes>, max_octets: usize) -> Self {
        Self {
            inner,
            reading: false,
            has_sent: false,
            left: max_octets,
        }
    }
}

impl RecvStream for BothWays {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.reading = true;
        let data = ready!(self.inner.poll_data(context));
        self.reading = false;
        let Some(left) = self.left.checked_sub(octets_of(&data)) else {
            let code = H3_EXCESSIVE_LOAD.into_inner();
            self.inner.stop_sending(code);
            // A response that has begun says more than a reset, which might overtake it.
            if !self.has_sent {
                self.inner.reset(code);
            }
            return Poll::Ready(Err(too_much()));
        };
        self.left = left;
        Poll::Ready(data)
    }

    fn stop_sending(&mut self, error_code: u64) {
        // While h3-quinn reads it cannot stop; the stream stops when it is dropped.
        if !self.reading {
            self.inner.stop_sending(error_code);
        }
    }

    fn recv_id(&self) -> StreamId {
        // Both directions are one stream, and only this way of asking never panics.
        self.inner.send_id()
    }
}

impl SendStream<Bytes> for BothWays {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.inner.poll_ready(context)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.has_sent = true;
        self.inner.send_data(data)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.inner.poll_finish(context)
    }

    fn reset(&mut self, reset_code: u64) {
        self.inner.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.inner.send_id()
    }
}

fn octets_of(data: &Result<Option<Bytes>, StreamErrorIncoming>) -> usize {
    match data {
        Ok(Some(octets)) => octets.remaining(),
        Ok(None) | Err(_) => 0,
    }
}

/// As if the peer had ended its stream: h3 has no word for a bound of ours.
fn too_much() -> StreamErrorIncoming {
    StreamErrorIncoming::StreamTerminated {
        error_code: H3_EXCESSIVE_LOAD.into_inner(),
    }
}
