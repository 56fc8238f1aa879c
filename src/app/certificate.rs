//! The certificate the encrypted listeners show: found at start, kept fresh afterwards.

use std::{path::PathBuf, sync::Arc};

use rustls::sign::CertifiedKey;
use tracing::{info, warn};

use crate::{
    certificates::{self, CertificateError, Facts, Files, Outcome, Stamp},
    clock,
    config::Settings,
};

/// Where the certificate comes from, and what it looked like when last read.
#[derive(Debug)]
pub(super) struct Keeper {
    source: Source,
    stamp: Stamp,
}

#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// Files somebody else renews.
    Configured { certificate: PathBuf, key: PathBuf },
    /// Our own authority in the state directory.
    Local {
        directory: PathBuf,
        names: Vec<String>,
    },
}

impl Source {
    fn of(settings: &Settings) -> Self {
        match &settings.tls.files {
            Some(files) => Self::Configured {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
            },
            None => Self::Local {
                directory: settings.certificate_directory(),
                names: settings.certificate_names(),
            },
        }
    }

    fn stamp(&self) -> Stamp {
        match self {
            Self::Configured { certificate, key } => Stamp::of(&[certificate, key]),
            Self::Local { directory, .. } => {
                let files = Files::within(directory);
                Stamp::of(&[&files.leaf, &files.leaf_key])
            }
        }
    }

    /// Reads the files, or makes or renews what is ours.
    fn open(&self) -> Result<Arc<CertifiedKey>, CertificateError> {
        let now_unix_s = clock::unix_s();
        match self {
            Self::Configured { certificate, key } => {
                let loaded = certificates::load(certificate, key, now_unix_s)?;
                for note in &loaded.notes {
                    warn!(certificate = %certificate.display(), "{note}");
                }
                announce(&loaded.facts);
                Ok(loaded.key)
            }
            Self::Local { directory, names } => {
                let local = certificates::ensure(directory, names, now_unix_s)?;
                match local.outcome {
                    Outcome::Kept => {}
                    Outcome::LeafMade(reason) => {
                        info!(reason = reason.label(), "made a new certificate");
                    }
                    Outcome::AuthorityMade(reason) => info!(
                        reason = reason.label(),
                        directory = %directory.display(),
                        "made a new local certification authority; clients must trust it anew: \
                         `truename cert export`"
                    ),
                }
                announce(&local.facts);
                Ok(local.key)
            }
        }
    }
}

impl Keeper {
    /// The certificate to start with.
    pub(super) fn start(
        settings: &Settings,
    ) -> Result<(Self, Arc<CertifiedKey>), CertificateError> {
        let source = Source::of(settings);
        let key = source.open()?;
        let stamp = source.stamp();
        Ok((Self { source, stamp }, key))
    }

    /// The certificate of changed settings; what was there stays in use when it fails.
    pub(super) fn apply(
        &mut self,
        settings: &Settings,
    ) -> Result<Arc<CertifiedKey>, CertificateError> {
        let source = Source::of(settings);
        let key = source.open()?;
        self.stamp = source.stamp();
        self.source = source;
        Ok(key)
    }

    /// A new certificate if there is one: files that changed, or a leaf of ours near its end.
    pub(super) fn look(&mut self) -> Option<Arc<CertifiedKey>> {
        let stamp = self.source.stamp();
        let is_local = matches!(self.source, Source::Local { .. });
        if stamp == self.stamp && !is_local {
            return None;
        }
        match self.source.open() {
            Ok(key) => {
                let before = std::mem::replace(&mut self.stamp, self.source.stamp());
                (before != self.stamp).then_some(key)
            }
            Err(error) => {
                // Files are often replaced one by one; said once for each state they are in.
                if stamp != self.stamp {
                    warn!(%error, "the certificate cannot be read again; the old one stays in use");
                    self.stamp = stamp;
                }
                None
            }
        }
    }
}

fn announce(facts: &Facts) {
    tracing::debug!(names = ?facts.names, until = %facts.not_after, "certificate in use");
}
