//! What a client remembers of its connections to make the next one sooner: TLS sessions and QUIC's
//! address validation tokens.
//!
//! Whoever sees one of them again knows the client again, wherever it has gone (RFC 8446, appendix
//! C.4; RFC 9250, sections 7.2 and 7.3). So they can be forgotten, which is for when the client
//! moves to another network.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use quinn::{TokenMemoryCache, TokenStore};
use rustls::{
    NamedGroup,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue,
        Tls13ClientSessionValue,
    },
    pki_types::ServerName,
};

/// Sessions kept per configuration. One upstream has few names and few connections; each session
/// is a few hundred octets.
const SESSIONS_MAX: usize = 16;
/// Names and tokens for each that are kept per configuration, a few hundred octets each.
const TOKEN_NAMES_MAX: u32 = 4;
const TOKENS_MAX: usize = 4;

/// The sessions and tokens of one TLS configuration. One that was begun under other roots or pins
/// must never be resumed, so no two configurations share them.
pub struct Sessions(Mutex<Kept>);

struct Kept {
    sessions: Arc<ClientSessionMemoryCache>,
    tokens: Arc<TokenMemoryCache>,
}

impl Kept {
    fn nothing() -> Self {
        Self {
            sessions: Arc::new(ClientSessionMemoryCache::new(SESSIONS_MAX)),
            tokens: Arc::new(TokenMemoryCache::new(TOKEN_NAMES_MAX, TOKENS_MAX)),
        }
    }
}

impl Sessions {
    /// None yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Kept::nothing())))
    }

    /// Forgets all of them.
    pub fn forget(&self) {
        let old = std::mem::replace(&mut *self.lock(), Kept::nothing());
        // Not under the lock.
        drop(old);
    }

    fn sessions(&self) -> Arc<ClientSessionMemoryCache> {
        Arc::clone(&self.lock().sessions)
    }

    fn tokens(&self) -> Arc<TokenMemoryCache> {
        Arc::clone(&self.lock().tokens)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sessions {
    /// Says nothing of their keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions")
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.sessions().set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.sessions().kx_hint(name)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.sessions().set_tls12_session(name, value);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.sessions().tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.sessions().remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.sessions().insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.sessions().take_tls13_ticket(name)
    }
}

impl TokenStore for Sessions {
    fn insert(&self, server_name: &str, token: Bytes) {
        self.tokens().insert(server_name, token);
    }

    fn take(&self, server_name: &str) -> Option<Bytes> {
        self.tokens().take(server_name)
    }
}
