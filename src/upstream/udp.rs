//! Plain DNS over UDP (RFC 1035, RFC 5452), with TCP when an answer is cut or forgery is likely.
//!
//! Anyone can send us datagrams with the upstream's address on them. What an attacker must guess
//! is the source port, the id and the letter case of the name, all fresh for each query. What does
//! not match is dropped and waiting goes on, so that no forged packet ends an exchange. A first
//! mismatch is a warning, though: from then on the question travels over TCP as well, where
//! forgery takes more than guessing; after many mismatches only TCP's answer counts. The same
//! covers upstreams that do not keep the letter case.
//!
//! The sockets are connected, so that the kernel drops datagrams from other addresses. An ICMP
//! error, which can be forged too, changes nothing by itself: the query is sent once more a little
//! later, and only if that one is refused as well the exchange ends.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::Semaphore,
    time::{Instant, sleep_until},
};

use super::{
    SILENT_AFTER,
    error::Failure,
    life::Life,
    message::{self, QUERY_CAPACITY_OCTETS, Received, UDP_PAYLOAD_OCTETS},
    pool::Pool,
    race::{self, Race},
    tries::Tries,
};
use crate::{clock, entropy, wire::Question};

/// The most sockets one worker has open towards one upstream, fewer where file descriptors are
/// few. Each query has its own.
pub const SOCKETS_MAX: usize = 256;
/// The most queries that wait for a socket.
const WAITING_MAX: usize = 4096;
/// When the same datagram is sent again, counted from the first sending. The gaps grow; the last
/// leaves the answer a second and a half within a stub's patience.
const RESENDS: [Duration; 3] = [
    Duration::from_millis(400),
    Duration::from_millis(1100),
    Duration::from_millis(2400),
];
/// How long an answer may still come after "port unreachable", before the query is sent again to
/// see whether it is true. Further refusals in this time are taken for copies of the first.
const REFUSED_GRACE: Duration = Duration::from_millis(250);
/// Datagrams that do not match before UDP is given up for this query: forgers get few guesses.
const MISMATCHES_MAX: u32 = 20;
/// Random ports tried before the kernel chooses one.
const PORT_DRAWS: u32 = 8;
/// The first port drawn from; those below are privileged.
const PORT_FIRST: u16 = 1024;
/// The most octets taken of one datagram. We offer 1232; a careless upstream may send somewhat more.
const DATAGRAM_MAX_OCTETS: usize = 4096;

/// The addresses of a plain upstream, each with its TCP connections.
pub(super) struct Udp {
    addresses: Vec<(SocketAddr, Pool)>,
    life: Life,
    sockets_max: usize,
    sockets: Semaphore,
    outstanding: AtomicUsize,
}

impl Udp {
    /// `tcp` are the pools for the same addresses, one each.
    pub(super) fn new(addresses: Vec<(SocketAddr, Pool)>, life: Life, sockets_max: usize) -> Self {
        Self {
            addresses,
            life,
            sockets_max,
            sockets: Semaphore::new(sockets_max),
            outstanding: AtomicUsize::new(0),
        }
    }

    /// Asks `question` and waits for its response.
    pub(super) async fn exchange(
        &self,
        question: &Question,
        tries: &Tries,
    ) -> Result<Received, Failure> {
        let before = self.outstanding.fetch_add(1, Ordering::Relaxed);
        let _leave = Leave(&self.outstanding);
        if before >= self.sockets_max + WAITING_MAX {
            return Err(Failure::Busy);
        }
        race::staggered(&self.addresses, SILENT_AFTER, |(address, tcp)| {
            self.ask(*address, tcp, question, tries)
        })
        .await
        .unwrap_or_else(|| Err(Failure::Lost("there is no address".to_owned())))
    }

