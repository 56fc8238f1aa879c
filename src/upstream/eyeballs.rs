//! In which order the addresses of an upstream are tried (RFC 8305, "Happy Eyeballs").

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long one address may be silent before the next is tried beside it (RFC 8305, section 5).
pub(super) const ADDRESS_STAGGER: Duration = Duration::from_millis(250);

/// The address that worked last on the present network, if any did.
#[derive(Debug, Default)]
pub(super) struct Winner(Mutex<Option<SocketAddr>>);

impl Winner {
    /// `address` works here.
    pub(super) fn set(&self, address: SocketAddr) {
        *self.lock() = Some(address);
    }

    /// The network is another one: what worked on the old says nothing about it.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    /// Whether `address` is the one that worked last.
    pub(super) fn is(&self, address: SocketAddr) -> bool {
        *self.lock() == Some(address)
    }

    /// `addresses` in the order in which to try them: the winner first, or an IPv6 address while
    /// there is none; then the families by turns, each in the order given (RFC 8305, section 4).
    pub(super) fn order(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let winner = self.lock().filter(|winner| addresses.contains(winner));
        let (ipv6, ipv4): (Vec<_>, Vec<_>) = addresses
            .iter()
            .copied()
            .filter(|address| Some(*address) != winner)
            .partition(SocketAddr::is_ipv6);
        // After the winner comes the other family: what ails one often ails all of its family.
        let ipv4_next = winner.is_some_and(|winner| winner.is_ipv6());
        let (mut next, mut other) = if ipv4_next {
            (ipv4.into_iter(), ipv6.into_iter())
        } else {
            (ipv6.into_iter(), ipv4.into_iter())
        };
        let mut order: Vec<SocketAddr> = winner.into_iter().collect();
        while order.len() < addresses.len() {
            // The same address may be given twice; then there are fewer than it seems.
            let (one, another) = (next.next(), other.next());
            if one.is_none() && another.is_none() {
                break;
            }
            order.extend(one);
            order.extend(another);
        }
        order
    }

    fn lock(&self) -> MutexGuard<'_, Option<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        let port = |text: &&str| SocketAddr::new(text.parse().unwrap(), 53);
        texts.iter().map(port).collect()
    }

    #[test]
    fn families_take_turns_from_ipv6_on() {
        let winner = Winner::default();
        let given = addresses(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"]);
        let expected = addresses(&["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        assert_eq!(winner.order(&given), expected);
        let only = addresses(&["192.0.2.2", "192.0.2.1"]);
        assert_eq!(winner.order(&only), only);
        assert_eq!(winner.order(&[]), []);
    }

    #[test]
    fn the_winner_comes_first_until_it_is_forgotten() {
        let winner = Winner::default();
        let given = addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]);
        let unknown = winner.order(&given);
        winner.set(given[1]);
        assert!(winner.is(given[1]) && !winner.is(given[0]));
        let expected = addresses(&["192.0.2.2", "2001:db8::1", "192.0.2.1", "2001:db8::2"]);
        assert_eq!(winner.order(&given), expected);
        winner.set(given[3]);
        let expected = addresses(&["2001:db8::2", "192.0.2.1", "2001:db8::1", "192.0.2.2"]);
        assert_eq!(winner.order(&given), expected);
        winner.forget();
        assert_eq!(winner.order(&given), unknown);
        // An address that the upstream no longer has is no winner.
        winner.set("192.0.2.9:53".parse().unwrap());
        assert_eq!(winner.order(&given), unknown);
    }

    #[test]
    fn an_address_given_twice_ends_no_less() {
        let winner = Winner::default();
        let given = addresses(&["192.0.2.1", "192.0.2.1", "2001:db8::1"]);
        winner.set(given[0]);
        assert_eq!(winner.order(&given).len(), 2);
    }
}
