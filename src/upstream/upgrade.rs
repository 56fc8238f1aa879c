//! DoH over HTTP/3 where an upstream that is asked over HTTP/2 offers it (RFC 7838, RFC 9114).
//!
//! An offer is taken only for the same host, so that address, name and certificate rules stay as
//! they were; what changes is the way of travelling. Where that way does not lead anywhere, since
//! many networks let no UDP through, it is left alone for a while, longer each time.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, header};

/// An offer that names no time is good for so long (RFC 7838, section 3.1).
const OFFER_S: u64 = 24 * 60 * 60;
/// The longest that an offer is believed; it is renewed with each answer over HTTP/2.
const OFFER_MAX_S: u64 = 30 * OFFER_S;
/// How long HTTP/3 is left alone when it failed.
const ABANDONED_MIN: Duration = Duration::from_secs(60);
/// The longest that it is left alone; each failure after a time doubles it.
const ABANDONED_MAX: Duration = Duration::from_secs(60 * 60);

/// What is known of HTTP/3 at one upstream, shared by all workers.
#[derive(Debug, Default)]
pub(super) struct Upgrade {
    state: Mutex<State>,
    /// Whether an answer came over HTTP/3 on this network, and nothing has failed since.
    proven: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The port, and until when the offer is good.
    offer: Option<(u16, Instant)>,
    /// Set once HTTP/3 failed: until when it is left alone, and how long that was.
    abandoned: Option<(Instant, Duration)>,
}

impl Upgrade {
    /// Takes note of what the headers of an answer offer.
    pub(super) fn learn(&self, headers: &HeaderMap, now: Instant) {
        let values = headers.get_all(header::ALT_SVC).iter();
        let offer = values.filter_map(|it| it.to_str().ok()).find_map(offered);
        match offer {
            Some(Offer::Http3 { port, seconds }) => {
                self.lock().offer = now
                    .checked_add(Duration::from_secs(seconds.min(OFFER_MAX_S)))
                    .map(|until| (port, until));
            }
            Some(Offer::Clear) => self.lock().offer = None,
            None => {}
        }
    }

    /// The port at which to try HTTP/3 now, if it is to be tried.
    pub(super) fn port(&self, now: Instant) -> Option<u16> {
        let state = self.lock();
        if state.abandoned.is_some_and(|(until, _)| now < until) {
            return None;
        }
        let (port, until) = state.offer?;
        (now < until).then_some(port)
    }

    /// Whether answers come over HTTP/3 at present.
    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// An answer came over HTTP/3.
    pub(super) fn works(&self) {
        if !self.proven.swap(true, Ordering::Relaxed) {
            self.lock().abandoned = None;
        }
    }

    /// What was believed of HTTP/3 may be wrong: it must prove itself again.
    pub(super) fn doubt(&self) {
        self.proven.store(false, Ordering::Relaxed);
    }

    /// HTTP/3 did not work where HTTP/2 did. What fails while it is left alone began before.
    pub(super) fn failed(&self, now: Instant) {
        self.doubt();
        let mut state = self.lock();
        let time = match state.abandoned {
            None => ABANDONED_MIN,
            Some((until, time)) if now >= until => (time * 2).min(ABANDONED_MAX),
            Some(_) => return,
        };
        state.abandoned = Some((now + time, time));
        drop(state);
        tracing::debug!(seconds = time.as_secs(), "HTTP/3 does not work; left alone");
    }

