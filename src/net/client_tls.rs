//! The client's half of TLS: whom to trust, pins, resumption, and what to tell people when a
//! handshake fails (RFC 8310, RFC 7858, RFC 9325).
//!
//! Pins are checked beside the ordinary verification, never instead of it. While this machine's
//! clock cannot be right, a certificate passes that would pass at some other time: name, chain and
//! pins count as ever.

use std::{fmt, io, sync::Arc, time::Duration};

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

use super::sessions::Sessions;
use crate::clock::Gate;

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
/// there are any, and offers the application protocols `alpn` in order of preference. `clock` says
/// when the dates of certificates cannot be judged; without it they always are. `sessions` are those
/// of this configuration alone.
///
/// # Errors
/// When a certificate in `ca` is not usable as a root.
pub fn client_config(
    ca: &[CertificateDer<'static>],
    pins: &[Pin],
    alpn: &[&[u8]],
    versions: Versions,
    clock: Option<&Arc<Gate>>,
    sessions: &Arc<Sessions>,
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
        clock: clock.map(Arc::clone),
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
    config.resumption = Resumption::store(Arc::<Sessions>::clone(sessions));
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
    clock: Option<Arc<Gate>>,
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

impl PinnedVerifier {
    /// Everything: name, dates, chain, pins.
    fn verify_at(
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
        let verify = |at| self.verify_at(end_entity, intermediates, server_name, ocsp_response, at);
        let verified = verify(now);
        let (Some(clock), Err(TlsError::InvalidCertificate(reason))) = (&self.clock, &verified)
        else {
            return verified;
        };
        if !is_of_date(reason) {
            return verified;
        }
        clock.doubt();
        let Some(from_unix_s) = clock.tolerates_dates_from() else {
            return verified;
        };
        moments(end_entity, intermediates, from_unix_s)
            .into_iter()
            .find_map(|at| verify(at).ok())
            .map_or(verified, Ok)
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

/// Certificates of a chain whose dates are looked at. Public chains have two or three.
const DATED_MAX: usize = 4;

/// Whether a certificate fails by its date.
const fn is_of_date(reason: &CertificateError) -> bool {
    matches!(
        reason,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

/// Times from `from_unix_s` on at which a chain may be good as a whole: while the leaf is, from
/// the moment on when one more of its certificates begins.
fn moments(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    from_unix_s: u64,
) -> Vec<UnixTime> {
    let Some((leaf_begins, leaf_ends)) = dates(leaf) else {
        return Vec::new();
    };
    let begins = intermediates.iter().filter_map(dates).map(|(from, _)| from);
    let begins = [leaf_begins].into_iter().chain(begins).take(DATED_MAX);
    let earliest = from_unix_s.max(leaf_begins);
    let mut moments: Vec<u64> = begins.map(|begin| begin.max(earliest)).collect();
    moments.retain(|moment| *moment <= leaf_ends);
    moments.sort_unstable();
    moments.dedup();
    let moments = moments.into_iter();
    moments
        .map(|unix_s| UnixTime::since_unix_epoch(Duration::from_secs(unix_s)))
        .collect()
}

/// From when to when a certificate is valid, in seconds since 1970.
fn dates(certificate: &CertificateDer<'_>) -> Option<(u64, u64)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    let from = validity.not_before.timestamp();
    let until = validity.not_after.timestamp();
    // One that began before 1970 began early enough.
    Some((u64::try_from(from).unwrap_or(0), u64::try_from(until).ok()?))
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
    use crate::clock::{Now, Trust};

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

    /// The last second of the year.
    const END_UNIX_S: u64 = 1_924_991_999;
    const DAY_S: u64 = 86_400;

    fn chain(leaf_name: &str) -> Chain {
        dated_chain(leaf_name, (1975, 4096), (2020, 2030))
    }

    /// From the beginning of one year to the end of another: intermediate and leaf.
    fn dated_chain(leaf_name: &str, above: (i32, i32), below: (i32, i32)) -> Chain {
        let dated = |mut params: CertificateParams, (from, until)| {
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(until, 12, 31);
            params
        };
        let root =
            CertifiedIssuer::self_signed(issuer("root"), KeyPair::generate().unwrap()).unwrap();
        let intermediate = CertifiedIssuer::signed_by(
            dated(issuer("intermediate"), above),
            KeyPair::generate().unwrap(),
            &root,
        )
        .unwrap();
        let leaf = CertificateParams::new(vec![leaf_name.to_owned()]).unwrap();
        let leaf = dated(leaf, below)
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
        verify_under(chain, extra, pins, None, UnixTime::now())
    }

    fn verify_under(
        chain: &Chain,
        extra: &[CertificateDer<'static>],
        pins: &[Pin],
        clock: Option<Arc<Gate>>,
        now: UnixTime,
    ) -> Result<(), String> {
        let provider = Arc::new(ring_provider::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(chain.root.clone()).unwrap();
        let verifier = PinnedVerifier {
            ordinary: verifier(roots, &provider).unwrap(),
            pins: pins.to_vec(),
            provider,
            clock,
        };
        let mut presented = vec![chain.intermediate.clone()];
        presented.extend_from_slice(extra);
        let name = ServerName::try_from("dns.example").unwrap();
        verifier
            .verify_server_cert(&chain.leaf, &presented, &name, &[], now)
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

    /// A gate that knows this time to have passed, while the clock shows another.
    fn gate(passed_unix_s: u64, shows_unix_s: u64) -> Arc<Gate> {
        let now = Now {
            unix_s: shows_unix_s,
            ..Now::read()
        };
        Arc::new(Gate::new(Trust::new(passed_unix_s, None, &now)))
    }

    fn at(unix_s: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(unix_s))
    }

    #[test]
    fn a_date_is_tolerated_only_while_the_clock_cannot_be_right() {
        let good = chain("dns.example");
        let passed = 1_800_000_000;
        let cold = || Some(gate(passed, 1_000));
        let plausible = || Some(gate(passed, passed));
        for now in [at(1_000), at(END_UNIX_S + 400 * DAY_S)] {
            assert_eq!(verify_under(&good, &[], &[], cold(), now), Ok(()));
            for strict in [None, plausible()] {
                let error = verify_under(&good, &[], &[], strict, now).unwrap_err();
                assert!(error.contains("this machine's clock"), "{error}");
            }
        }
        // What failed by its date makes the clock doubtful; what did not, does not.
        let clock = gate(passed, passed);
        let _ = verify_under(&good, &[], &[], Some(Arc::clone(&clock)), at(passed));
        assert!(!clock.take_doubt());
        let _ = verify_under(&good, &[], &[], Some(Arc::clone(&clock)), at(1_000));
        assert!(clock.take_doubt());
    }

    #[test]
    fn a_certificate_that_ended_before_what_has_passed_is_never_taken() {
        let good = chain("dns.example");
        for (passed, taken) in [(END_UNIX_S - 2 * DAY_S, true), (END_UNIX_S + DAY_S, false)] {
            let verified = verify_under(&good, &[], &[], Some(gate(passed, 1_000)), at(1_000));
            assert_eq!(verified.is_ok(), taken, "{passed}");
        }
    }

    #[test]
    fn all_of_a_chain_must_have_been_good_at_one_time() {
        let cold = || Some(gate(1_800_000_000, 1_000));
        // 2020-2030, above it from 2028 on: two years in common.
        let late = dated_chain("dns.example", (2028, 2040), (2020, 2030));
        assert_eq!(verify_under(&late, &[], &[], cold(), at(1_000)), Ok(()));
        let apart = dated_chain("dns.example", (2032, 2040), (2020, 2030));
        assert!(verify_under(&apart, &[], &[], cold(), at(1_000)).is_err());
        let over = dated_chain("dns.example", (2000, 2026), (2020, 2030));
        assert!(verify_under(&over, &[], &[], cold(), at(1_000)).is_err());
    }

    #[test]
    fn name_chain_and_pins_count_whatever_the_clock() {
        let cold = || Some(gate(1_800_000_000, 1_000));
        let wrong = [at(1_000), at(1_800_000_000), at(END_UNIX_S + DAY_S * 400)];
        for now in wrong {
            let good = chain("dns.example");
            let (spki, _) = digests(&good.leaf).unwrap();
            let pinned = verify_under(&good, &[], &[Pin::Spki(spki)], cold(), now);
            assert_eq!(pinned, Ok(()));
            assert!(verify_under(&good, &[], &[Pin::Spki([0; 32])], cold(), now).is_err());
            let other = chain("other.example");
            assert!(verify_under(&other, &[], &[], cold(), now).is_err());
            let stranger = Chain {
                root: chain("dns.example").root,
                ..good
            };
            assert!(verify_under(&stranger, &[], &[], cold(), now).is_err());
        }
    }
}
