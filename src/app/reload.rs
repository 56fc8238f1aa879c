//! Reading the configuration again: everything that can fail comes first, so that a broken file
//! changes nothing; then what is different is applied.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use tracing::{error, info, warn};

use super::{
    Error, anchors,
    changes::{Change, changes, in_force},
    running::{Running, replace_certificate},
    systemd,
};
use crate::{
    access::Access,
    config::{self, Settings},
    upstream::Upstreams,
};

/// What a change of settings needs, made and not yet in use.
struct Prepared {
    settings: Settings,
    changes: Vec<Change>,
    upstreams: Option<Upstreams>,
    certificate: Option<Arc<CertifiedKey>>,
}

impl Running<'_> {
    /// Reads the configuration again and says what changed. A broken one changes nothing, and the
    /// error says why; both are also in the log.
    pub(super) fn reload(&mut self) -> Result<String, String> {
        systemd::reloading();
        let prepared = config::load(self.options, &self.surroundings)
            .map_err(Error::from)
            .and_then(|settings| self.prepare(settings));
        let outcome = match prepared {
            Ok(prepared) => Ok(self.apply(prepared)),
            Err(error) => {
                error!("the configuration stays as it was: {error}");
                Err(error.to_string())
            }
        };
        systemd::ready();
        outcome
    }

    fn prepare(&mut self, settings: Settings) -> Result<Prepared, Error> {
        let (settings, changes) = {
            let current = self.settings.borrow();
            let changes = changes(&current, &settings);
            (in_force(&current, settings), changes)
        };
        anchors::check(&settings)?;
        let upstreams = changes
            .contains(&Change::Upstreams)
            .then(|| Upstreams::new(&settings.upstream)?.under(self.clock.gate()))
            .transpose()?;
        // The last: what it reads is in the keeper's books from here on.
        let certificate = match &mut self.keeper {
            Some(keeper) => Some(keeper.apply(&settings)?),
            None => None,
        };
        Ok(Prepared {
            settings,
            changes,
            upstreams,
            certificate,
        })
    }

    /// Cannot fail. Says what changed, for people.
    fn apply(&mut self, prepared: Prepared) -> String {
        let Prepared {
            settings,
            changes,
            upstreams,
            certificate,
        } = prepared;
        if let Some(key) = certificate {
            replace_certificate(&self.parts.listeners, key);
        }
        if let Some(upstreams) = upstreams {
            let share = self.descriptors.share(&settings);
            let upstreams = upstreams.with_udp_sockets_max(share.udp_sockets_max);
            self.upstreams.send_replace(Arc::new(upstreams));
        }
        for change in &changes {
            match change {
                Change::Access => {
                    let access = Access::new(settings.access.clone());
                    self.parts.resolver.access.store(Arc::new(access));
                }
                Change::CacheTimes => self.parts.resolver.apply_cache_settings(settings.cache),
                Change::Names => self.parts.resolver.apply_names(settings.names.clone()),
                Change::Opens(_) | Change::Closes(_) | Change::DohPath => {
                    warn!("[listen] changed; this takes effect when truename is started again");
                }
                Change::CacheSize | Change::Log | Change::Restart(_) => {
                    warn!("{change} changed; this takes effect when truename is started again");
                }
                // The certificate and the upstreams are in use already; the keeper of trust
                // anchors follows the settings.
                Change::Certificate | Change::Upstreams | Change::Dnssec => {}
            }
        }
        let told = if changes.is_empty() {
            "no changes".to_owned()
        } else {
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            changes.join(", ")
        };
        info!(changes = told, "the configuration was read again");
        self.settings.send_replace(Arc::new(settings));
        told
    }
}
