//! Who may ask, how often, and how many questions of one client may wait.
//!
//! Knows networks, token buckets and `now`; nothing of what is asked. One check stands in front of
//! every listener, so that no transport is forgotten (dnsdist CVE-2026-24029 was such a gap).

mod settings;
mod waiting;

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;

pub use settings::{Network, Settings};
pub use waiting::{Place, Waiting};

/// Client prefixes whose rate is remembered; beyond it the one seen longest ago is forgotten.
const PREFIXES_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");
/// Seconds of its allowance that a client may use up at once. A page of a newspaper asks for a
/// hundred names in a second; a limit without a burst breaks it.
const BURST_S: u32 = 5;

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Ask.
    Granted,
    /// Nothing: its network is not allowed. It is told so.
    NotAllowed,
    /// Nothing now: it asked too often.
    TooOften,
}

/// The door all queries pass.
#[derive(Debug)]
pub struct Access {
    settings: Settings,
    buckets: Option<Mutex<LruCache<IpAddr, Bucket>>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Access {
    /// A door that follows the settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let limited = settings.rate_limit_per_s > 0;
        Self {
            settings,
            buckets: limited.then(|| Mutex::new(LruCache::new(PREFIXES_MAX))),
        }
    }

    /// Whether a client at `address` may ask anything at all.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let allowed = |network: &Network| network.contains(address);
        self.settings.allow.iter().any(allowed)
    }

    /// Whether a client at `address` may ask one more query at `now`. Loopback has no rate.
    pub fn admit(&self, address: IpAddr, now: Instant) -> Admission {
        if !self.allows(address) {
            return Admission::NotAllowed;
        }
        let address = address.to_canonical();
        match &self.buckets {
            Some(buckets) if !address.is_loopback() => self.take(buckets, address, now),
            _ => Admission::Granted,
        }
    }

    fn take(
        &self,
        buckets: &Mutex<LruCache<IpAddr, Bucket>>,
        address: IpAddr,
        now: Instant,
    ) -> Admission {
        let rate = f64::from(self.settings.rate_limit_per_s);
        let full = rate * f64::from(BURST_S);
        let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get_or_insert_mut(prefix(address), || Bucket {
            tokens: full,
            filled: now,
        });
        let since: Duration = now.saturating_duration_since(bucket.filled);
        bucket.tokens = (bucket.tokens + since.as_secs_f64() * rate).min(full);
        // One worker's turn may have begun before that of another that was here already.
        bucket.filled = bucket.filled.max(now);
        if bucket.tokens < 1.0 {
            return Admission::TooOften;
        }
        bucket.tokens -= 1.0;
        Admission::Granted
    }
}

/// The prefix that counts as one client: IPv4 /24, IPv6 /56.
fn prefix(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 72)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn access(allow: &[&str], rate_limit_per_s: u32) -> Access {
        Access::new(Settings {
            allow: allow
                .iter()
                .flat_map(|word| Network::parse(word).unwrap())
                .collect(),
            rate_limit_per_s,
        })
    }

    #[test]
    fn workers_whose_turns_began_at_different_times_share_one_rate() {
        let access = access(&["192.0.2.0/24"], 100);
        let now = clock::instant();
        let address = "192.0.2.1".parse().unwrap();
        let later = now + Duration::from_millis(10);
        let granted = (0..2_000)
            .filter(|turn| {
                let at = if turn % 2 == 0 { later } else { now };
                access.admit(address, at) == Admission::Granted
            })
            .count();
        let burst = 100 * usize::try_from(BURST_S).unwrap();
        assert!(granted <= burst + 1, "{granted}");
    }

    #[test]
    fn only_private_clients_may_ask_by_default() {
        let access = Access::new(Settings::default());
        let now = clock::instant();
        for granted in [
            "127.0.0.1",
            "::1",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.1.1",
            "fd00::1",
            "fe80::1",
            "::ffff:192.168.1.1",
            "100.64.0.1",
        ] {
            assert_eq!(
                access.admit(granted.parse().unwrap(), now),
                Admission::Granted,
                "{granted}"
            );
        }
        for refused in [
            "192.0.2.1",
            "172.32.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
            "11.0.0.1",
        ] {
            assert_eq!(
                access.admit(refused.parse().unwrap(), now),
                Admission::NotAllowed,
                "{refused}"
            );
        }
    }

    #[test]
    fn prefixes_are_compared_by_their_bits() {
        let now = clock::instant();
        let access = access(&["192.0.2.128/25", "2001:db8::/33", "198.51.100.7"], 0);
        let admit =
            |address: &str| access.admit(address.parse().unwrap(), now) == Admission::Granted;
        assert!(admit("192.0.2.200") && !admit("192.0.2.100"));
        assert!(admit("2001:db8:7fff::1") && !admit("2001:db8:8000::1"));
        assert!(admit("198.51.100.7") && !admit("198.51.100.8"));
        assert!(Network::parse("192.0.2.0/33").is_none());
        assert!(Network::parse("lan").is_none());
        assert!(Network::parse("0.0.0.0/0").unwrap()[0].contains("1.2.3.4".parse().unwrap()));
    }

    #[test]
    fn a_prefix_may_burst_and_then_keeps_its_rate() {
        let access = access(&["all"], 10);
        let start = clock::instant();
        let ask = |address: &str, after_ms| {
            access.admit(
                address.parse().unwrap(),
                start + Duration::from_millis(after_ms),
            )
        };
        for _ in 0..50 {
            assert_eq!(ask("192.0.2.1", 0), Admission::Granted);
        }
        assert_eq!(ask("192.0.2.77", 0), Admission::TooOften);
        assert_eq!(ask("192.0.3.1", 0), Admission::Granted);
        assert_eq!(ask("192.0.2.1", 101), Admission::Granted);
        assert_eq!(ask("192.0.2.1", 102), Admission::TooOften);
        for _ in 0..1000 {
            assert_eq!(ask("127.0.0.1", 0), Admission::Granted);
        }
    }
}
