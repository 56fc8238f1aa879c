//! Certificates of our own listeners: the local CA and its leaf, or a configured chain and key.
//!
//! [`ensure`] keeps a name-constrained local CA and a short-lived leaf in a directory, for when
//! nothing is configured; [`load()`] reads the chain and key a user brings. Both end in the
//! [`CertifiedKey`](rustls::sign::CertifiedKey) a TLS listener serves and the [`Facts`] people and
//! metrics want. [`Stamp`] tells cheaply whether files changed since they were read.
//!
//! Does not know sockets, tasks, timers or the configuration file: the caller says which names,
//! which files and what time it is, and calls again when a day has passed, a file changed or the
//! clock jumped.
//!
//! RFCs: 5280 (certificates; section 4.2.1.10, name constraints), 6125 and 9525 (names are matched
//! in the subjectAltName only), 7468 (PEM), 7858 section 4.2 (SPKI pins).

use std::{io, path::PathBuf};

mod describe;
mod files;
mod issue;
mod load;
mod local;

pub use describe::Facts;
pub use files::Stamp;
pub use load::{Loaded, Note, load};
pub use local::{Authority, Files, Local, Outcome, Reason, ensure, export, renew};

/// What went wrong with a certificate, a key or the directory that holds them.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The system refused to read a file the user named, or one we wrote earlier. The user fixes
    /// the path or the permissions.
    #[error("cannot read {}: {source}; check the path, and that truename's user may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is far larger than any chain or key: the user named the wrong file.
    #[error("{} is larger than {limit_octets} octets: no certificate chain or key is; check the path", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound it passed.
        limit_octets: u64,
    },
    /// The PEM armour is damaged. The user copies the file again.
    #[error("{} is damaged PEM ({detail}); copy it again, with its BEGIN and END lines whole", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What the PEM reader stumbled on.
        detail: String,
    },
    /// The file holds no certificate in PEM form. The user names the right file or converts it.
    #[error("no certificate in {}: PEM with \"BEGIN CERTIFICATE\" is needed; convert DER with `openssl x509 -inform der`", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// More certificates than a chain has: the user named a bundle of roots.
    #[error("{} holds more than {limit} certificates; name the file with the server's own chain, not a bundle of CAs", path.display())]
    TooManyCertificates {
        /// The file.
        path: PathBuf,
        /// The bound it passed.
        limit: usize,
    },
    /// The PEM is whole but what it holds is no X.509 certificate.
    #[error("certificate {position} in {} is not a valid X.509 certificate; obtain it again from its issuer", path.display())]
    MalformedCertificate {
        /// The file.
        path: PathBuf,
        /// Which one in the file, from 1.
        position: usize,
    },
    /// The file holds no private key in PEM form.
    #[error("no private key in {}: PEM with \"BEGIN PRIVATE KEY\" is needed; convert DER with `openssl pkey -inform der`", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is locked with a passphrase, which nobody is there to type.
    #[error("the key in {0} is encrypted; write it without passphrase: `openssl pkey -in {0} -out plain.key`, mode 0600", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is of a kind we cannot sign with, or damaged inside.
    #[error("the key in {} is damaged or of an unsupported kind; use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits", path.display())]
    UnsupportedKey {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key are both sound but not a pair. The user names files made together.
    #[error("the key in {} does not belong to the certificate in {}; name two files that were made together", key.display(), certificate.display())]
    KeyMismatch {
        /// The file of the chain.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The chain's certificates are there but not in order (RFC 8446, section 4.4.2: the server's
    /// own first, each next one the issuer of the one before).
    #[error("the chain in {} is out of order at certificate {position}; put the server's own certificate first, then its issuer, and so on", path.display())]
    ChainOrder {
        /// The file.
        path: PathBuf,
        /// The first misplaced one in the file, from 1.
        position: usize,
    },
    /// The configured list of names is empty.
    #[error("no names for the certificate in {}; list at least one, such as \"localhost\"", directory.display())]
    NoNames {
        /// The directory of the local CA.
        directory: PathBuf,
    },
    /// The configured list of names is longer than any certificate should carry.
    #[error("more than {limit} names for the certificate in {}; list fewer", directory.display())]
    TooManyNames {
        /// The directory of the local CA.
        directory: PathBuf,
        /// The bound it passed.
        limit: usize,
    },
    /// A configured name is neither a host name nor an address.
    #[error("{name:?} cannot stand in the certificate in {}; use a host name in ASCII (no wildcard, no port) or an IP address", directory.display())]
    InvalidName {
        /// The directory of the local CA.
        directory: PathBuf,
        /// The name as configured.
        name: String,
    },
    /// Anybody on this machine may put files into the directory, and so a CA of their own.
    #[error("everybody may write to {0}; run `chmod o-w {0}` or choose another state directory", path.display())]
    DirectoryExposed {
        /// The directory.
        path: PathBuf,
    },
    /// The system refused to create or write a file or directory. The user fixes permissions or
    /// makes room.
    #[error("cannot write {}: {source}; check that truename's user may write there and the disk has room", path.display())]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Making or signing a certificate failed: our fault or the random source's.
    #[error("cannot make a certificate for {}: {source}; please report this", directory.display())]
    Making {
        /// The directory of the local CA.
        directory: PathBuf,
        /// What the generator said.
        source: rcgen::Error,
    },
    /// A certificate just made does not pass a client's checks: our fault.
    #[error("the certificate just made for {} does not verify: {source}; please report this", directory.display())]
    Rejected {
        /// The directory of the local CA.
        directory: PathBuf,
        /// What a client would say.
        source: rustls::Error,
    },
}