    /// Another network may let through what the last one did not; and offers are for clients on the
    /// network on which they were made (RFC 7838, section 2.2).
    pub(super) fn network_changed(&self) {
        self.doubt();
        *self.lock() = State::default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an `alt-svc` header says about HTTP/3.
#[derive(Debug, PartialEq, Eq)]
enum Offer {
    /// Nothing said before holds.
    Clear,
    /// It is spoken at this port of the same host, for so long.
    Http3 { port: u16, seconds: u64 },
}

/// Reads the value of an `alt-svc` header (RFC 7838, section 3). Other protocols and other hosts
/// are passed over.
fn offered(value: &str) -> Option<Offer> {
    if value.trim() == "clear" {
        return Some(Offer::Clear);
    }
    value.split(',').find_map(|alternative| {
        let mut parts = alternative.split(';').map(str::trim);
        let authority = parts.next()?.strip_prefix("h3=")?;
        let host_and_port = authority.strip_prefix('"')?.strip_suffix('"')?;
        let port: u16 = host_and_port.strip_prefix(':')?.parse().ok()?;
        let seconds = parts
            .filter_map(|parameter| parameter.strip_prefix("ma="))
            .map(|seconds| seconds.trim_matches('"').parse().unwrap_or(OFFER_S))
            .next()
            .unwrap_or(OFFER_S);
        Some(if port == 0 || seconds == 0 {
            Offer::Clear
        } else {
            Offer::Http3 { port, seconds }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ALT_SVC, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_http3_at_the_same_host_is_an_offer() {
        let http3 = |port, seconds| Some(Offer::Http3 { port, seconds });
        for (value, expected) in [
            ("h3=\":443\"; ma=86400", http3(443, 86_400)),
            ("h3=\":8443\"", http3(8443, OFFER_S)),
            (
                "h2=\":443\"; ma=1, h3=\":444\"; ma=2; persist=1",
                http3(444, 2),
            ),
            ("h3-29=\":443\", h3=\":443\";ma=\"5\"", http3(443, 5)),
            ("h3=\":443\"; ma=soon", http3(443, OFFER_S)),
            ("clear", Some(Offer::Clear)),
            ("h3=\":443\"; ma=0", Some(Offer::Clear)),
            ("h3=\":0\"", Some(Offer::Clear)),
            ("h3=\"elsewhere.test:443\"", None),
            ("h3=\":99999\"", None),
            ("h3=:443", None),
            ("h3=\"", None),
            ("h2=\":443\"", None),
            ("", None),
            (",;,;=", None),
        ] {
            assert_eq!(offered(value), expected, "{value:?}");
        }
    }

    #[test]
    fn an_offer_ends_with_its_time_or_when_it_is_withdrawn() {
        let now = clock::instant();
        let upgrade = Upgrade::default();
        assert_eq!(upgrade.port(now), None);
        upgrade.learn(&headers("h3=\":443\"; ma=60"), now);
        assert_eq!(upgrade.port(now), Some(443));
        assert_eq!(upgrade.port(now + Duration::from_secs(60)), None);
        // An answer that says nothing withdraws nothing.
        upgrade.learn(&HeaderMap::new(), now);
        assert_eq!(upgrade.port(now), Some(443));
        upgrade.learn(&headers("clear"), now);
        assert_eq!(upgrade.port(now), None);
        upgrade.learn(&headers("h3=\":443\"; ma=18446744073709551615"), now);
        assert_eq!(upgrade.port(now), Some(443));
    }

    #[test]
    fn what_fails_is_left_alone_from_a_minute_up_to_an_hour() {
        let mut now = clock::instant();
        let upgrade = Upgrade::default();
        upgrade.learn(&headers("h3=\":443\"; ma=1000000"), now);
        for expected_min in [1, 2, 4, 8, 16, 32, 60, 60] {
            upgrade.failed(now);
            // More failures of the same time do not lengthen it.
            upgrade.failed(now);
            let expected = Duration::from_secs(60 * expected_min);
            assert_eq!(upgrade.port(now + expected.mul_f64(0.999)), None);
            now += expected;
            assert_eq!(upgrade.port(now), Some(443));
        }
        upgrade.works();
        assert!(upgrade.is_proven());
        upgrade.failed(now);
        assert!(!upgrade.is_proven());
        assert_eq!(upgrade.port(now + ABANDONED_MIN), Some(443));
    }

    #[test]
    fn another_network_begins_anew() {
        let now = clock::instant();
        let upgrade = Upgrade::default();
        upgrade.learn(&headers("h3=\":443\""), now);
        upgrade.works();
        upgrade.failed(now);
        upgrade.network_changed();
        assert!(!upgrade.is_proven());
        assert_eq!(upgrade.port(now), None, "offers are of one network");
        upgrade.learn(&headers("h3=\":443\""), now);
        assert_eq!(upgrade.port(now), Some(443), "what failed failed there");
    }
}
