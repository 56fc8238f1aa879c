//! A chain and key the user brings.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::{CertifiedKey, SigningKey},
};
use x509_parser::certificate::X509Certificate;

use super::{CertificateError, Facts, describe, files};

/// The most certificates in one chain: public ones have two to four, and each costs every
/// handshake its octets.
pub(super) const CERTIFICATES_MAX: usize = 16;

/// A chain and key ready to be served.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What a TLS listener serves.
    pub key: Arc<CertifiedKey>,
    /// What the first certificate, the endpoint's own, says.
    pub facts: Facts,
    /// What is odd about it without keeping it from being served: for the log.
    pub notes: Vec<Note>,
}

/// Something odd about a chain or key that is served all the same. Displays as a sentence that
/// names the file and says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The certificate's validity has ended, if the clock is right.
    Expired {
        /// The file of the chain.
        path: PathBuf,
        /// When it ended, as RFC 3339 writes it.
        not_after: String,
    },
    /// The certificate's validity has not begun, if the clock is right.
    NotYetValid {
        /// The file of the chain.
        path: PathBuf,
        /// When it begins, as RFC 3339 writes it.
        not_before: String,
    },
    /// The certificate has no subjectAltName, and clients look nowhere else (RFC 9525).
    NoNames {
        /// The file of the chain.
        path: PathBuf,
    },
    /// A certificate in the chain is not issued by the next one, nor by any other in the file.
    ChainGap {
        /// The file of the chain.
        path: PathBuf,
        /// Which certificate in the file lacks its issuer, from 1.
        position: usize,
    },
    /// Every user of this machine may read the key.
    KeyExposed {
        /// The file of the key.
        path: PathBuf,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { path, not_after } => write!(
                f,
                "the certificate in {} expired at {not_after}; renew it, or correct the clock",
                path.display()
            ),
            Self::NotYetValid { path, not_before } => write!(
                f,
                "the certificate in {} is valid from {not_before} only; correct the clock",
                path.display()
            ),
            Self::NoNames { path } => write!(
                f,
                "the certificate in {} names no host in its subjectAltName, so clients will \
                 refuse it; have it issued with one",
                path.display()
            ),
            Self::ChainGap { path, position } => write!(
                f,
                "the issuer of certificate {position} in {} is not the next one in the file; \
                 append the issuer's certificate, or remove what follows",
                path.display()
            ),
            Self::KeyExposed { path } => write!(
                f,
                "every user of this machine may read the key in {0}; run `chmod o-r {0}`",
                path.display()
            ),
        }
    }
}

