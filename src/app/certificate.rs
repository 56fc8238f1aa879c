//! The certificate the encrypted listeners show: found at start, kept fresh afterwards.

use std::{path::PathBuf, sync::Arc};

use rustls::sign::CertifiedKey;
use tracing::{info, warn};

use super::complaint::Complaint;
use crate::{
    certificates::{self, CertificateError, Facts, Files, Outcome, Stamp},
    clock::{Gate, Now},
    config::Settings,
};

/// A local authority that ends within this time is made anew, seconds; see `certificates`.
const AUTHORITY_ENDS_SOON_S: u64 = 365 * 86_400;

/// Where the certificate comes from, and what it looked like when last read.
#[derive(Debug)]
pub(super) struct Keeper {
    source: Source,
    clock: Arc<Gate>,
    stamp: Stamp,
    /// What was last said about a certificate that cannot be read or renewed.
    complaint: Complaint,
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

    /// The certificate, and what its files looked like. Files of others are looked at before they
    /// are read, so that a change in between shows the next time; ours after they are written.
    fn open_stamped(&self, clock: &Gate) -> Result<(Arc<CertifiedKey>, Stamp), CertificateError> {
        let before = self.stamp();
        let key = self.open(clock)?;
        let stamp = match self {
            Self::Configured { .. } => before,
            Self::Local { .. } => self.stamp(),
        };
        Ok((key, stamp))
    }

    /// Reads the files, or makes or renews what is ours.
    fn open(&self, clock: &Gate) -> Result<Arc<CertifiedKey>, CertificateError> {
        let now_unix_s = self.time(clock);
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

impl Source {
    /// The leaf of ours that is there, for a start when it cannot be renewed because the disk is full
    /// or read-only: even one that has ended serves more clients than none.
    fn old_leaf(&self, clock: &Gate) -> Option<Arc<CertifiedKey>> {
        let Self::Local { directory, .. } = self else {
            return None;
        };
        let files = Files::within(directory);
        let loaded = certificates::load(&files.leaf, &files.leaf_key, self.time(clock)).ok()?;
        announce(&loaded.facts);
        Some(loaded.key)
    }

    /// What time it is, as far as certificates may go by it; 0 when nobody knows. An authority that
    /// devices trust is not thrown away because of a clock that only may be right.
    fn time(&self, clock: &Gate) -> u64 {
        let now = Now::read();
        let ends_soon = || match self {
            Self::Configured { .. } => false,
            Self::Local { directory, .. } => certificates::export(directory).is_ok_and(|kept| {
                kept.facts.not_after_unix_s <= now.unix_s.saturating_add(AUTHORITY_ENDS_SOON_S)
            }),
        };
        if clock.is_cold() || (clock.is_daring(&now) && ends_soon()) {
            return 0;
        }
        now.unix_s
    }
}

impl Keeper {
    /// The certificate to start with.
    pub(super) fn start(
        settings: &Settings,
        clock: &Arc<Gate>,
    ) -> Result<(Self, Arc<CertifiedKey>), CertificateError> {
        let source = Source::of(settings);
        let mut complaint = Complaint::default();
        let (key, stamp) = match source.open_stamped(clock) {
            Ok(opened) => opened,
            Err(error) => {
                let Some(key) = source.old_leaf(clock) else {
                    return Err(error);
                };
                let text = error.to_string();
                if complaint.is_news(&text) {
                    warn!("the certificate stays as it was: {text}");
                }
                (key, source.stamp())
            }
        };
        Ok((
            Self {
                source,
                clock: Arc::clone(clock),
                stamp,
                complaint,
            },
            key,
        ))
    }

    /// The certificate of changed settings; what was there stays in use when it fails.
    pub(super) fn apply(
        &mut self,
        settings: &Settings,
    ) -> Result<Arc<CertifiedKey>, CertificateError> {
        let source = Source::of(settings);
        let (key, stamp) = source.open_stamped(&self.clock)?;
        self.stamp = stamp;
        self.source = source;
        self.complaint.end();
        Ok(key)
    }

    /// A new certificate if there is one: files that changed, or a leaf of ours near its end.
    pub(super) fn look(&mut self) -> Option<Arc<CertifiedKey>> {
        let stamp = self.source.stamp();
        let is_local = matches!(self.source, Source::Local { .. });
        if stamp == self.stamp && !is_local {
            return None;
        }
        match self.source.open_stamped(&self.clock) {
            Ok((key, stamp)) => {
                self.complaint.end();
                let before = std::mem::replace(&mut self.stamp, stamp);
                (before != self.stamp).then_some(key)
            }
            Err(error) => {
                // Files are often replaced one by one; each reason is said once.
                let text = error.to_string();
                if self.complaint.is_news(&text) {
                    warn!("the certificate stays as it was: {text}");
                }
                None
            }
        }
    }
}

fn announce(facts: &Facts) {
    tracing::debug!(names = ?facts.names, until = %facts.not_after, "certificate in use");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        clock::Trust,
        config::{self, Options, Surroundings},
    };

    #[test]
    fn a_disk_that_takes_nothing_does_not_stop_a_start_with_a_certificate_there() {
        let home = tempfile::tempdir().unwrap();
        let settings = |name: &str| {
            let state = home.path().join("state");
            let text = format!(
                "[tls]\nnames = [{name:?}]\n[state]\ndirectory = {:?}\n",
                state.to_str().unwrap()
            );
            let (surroundings, options) = (Surroundings::default(), Options::default());
            config::parse(&text, None, &surroundings, &options).unwrap()
        };
        let clock = Arc::new(Gate::new(Trust::new(0, None, &Now::read())));
        let (_, first) = Keeper::start(&settings("a.lan"), &clock).unwrap();
        // The wanted name takes a new authority, and a directory in its key's place fails the
        // rename, for root too.
        let files = Files::within(&settings("b.lan").certificate_directory());
        fs::remove_file(&files.authority_key).unwrap();
        fs::create_dir_all(files.authority_key.join("inhabitant")).unwrap();
        let (keeper, key) = Keeper::start(&settings("b.lan"), &clock).unwrap();
        assert_eq!(key.cert, first.cert);
        assert_ne!(keeper.complaint, Complaint::default());
        fs::remove_file(&files.leaf).unwrap();
        Keeper::start(&settings("b.lan"), &clock).unwrap_err();
    }
}
