//! The local CA and the leaf it signs, for when no certificate is configured.
//!
//! A user installs `ca.pem` once on the devices that shall trust this resolver; the leaf is
//! renewed below it without anybody noticing. So that installing it risks nothing else, the CA
//! can only sign for the configured names and addresses: its name constraints (RFC 5280, section
//! 4.2.1.10) permit these and exclude every other, and are critical.
//!
//! Whether a leaf is good is decided as a client decides it, by verifying it for each name below
//! the CA; nothing here repeats those rules.
//!
//! # A wrong clock
//!
//! A router without a battery boots in 1970 and learns the time later, perhaps through us. A time
//! before [`EARLIEST_UNIX_S`] is therefore no time at all: existing certificates are kept, since
//! nothing can be said against them, and a leaf that must be made is dated from that moment on and
//! lives as long as clients allow. Call [`ensure`] again when the clock has been set. The CA is
//! valid from 1970 on, so that no clock set back makes it "not yet valid" and worth replacing.

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SerialNumber,
};
use rustls::{
    RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use time::OffsetDateTime;

use super::{CertificateError, Facts, describe, files, load};
use crate::entropy;

const DAY_S: u64 = 24 * 3600;

/// 2026-11-01: no running copy of this program is older, so a clock that says so is not set.
/// Raise it with releases.
const EARLIEST_UNIX_S: u64 = 1_793_491_200;

/// How long a new leaf lives from now on.
const LEAF_LIFE_S: u64 = 90 * DAY_S;

/// How much of a leaf's life is left when it is renewed: a third, so that a device which is off
/// for weeks still wakes up with a good one.
const LEAF_RENEWAL_S: u64 = LEAF_LIFE_S / 3;

/// How far back a leaf is dated, for clients whose clocks are late.
const LEAF_BACKDATE_S: u64 = 30 * DAY_S;

/// How long a leaf lives that is made while the clock is not set. With the backdating it stays
/// below the 398 days beyond which browsers and Apple's systems refuse leaves.
const LEAF_LIFE_CLOCKLESS_S: u64 = 360 * DAY_S;

/// How long a new CA lives: every renewal means a walk to every device.
const AUTHORITY_LIFE_S: u64 = 3653 * DAY_S;

/// How much of the CA's life must be left when it signs: two leaves' lives, so that a leaf never
/// outlives its CA and users have time to install the next.
const AUTHORITY_RENEWAL_S: u64 = 2 * LEAF_LIFE_S;

/// The most names in one certificate: each costs every handshake its octets.
const NAMES_MAX: usize = 64;

/// Octets of a serial number (RFC 5280, section 4.1.2.2: at most 20).
const SERIAL_OCTETS: usize = 16;

/// Where the local CA and its leaf are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The CA's certificate, `ca.pem`: what users install.
    pub authority: PathBuf,
    /// The CA's private key, `ca.key`. Needed only when a leaf is made.
    pub authority_key: PathBuf,
    /// The leaf, `leaf.pem`.
    pub leaf: PathBuf,
    /// The leaf's private key, `leaf.key`.
    pub leaf_key: PathBuf,
}

impl Files {
    /// The files within `directory`.
    #[must_use]
    pub fn within(directory: &Path) -> Self {
        Self {
            authority: directory.join("ca.pem"),
            authority_key: directory.join("ca.key"),
            leaf: directory.join("leaf.pem"),
            leaf_key: directory.join("leaf.key"),
        }
    }
}

/// The local leaf, ready to be served, and how it came about.
#[derive(Clone, Debug)]
pub struct Local {
    /// What a TLS listener serves: the leaf alone, since clients hold the CA.
    pub key: Arc<CertifiedKey>,
    /// What the leaf says.
    pub facts: Facts,
    /// What the CA says.
    pub authority: Facts,
    /// What was done, for the log.
    pub outcome: Outcome,
}

/// What [`ensure`] or [`renew`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The files were good and stay as they were.
    Kept,
    /// A new leaf was made below the same CA; clients notice nothing.
    LeafMade(Reason),
    /// A new CA was made and a leaf below it; users must install the new CA.
    AuthorityMade(Reason),
}

/// Why a CA or a leaf was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There was none.
    Absent,
    /// What was there was damaged, no pair, or not signed by the CA: a crash between two writes,
    /// or somebody's edit.
    Damaged,
    /// The names are not the configured ones any more; of a CA: its constraints forbid a new one.
    NamesChanged,
    /// Its end is near, or past.
    NearEnd,
    /// It begins in the future: the clock was ahead when it was made.
    NotYetValid,
    /// [`renew`] was called.
    Asked,
}

