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
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::KeyPair;
use rustls::{
    pki_types::{CertificateDer, ServerName},
    sign::CertifiedKey,
};

use super::{
    CertificateError, Facts,
    files::{self, NewFile},
    issue::{DAY_S, Signer, checked_names, pem_of, text, verify},
    load,
};
use crate::clock;

/// No running copy of this program is older, so a clock that says so is not set.
const EARLIEST_UNIX_S: u64 = clock::FLOOR_UNIX_S;

/// How long a new leaf lives from now on.
const LEAF_LIFE_S: u64 = 90 * DAY_S;

/// How much of a leaf's life is left when it is renewed: a third, so that a device which is off
/// for weeks still wakes up with a good one.
const LEAF_RENEWAL_S: u64 = LEAF_LIFE_S / 3;

/// How long a leaf lives that is made while the clock is not set. With its backdating it stays
/// below the 398 days beyond which browsers and Apple's systems refuse leaves.
const LEAF_LIFE_CLOCKLESS_S: u64 = 360 * DAY_S;

/// How much of the CA's life must be left when it signs: two leaves' lives, so that a leaf never
/// outlives its CA and users have time to install the next.
const AUTHORITY_RENEWAL_S: u64 = 2 * LEAF_LIFE_S;

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
/// When this fails although a leaf is there, say because the disk is full, that leaf is as good as
/// it was: [`load()`] of [`Files::leaf`] and [`Files::leaf_key`] still serves it.
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
                    return self.store(&signer, None, &leaf, &key, Outcome::LeafMade(leaf_reason));
                }
                Reason::NamesChanged
            }
            Err(reason) => reason,
        };
        let made = Signer::make(&self.names, self.effective_unix_s());
        let (signer, authority_key) = self.made(made)?;
        let leaf = self.leaf(&signer, &key)?;
        verify(&signer.der, &leaf, &self.names, self.effective_unix_s()).map_err(|source| {
            CertificateError::Rejected {
                directory: self.directory.to_owned(),
                source,
            }
        })?;
        let outcome = Outcome::AuthorityMade(reason);
        self.store(&signer, Some(&authority_key), &leaf, &key, outcome)
    }

    /// Writes what is new, the CA too if its key is given, and reads the leaf back as the next
    /// start will.
    fn store(
        &self,
        signer: &Signer,
        authority_key: Option<&str>,
        leaf: &CertificateDer<'_>,
        key: &KeyPair,
        outcome: Outcome,
    ) -> Result<Local, CertificateError> {
        let (leaf_key, leaf) = (key.serialize_pem(), pem_of(leaf));
        let authority = pem_of(&signer.der);
        // Key before certificate: a crash in between leaves a pair that does not fit, which a
        // later call replaces, and never a CA that users install but nobody can sign with.
        let mut files = Vec::new();
        if let Some(authority_key) = authority_key {
            // Devices trust the old one. When it was replaced for a wrong reason, such as a clock
            // that was years ahead for a moment, it can be put back.
            keep_old(&self.files.authority_key);
            keep_old(&self.files.authority);
            files.push(new_key(&self.files.authority_key, authority_key));
            files.push(new_certificate(&self.files.authority, &authority));
        }
        files.push(new_key(&self.files.leaf_key, &leaf_key));
        files.push(new_certificate(&self.files.leaf, &leaf));
        files::replace(&files)?;
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
        let Some(signer) = Signer::from_stored(der, &key) else {
            return Ok(Err(Reason::Damaged));
        };
        let needed_until = self.effective_unix_s().saturating_add(AUTHORITY_RENEWAL_S);
        if signer.facts.not_after_unix_s <= needed_until {
            return Ok(Err(Reason::NearEnd));
        }
        Ok(Ok(signer))
    }

    fn leaf(
        &self,
        signer: &Signer,
        key: &KeyPair,
    ) -> Result<CertificateDer<'static>, CertificateError> {
        let life_s = match self.now_unix_s {
            Some(_) => LEAF_LIFE_S,
            None => LEAF_LIFE_CLOCKLESS_S,
        };
        self.made(signer.leaf(key, &self.names, self.effective_unix_s(), life_s))
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

fn new_key<'a>(path: &'a Path, pem: &'a str) -> NewFile<'a> {
    NewFile {
        path,
        octets: pem.as_bytes(),
        mode: files::KEY_MODE,
    }
}

fn new_certificate<'a>(path: &'a Path, pem: &'a str) -> NewFile<'a> {
    NewFile {
        path,
        octets: pem.as_bytes(),
        mode: files::CERTIFICATE_MODE,
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

/// Copies a file that is about to be replaced to `NAME.old`, with its mode. Best effort: there may
/// be none, and a full disk shows when the new one is written.
fn keep_old(path: &Path) {
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    let _ = fs::copy(path, PathBuf::from(old));
}

#[cfg(test)]
mod tests;
