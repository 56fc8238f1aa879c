//! The client's half of TLS: whom to trust, pins, resumption, and what to tell people when a
//! handshake fails (RFC 8310, RFC 7858, RFC 9325).
//!
//! Pins are checked beside the ordinary verification, never instead of it.

use std::{fmt, io, sync::Arc};

use ring::digest;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, OtherError,
    RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring as ring_provider},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use thiserror::Error;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// Sessions kept for resumption per configuration. One upstream has few names and few
/// connections; each session is a few hundred octets.
const SESSIONS_MAX: usize = 16;

/// A digest that must be found in the certificate chain an upstream presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pin {
    /// SHA-256 of the leaf's subject public key info (RFC 7858, section 4.2).
    Spki([u8; 32]),
    /// SHA-256 of the to-be-signed octets of any certificate of the chain (DNS stamps).
    TbsCertificate([u8; 32]),
}

/// Why trust could not be set up. The operator's configuration is at fault.
#[derive(Debug, Error)]
pub enum TrustError {
    /// A certificate given as an additional root is not one.
    #[error("a certificate given as `ca` cannot be used as a root: {0}")]
    Root(TlsError),
    /// The verifier cannot be built from these roots.
    #[error("no usable root certificates: {0}")]
    Verifier(String),
}

/// Which protocol versions a transport may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// TLS 1.2 and 1.3.
    Tls12And13,
    /// TLS 1.3 only, as QUIC wants it (RFC 9001, section 4.2).
    Tls13,
}

/// Builds a client configuration that trusts the public roots and `ca`, wants one of `pins` when
/// there are any, and offers the application protocols `alpn` in order of preference.
///
/// # Errors
/// When a certificate in `ca` is not usable as a root.
pub fn client_config(
    ca: &[CertificateDer<'static>],
    pins: &[Pin],
    alpn: &[&[u8]],
    versions: Versions,
) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(ring_provider::default_provider());
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    for certificate in ca {
        roots.add(certificate.clone()).map_err(TrustError::Root)?;
    }
    let verifier = PinnedVerifier {
        ordinary: verifier(roots, &provider)?,
        pins: pins.to_vec(),
        provider: Arc::clone(&provider),
    };
    let versions: &[&rustls::SupportedProtocolVersion] = match versions {
        Versions::Tls12And13 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        Versions::Tls13 => &[&rustls::version::TLS13],
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| TrustError::Verifier(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // Sessions belong to this configuration, so one that was begun under other roots or pins is
    // never resumed. Whether early data is sent is said with each connection.
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    config.enable_early_data = true;
    Ok(config)
}

fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TrustError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| TrustError::Verifier(error.to_string()))
}

/// The ordinary verification of names, dates and signatures, and then the pins.
#[derive(Debug)]
struct PinnedVerifier {
    ordinary: Arc<WebPkiServerVerifier>,
    pins: Vec<Pin>,
    provider: Arc<CryptoProvider>,
}

impl PinnedVerifier {
    /// Whether one of the pins is in the chain by which the leaf is trusted.
    ///
    /// The chain as presented proves nothing: whoever holds any valid certificate for the name
    /// could put the pinned certificate beside it. So a pinned certificate that is not the leaf
    /// must be able to vouch for the leaf as the only root.
    fn is_pinned(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let leaf_digests = digests(leaf);
        self.pins.iter().any(|pin| match pin {
            Pin::Spki(wanted) => leaf_digests.is_some_and(|(spki, _)| spki == *wanted),
            Pin::TbsCertificate(wanted) => {
                leaf_digests.is_some_and(|(_, tbs)| tbs == *wanted)
                    || intermediates.iter().any(|certificate| {
                        digests(certificate).is_some_and(|(_, tbs)| tbs == *wanted)
                            && self.vouches(certificate, leaf, intermediates, name, now)
                    })
            }
        })
    }

    fn vouches(
        &self,
        root: &CertificateDer<'_>,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let mut roots = RootCertStore::empty();
        if roots.add(root.clone().into_owned()).is_err() {
            return false;
        }
        verifier(roots, &self.provider).is_ok_and(|alone| {
            alone
                .verify_server_cert(leaf, intermediates, name, &[], now)
                .is_ok()
        })
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verified = self.ordinary.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        if self.pins.is_empty() || self.is_pinned(end_entity, intermediates, server_name, now) {
            return Ok(verified);
        }
        Err(TlsError::InvalidCertificate(CertificateError::Other(
            OtherError(Arc::new(NoPinMatches)),
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.ordinary.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.ordinary.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.ordinary.supported_verify_schemes()
    }
}

/// The certificate is good, but not one the operator pinned.
#[derive(Debug)]
struct NoPinMatches;

impl fmt::Display for NoPinMatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("none of the pinned digests is in the certificate chain")
    }
}

impl std::error::Error for NoPinMatches {}

/// SHA-256 of a certificate's subject public key info and of its to-be-signed octets.
fn digests(certificate: &CertificateDer<'_>) -> Option<([u8; 32], [u8; 32])> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let spki = sha256(parsed.tbs_certificate.subject_pki.raw);
    let tbs = sha256(parsed.tbs_certificate.as_ref());
    Some((spki, tbs))
}

fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let digest = digest::digest(&digest::SHA256, octets);
    out.copy_from_slice(digest.as_ref());
    out
}

