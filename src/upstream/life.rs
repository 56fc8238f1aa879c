//! Signs of life: how we know that an upstream works on a question rather than being dead.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Counts what was heard on one connection and, with it, from its upstream. Whether anything was
/// heard since a moment is whether the count has changed since, so no clock is read.
///
/// Answers are counted apart from everything else, such as handshakes: only they show that queries
/// are worked on.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    connection: Arc<AtomicU64>,
    upstream: Arc<AtomicU64>,
    answers: Arc<AtomicU64>,
}

impl Life {
    /// The life of a new connection to the same upstream.
    pub(super) fn connection(&self) -> Self {
        Self {
            connection: Arc::default(),
            upstream: Arc::clone(&self.upstream),
            answers: Arc::clone(&self.answers),
        }
    }

    /// Something was heard.
    pub(super) fn mark(&self) {
        self.connection.fetch_add(1, Ordering::Relaxed);
        self.upstream.fetch_add(1, Ordering::Relaxed);
    }

    /// A part of an answer was heard, to whichever query.
    pub(super) fn mark_answer(&self) {
        self.mark();
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a part of an answer was heard from this upstream.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// How often something was heard on this connection.
    pub(super) fn of_connection(&self) -> u64 {
        self.connection.load(Ordering::Relaxed)
    }

    /// How often something was heard from this upstream.
    pub(super) fn of_upstream(&self) -> u64 {
        self.upstream.load(Ordering::Relaxed)
    }
}

/// A stream that marks every octet received as a sign of life.
pub(super) struct Listened<S> {
    inner: S,
    life: Life,
}

impl<S> Listened<S> {
    pub(super) const fn new(inner: S, life: Life) -> Self {
        Self { inner, life }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.life.mark();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
