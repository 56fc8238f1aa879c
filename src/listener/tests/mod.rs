//! The listeners, driven by real clients over loopback, in front of a canned handler.

mod doq;
mod https;
mod quic;
mod streams;
mod tls;
mod udp;

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore, pki_types::PrivateKeyDer, sign::CertifiedKey};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{Settings, Shared, bind, serve, stream, turn};
use crate::{
    clock::Now,
    handler::{Answer, Attempt, Client, Handler, Transport},
    net::server_tls::ServerTls,
};

/// Nothing here takes long; this only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers by the first label of the question: `now…` at once, `large…` at once with
/// [`LARGE_OCTETS`], `wait…` when the test opens that name, `refuse…` never.
#[derive(Default)]
struct Canned {
    open: watch::Sender<HashSet<Vec<u8>>>,
    asked: AtomicUsize,
    waiting: watch::Sender<usize>,
    /// Whether everybody is a stranger.
    turns_away: AtomicBool,
}

const LARGE_OCTETS: usize = 60_000;

const TTL_S: u32 = 77;

impl Canned {
    fn open(&self, label: &str) {
        self.open.send_modify(|open| {
            open.insert(label.as_bytes().to_vec());
        });
    }

    /// Waits until so many questions wait for the test to open them.
    async fn waiting(&self, wanted: usize) {
        let mut waiting = self.waiting.subscribe();
        within(waiting.wait_for(|waiting| *waiting == wanted))
            .await
            .unwrap();
    }
}

fn label(query: &[u8]) -> &[u8] {
    let length = query.get(12).copied().unwrap_or(0);
    query.get(13..13 + usize::from(length)).unwrap_or_default()
}

struct Wait<'a>(&'a watch::Sender<usize>);

impl<'a> Wait<'a> {
    fn begin(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Handler for Canned {
    type Pending = Vec<u8>;

    fn admits(&self, _: IpAddr) -> bool {
        !self.turns_away.load(Ordering::Relaxed)
    }

    fn now(&self) -> Now {
        Now::read()
    }

    fn try_answer(&self, _: &Now, query: &[u8], _: &Client, out: &mut Vec<u8>) -> Attempt<Vec<u8>> {
        if query.len() < 12 || query[2] & 0x80 != 0 {
            return Attempt::Malformed;
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        match label(query) {
            name if name.starts_with(b"refuse") => Attempt::Refused,
            name if name.starts_with(b"wait") => Attempt::Pending(query.to_vec()),
            name if name.starts_with(b"panic") => panic!("asked to"),
            name => {
                let large = name.starts_with(b"large");
                let start = out.len();
                out.extend(reply_to(query));
                if large {
                    out.resize(start + LARGE_OCTETS, 0);
                }
                Attempt::Answered(Answer { ttl_s: TTL_S })
            }
        }
    }

    async fn finish(&self, query: Vec<u8>, out: &mut Vec<u8>) -> Answer {
        let _wait = Wait::begin(&self.waiting);
        let mut open = self.open.subscribe();
        let _ = open.wait_for(|open| open.contains(label(&query))).await;
        assert!(!label(&query).ends_with(b"panic"), "asked to");
        out.extend(reply_to(&query));
        Answer { ttl_s: TTL_S }
    }

    fn decline(&self, query: Vec<u8>, out: &mut Vec<u8>) -> Answer {
        out.extend(refusal_of(&query));
        Answer::default()
    }
}

fn query(id: u16, label: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.push(u8::try_from(label.len()).unwrap());
    message.extend(label.as_bytes());
    message.extend([0, 0, 1, 0, 1]);
    message
}

fn reply_to(query: &[u8]) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    reply
}

/// What the canned handler says when it is told to refuse: SERVFAIL.
fn refusal_of(query: &[u8]) -> Vec<u8> {
    let mut reply = reply_to(query);
    reply[3] |= 2;
    reply
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(message);
    framed
}

async fn within<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("the test hangs")
}

/// All listeners on loopback, each with a free port.
struct House {
    handler: Arc<Canned>,
    shared: Arc<Shared>,
    addresses: Vec<(Transport, SocketAddr)>,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<std::io::Result<()>>>,
    roots: RootCertStore,
}

impl House {
    fn start() -> Self {
        Self::with(1, |_| {})
    }

    fn with(workers: usize, change: impl FnOnce(&mut Settings)) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let any = vec!["127.0.0.1:0".parse().unwrap()];
        let mut settings = Settings {
            dns: any.clone(),
            dot: any.clone(),
            doh: any.clone(),
            doq: any,
            ..Settings::default()
        };
        change(&mut settings);
        let (key, roots) = certificate();
        let bound = bind(&settings, workers).unwrap();
        let addresses = bound.addresses();
        let shared = Arc::new(Shared::new(settings, Some(ServerTls::new(key).unwrap())));
        let handler = Arc::new(Canned::default());
        let stop = watch::Sender::new(false);
        let workers = (0..workers)
            .map(|worker| {
                let (_, orders) = mpsc::channel(1);
                tokio::spawn(serve(
                    bound.share(worker).unwrap(),
                    orders,
                    Arc::clone(&handler),
                    Arc::clone(&shared),
                    stop.subscribe(),
                ))
            })
            .collect();
        Self {
            handler,
            shared,
            addresses,
            stop,
            workers,
            roots,
        }
    }

    fn address(&self, wanted: Transport) -> SocketAddr {
        let found = self
            .addresses
            .iter()
            .find(|(transport, _)| *transport == wanted);
        found.unwrap().1
    }

    fn client_config(&self, alpn: &[&[u8]]) -> ClientConfig {
        let mut config = ClientConfig::builder()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// Stops, and waits until every worker has ended.
    async fn stop(self) {
        self.stop.send_replace(true);
        for worker in self.workers {
            within(worker).await.unwrap().unwrap();
        }
    }
}

fn certificate() -> (Arc<CertifiedKey>, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(vec!["dns.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let key = CertifiedKey::new(vec![made.cert.der().clone()], key);
    (Arc::new(key), roots)
}
