//! TLS as listeners speak it: one certificate for four protocols, exchanged while they run.
//!
//! TLS 1.2 and 1.3 (QUIC: 1.3), ring as the only provider. Each protocol has its own ALPN list, so
//! that a connection meant for one protocol is refused by another (the ALPACA attack): rustls
//! answers `no_application_protocol` when a client offers only foreign names.

use std::sync::Arc;

use arc_swap::ArcSwap;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::{
    CipherSuite, ServerConfig,
    crypto::{
        CryptoProvider,
        ring::{Ticketer, default_provider},
    },
    server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache},
    sign::CertifiedKey,
};

/// Sessions kept for DoQ, which must remember each ticket to accept early data only once. A
/// ticket that has been displaced costs its owner a full handshake, nothing else.
const QUIC_SESSIONS_MAX: usize = 4096;

/// What we choose, in TLS 1.3 and 1.2, of what a client offers, before anything else. Most clients
/// name AES-256 first, whose suites hash with SHA-384: for that processors have no instructions, as
/// they have for SHA-256, and a handshake spends most of its hashing on it.
const PREFERRED: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// The TLS side of all encrypted listeners.
pub struct ServerTls {
    certificate: Arc<Certificate>,
    /// DNS over TLS: ALPN `dot`.
    pub dot: Arc<ServerConfig>,
    /// DNS over HTTPS on TCP: ALPN `h2` and `http/1.1`.
    pub doh: Arc<ServerConfig>,
    /// DNS over HTTPS on QUIC: ALPN `h3`, no early data.
    pub doh3: Arc<QuicServerConfig>,
    /// DNS over QUIC: ALPN `doq`, early data allowed.
    pub doq: Arc<QuicServerConfig>,
}

impl ServerTls {
    /// Builds the four configurations around one certificate. Fails only when the system gives no
    /// random numbers for the ticket keys.
    pub fn new(key: Arc<CertifiedKey>) -> Result<Self, rustls::Error> {
        let certificate = Arc::new(Certificate(ArcSwap::new(key)));
        // All stateless: any worker, and any of the TCP protocols' configurations, opens a ticket
        // without asking another. One ticket per handshake is what clients use.
        let mut stream = stream_config(&certificate);
        stream.ticketer = Ticketer::new()?;
        stream.send_tls13_tickets = 1;
        let mut dot = stream.clone();
        dot.alpn_protocols = vec![b"dot".to_vec()];
        let mut doh = stream;
        doh.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

        let mut doh3 = quic_config(&certificate);
        doh3.alpn_protocols = vec![b"h3".to_vec()];
        doh3.ticketer = Ticketer::new()?;
        doh3.send_tls13_tickets = 1;
        let mut doq = quic_config(&certificate);
        doq.alpn_protocols = vec![b"doq".to_vec()];
        // rustls takes early data only with remembered sessions, and forgets a session when it is
        // used: a recorded first flight cannot be replayed here.
        doq.session_storage = ServerSessionMemoryCache::new(QUIC_SESSIONS_MAX);
        doq.max_early_data_size = u32::MAX;
        doq.send_tls13_tickets = 1;
        Ok(Self {
            certificate,
            dot: Arc::new(dot),
            doh: Arc::new(doh),
            doh3: quic(doh3),
            doq: quic(doq),
        })
    }

    /// Shows another certificate from the next handshake on; running connections keep theirs.
    pub fn replace(&self, key: Arc<CertifiedKey>) {
        self.certificate.0.store(key);
    }
}

/// The certificate shown to everybody, whatever name they ask for: clients that know the endpoint
/// by address send no name.
#[derive(Debug)]
struct Certificate(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    let suites = &mut provider.cipher_suites;
    suites.sort_by_key(|suite| !PREFERRED.contains(&suite.suite()));
    Arc::new(provider)
}

fn stream_config(certificate: &Arc<Certificate>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(certificate) as Arc<dyn ResolvesServerCert>);
    config.ignore_client_order = true;
    config
}

fn quic_config(certificate: &Arc<Certificate>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has cipher suites for TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(certificate) as Arc<dyn ResolvesServerCert>);
    config.ignore_client_order = true;
    config
}

fn quic(config: ServerConfig) -> Arc<QuicServerConfig> {
    Arc::new(QuicServerConfig::try_from(config).expect("ring has QUIC's initial cipher suite"))
}
