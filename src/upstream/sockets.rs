//! Sockets on random ports towards one address of a plain upstream.
//!
//! A port that an attacker does not know is half of what protects plain DNS (RFC 5452, section 9.2).
//! As long as few queries are on their way each has a fresh port of its own. Opening a socket costs
//! more than all else about a query, though, so under load they are used again: one query at a time,
//! a random one of all that are idle, each for a short time and a few queries. Unless file
//! descriptors are few there are more than a hundred ports to guess among, and none is open long
//! enough to be found by probing.

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep_until,
};

use crate::{clock, entropy, net::sockets::watched};

/// Random ports tried before the kernel chooses one.
const PORT_DRAWS: u32 = 8;
/// The first port drawn from; those below are privileged.
const PORT_FIRST: u16 = 1024;
/// How long a socket may be open: finding an open port by its side effects takes longer.
const AGE_MAX: Duration = Duration::from_secs(3);
/// How many queries one socket carries at most: opening one then costs little per query. Under more
/// load than this allows for in [`AGE_MAX`], that is what bounds a socket's life.
const USES_MAX: u8 = 128;
/// With so many queries on their way it is load, and idle sockets are used again.
const BUSY: usize = 32;
/// They are used again while so many are idle: fewer would be easier to guess among; more are out of
/// the processor's caches whenever their turn comes.
const IDLE_ENOUGH: usize = 128;
/// The most octets taken of one datagram. We offer 1232; a careless upstream may send somewhat more.
const DATAGRAM_MAX_OCTETS: usize = 4096;
/// What a socket is watched for: a datagram, or a refusal by ICMP, which is nothing to read.
const HEARD: Interest = Interest::READABLE.add(Interest::ERROR);
/// How often old ones are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

thread_local! {
    /// Where a datagram is received: what waits for one holds no room for it.
    static DATAGRAM: RefCell<Box<[u8]>> = RefCell::new(Box::from([0; DATAGRAM_MAX_OCTETS]));
}

/// The sockets of one worker towards one address.
#[derive(Clone)]
pub(super) struct Sockets(Arc<Shared>);

struct Shared {
    address: SocketAddr,
    /// The most that are open at a time.
    open_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Open>,
    /// Sockets that are open, those in use included.
    open: usize,
    /// Whether a task closes old ones.
    is_swept: bool,
}

struct Open {
    socket: AsyncFd<UdpSocket>,
    opened: Instant,
    uses: u8,
}

/// A socket for one query. It is closed when dropped, unless it is given back.
pub(super) struct Lent {
    /// `None` once it was given back.
    open: Option<Open>,
    /// Whether one datagram was sent, and its response is all that was heard. Whatever else may
    /// still come would look like a forgery to the next query.
    is_clean: bool,
    has_sent: bool,
    owner: Arc<Shared>,
}

impl Sockets {
    /// At most `open_max` are kept open.
    pub(super) fn new(address: SocketAddr, open_max: usize) -> Self {
        Self(Arc::new(Shared {
            address,
            open_max,
            state: Mutex::default(),
        }))
    }

    /// A socket for one query: a fresh one, or, when enough are open, a random one of those that are
    /// idle.
    pub(super) fn lend(&self) -> io::Result<Lent> {
        while let Some(open) = self.0.take_idle() {
            // What came to it meanwhile was not asked for: somebody may know its port.
            if has_heard_nothing(&open.socket) {
                return Ok(self.0.lent(open));
            }
            self.0.lock().open -= 1;
        }
        let socket = open_socket(self.0.address)?;
        self.0.lock().open += 1;
        Ok(self.0.lent(Open {
            socket,
            opened: clock::instant(),
            uses: 0,
        }))
    }

    /// Closes those that are not in use: their own address may be gone with the network.
    pub(super) fn close_idle(&self) {
        let mut state = self.0.lock();
        state.open -= state.idle.len();
        state.idle.clear();
    }
}

