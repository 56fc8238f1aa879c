//! Where an upstream is: written down, or to be found out.

use std::{net::SocketAddr, sync::Arc};

use super::{Settings, bootstrap::Finder, error::Failure};
use crate::wire::Name;

/// The addresses of one upstream, shared by all workers.
#[derive(Clone)]
pub(super) enum Addresses {
    /// Known from the configuration or the catalogue.
    Fixed(Arc<[SocketAddr]>),
    /// Those of a host name.
    Found(Arc<Finder>),
}

impl Addresses {
    /// The addresses that are known now, in the order in which to try them; none while a host name
    /// was not found yet.
    pub(super) fn current(&self) -> Vec<SocketAddr> {
        match self {
            Self::Fixed(addresses) => addresses.to_vec(),
            Self::Found(finder) => finder.current(),
        }
    }

    /// No connection could be made to any of them: those of a host name are soon looked up again.
    pub(super) fn doubt(&self) {
        if let Self::Found(finder) = self {
            finder.doubt();
        }
    }

    /// Why a question for `name` cannot be put to this upstream: it is the host that is being looked
    /// up.
    pub(super) fn refuse(&self, name: &Name) -> Option<Failure> {
        match self {
            Self::Fixed(_) => None,
            Self::Found(finder) => finder.refuse(name),
        }
    }

    /// Whether the addresses would be found the same way among the upstreams of `all`.
    pub(super) fn are_found_by(&self, all: &Settings) -> bool {
        match self {
            Self::Fixed(_) => true,
            Self::Found(finder) => finder.is_guided_by(all),
        }
    }

    /// The network is another one: a host name may be looked up again at once.
    pub(super) fn network_changed(&self) {
        if let Self::Found(finder) = self {
            finder.network_changed();
        }
    }

    /// The addresses to connect to now. A host name is looked up when that is due, which takes a
    /// few seconds at most.
    ///
    /// # Errors
    /// [`Failure::LookUp`] when no address was ever found and none can be found now.
    pub(super) async fn resolve(&self) -> Result<Vec<SocketAddr>, Failure> {
        match self {
            Self::Fixed(addresses) => Ok(addresses.to_vec()),
            Self::Found(finder) => finder.resolve().await,
        }
    }
}

impl From<Vec<SocketAddr>> for Addresses {
    fn from(addresses: Vec<SocketAddr>) -> Self {
        Self::Fixed(addresses.into())
    }
}
