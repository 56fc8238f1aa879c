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
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, watch},
    time::sleep_until,
};

use super::{
    SILENT_AFTER,
    error::Failure,
    eyeballs::{ADDRESS_STAGGER, Winner},
    life::Life,
    message::{self, QUERY_CAPACITY_OCTETS, Received, UDP_PAYLOAD_OCTETS},
    pool::Pool,
    race::{self, Race},
    sockets::Sockets,
    tries::Tries,
};
use crate::{clock, entropy, wire::Question};

/// The most sockets one worker has open towards one upstream, fewer where file descriptors are
/// few. Each query has one to itself.
pub const SOCKETS_MAX: usize = 512;
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

/// The addresses of a plain upstream.
pub(super) struct Udp {
    addresses: Vec<Way>,
    life: Life,
    sockets_max: usize,
    sockets: Semaphore,
    outstanding: AtomicUsize,
    winner: Winner,
    /// Told when the network is another one.
    network: watch::Sender<()>,
}

impl Udp {
    /// `tcp` are the pools for the same addresses, one each.
    pub(super) fn new(addresses: Vec<(SocketAddr, Pool)>, life: Life, sockets_max: usize) -> Self {
        let each = (sockets_max / addresses.len().max(1)).max(1);
        let way = |(address, tcp)| Way {
            address,
            sockets: Sockets::new(address, each),
            tcp,
        };
        Self {
            addresses: addresses.into_iter().map(way).collect(),
            life,
            sockets_max,
            sockets: Semaphore::new(sockets_max),
            outstanding: AtomicUsize::new(0),
            winner: Winner::default(),
            network: watch::channel(()).0,
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
        let Some((first, others)) = self.addresses.split_first() else {
            return Err(Failure::Lost("there is no address".to_owned()));
        };
        if others.is_empty() {
            return self.ask(first, question, tries).await;
        }
        let addresses: Vec<SocketAddr> = self.addresses.iter().map(|way| way.address).collect();
        let order = self.winner.order(&addresses);
        // An address known to work here is given the time that an answer may take.
        let stagger = match order.first() {
            Some(first) if self.winner.is(*first) => SILENT_AFTER,
            _ => ADDRESS_STAGGER,
        };
        let ways: Vec<&Way> = order
            .iter()
            .filter_map(|address| self.addresses.iter().find(|way| way.address == *address))
            .collect();
        race::staggered(ways, stagger, |way| async move {
            let received = self.ask(way, question, tries).await?;
            self.winner.set(way.address);
            Ok(received)
        })
        .await
        .unwrap_or_else(|| Err(Failure::Lost("there is no address".to_owned())))
    }

    /// The network is another one: what was learned of it is forgotten, and the queries under way
    /// are sent again, since their answers would go to an address that may be gone.
    pub(super) fn network_changed(&self) {
        self.winner.forget();
        for way in &self.addresses {
            way.sockets.close_idle();
            way.tcp.network_changed();
        }
        self.network.send_replace(());
    }

    async fn ask(
        &self,
        way: &Way,
        question: &Question,
        tries: &Tries,
    ) -> Result<Received, Failure> {
        let Way { address, tcp, .. } = way;
        let Ok(_permit) = self.sockets.acquire().await else {
            return Err(Failure::Busy);
        };
        let send_failed = |error| Failure::Send(Arc::new(error));
        let mut network = self.network.subscribe();
        let mut lent = way.sockets.lend().map_err(send_failed)?;
        let mut query = Vec::with_capacity(QUERY_CAPACITY_OCTETS);
        message::encode_query(
            question,
            entropy::u16(),
            Some(entropy::u64()),
            None,
            UDP_PAYLOAD_OCTETS,
            &mut query,
        );
        lent.send(&query).map_err(send_failed)?;

        let began = clock::instant();
        let mut resends = RESENDS.iter();
        let mut resend_at = resends.next().map(|after| began + *after);
        let mut refused = Refused::No;
        let mut mismatches = 0;
        let mut over_tcp = Race::new();
        let mut tcp_failure = None;
        loop {
            let send_at = resend_at.into_iter().chain(refused.ask_again_at()).min();
            let response =
                |datagram: &[u8]| message::belongs(&query, datagram).then(|| datagram.to_vec());
            tokio::select! {
                received = lent.receive(response), if mismatches < MISMATCHES_MAX => {
                    match received {
                        Ok(Some(response)) => {
                            let now = clock::instant();
                            self.life.mark_answer();
                            lent.give_back(now);
                            if !message::is_truncated(&response) {
                                return Ok(Received {
                                    took: now - began,
                                    ..Received::fresh(response)
                                });
                            }
                            // Boxed, since it is rare and would make every exchange as large.
                            return Box::pin(tcp.exchange(question, tries)).await;
                        }
                        Ok(None) => {
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
                                return Err(Failure::Connect { address: *address, source: Arc::new(source) });
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
                // `began` is never waited for: without a time this branch is off.
                () = sleep_until(send_at.unwrap_or(began).into()), if send_at.is_some() => {
                    if send_at == resend_at {
                        resend_at = resends.next().map(|after| began + *after);
                    } else {
                        refused = Refused::AskedAgain;
                    }
                    // What cannot be sent now may go with the next; the deadline is elsewhere.
                    drop(lent.send(&query));
                }
                Ok(()) = network.changed() => {
                    // What cannot be sent on the new network yet may go with the next resend.
                    if let Ok(fresh) = way.sockets.lend() {
                        lent = fresh;
                        drop(lent.send(&query));
                    }
                }
            }
        }
    }
}

/// One address, with its sockets and its TCP connections.
struct Way {
    address: SocketAddr,
    sockets: Sockets,
    tcp: Pool,
}

/// How far "port unreachable" has been looked into.
#[derive(Clone, Copy)]
enum Refused {
    /// None came.
    No,
    /// One came; at this time the query is sent again.
    AskAgain(Instant),
    /// The query was sent again; another one ends the exchange.
    AskedAgain,
}

impl Refused {
    const fn ask_again_at(self) -> Option<Instant> {
        match self {
            Self::AskAgain(at) => Some(at),
            Self::No | Self::AskedAgain => None,
        }
    }
}

/// Counts an exchange out however it ends.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
