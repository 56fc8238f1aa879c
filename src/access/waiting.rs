//! How many queries wait for an upstream at once, in all and for one client.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Queries of one client that wait at once. A client that asks more within the time an upstream
/// takes is not a person; held back and let go together they would be a weapon (DNSBomb,
/// CVE-2024-33655). Loopback is exempt: every program of the machine is one client there.
const PER_CLIENT_MAX: u32 = 200;
/// Queries that wait at once in all. Each costs about 2 KiB, its connection's share included.
const WAITING_MAX: usize = 10_000;

/// The waiting room.
#[derive(Debug, Default)]
pub struct Waiting {
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    taken: usize,
    by_client: HashMap<IpAddr, u32>,
}

/// One query's place; dropping it makes room.
#[derive(Debug)]
pub struct Place {
    room: Arc<Waiting>,
    client: IpAddr,
}

impl Waiting {
    /// Takes a place for a query of `client`.
    ///
    /// # Errors
    /// The name of the bound that is reached.
    pub fn enter(self: &Arc<Self>, client: IpAddr) -> Result<Place, &'static str> {
        let client = one_client(client);
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if seats.taken >= WAITING_MAX {
            return Err("too many queries are waiting for upstreams");
        }
        if !client.is_loopback() {
            let count = seats.by_client.entry(client).or_default();
            if *count >= PER_CLIENT_MAX {
                return Err("too many queries of this client are waiting for upstreams");
            }
            *count += 1;
        }
        seats.taken += 1;
        Ok(Place {
            room: Arc::clone(self),
            client,
        })
    }

    /// How many queries wait now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .taken
    }
}

/// What counts as one client: an IPv4 address, an IPv6 /64, which is what one host is given.
fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into()
        }
        other => other,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut seats = self
            .room
            .seats
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        seats.taken = seats.taken.saturating_sub(1);
        if let Some(count) = seats.by_client.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                seats.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_waits_two_hundred_times_and_makes_room_when_done() {
        let room = Arc::new(Waiting::default());
        let client = IpAddr::from([192, 168, 1, 2]);
        let mut places: Vec<Place> = (0..200).map(|_| room.enter(client).unwrap()).collect();
        assert!(room.enter(client).is_err());
        assert!(room.enter(IpAddr::from([192, 168, 1, 3])).is_ok());
        places.pop();
        assert!(room.enter(client).is_ok());
        places.clear();
        assert_eq!(room.count(), 0);
        assert!(room.seats.lock().unwrap().by_client.is_empty());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_client() {
        let room = Arc::new(Waiting::default());
        let address = |host: u16| IpAddr::from([0xfd00, 0, 0, 1, 0, 0, 0, host]);
        let places: Vec<_> = (0..200)
            .map(|host| room.enter(address(host)).unwrap())
            .collect();
        assert!(room.enter(address(999)).is_err());
        assert!(
            room.enter(IpAddr::from([0xfd00_u16, 0, 0, 2, 0, 0, 0, 1]))
                .is_ok()
        );
        drop(places);
    }

    #[test]
    fn loopback_is_bounded_by_the_whole_only() {
        let room = Arc::new(Waiting::default());
        let client = IpAddr::from([127, 0, 0, 1]);
        let places: Vec<_> = (0..WAITING_MAX)
            .map(|_| room.enter(client).unwrap())
            .collect();
        assert!(room.enter(client).is_err());
        drop(places);
        assert_eq!(room.count(), 0);
    }
}
