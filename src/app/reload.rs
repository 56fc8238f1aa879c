//! Reading the configuration again: everything that can fail comes first, so that a broken file
//! changes nothing; then what is different is applied.

use std::{io, sync::Arc};

use rustls::sign::CertifiedKey;
use tracing::{error, info, warn};

use super::{
    Error, LastReload,
    anchors::Seeds,
    certificate::Keeper,
    changes::{Change, changes, in_force},
    descriptors::Share,
    receipt,
    running::{Running, replace_certificate},
    systemd,
};
use crate::{
    access::Access,
    clock,
    config::{self, Settings},
    listener::{Opened, Order, Place, addresses},
    net::server_tls::ServerTls,
    upstream::Upstreams,
};

/// What a change of settings needs, made and not yet in use.
struct Prepared {
    settings: Settings,
    changes: Vec<Change>,
    seeds: Seeds,
    share: Share,
    closed: Vec<Place>,
    opened: Vec<Opened>,
    /// One for each worker.
    orders: Vec<Order>,
    upstreams: Option<Upstreams>,
    certificate: Option<Certificate>,
}

/// What encrypted listeners are to show.
enum Certificate {
    /// Another than before.
    Other(Arc<CertifiedKey>),
    /// One for the first time.
    First(Keeper, ServerTls),
}

impl Running<'_> {
    /// Reads the configuration again and says what changed. A broken one changes nothing, and the
    /// error says why; both are also in the log.
    pub(super) fn reload(&mut self) -> Result<String, String> {
        systemd::reloading();
        let prepared = config::load(self.options, self.surroundings)
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
        self.last_reload.send_replace(Some(LastReload {
            at: clock::instant(),
            outcome: outcome.clone(),
        }));
        outcome
    }

    fn prepare(&mut self, mut settings: Settings) -> Result<Prepared, Error> {
        self.inherited.override_addresses(&mut settings.listen);
        let (settings, changes) = {
            let current = self.settings.borrow();
            let changes = changes(&current, &settings);
            (in_force(&current, settings), changes)
        };
        let seeds = Seeds::read(&settings)?;
        let share = self.descriptors.share(&settings);
        let upstreams = changes
            .contains(&Change::Upstreams)
            .then(|| self.make_upstreams(&settings, share))
            .transpose()?;
        let closed: Vec<Place> = changes.iter().filter_map(Change::closes).collect();
        let places: Vec<Place> = changes.iter().filter_map(Change::opens).collect();
        let opened = self.bound.open(&places, &closed, &self.inherited)?;
        let orders = (0..self.workers.count())
            .map(|worker| {
                let open = opened.iter().map(|opened| opened.share(worker));
                let open = open.collect::<io::Result<_>>()?;
                let close = closed.clone();
                Ok(Order { close, open })
            })
            .collect::<io::Result<Vec<Order>>>()?;
        let needs_one = settings.listen.needs_certificate();
        // The last: what it reads is in the keeper's books from here on.
        let certificate = match &mut self.keeper {
            Some(keeper) if needs_one => Some(Certificate::Other(keeper.apply(&settings)?)),
            None if needs_one => {
                let (keeper, key) = Keeper::start(&settings, self.clock.gate())?;
                Some(Certificate::First(keeper, ServerTls::new(key)?))
            }
            _ => None,
        };
        Ok(Prepared {
            settings,
            changes,
            seeds,
            share,
            closed,
            opened,
            orders,
            upstreams,
            certificate,
        })
    }

    /// Cannot fail. Says what changed, for people.
    fn apply(&mut self, prepared: Prepared) -> String {
        let Prepared {
            settings,
            changes,
            seeds,
            share,
            closed,
            opened,
            orders,
            upstreams,
            certificate,
        } = prepared;
        match certificate {
            Some(Certificate::Other(key)) => replace_certificate(&self.parts.listeners, key),
            Some(Certificate::First(keeper, tls)) => {
                self.parts.listeners.install_tls(tls);
                self.keeper = Some(keeper);
            }
            None => {}
        }
        if let Some(upstreams) = upstreams {
            self.upstreams.send_replace(Arc::new(upstreams));
        }
        self.apply_listeners(&closed, opened, orders);
        let listeners = &self.parts.listeners;
        listeners.connections.apply_max(share.connections_max);
        for change in &changes {
            match change {
                Change::Access => {
                    let access = Access::new(settings.access.clone());
                    self.parts.resolver.access.store(Arc::new(access));
                }
                Change::CacheSize | Change::CacheTimes => {
                    self.parts.resolver.apply_cache_settings(settings.cache);
                }
                Change::Names => {
                    self.parts.resolver.apply_names(settings.names.clone());
                }
                Change::Log => self.log.apply(settings.log),
                Change::DohPath => listeners.apply_doh_path(&settings.listen.doh_path),
                Change::Restart(key) => {
                    warn!("{key} changed; this takes effect when truename is started again");
                }
                // Listeners, the certificate and the upstreams are in use already; the keeper of
                // trust anchors follows the settings.
                Change::Opens(_)
                | Change::Closes(_)
                | Change::Certificate
                | Change::Upstreams
                | Change::Dnssec => {}
            }
        }
        let told = if changes.is_empty() {
            "no changes".to_owned()
        } else {
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            changes.join(", ")
        };
        info!(changes = told, "the configuration was read again");
        self.files.apply(&settings);
        self.apply_seeds(seeds);
        self.settings.send_replace(Arc::new(settings));
        told
    }

    fn apply_listeners(&mut self, closed: &[Place], opened: Vec<Opened>, orders: Vec<Order>) {
        if closed.is_empty() && opened.is_empty() {
            return;
        }
        // Ours first, so that nobody connects to a listener that no worker serves any more.
        self.bound.remove(closed);
        self.workers.order(orders);
        receipt::listening(&addresses(&opened));
        self.bound.add(opened);
        self.listening.send_replace(self.bound.addresses());
    }
}