impl Reason {
    /// One word for logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Damaged => "damaged",
            Self::NamesChanged => "names_changed",
            Self::NearEnd => "near_end",
            Self::NotYetValid => "not_yet_valid",
            Self::Asked => "asked",
        }
    }
}

/// The local CA's certificate, to be handed to devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// In PEM, as `truename cert export` prints it.
    pub pem: String,
    /// In DER, as profiles embed it.
    pub der: Vec<u8>,
    /// What it says.
    pub facts: Facts,
}

/// Loads the local leaf from `directory`, making or renewing what is needed: the directory, the
/// CA, the leaf.
///
/// `names` are host names in ASCII and IP addresses; letter case, order and repetition do not
/// matter. The leaf is renewed when a third of its life is left or its names are not `names`; the
/// CA is made again when it cannot sign for `names`, or its end is near at a renewal. Nothing is
/// written while all is good, so a read-only directory does until then.
///
/// Two processes may call this at once: each file is whole at every moment, and a pair that mixes
/// both is found damaged and made again by the next call.
pub fn ensure(
    directory: &Path,
    names: &[String],
    now_unix_s: u64,
) -> Result<Local, CertificateError> {
    Keeper::new(directory, names, now_unix_s)?.ensure()
}

/// Makes a new leaf below the CA even if the old one is good: for `truename cert renew`. Does
/// with the CA what [`ensure`] does.
pub fn renew(
    directory: &Path,
    names: &[String],
    now_unix_s: u64,
) -> Result<Local, CertificateError> {
    Keeper::new(directory, names, now_unix_s)?.make(Reason::Asked)
}

/// Reads the CA's certificate from `directory`, where [`ensure`] made it.
pub fn export(directory: &Path) -> Result<Authority, CertificateError> {
    let path = Files::within(directory).authority;
    let der = authority_der(&path)?;
    let facts = Facts::of(&der).ok_or(CertificateError::MalformedCertificate {
        path: path.clone(),
        position: 1,
    })?;
    Ok(Authority {
        // Only the certificate, whatever else somebody may have put into the file.
        pem: pem_of(&der),
        der: der.to_vec(),
        facts,
    })
}

/// One call's errand: which names, where, and when.
struct Keeper<'a> {
    directory: &'a Path,
    files: Files,
    names: Vec<ServerName<'static>>,
    /// `None` while the clock is not set.
    now_unix_s: Option<u64>,
}

/// A CA that can sign.
struct Signer {
    der: CertificateDer<'static>,
    facts: Facts,
    issuer: Issuer<'static, KeyPair>,
}

impl<'a> Keeper<'a> {
    fn new(
        directory: &'a Path,
        names: &[String],
        now_unix_s: u64,
    ) -> Result<Self, CertificateError> {
        Ok(Self {
            directory,
            files: Files::within(directory),
            names: checked_names(directory, names)?,
            now_unix_s: (now_unix_s >= EARLIEST_UNIX_S).then_some(now_unix_s),
        })
    }

    fn ensure(&self) -> Result<Local, CertificateError> {
        match self.existing()? {
            Ok(local) => Ok(local),
            Err(reason) => self.make(reason),
        }
    }

