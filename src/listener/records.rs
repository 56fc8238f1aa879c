//! Puts each HTTP/2 response into a TLS record of its own, while all of them still leave with one
//! write.
//!
//! Left alone, h2 and rustls put all responses of a turn into one record. That is legal, but
//! clients exist (dnsperf is one) that look at one record at a time, take the first answer they
//! find in it and wait for ever for the others. A record costs 22 octets and the start of one
//! encryption, a system call is many times that: so records are many and writes are few.

use std::{
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::turn::poll_plain;

/// A TLS stream on which HTTP/2 frames are written.
#[derive(Debug)]
pub(super) struct Records {
    tls: Box<TlsStream<TcpStream>>,
    frames: Frames,
}

impl Records {
    pub(super) fn new(tls: Box<TlsStream<TcpStream>>) -> Self {
        Self {
            tls,
            frames: Frames::default(),
        }
    }

    /// Encrypts as much of `octets` as rustls has room for; nothing is sent yet.
    fn encrypt(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = octets.get(done..)
            && !rest.is_empty()
        {
            let record = self.frames.until_response_ends(rest);
            let taken = self.tls.get_mut().1.writer().write(record)?;
            if taken == 0 {
                break;
            }
            self.frames.advance(rest.get(..taken).unwrap_or_default());
            done += taken;
        }
        Ok(done)
    }
}

impl AsyncRead for Records {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let octets = ready!(poll_plain(&mut self.tls, context))?;
        let taken = octets.len().min(buffer.remaining());
        buffer.put_slice(octets.get(..taken).unwrap_or_default());
        Pin::new(&mut self.tls).consume(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Records {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let done = self.encrypt(octets)?;
            if done > 0 || octets.is_empty() {
                return Poll::Ready(Ok(done));
            }
            // rustls holds all it may: some of it must leave first.
            ready!(Pin::new(&mut self.tls).poll_flush(context))?;
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }
}

/// A frame's header: length, type, flags, stream (RFC 9113, section 4.1).
const HEADER_OCTETS: usize = 9;

const DATA: u8 = 0;

const END_STREAM: u8 = 1;

/// Where we are in the sequence of frames.
#[derive(Clone, Copy, Debug, Default)]
struct Frames {
    header: [u8; HEADER_OCTETS],
    /// How much of the header has been seen.
    seen: usize,
    /// How much of the payload is still to come, once the header is complete.
    left: usize,
}

impl Frames {
    /// The part of `octets` up to the end of the first response that ends in it.
    fn until_response_ends<'a>(&self, octets: &'a [u8]) -> &'a [u8] {
        let mut frames = *self;
        let mut rest = octets;
        while !rest.is_empty() {
            rest = frames.step(rest);
            if frames.response_ended() {
                let end = octets.len() - rest.len();
                return octets.get(..end).unwrap_or(octets);
            }
        }
        octets
    }

    fn advance(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            octets = self.step(octets);
        }
    }

    /// Goes through the rest of the header or of the payload; what comes after it.
    fn step<'a>(&mut self, octets: &'a [u8]) -> &'a [u8] {
        if self.seen == HEADER_OCTETS && self.left == 0 {
            self.seen = 0;
        }
        if self.seen < HEADER_OCTETS {
            let missing = self.header.get_mut(self.seen..).unwrap_or_default();
            let octets_now = missing.len().min(octets.len());
            let (now, rest) = octets.split_at(octets_now);
            for (to, from) in missing.iter_mut().zip(now) {
                *to = *from;
            }
            self.seen += octets_now;
            if self.seen == HEADER_OCTETS {
                let [high, middle, low, ..] = self.header;
                let length = u32::from_be_bytes([0, high, middle, low]);
                self.left = usize::try_from(length).unwrap_or(usize::MAX);
            }
            return rest;
        }
        let now = self.left.min(octets.len());
        self.left -= now;
        octets.split_at(now).1
    }

    /// Whether the frame that was just completed was the last of a response.
    fn response_ended(&self) -> bool {
        let [_, _, _, kind, flags, ..] = self.header;
        self.seen == HEADER_OCTETS && self.left == 0 && kind == DATA && flags & END_STREAM != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(frame.len() + payload, 7);
        frame
    }

    /// Splits as `encrypt` does when it is given `octets` in pieces of `piece`.
    fn records(octets: &[u8], piece: usize) -> Vec<usize> {
        let mut frames = Frames::default();
        let mut ends = vec![];
        let mut at = 0;
        for piece in octets.chunks(piece) {
            let mut rest = piece;
            while !rest.is_empty() {
                let record = frames.until_response_ends(rest).len();
                frames.advance(&rest[..record]);
                rest = &rest[record..];
                at += record;
                ends.push(at);
            }
        }
        ends
    }

    #[test]
    fn a_record_ends_with_each_response() {
        let headers = frame(1, 4, 30);
        let data = frame(DATA, END_STREAM, 50);
        let response = [headers, data].concat();
        let settings = frame(4, 1, 0);
        let octets = [settings, response.clone(), response.clone(), frame(6, 1, 8)].concat();
        let first = 9 + response.len();
        let second = first + response.len();
        assert_eq!(records(&octets, 1000), [first, second, octets.len()]);
    }

    #[test]
    fn an_empty_last_frame_ends_a_response_too() {
        let octets = [
            frame(DATA, 0, 5),
            frame(DATA, END_STREAM, 0),
            frame(6, 0, 8),
        ]
        .concat();
        assert_eq!(records(&octets, 1000), [14 + 9, octets.len()]);
    }

    proptest! {
        #[test]
        fn responses_end_records_however_the_octets_come(
            payloads in proptest::collection::vec(0_usize..40, 1..8),
            piece in 1_usize..100,
        ) {
            let mut octets = Vec::new();
            let mut wanted = Vec::new();
            for payload in payloads {
                octets.extend(frame(1, 4, 3));
                octets.extend(frame(DATA, END_STREAM, payload));
                wanted.push(octets.len());
            }
            let ends = records(&octets, piece);
            prop_assert_eq!(ends.last(), Some(&octets.len()));
            for end in wanted {
                prop_assert!(ends.contains(&end));
            }
        }
    }
}
