//! File descriptors: as many as the system gives, shared out before anything takes one, so that
//! clients who hold connections cannot take those that upstreams need.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::{config::Settings, handler::Transport, upstream::UDP_SOCKETS_MAX};

/// What the process has open in any case: standard streams, signals, the log, certificate files
/// while they are read.
const PROCESS: usize = 32;
/// What each worker's runtime has open.
const RUNTIME: usize = 8;
/// Connections to one upstream that a worker may have open at once: to each of its addresses, old
/// ones beside fresh ones.
const UPSTREAM_CONNECTIONS: usize = 8;
/// What is assumed where the system does not say: the usual limit of old.
const LIMIT_UNKNOWN: usize = 1024;

/// Raises the limit of open files as far as the process may, and says what it is then.
pub(super) fn raise_limit() -> usize {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    match raised {
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(error) => {
            warn!(%error, "cannot raise the limit of open files");
            getrlimit(Resource::RLIMIT_NOFILE).map_or(LIMIT_UNKNOWN, |(soft, _)| {
                usize::try_from(soft).unwrap_or(usize::MAX)
            })
        }
    }
}

/// What there is to share out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptors {
    /// Open files the process may have.
    pub(super) limit: usize,
    /// Workers that share them.
    pub(super) workers: usize,
}

/// Who may have how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Connections of clients.
    pub(super) connections_max: usize,
    /// Sockets of one worker towards one upstream on plain UDP.
    pub(super) udp_sockets_max: usize,
}

impl Descriptors {
    /// Shares out for these settings, and says so when it is less than was meant to be.
    pub(super) fn share(self, settings: &Settings) -> Share {
        let listen = &settings.listen;
        let pairs = listen.dns.len() + listen.doh.len();
        let sockets = 2 * pairs + listen.dot.len() + listen.doq.len();
        // The main thread has a copy of each, for a worker that has to be started anew.
        let listeners = 2 * sockets;
        let upstreams = &settings.upstream.upstreams;
        let plain = upstreams
            .iter()
            .filter(|upstream| upstream.transport == Transport::Udp)
            .count();
        let share = self.divide(listeners, upstreams.len(), plain, listen.connections_max);
        if share.connections_max < listen.connections_max {
            warn!(
                limit = self.limit,
                connections = share.connections_max,
                "few open files are allowed, so fewer clients may be connected at once; raise \
                 LimitNOFILE of the service or `ulimit -Hn`"
            );
        }
        share
    }

    /// Upstream sockets come first, as far as they leave half; of the rest connections get half,
    /// since one that made room for another has its descriptor until its task has run.
    fn divide(
        self,
        listeners: usize,
        upstreams: usize,
        plain: usize,
        connections_wanted: usize,
    ) -> Share {
        let each_worker = RUNTIME + listeners + UPSTREAM_CONNECTIONS * upstreams;
        let fixed = PROCESS + self.workers * each_worker;
        let free = self.limit.saturating_sub(fixed);
        let sharers = self.workers * plain;
        let udp_sockets_max = (free / 2)
            .checked_div(sharers)
            .unwrap_or(UDP_SOCKETS_MAX)
            .clamp(1, UDP_SOCKETS_MAX);
        let rest = free.saturating_sub(udp_sockets_max * sharers);
        Share {
            connections_max: (rest / 2).clamp(1, connections_wanted.max(1)),
            udp_sockets_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divide(limit: usize, workers: usize, plain: usize) -> Share {
        Descriptors { limit, workers }.divide(10, 2, plain, 4096)
    }

    #[test]
    fn a_modern_limit_changes_nothing() {
        let share = divide(524_288, 16, 2);
        let full = Share {
            connections_max: 4096,
            udp_sockets_max: UDP_SOCKETS_MAX,
        };
        assert_eq!(share, full);
    }

    #[test]
    fn all_together_never_need_more_than_a_small_limit() {
        for workers in [1, 2, 4, 8] {
            for plain in [0, 1, 2] {
                let share = divide(1024, workers, plain);
                let each_worker = 8 + 10 + 2 * 8 + plain * share.udp_sockets_max;
                let most = 32 + workers * each_worker + share.connections_max;
                assert!(most <= 1024, "{workers} {plain}: {share:?}");
                assert!(share.connections_max > 100, "{workers} {plain}: {share:?}");
            }
        }
    }

    #[test]
    fn a_limit_too_small_for_anything_still_leaves_something_to_everybody() {
        let share = divide(64, 4, 2);
        assert_eq!((share.connections_max, share.udp_sockets_max), (1, 1));
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be() {
        let limit = raise_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((soft, usize::try_from(hard).unwrap()), (hard, limit));
    }
}
