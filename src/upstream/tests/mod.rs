//! The room against scripted upstreams on the loopback.

mod bootstrap;
mod doh;
mod early;
mod ends;
mod http3;
mod network;
mod plain;
mod quic;
mod select;
mod tls;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{clock, wire::Name};

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn question(name: &str) -> Question {
    Question {
        name: Name::parse(name).unwrap(),
        qtype: 1,
        qclass: 1,
    }
}

/// A response to `query` with this rcode and, when it is 0, one address record.
fn response(query: &[u8], rcode: u8) -> Vec<u8> {
    let name = query[12..].iter().position(|octet| *octet == 0).unwrap();
    let mut out = query[..12 + name + 5].to_vec();
    out[2] |= 0x80;
    out[3] = 0x80 | rcode;
    out[11] = 0;
    if rcode == 0 {
        out[7] = 1;
        out.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01");
    }
    out
}

fn answer(query: &[u8]) -> Vec<u8> {
    response(query, 0)
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(message);
    out
}

async fn read_query(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = stream.read_u16().await.ok()?;
    let mut query = vec![0; usize::from(length)];
    stream.read_exact(&mut query).await.ok()?;
    Some(query)
}

fn upstream(transport: Transport, address: SocketAddr) -> UpstreamSettings {
    UpstreamSettings {
        name: format!("{}-{}", transport.label(), address.port()),
        transport,
        addresses: vec![address],
        look_up: None,
        server_name: transport
            .is_encrypted()
            .then(|| ServerName::try_from("dns.test").unwrap()),
        authority: "dns.test".to_owned(),
        path: "/dns-query".to_owned(),
        ca: Vec::new(),
        pins: Vec::new(),
        weight: 1,
    }
}

fn upstreams(upstreams: impl IntoIterator<Item = UpstreamSettings>) -> Upstreams {
    Upstreams::new(&Settings {
        upstreams: upstreams.into_iter().collect(),
        routes: Vec::new(),
        strategy: Strategy::Ordered,
        timeout: PATIENCE,
    })
    .unwrap()
}

async fn ask(upstreams: &Upstreams, name: &str) -> Result<Exchanged, ExchangeError> {
    upstreams
        .exchange(&question(name), clock::instant() + PATIENCE, None)
        .await
}

/// Asks `count` different questions at once; all must be answered.
async fn ask_many(upstreams: &Upstreams, count: usize) {
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..count {
        let upstreams = upstreams.clone();
        asking.spawn(async move {
            let name = format!("q{number}.example");
            let exchanged = ask(&upstreams, &name).await.unwrap();
            assert_is_answer(&exchanged, &name);
        });
    }
    while let Some(joined) = asking.join_next().await {
        joined.unwrap();
    }
}

fn assert_is_answer(exchanged: &Exchanged, name: &str) {
    let wire = question(name).name.as_wire().to_vec();
    let echoed = exchanged.octets[12..12 + wire.len()].to_ascii_lowercase();
    assert_eq!(echoed, wire);
    assert_eq!(message::rcode(&exchanged.octets), 0);
}

/// A certification authority of the test and a leaf for `name`.
struct Pki {
    ca: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Pki {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &ca)
            .unwrap();
        Self {
            ca: ca.der().clone(),
            leaf: leaf.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    fn server(&self, alpn: &[u8]) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.leaf.clone()], self.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }

    /// A server that takes early data. Its sessions are also good for one that does not, when that
    /// one is given the same store.
    fn early_server(&self, alpn: &[u8]) -> ServerConfig {
        let mut config = self.server(alpn);
        // QUIC knows only "none" and "all" (RFC 9001, section 4.6.1).
        config.max_early_data_size = u32::MAX;
        config
    }

    fn upstream(&self, transport: Transport, address: SocketAddr) -> UpstreamSettings {
        UpstreamSettings {
            ca: vec![self.ca.clone()],
            ..upstream(transport, address)
        }
    }
}

/// A TCP listener that runs `serve` for each connection and counts them.
async fn listen<F, S>(serve: S) -> (SocketAddr, Arc<AtomicUsize>)
where
    S: Fn(usize, TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(number, stream));
        }
    });
    (address, count)
}

/// Answers every query on a stream, in order.
async fn answer_all(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    while let Some(query) = read_query(&mut stream).await {
        if stream.write_all(&framed(&answer(&query))).await.is_err() {
            return;
        }
    }
}

/// An address that refuses connections: its TCP port is bound to the end of the tests, but nobody listens,
/// so that no other test gets it. That nobody has the UDP port is only likely.
fn closed_address() -> SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket);
    address
}