/// Says in plain words why a TLS handshake failed, and what to do where something can be done.
#[must_use]
pub fn explain(error: &TlsError) -> String {
    let TlsError::InvalidCertificate(reason) = error else {
        return match error {
            TlsError::NoApplicationProtocol => {
                "the server speaks none of the protocols offered".to_owned()
            }
            TlsError::AlertReceived(alert) => format!("the server refused: TLS alert {alert:?}"),
            other => other.to_string(),
        };
    };
    match reason {
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "certificate is valid for {}, not {}; correct the name in the url or set `server_name`",
            names(presented),
            expected.to_str()
        ),
        CertificateError::NotValidForName => {
            "certificate is not valid for the name wanted".to_owned()
        }
        CertificateError::ExpiredContext { time, not_after } => format!(
            "certificate expired on {}, and this machine's clock says {}",
            date(*not_after),
            date(*time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "certificate is valid only from {}, and this machine's clock says {}",
            date(*not_before),
            date(*time)
        ),
        CertificateError::UnknownIssuer => {
            "certificate is signed by nobody known; if that is intended, give the root as `ca`"
                .to_owned()
        }
        CertificateError::Other(OtherError(inner)) => format!("{inner}; see `pin`"),
        other => format!("certificate is not acceptable: {other}"),
    }
}

/// As [`explain`], for the error that tokio's TLS streams give.
#[must_use]
pub fn explain_io(error: &io::Error) -> String {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<TlsError>())
        .map_or_else(|| error.to_string(), explain)
}

/// The most names of a certificate that an error message lists; some carry hundreds.
const NAMES_SHOWN: usize = 4;

fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name".to_owned();
    }
    let mut text: Vec<&str> = presented
        .iter()
        .take(NAMES_SHOWN)
        .map(|name| readable(name))
        .collect();
    if presented.len() > NAMES_SHOWN {
        text.push("...");
    }
    text.join(", ")
}

/// rustls writes the names in Debug form, as `DnsName("dns.example")`.
fn readable(name: &str) -> &str {
    let open = name.split_once('(').map_or(name, |(_, rest)| rest);
    open.trim_end_matches(')').trim_matches('"')
}

fn date(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{} s since 1970", time.as_secs()))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    struct Chain {
        root: CertificateDer<'static>,
        intermediate: CertificateDer<'static>,
        leaf: CertificateDer<'static>,
    }

    fn issuer(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params
    }

    fn chain(leaf_name: &str) -> Chain {
        let root =
            CertifiedIssuer::self_signed(issuer("root"), KeyPair::generate().unwrap()).unwrap();
        let intermediate =
            CertifiedIssuer::signed_by(issuer("intermediate"), KeyPair::generate().unwrap(), &root)
                .unwrap();
        let leaf = CertificateParams::new(vec![leaf_name.to_owned()])
            .unwrap()
            .signed_by(&KeyPair::generate().unwrap(), &intermediate)
            .unwrap();
        Chain {
            root: root.der().clone(),
            intermediate: intermediate.der().clone(),
            leaf: leaf.der().clone(),
        }
    }

    fn verify(
        chain: &Chain,
        extra: &[CertificateDer<'static>],
        pins: &[Pin],
    ) -> Result<(), String> {
        let provider = Arc::new(ring_provider::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(chain.root.clone()).unwrap();
        let verifier = PinnedVerifier {
            ordinary: verifier(roots, &provider).unwrap(),
            pins: pins.to_vec(),
            provider,
        };
        let mut presented = vec![chain.intermediate.clone()];
        presented.extend_from_slice(extra);
        let name = ServerName::try_from("dns.example").unwrap();
        verifier
            .verify_server_cert(&chain.leaf, &presented, &name, &[], UnixTime::now())
            .map(drop)
            .map_err(|error| explain(&error))
    }

    #[test]
    fn a_pin_is_found_on_the_leaf_and_on_the_chain() {
        let chain = chain("dns.example");
        let (spki, tbs) = digests(&chain.leaf).unwrap();
        let (above_spki, above_tbs) = digests(&chain.intermediate).unwrap();
        assert_eq!(verify(&chain, &[], &[]), Ok(()));
        assert_eq!(verify(&chain, &[], &[Pin::Spki(spki)]), Ok(()));
        assert_eq!(verify(&chain, &[], &[Pin::TbsCertificate(tbs)]), Ok(()));
        assert_eq!(
            verify(&chain, &[], &[Pin::TbsCertificate(above_tbs)]),
            Ok(())
        );
        assert_eq!(
            verify(&chain, &[], &[Pin::Spki([0; 32]), Pin::Spki(spki)]),
            Ok(())
        );
        for wrong in [
            Pin::Spki([0; 32]),
            Pin::Spki(tbs),
            Pin::Spki(above_spki),
            Pin::TbsCertificate(spki),
        ] {
            let error = verify(&chain, &[], &[wrong]).unwrap_err();
            assert!(error.contains("none of the pinned digests"), "{error}");
        }
    }

    #[test]
    fn a_pinned_certificate_that_only_stands_beside_the_chain_is_no_pin() {
        let ours = chain("dns.example");
        let other = chain("dns.example");
        let (_, tbs) = digests(&other.intermediate).unwrap();
        let beside = [other.intermediate.clone()];
        assert!(verify(&ours, &beside, &[Pin::TbsCertificate(tbs)]).is_err());
    }

    #[test]
    fn a_pin_does_not_replace_the_name_check() {
        let chain = chain("other.example");
        let (spki, _) = digests(&chain.leaf).unwrap();
        let error = verify(&chain, &[], &[Pin::Spki(spki)]).unwrap_err();
        assert!(
            error.starts_with("certificate is valid for other.example, not dns.example;"),
            "{error}"
        );
    }
}