    /// The leaf that is there, or why it will not do.
    fn existing(&self) -> Result<Result<Local, Reason>, CertificateError> {
        let authority = match sorted(authority_der(&self.files.authority))? {
            Ok(der) => der,
            Err(reason) => return Ok(Err(reason)),
        };
        files::tighten(&self.files.leaf_key)?;
        let loaded = load(
            &self.files.leaf,
            &self.files.leaf_key,
            self.now_unix_s.unwrap_or(EARLIEST_UNIX_S),
        );
        let leaf = match sorted(loaded)? {
            Ok(leaf) => leaf,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Err(reason) = self.judge(&leaf.facts) {
            return Ok(Err(reason));
        }
        let (Some(authority_facts), Ok(own)) = (Facts::of(&authority), leaf.key.end_entity_cert())
        else {
            return Ok(Err(Reason::Damaged));
        };
        let at = self.now_unix_s.unwrap_or(leaf.facts.not_before_unix_s);
        if verify(&authority, own, &self.names, at).is_err() {
            return Ok(Err(Reason::Damaged));
        }
        Ok(Ok(Local {
            key: leaf.key,
            facts: leaf.facts,
            authority: authority_facts,
            outcome: Outcome::Kept,
        }))
    }

    /// Whether a leaf has the right names and time left.
    fn judge(&self, leaf: &Facts) -> Result<(), Reason> {
        let wanted: BTreeSet<String> = self.names.iter().map(|name| text(name)).collect();
        let present: BTreeSet<String> = leaf.names.iter().cloned().collect();
        if wanted != present {
            return Err(Reason::NamesChanged);
        }
        match self.now_unix_s {
            Some(now) if leaf.not_before_unix_s > now => Err(Reason::NotYetValid),
            Some(now) if leaf.not_after_unix_s <= now.saturating_add(LEAF_RENEWAL_S) => {
                Err(Reason::NearEnd)
            }
            _ => Ok(()),
        }
    }

    /// Makes a leaf, and a CA if the one that is there cannot sign it. Nothing is written before
    /// everything has been made and verified.
    fn make(&self, leaf_reason: Reason) -> Result<Local, CertificateError> {
        files::prepare_directory(self.directory)?;
        let key = self.made(KeyPair::generate())?;
        let reason = match self.signer()? {
            Ok(signer) => {
                let leaf = self.leaf(&signer, &key)?;
                if verify(&signer.der, &leaf, &self.names, self.effective_unix_s()).is_ok() {
                    return self.store(&signer, &leaf, &key, Outcome::LeafMade(leaf_reason));
                }
                Reason::NamesChanged
            }
            Err(reason) => reason,
        };
        let (signer, authority_key) = self.authority()?;
        let leaf = self.leaf(&signer, &key)?;
        verify(&signer.der, &leaf, &self.names, self.effective_unix_s()).map_err(|source| {
            CertificateError::Rejected {
                directory: self.directory.to_owned(),
                source,
            }
        })?;
        // Key before certificate: a crash in between leaves a pair that does not fit, which the
        // next call replaces, and never a CA that users install but nobody can sign with.
        files::write(
            &self.files.authority_key,
            authority_key.as_bytes(),
            files::KEY_MODE,
        )?;
        files::write(
            &self.files.authority,
            pem_of(&signer.der).as_bytes(),
            files::CERTIFICATE_MODE,
        )?;
        self.store(&signer, &leaf, &key, Outcome::AuthorityMade(reason))
    }

    /// Writes a new leaf and reads it back, as the next start will.
    fn store(
        &self,
        signer: &Signer,
        leaf: &CertificateDer<'_>,
        key: &KeyPair,
        outcome: Outcome,
    ) -> Result<Local, CertificateError> {
        files::write(
            &self.files.leaf_key,
            key.serialize_pem().as_bytes(),
            files::KEY_MODE,
        )?;
        files::write(
            &self.files.leaf,
            pem_of(leaf).as_bytes(),
            files::CERTIFICATE_MODE,
        )?;
        let loaded = load(
            &self.files.leaf,
            &self.files.leaf_key,
            self.effective_unix_s(),
        )?;
        Ok(Local {
            key: loaded.key,
            facts: loaded.facts,
            authority: signer.facts.clone(),
            outcome,
        })
    }

    /// The CA that is there, or why it cannot sign.
    fn signer(&self) -> Result<Result<Signer, Reason>, CertificateError> {
        files::tighten(&self.files.authority_key)?;
        let der = sorted(authority_der(&self.files.authority))?;
        let key = sorted(files::read(&self.files.authority_key))?;
        let (der, key) = match (der, key) {
            (Ok(der), Ok(key)) => (der, key),
            // Half a pair is damage; neither half is a first start.
            (Err(Reason::Absent), Err(Reason::Absent)) => return Ok(Err(Reason::Absent)),
            _ => return Ok(Err(Reason::Damaged)),
        };
        let key = str::from_utf8(&key)
            .ok()
            .and_then(|pem| KeyPair::from_pem(pem).ok());
        let (Some(key), Some(parsed)) = (key, describe::parse(&der)) else {
            return Ok(Err(Reason::Damaged));
        };
        if rcgen::PublicKeyData::subject_public_key_info(&key) != parsed.public_key().raw
            || !parsed.is_ca()
        {
            return Ok(Err(Reason::Damaged));
        }
        let facts = Facts::of_parsed(&der, &parsed);
        if facts.not_after_unix_s <= self.effective_unix_s().saturating_add(AUTHORITY_RENEWAL_S) {
            return Ok(Err(Reason::NearEnd));
        }
        Ok(match Issuer::from_ca_cert_der(&der, key) {
            Ok(issuer) => Ok(Signer { der, facts, issuer }),
            Err(_) => Err(Reason::Damaged),
        })
    }

    /// Makes a CA that can sign for the names and nothing else; its key in PEM beside it.
    fn authority(&self) -> Result<(Signer, String), CertificateError> {
        let key = self.made(KeyPair::generate())?;
        let key_pem = key.serialize_pem();
        let mut params = CertificateParams::default();
        params.not_before = OffsetDateTime::UNIX_EPOCH;
        params.not_after = date(self.effective_unix_s().saturating_add(AUTHORITY_LIFE_S));
        params.serial_number = Some(serial());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.name_constraints = Some(constraints(&self.names));
        // A part of the key's identifier tells CAs apart in a device's list, and keeps clients
        // from trying a leaf against an older CA of the same name.
        let identifier: String = HEXLOWER
            .encode(&params.key_identifier(&key))
            .chars()
            .take(8)
            .collect();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(
            DnType::CommonName,
            format!("truename local CA {identifier}"),
        );
        let certificate = self.made(params.self_signed(&key))?;
        let der = certificate.der().clone();
        let facts = Facts::of(&der).ok_or_else(|| CertificateError::Making {
            directory: self.directory.to_owned(),
            source: rcgen::Error::CouldNotParseCertificate,
        })?;
        let issuer = Issuer::new(params, key);
        Ok((Signer { der, facts, issuer }, key_pem))
    }

    fn leaf(
        &self,
        signer: &Signer,
        key: &KeyPair,
    ) -> Result<CertificateDer<'static>, CertificateError> {
        let now = self.effective_unix_s();
        let life_s = match self.now_unix_s {
            Some(_) => LEAF_LIFE_S,
            None => LEAF_LIFE_CLOCKLESS_S,
        };
        let end = now
            .saturating_add(life_s)
            .min(signer.facts.not_after_unix_s);
        let names: Vec<String> = self.names.iter().map(text).collect();
        let mut params = self.made(CertificateParams::new(names))?;
        params.not_before = date(now.saturating_sub(LEAF_BACKDATE_S));
        params.not_after = date(end);
        params.serial_number = Some(serial());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // With a space in it, no client takes the common name for a host name that the CA's
        // constraints would have to permit.
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "truename resolver");
        let leaf = self.made(params.signed_by(key, &signer.issuer))?;
        Ok(leaf.into())
    }

    /// The time certificates are dated by.
    fn effective_unix_s(&self) -> u64 {
        self.now_unix_s.unwrap_or(EARLIEST_UNIX_S)
    }

    fn made<T>(&self, result: Result<T, rcgen::Error>) -> Result<T, CertificateError> {
        result.map_err(|source| CertificateError::Making {
            directory: self.directory.to_owned(),
            source,
        })
    }
}