impl Lent {
    /// Sends a datagram. One that the system has no room for is lost, as it may be on its way.
    pub(super) fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.is_clean &= !std::mem::replace(&mut self.has_sent, true);
        let mut sent = self.socket().get_ref().send(datagram);
        if sent.as_ref().is_err_and(|error| !is_would_block(error)) {
            // Perhaps a refusal by ICMP that nobody has looked at yet, told instead of sending.
            self.is_clean = false;
            sent = self.socket().get_ref().send(datagram);
        }
        match sent {
            Err(error) if is_would_block(&error) => Ok(()),
            sent => sent.map(drop),
        }
    }

    /// Waits for a datagram and hands it to `read`, which makes of it what is given back; `None` when
    /// it is not the response. An error is often that of an earlier datagram, told by ICMP.
    pub(super) async fn receive<T>(
        &mut self,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        loop {
            let mut ready = self.socket().ready(HEARD).await?;
            let receive = |socket: &AsyncFd<UdpSocket>| {
                DATAGRAM.with_borrow_mut(|room| {
                    let octets = socket.get_ref().recv(room)?;
                    Ok(read(room.get(..octets).unwrap_or_default()))
                })
            };
            let Ok(received) = ready.try_io(receive) else {
                continue;
            };
            let is_response = matches!(received, Ok(Some(_)));
            // Nobody waits for what came behind the response. Having heard the system say that there
            // is nothing, the runtime tells of all that comes later.
            let is_last = is_response
                && ready
                    .try_io(|socket| socket.get_ref().recv(&mut [0]))
                    .is_err();
            self.is_clean &= is_last;
            return received;
        }
    }

    fn socket(&self) -> &AsyncFd<UdpSocket> {
        let open = self.open.as_ref();
        &open
            .expect("only giving it back takes it, which ends this")
            .socket
    }

    /// Gives the socket back for another query, after the response.
    pub(super) fn give_back(mut self, now: Instant) {
        if self.is_clean
            && let Some(open) = self.open.take()
        {
            self.owner.keep(open, now);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.open.is_some() {
            self.owner.lock().open -= 1;
        }
    }
}

impl Shared {
    fn lent(self: &Arc<Self>, open: Open) -> Lent {
        Lent {
            open: Some(open),
            is_clean: true,
            has_sent: false,
            owner: Arc::clone(self),
        }
    }

    /// A random idle socket, if it is time to use them again.
    fn take_idle(&self) -> Option<Open> {
        let mut state = self.lock();
        let in_use = state.open - state.idle.len();
        let is_load = in_use >= BUSY && state.idle.len() >= IDLE_ENOUGH;
        if state.open < self.open_max && !is_load {
            return None;
        }
        let idle = u32::try_from(state.idle.len()).unwrap_or(u32::MAX);
        let at = usize::try_from(entropy::below(idle)).unwrap_or(0);
        (at < state.idle.len()).then(|| state.idle.swap_remove(at))
    }

    /// Keeps a socket for another query, unless it has served its time.
    fn keep(self: &Arc<Self>, mut open: Open, now: Instant) {
        open.uses = open.uses.saturating_add(1);
        let mut state = self.lock();
        if open.uses >= USES_MAX || open.is_old(now) || state.open > self.open_max {
            state.open -= 1;
            return;
        }
        state.idle.push(open);
        if !std::mem::replace(&mut state.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.opened) >= AGE_MAX
    }
}

/// Closes idle sockets when they are old, for as long as there are any.
async fn sweep(shared: Weak<Shared>) {
    loop {
        sleep_until((clock::instant() + SWEEP_EVERY).into()).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let now = clock::instant();
        let mut state = shared.lock();
        let before = state.idle.len();
        state.idle.retain(|open| !open.is_old(now));
        state.open -= before - state.idle.len();
        if state.idle.is_empty() {
            state.is_swept = false;
            return;
        }
    }
}

/// Whether neither a datagram nor an error came, as far as the runtime knows.
fn has_heard_nothing(socket: &AsyncFd<UdpSocket>) -> bool {
    // `try_io` takes both at once for neither, and would always say that nothing was heard.
    [Interest::READABLE, Interest::ERROR]
        .into_iter()
        .all(|one| {
            let heard = socket.try_io(one, |socket| socket.recv(&mut [0]));
            heard.is_err_and(|error| is_would_block(&error))
        })
}