/// Reads a certificate chain and its private key from PEM files; both may be one file.
///
/// `now_unix_s` only decides the notes: an expired certificate is served, since the clock may be
/// what is wrong.
pub fn load(certificate: &Path, key: &Path, now_unix_s: u64) -> Result<Loaded, CertificateError> {
    let chain = read_chain(certificate)?;
    let signing_key = read_key(key)?;
    let parsed = chain
        .iter()
        .enumerate()
        .map(|(index, der)| {
            describe::parse(der).ok_or_else(|| CertificateError::MalformedCertificate {
                path: certificate.to_owned(),
                position: index + 1,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut notes = Vec::new();
    check_first(&parsed, &*signing_key, certificate, key)?;
    check_order(&parsed, certificate, &mut notes)?;
    let facts = match (chain.first(), parsed.first()) {
        (Some(der), Some(own)) => Facts::of_parsed(der, own),
        _ => return Err(no_certificate(certificate)),
    };
    if facts.not_after_unix_s < now_unix_s {
        notes.push(Note::Expired {
            path: certificate.to_owned(),
            not_after: facts.not_after.clone(),
        });
    }
    if facts.not_before_unix_s > now_unix_s {
        notes.push(Note::NotYetValid {
            path: certificate.to_owned(),
            not_before: facts.not_before.clone(),
        });
    }
    if facts.names.is_empty() {
        notes.push(Note::NoNames {
            path: certificate.to_owned(),
        });
    }
    if files::is_world_readable(key) {
        notes.push(Note::KeyExposed {
            path: key.to_owned(),
        });
    }
    Ok(Loaded {
        key: Arc::new(CertifiedKey::new(chain, signing_key)),
        facts,
        notes,
    })
}

/// Reads every certificate in a PEM file, at least one.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let octets = files::read(path)?;
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&octets) {
        if chain.len() == CERTIFICATES_MAX {
            return Err(CertificateError::TooManyCertificates {
                path: path.to_owned(),
                limit: CERTIFICATES_MAX,
            });
        }
        chain.push(certificate.map_err(|error| not_pem(path, &error))?);
    }
    if chain.is_empty() {
        return Err(no_certificate(path));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<Arc<dyn SigningKey>, CertificateError> {
    let octets = files::read(path)?;
    let key = match PrivateKeyDer::from_pem_slice(&octets) {
        Ok(key) => key,
        Err(pem::Error::NoItemsFound) if is_encrypted(&octets) => {
            return Err(CertificateError::EncryptedKey {
                path: path.to_owned(),
            });
        }
        Err(pem::Error::NoItemsFound) => {
            return Err(CertificateError::NoKey {
                path: path.to_owned(),
            });
        }
        // The older kind of encrypted key has headers inside the armour, which is not base64.
        Err(_) if is_encrypted(&octets) => {
            return Err(CertificateError::EncryptedKey {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(not_pem(path, &error)),
    };
    any_supported_type(&key).map_err(|_| CertificateError::UnsupportedKey {
        path: path.to_owned(),
    })
}

/// Whether a PEM file holds an encrypted key: PKCS #8's (RFC 7468, section 11) or the older kind
/// of OpenSSL, which says so in a header.
fn is_encrypted(octets: &[u8]) -> bool {
    octets.split(|octet| *octet == b'\n').any(|line| {
        line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || line.starts_with(b"Proc-Type: 4,ENCRYPTED")
    })
}

/// The first certificate must be the key's. If another one in the file is, the order is wrong.
fn check_first(
    parsed: &[X509Certificate<'_>],
    signing_key: &dyn SigningKey,
    certificate: &Path,
    key: &Path,
) -> Result<(), CertificateError> {
    // Every key ring can sign with knows its public half; without it only a handshake would tell.
    let Some(public_key) = signing_key.public_key() else {
        return Ok(());
    };
    let owner = parsed
        .iter()
        .position(|parsed| parsed.public_key().raw == public_key.as_ref());
    match owner {
        Some(0) => Ok(()),
        Some(_) => Err(CertificateError::ChainOrder {
            path: certificate.to_owned(),
            position: 1,
        }),
        None => Err(CertificateError::KeyMismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        }),
    }
}

/// Each certificate must be issued by the next. If its issuer stands elsewhere in the file the
/// order is wrong; if it stands nowhere, clients may still know it, so that is a note.
fn check_order(
    parsed: &[X509Certificate<'_>],
    path: &Path,
    notes: &mut Vec<Note>,
) -> Result<(), CertificateError> {
    for (index, (one, next)) in parsed.iter().zip(parsed.iter().skip(1)).enumerate() {
        let issuer = one.issuer().as_raw();
        if next.subject().as_raw() == issuer {
            continue;
        }
        // A root is its own issuer and ends the chain, so what follows it is a gap.
        let is_elsewhere = one.subject().as_raw() != issuer
            && parsed
                .iter()
                .any(|other| other.subject().as_raw() == issuer);
        if is_elsewhere {
            return Err(CertificateError::ChainOrder {
                path: path.to_owned(),
                position: index + 2,
            });
        }
        notes.push(Note::ChainGap {
            path: path.to_owned(),
            position: index + 1,
        });
    }
    Ok(())
}

fn no_certificate(path: &Path) -> CertificateError {
    CertificateError::NoCertificate {
        path: path.to_owned(),
    }
}

/// Says what was wrong with the armour without repeating the file's text, which may be a key.
fn not_pem(path: &Path, error: &pem::Error) -> CertificateError {
    let detail = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is not whole",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be decoded",
    };
    CertificateError::NotPem {
        path: path.to_owned(),
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests;