/// Whether a client that trusts `authority` accepts `leaf` under every one of `names` at a time.
fn verify(
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

/// Sorts a failed read of our own files: missing and damaged ones are made again, but what the
/// system refuses to read is left alone and told.
fn sorted<T>(result: Result<T, CertificateError>) -> Result<Result<T, Reason>, CertificateError> {
    match result {
        Ok(read) => Ok(Ok(read)),
        Err(CertificateError::Unreadable { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            Ok(Err(Reason::Absent))
        }
        Err(error @ CertificateError::Unreadable { .. }) => Err(error),
        Err(_) => Ok(Err(Reason::Damaged)),
    }
}

fn authority_der(path: &Path) -> Result<CertificateDer<'static>, CertificateError> {
    let chain = load::read_chain(path)?;
    chain
        .into_iter()
        .next()
        .ok_or_else(|| CertificateError::NoCertificate {
            path: path.to_owned(),
        })
}

/// The names in lower case without a trailing dot, each once, in the order given.
fn checked_names(
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
fn text(name: &ServerName<'_>) -> String {
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
fn pem_of(der: &[u8]) -> String {
    const LINE_CHARACTERS: usize = 64;
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut line = 0;
    for character in data_encoding::BASE64.encode(der).chars() {
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

#[cfg(test)]
mod tests;
