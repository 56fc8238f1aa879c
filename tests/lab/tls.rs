//! TLS of the lab's servers: the certificate is chosen for each handshake, sessions resume, and
//! resumptions are counted.

use super::Transport;
use super::faults::{Faults, Identity};
use super::record::Record;
use super::testca::{Leaf, TestCa};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::{
    ClientHello, ResolvesServerCert, ServerSessionMemoryCache, StoresServerSessions,
};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Sessions a transport remembers.
const SESSIONS_MAX: usize = 1024;

/// Gives each handshake the certificate that the faults ask for; the wrong ones are made when
/// first shown.
pub(super) struct Certificates {
    faults: Arc<Faults>,
    ca: Arc<TestCa>,
    made: [OnceLock<Arc<CertifiedKey>>; 4],
}

impl Certificates {
    /// Shows `right` when nothing is wrong.
    pub(super) fn new(faults: Arc<Faults>, ca: Arc<TestCa>, right: &Leaf) -> Self {
        let made: [OnceLock<_>; 4] = Default::default();
        let _ = made[0].set(right.certified_key());
        Self { faults, ca, made }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Certificates")
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let identity = self.faults.identity();
        let at = match identity {
            Identity::Right => 0,
            Identity::WrongName => 1,
            Identity::Expired => 2,
            Identity::SelfSigned => 3,
        };
        let made = self.made[at].get_or_init(|| self.ca.leaf_of(identity).certified_key());
        Some(made.clone())
    }
}

/// The session store of one transport, counting what is taken from it.
struct Sessions {
    store: Arc<ServerSessionMemoryCache>,
    record: Arc<Record>,
    transport: Transport,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Sessions")
    }
}

impl Sessions {
    fn count(&self, found: Option<Vec<u8>>) -> Option<Vec<u8>> {
        if found.is_some() {
            self.record.add_resumption(self.transport);
        }
        found
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.store.put(key, value)
    }

    // TLS 1.2 looks a session up by its id.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.count(self.store.get(key))
    }

    // TLS 1.3 spends a ticket.
    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.count(self.store.take(key))
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// The server's configuration for one transport.
///
/// # Panics
/// Never: ring knows the default versions.
pub(super) fn server_config(
    transport: Transport,
    certificates: Arc<Certificates>,
    record: &Arc<Record>,
    early_data: bool,
) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    let protocols: &[&[u8]] = match transport {
        Transport::Tls => &[b"dot"],
        Transport::Https => &[b"h2", b"http/1.1"],
        Transport::Http3 => &[b"h3"],
        Transport::Quic => &[b"doq"],
        Transport::Udp | Transport::Tcp => &[],
    };
    config.alpn_protocols = protocols.iter().map(|&name| name.to_vec()).collect();
    config.session_storage = Arc::new(Sessions {
        store: ServerSessionMemoryCache::new(SESSIONS_MAX),
        record: record.clone(),
        transport,
    });
    if early_data && matches!(transport, Transport::Http3 | Transport::Quic) {
        // QUIC knows only "none" and "all" (RFC 9001, section 4.6.1).
        config.max_early_data_size = u32::MAX;
    }
    config
}
