//! The host under the lab's servers: sockets that can lose touch with the network, and
//! connections that end with a reset as those of a program that died.

use super::faults::Faults;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime, UdpPoller};
use std::fmt;
use std::future::Future as _;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How often a connection looks whether the network is back.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A connection of the host.
pub(super) struct Stream {
    tcp: TcpStream,
    faults: Arc<Faults>,
    look_again: Pin<Box<Sleep>>,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream, faults: Arc<Faults>) -> Self {
        Self {
            tcp,
            faults,
            look_again: Box::pin(sleep(Duration::ZERO)),
        }
    }

    /// Ready when there is a network.
    fn poll_network(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.faults.has_vanished() {
            ready!(self.look_again.as_mut().poll(context));
            self.look_again = Box::pin(sleep(LOOK_AGAIN));
        }
        Poll::Ready(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.faults.is_crashing() {
            let _ = self.tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_network(context));
        Pin::new(&mut this.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_network(context));
        Pin::new(&mut this.tcp).poll_write(context, octets)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}

/// The socket under QUIC: while the host has vanished, or dies, packets are lost both ways.
pub(super) struct Socket {
    socket: Arc<dyn AsyncUdpSocket>,
    faults: Arc<Faults>,
}

impl Socket {
    pub(super) fn new(socket: std::net::UdpSocket, faults: Arc<Faults>) -> io::Result<Self> {
        let socket = TokioRuntime.wrap_udp_socket(socket)?;
        Ok(Self { socket, faults })
    }

    fn is_cut_off(&self) -> bool {
        self.faults.has_vanished() || self.faults.is_crashing()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(out)
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.is_cut_off() {
            return Ok(());
        }
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let received = ready!(self.socket.poll_recv(context, buffers, meta));
            if received.is_err() || !self.is_cut_off() {
                return Poll::Ready(received);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}