    async fn ask(
        &self,
        address: SocketAddr,
        tcp: &Pool,
        question: &Question,
        tries: &Tries,
    ) -> Result<Received, Failure> {
        let Ok(_permit) = self.sockets.acquire().await else {
            return Err(Failure::Busy);
        };
        let send_failed = |error| Failure::Send(Arc::new(error));
        let socket = socket(address).await.map_err(send_failed)?;
        let mut query = Vec::with_capacity(QUERY_CAPACITY_OCTETS);
        message::encode_query(
            question,
            entropy::u16(),
            Some(entropy::u64()),
            None,
            UDP_PAYLOAD_OCTETS,
            &mut query,
        );
        socket.send(&query).await.map_err(send_failed)?;

        let began = clock::instant();
        let mut resends = RESENDS.iter();
        let mut resend_at = resends.next().map(|after| began + *after);
        let mut refused = Refused::No;
        let mut mismatches = 0;
        let mut over_tcp = Race::new();
        let mut tcp_failure = None;
        let mut datagram = Vec::with_capacity(DATAGRAM_MAX_OCTETS);
        loop {
            datagram.clear();
            tokio::select! {
                received = socket.recv_buf(&mut datagram), if mismatches < MISMATCHES_MAX => {
                    match received {
                        Ok(_) if message::belongs(&query, &datagram) => {
                            self.life.mark_answer();
                            if !message::is_truncated(&datagram) {
                                return Ok(Received {
                                    took: clock::instant() - began,
                                    ..Received::fresh(datagram)
                                });
                            }
                            return tcp.exchange(question, tries).await;
                        }
                        Ok(_) => {
                            mismatches += 1;
                            if mismatches == 1 {
                                over_tcp.start(tcp.exchange(question, tries));
                            }
                            if mismatches == MISMATCHES_MAX && over_tcp.is_empty() {
                                return Err(tcp_failure.unwrap_or(Failure::Mismatch));
                            }
                        }
                        Err(source) => match refused {
                            Refused::No => {
                                refused = Refused::AskAgain(clock::instant() + REFUSED_GRACE);
                            }
                            Refused::AskedAgain if over_tcp.is_empty() => {
                                return Err(Failure::Connect { address, source: Arc::new(source) });
                            }
                            // The query goes out again, or TCP may still answer.
                            Refused::AskAgain(_) | Refused::AskedAgain => {}
                        },
                    }
                }
                Some(outcome) = over_tcp.next() => match outcome {
                    Ok(response) => return Ok(response),
                    Err(failure) if mismatches >= MISMATCHES_MAX => return Err(failure),
                    Err(failure) => tcp_failure = Some(failure),
                },
                () = sleep_until(at(resend_at)), if resend_at.is_some() => {
                    resend_at = resends.next().map(|after| began + *after);
                    // What cannot be sent now may go with the next; the deadline is elsewhere.
                    drop(socket.send(&query).await);
                }
                () = sleep_until(at(refused.ask_again_at())), if refused.ask_again_at().is_some() => {
                    refused = Refused::AskedAgain;
                    drop(socket.send(&query).await);
                }
            }
        }
    }
}

/// How far "port unreachable" has been looked into.
#[derive(Clone, Copy)]
enum Refused {
    /// None came.
    No,
    /// One came; at this time the query is sent again.
    AskAgain(std::time::Instant),
    /// The query was sent again; another one ends the exchange.
    AskedAgain,
}

impl Refused {
    const fn ask_again_at(self) -> Option<std::time::Instant> {
        match self {
            Self::AskAgain(at) => Some(at),
            Self::No | Self::AskedAgain => None,
        }
    }
}

fn at(instant: Option<std::time::Instant>) -> Instant {
    Instant::from_std(instant.unwrap_or_else(clock::instant))
}

/// A socket on a random port that hears only `address`.
async fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let local: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut bound = None;
    for _ in 0..PORT_DRAWS {
        let draw = entropy::below(u32::from(u16::MAX - PORT_FIRST) + 1);
        let port = u16::try_from(draw).map_or(0, |draw| draw.saturating_add(PORT_FIRST));
        if let Ok(socket) = UdpSocket::bind((local, port)).await {
            bound = Some(socket);
            break;
        }
    }
    let socket = match bound {
        Some(socket) => socket,
        None => UdpSocket::bind((local, 0)).await?,
    };
    socket.connect(address).await?;
    Ok(socket)
}

/// Counts an exchange out however it ends.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
