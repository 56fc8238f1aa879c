//! Making certificates: the constrained CA, the leaf it signs, and the check that a client would
//! accept it. Nothing here touches files.

use std::{net::IpAddr, path::Path, time::Duration};

use data_encoding::{BASE64, HEXLOWER};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PublicKeyData, SerialNumber,
};
use rustls::{
    RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use time::OffsetDateTime;

use super::{CertificateError, Facts, describe};
use crate::entropy;

/// Seconds of a day.
pub(super) const DAY_S: u64 = 24 * 3600;

/// How long a new CA lives: every renewal means a walk to every device.
const AUTHORITY_LIFE_S: u64 = 3653 * DAY_S;

/// How far back a leaf is dated, for clients whose clocks are late.
pub(super) const LEAF_BACKDATE_S: u64 = 30 * DAY_S;

/// The most names in one certificate: each costs every handshake its octets.
pub(super) const NAMES_MAX: usize = 64;

/// Octets of a serial number (RFC 5280, section 4.1.2.2: at most 20).
const SERIAL_OCTETS: usize = 16;

/// A CA that can sign.
pub(super) struct Signer {
    /// Its certificate.
    pub(super) der: CertificateDer<'static>,
    /// What its certificate says.
    pub(super) facts: Facts,
    issuer: Issuer<'static, KeyPair>,
}

impl Signer {
    /// Makes a CA that can sign for `names` and nothing else; beside it its key in PEM.
    pub(super) fn make(
        names: &[ServerName<'_>],
        now_unix_s: u64,
    ) -> Result<(Self, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let key_pem = key.serialize_pem();
        let mut params = CertificateParams::default();
        params.not_before = OffsetDateTime::UNIX_EPOCH;
        params.not_after = date(now_unix_s.saturating_add(AUTHORITY_LIFE_S));
        params.serial_number = Some(serial());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.name_constraints = Some(constraints(names));
        // A part of the key's identifier tells CAs apart in a device's list, and keeps clients
        // from trying a leaf against an older CA of the same name.
        let identifier = HEXLOWER.encode(&params.key_identifier(&key));
        let identifier: String = identifier.chars().take(8).collect();
        params.distinguished_name = common_name(format!("truename local CA {identifier}"));
        let der = CertificateDer::from(params.self_signed(&key)?);
        let facts = Facts::of(&der).ok_or(rcgen::Error::CouldNotParseCertificate)?;
        let issuer = Issuer::new(params, key);
        Ok((Self { der, facts, issuer }, key_pem))
    }

    /// The CA of a stored certificate and its key in PEM; `None` if they are no CA or no pair.
    pub(super) fn from_stored(der: CertificateDer<'static>, key_pem: &[u8]) -> Option<Self> {
        let key = KeyPair::from_pem(str::from_utf8(key_pem).ok()?).ok()?;
        let parsed = describe::parse(&der)?;
        if !parsed.is_ca() || parsed.public_key().raw != key.subject_public_key_info() {
            return None;
        }
        let facts = Facts::of_parsed(&der, &parsed);
        let issuer = Issuer::from_ca_cert_der(&der, key).ok()?;
        Some(Self { der, facts, issuer })
    }

    /// Signs a leaf for `names` that lives `life_s` from now on, or as long as the CA if that is
    /// shorter.
    pub(super) fn leaf(
        &self,
        key: &KeyPair,
        names: &[ServerName<'_>],
        now_unix_s: u64,
        life_s: u64,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let end = now_unix_s.saturating_add(life_s);
        let names: Vec<String> = names.iter().map(text).collect();
        let mut params = CertificateParams::new(names)?;
        params.not_before = date(now_unix_s.saturating_sub(LEAF_BACKDATE_S));
        params.not_after = date(end.min(self.facts.not_after_unix_s));
        params.serial_number = Some(serial());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // With a space in it, no client takes the common name for a host name that the CA's
        // constraints would have to permit.
        params.distinguished_name = common_name("truename resolver".to_owned());
        Ok(params.signed_by(key, &self.issuer)?.into())
    }
}

/// Whether a client that trusts `authority` accepts `leaf` under every one of `names` at a time.
pub(super) fn verify(
    authority: &CertificateDer<'_>,
    leaf: &CertificateDer<'_>,
    names: &[ServerName<'_>],
    at_unix_s: u64,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    let leaf = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(
        &leaf,
        &roots,
        &[],
        UnixTime::since_unix_epoch(Duration::from_secs(at_unix_s)),
        ring::default_provider()
            .signature_verification_algorithms
            .all,
    )?;
    names
        .iter()
        .try_for_each(|name| verify_server_name(&leaf, name))
}

/// The names in lower case without a trailing dot, each once, in the order given.
pub(super) fn checked_names(
    directory: &Path,
    names: &[String],
) -> Result<Vec<ServerName<'static>>, CertificateError> {
    if names.len() > NAMES_MAX {
        return Err(CertificateError::TooManyNames {
            directory: directory.to_owned(),
            limit: NAMES_MAX,
        });
    }
    let mut checked = Vec::with_capacity(names.len());
    for name in names {
        let plain = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let server_name =
            ServerName::try_from(plain).map_err(|_| CertificateError::InvalidName {
                directory: directory.to_owned(),
                name: name.clone(),
            })?;
        if !checked.contains(&server_name) {
            checked.push(server_name);
        }
    }
    if checked.is_empty() {
        return Err(CertificateError::NoNames {
            directory: directory.to_owned(),
        });
    }
    Ok(checked)
}

/// A name as [`Facts::names`] writes it.
pub(super) fn text(name: &ServerName<'_>) -> String {
    match address(name) {
        Some(address) => address.to_string(),
        None => name.to_str().into_owned(),
    }
}

fn address(name: &ServerName<'_>) -> Option<IpAddr> {
    match name {
        ServerName::IpAddress(address) => Some(IpAddr::from(*address)),
        _ => None,
    }
}

/// Name constraints that permit the names and addresses and nothing else.
///
/// A list of permitted names says nothing about addresses and the other way round (RFC 5280,
/// section 4.2.1.10), so each kind that is not permitted at all is excluded as a whole.
fn constraints(names: &[ServerName<'_>]) -> NameConstraints {
    let mut permitted = Vec::new();
    let (mut has_name, mut has_v4, mut has_v6) = (false, false, false);
    for name in names {
        permitted.push(match address(name) {
            Some(IpAddr::V4(address)) => {
                has_v4 = true;
                GeneralSubtree::IpAddress(CidrSubnet::V4(address.octets(), [0xff; 4]))
            }
            Some(IpAddr::V6(address)) => {
                has_v6 = true;
                GeneralSubtree::IpAddress(CidrSubnet::V6(address.octets(), [0xff; 16]))
            }
            None => {
                has_name = true;
                GeneralSubtree::DnsName(text(name))
            }
        });
    }
    let mut excluded = Vec::new();
    if !has_name {
        // The empty name is the root of all others.
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    if !has_v4 {
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
    }
    if !has_v6 {
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
    }
    NameConstraints {
        permitted_subtrees: permitted,
        excluded_subtrees: excluded,
    }
}

fn common_name(name: String) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

/// A random serial number, positive and of full length.
fn serial() -> SerialNumber {
    let mut octets = [0; SERIAL_OCTETS];
    entropy::fill(&mut octets);
    if let Some(first) = octets.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    SerialNumber::from(octets.to_vec())
}

/// A date for a certificate; one past the year 9999 becomes that year's end, which X.509 reads as
/// "no end" (RFC 5280, section 4.1.2.5).
fn date(unix_s: u64) -> OffsetDateTime {
    const YEAR_9999_END_UNIX_S: i64 = 253_402_300_799;
    let unix_s = i64::try_from(unix_s).map_or(YEAR_9999_END_UNIX_S, |unix_s| {
        unix_s.min(YEAR_9999_END_UNIX_S)
    });
    OffsetDateTime::from_unix_timestamp(unix_s)
        .expect("seconds between 1970 and 9999 are in the type's range")
}

/// A certificate in PEM (RFC 7468, section 5).
pub(super) fn pem_of(der: &[u8]) -> String {
    const LINE_CHARACTERS: usize = 64;
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut line = 0;
    for character in BASE64.encode(der).chars() {
        if line == LINE_CHARACTERS {
            pem.push('\n');
            line = 0;
        }
        pem.push(character);
        line += 1;
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}