fn is_would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// A socket on a random port that hears only `address`.
fn open_socket(address: SocketAddr) -> io::Result<AsyncFd<UdpSocket>> {
    let local: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let bound = (0..PORT_DRAWS).find_map(|_| {
        let draw = entropy::below(u32::from(u16::MAX - PORT_FIRST) + 1);
        let port = u16::try_from(draw).map_or(0, |draw| draw.saturating_add(PORT_FIRST));
        UdpSocket::bind((local, port)).ok()
    });
    let socket = match bound {
        Some(socket) => socket,
        None => UdpSocket::bind((local, 0))?,
    };
    socket.set_nonblocking(true)?;
    socket.connect(address)?;
    watched(socket, HEARD)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn sockets(open_max: usize) -> (UdpSocket, Sockets) {
        let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = upstream.local_addr().unwrap();
        (upstream, Sockets::new(address, open_max))
    }

    fn port(lent: &Lent) -> u16 {
        lent.socket().get_ref().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn every_query_has_a_port_of_its_own_until_the_bound() {
        let (_upstream, sockets) = sockets(64);
        let mut ports = HashSet::new();
        for _ in 0..64 {
            let lent = sockets.lend().unwrap();
            ports.insert(port(&lent));
            lent.give_back(clock::instant());
        }
        assert!(ports.len() >= 63, "{} ports", ports.len());
        let lent = sockets.lend().unwrap();
        assert!(ports.contains(&port(&lent)));
        assert_eq!(sockets.0.lock().open, 64);
    }

    #[tokio::test]
    async fn a_socket_serves_few_queries() {
        let (_upstream, sockets) = sockets(1);
        let mut ports = Vec::new();
        for _ in 0..=USES_MAX {
            let lent = sockets.lend().unwrap();
            ports.push(port(&lent));
            lent.give_back(clock::instant());
        }
        let first = *ports.first().unwrap();
        let same = ports.iter().filter(|port| **port == first).count();
        assert_eq!(same, usize::from(USES_MAX));
    }

    #[tokio::test]
    async fn one_whose_query_went_astray_is_closed() {
        let (_upstream, sockets) = sockets(4);
        drop(sockets.lend().unwrap());
        assert_eq!(sockets.0.lock().open, 0);
    }

    #[tokio::test]
    async fn one_that_was_written_to_while_idle_is_not_used_again() {
        let (upstream, sockets) = sockets(1);
        let lent = sockets.lend().unwrap();
        let before = lent.socket().get_ref().local_addr().unwrap();
        lent.give_back(clock::instant());
        upstream
            .send_to(b"guess", ("127.0.0.1", before.port()))
            .unwrap();
        idle_has_heard(&sockets).await;
        let lent = sockets.lend().unwrap();
        assert_ne!(port(&lent), before.port());
        assert_eq!(sockets.0.lock().open, 1);
    }

    #[tokio::test]
    async fn one_that_was_refused_while_idle_is_not_used_again() {
        let (upstream, sockets) = sockets(1);
        let mut lent = sockets.lend().unwrap();
        let before = port(&lent);
        answered(&mut lent, &upstream, &[b"response"]).await;
        // Connected elsewhere, it hears this one no more and the system refuses it.
        upstream.connect("127.0.0.1:1").unwrap();
        lent.socket().get_ref().send(b"query").unwrap();
        lent.give_back(clock::instant());
        idle_has_heard(&sockets).await;
        assert_ne!(port(&sockets.lend().unwrap()), before);
    }

    #[tokio::test]
    async fn a_refusal_nobody_has_looked_at_yet_does_not_stop_the_next_query() {
        let (upstream, sockets) = sockets(1);
        let address = upstream.local_addr().unwrap();
        let mut lent = sockets.lend().unwrap();
        drop(upstream);
        lent.socket().get_ref().send(b"earlier").unwrap();
        let upstream = UdpSocket::bind(address).unwrap();
        lent.send(b"query").unwrap();
        let mut heard = [0; 8];
        let (octets, _) = upstream.recv_from(&mut heard).unwrap();
        assert_eq!(heard[..octets], *b"query");
        lent.give_back(clock::instant());
        assert_eq!(sockets.0.lock().open, 0);
    }

    #[tokio::test]
    async fn one_that_heard_its_response_alone_is_used_again() {
        let (upstream, sockets) = sockets(1);
        let mut before = None;
        for _ in 0..3 {
            let mut lent = sockets.lend().unwrap();
            assert_eq!(*before.get_or_insert(port(&lent)), port(&lent));
            answered(&mut lent, &upstream, &[b"response"]).await;
            lent.give_back(clock::instant());
        }
    }

    #[tokio::test]
    async fn one_that_heard_more_than_its_response_is_not_used_again() {
        let (upstream, sockets) = sockets(1);
        for heard in [[b"response", b"response"], [b"forgery.", b"response"]] {
            let mut lent = sockets.lend().unwrap();
            answered(&mut lent, &upstream, &heard.map(|datagram| &datagram[..])).await;
            lent.give_back(clock::instant());
            assert_eq!(sockets.0.lock().open, 0, "{heard:?}");
        }
    }

    /// Sends a query and receives what the upstream then sends, up to the response.
    async fn answered(lent: &mut Lent, upstream: &UdpSocket, datagrams: &[&[u8]]) {
        lent.send(b"query").unwrap();
        let (_, from) = upstream.recv_from(&mut [0; 8]).unwrap();
        for datagram in datagrams {
            upstream.send_to(datagram, from).unwrap();
        }
        let response = |datagram: &[u8]| (datagram == b"response").then_some(());
        while lent.receive(response).await.unwrap().is_none() {}
    }

    /// Waits until the runtime knows of what came to the idle socket.
    async fn idle_has_heard(sockets: &Sockets) {
        let open = sockets.0.lock().idle.pop().unwrap();
        open.socket.ready(HEARD).await.unwrap().retain_ready();
        sockets.0.lock().idle.push(open);
    }
}
