//! One shard: a table of entry numbers, the entries, and who has to go.

use hashbrown::HashTable;

use super::{
    entry::{Entry, Stored},
    ring::{Ring, cost},
};

/// Newcomers have one in so many octets: enough time for a name in use to be asked for again, and
/// little lost to names that are asked for once.
const NEWCOMERS_ONE_IN: usize = 10;
/// Regulars that the hand passes over to find one that was not read; then the next has to go, so that
/// the lock is held for a bounded time. Sixteen evict as well as any number (benches/eviction.rs).
const PASSES_MAX: u32 = 16;
/// One name that left is remembered for so many octets of the shard, about the size of an entry with
/// one address: as many as there are entries, for two octets each.
const OCTETS_PER_REMEMBERED: usize = 128;

/// A part of the cache under one lock.
///
/// Eviction is S3-FIFO in the main. A new entry is one of the newcomers, who leave in the order in
/// which they came: to the regulars if they were read meanwhile or there is room, or for good. Who left for
/// good is remembered for a while, and one of the regulars at once when it comes again. Among the
/// regulars a hand goes round and takes the first that was not read since it passed it last (CLOCK). So
/// names that are asked for once, however many (CacheFlush), only ever displace each other; and a hit
/// sets a mark and touches no neighbours' links, as a plain LRU list would.
#[derive(Debug)]
pub(super) struct Shard {
    table: HashTable<Seat>,
    newcomers: Ring,
    regulars: Ring,
    /// Marks of names that left, each in the cell of its hash; 0 is none. Empty until the first leaves.
    remembered: Box<[u16]>,
    octets_max: usize,
}

/// Where an entry is: its number in the upper bits, the ring in the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seat(u32);

impl Seat {
    /// Numbers are below this.
    const END: u32 = 1 << 31;
    const REGULAR: u32 = 1;

    fn newcomer(number: u32) -> Self {
        Self(number << 1)
    }

    fn regular(number: u32) -> Self {
        Self(number << 1 | Self::REGULAR)
    }

    fn is_regular(self) -> bool {
        self.0 & Self::REGULAR != 0
    }

    fn number(self) -> u32 {
        self.0 >> 1
    }
}

impl Shard {
    pub(super) fn new(octets_max: usize) -> Self {
        Self {
            table: HashTable::new(),
            newcomers: Ring::default(),
            regulars: Ring::default(),
            remembered: Box::default(),
            octets_max,
        }
    }

    /// Holds so many octets from now on.
    pub(super) fn resize(&mut self, octets_max: usize, rehash: impl Fn(&[u8]) -> u64) {
        self.octets_max = octets_max;
        self.remembered = Box::default();
        self.settle(None, &rehash);
    }

    /// The entry under `key`, marked as read.
    pub(super) fn read(&mut self, hash: u64, key: &[u8]) -> Option<Entry<'_>> {
        let stored = self.find_mut(hash, key)?;
        stored.visit();
        Some(stored.entry())
    }

    /// The entry under `key` to be marked, not counted as read.
    pub(super) fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Stored> {
        let place = *self.table.find(hash, |&place| self.key_of(place) == key)?;
        self.ring_mut(place).get_mut(place.number())
    }

    /// Stores an entry in place of any other under its key, and evicts what no longer fits.
    pub(super) fn insert(&mut self, hash: u64, stored: Stored, rehash: impl Fn(&[u8]) -> u64) {
        if cost(&stored) > self.octets_max {
            self.remove(hash, stored.entry().key());
            return;
        }
        let key = stored.entry().key();
        let found = self.table.find(hash, |&place| self.key_of(place) == key);
        let mut latest = None;
        if let Some(&place) = found {
            self.ring_mut(place).replace(place.number(), stored);
        } else {
            let place = if self.recall(hash) {
                self.regulars.put(stored, Seat::END).map(Seat::regular)
            } else {
                self.newcomers.put(stored, Seat::END).map(Seat::newcomer)
            };
            let Some(place) = place else {
                return;
            };
            latest = Some(place);
            let (newcomers, regulars) = (&self.newcomers, &self.regulars);
            self.table.insert_unique(hash, place, |&place| {
                rehash(key_of(newcomers, regulars, place))
            });
        }
        self.settle(latest, &rehash);
    }

    /// Removes the entry under `key`.
    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) {
        let (newcomers, regulars) = (&self.newcomers, &self.regulars);
        let found = self
            .table
            .find_entry(hash, |&place| key_of(newcomers, regulars, place) == key);
        if let Ok(occupied) = found {
            let (place, _) = occupied.remove();
            self.ring_mut(place).take(place.number());
        }
    }

    /// Removes every entry for which `keep` says no.
    pub(super) fn retain(
        &mut self,
        keep: impl Fn(Entry<'_>) -> bool,
        rehash: impl Fn(&[u8]) -> u64,
    ) {
        let mut at = 0;
        while let Some((found, entry)) = self.entry_from(at) {
            if !keep(entry) {
                let key = entry.key().to_vec();
                self.remove(rehash(&key), &key);
            }
            at = found + 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn octets(&self) -> usize {
        self.newcomers.octets() + self.regulars.octets()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let slots = self.regulars.slots().iter().chain(self.newcomers.slots());
        slots.flatten().map(Stored::entry)
    }

    /// The first entry at or behind the place `at`, and its place.
    pub(super) fn entry_from(&self, at: usize) -> Option<(usize, Entry<'_>)> {
        let slots = self.regulars.slots().iter().chain(self.newcomers.slots());
        let slots = slots.enumerate().skip(at);
        let mut entries = slots.filter_map(|(at, slot)| Some((at, slot.as_ref()?.entry())));
        entries.next()
    }

    /// Makes newcomers and regulars keep to their shares. The latest to come stays, however large and
    /// wherever the hand is.
    fn settle(&mut self, latest: Option<Seat>, rehash: &impl Fn(&[u8]) -> u64) {
        while self.newcomers.len() > 1 && self.newcomers.octets() > self.newcomers_octets_max() {
            self.judge_newcomer(latest, rehash);
        }
        while self.octets() > self.octets_max || self.regulars.octets() > self.regulars_octets_max()
        {
            if !self.evict_regular(latest, rehash) && !self.judge_newcomer(latest, rehash) {
                return;
            }
        }
    }

    fn newcomers_octets_max(&self) -> usize {
        self.octets_max / NEWCOMERS_ONE_IN
    }

    fn regulars_octets_max(&self) -> usize {
        self.octets_max - self.newcomers_octets_max()
    }

    /// Lets the newcomer who came first be one of the regulars, if it was read or there is room, or go;
    /// whether there was any but the latest.
    fn judge_newcomer(&mut self, latest: Option<Seat>, rehash: &impl Fn(&[u8]) -> u64) -> bool {
        let is_latest = |number| latest == Some(Seat::newcomer(number));
        let Some((number, was_read)) = self.newcomers.pass_but(is_latest) else {
            return false;
        };
        let Some(stored) = self.newcomers.take(number) else {
            return false;
        };
        let room = self.regulars_octets_max();
        let stays = was_read || self.regulars.octets() + cost(&stored) <= room;
        let hash = rehash(stored.entry().key());
        let Ok(mut occupied) = self
            .table
            .find_entry(hash, |&place| place == Seat::newcomer(number))
        else {
            return true;
        };
        if stays && let Some(number) = self.regulars.put(stored, Seat::END) {
            *occupied.get_mut() = Seat::regular(number);
            return true;
        }
        occupied.remove();
        self.remember(hash);
        true
    }

    /// Removes one of the regulars; whether there was any but the latest.
    fn evict_regular(&mut self, latest: Option<Seat>, rehash: &impl Fn(&[u8]) -> u64) -> bool {
        let is_latest = |number| latest == Some(Seat::regular(number));
        let mut passes = 0;
        while let Some((number, was_read)) = self.regulars.pass_but(is_latest) {
            if was_read && passes < PASSES_MAX {
                passes += 1;
                continue;
            }
            if let Some(stored) = self.regulars.take(number) {
                let hash = rehash(stored.entry().key());
                let found = self
                    .table
                    .find_entry(hash, |&place| place == Seat::regular(number));
                if let Ok(occupied) = found {
                    occupied.remove();
                }
            }
            return true;
        }
        false
    }

    /// Remembers that the name of that hash left.
    fn remember(&mut self, hash: u64) {
        if self.remembered.is_empty() {
            let cells = self.octets_max / OCTETS_PER_REMEMBERED;
            self.remembered = vec![0; cells.max(1)].into_boxed_slice();
        }
        if let Some((cell, mark)) = self.cell(hash) {
            *cell = mark;
        }
    }

    /// Whether the name of that hash left not long ago; it is not remembered any longer. A wrong yes,
    /// which a name in 65,535 gets, makes a newcomer stay for one turn of the hand.
    fn recall(&mut self, hash: u64) -> bool {
        self.cell(hash)
            .is_some_and(|(cell, mark)| *cell == mark && std::mem::take(cell) != 0)
    }

    /// The cell for a hash, and its mark there.
    fn cell(&mut self, hash: u64) -> Option<(&mut u16, u16)> {
        let [low, high, ..] = hash.to_le_bytes();
        let cells = u64::try_from(self.remembered.len()).ok()?;
        let at = usize::try_from((hash >> 16).checked_rem(cells)?).ok()?;
        let mark = u16::from_le_bytes([low, high]).max(1);
        Some((self.remembered.get_mut(at)?, mark))
    }

    fn ring_mut(&mut self, place: Seat) -> &mut Ring {
        if place.is_regular() {
            &mut self.regulars
        } else {
            &mut self.newcomers
        }
    }

    fn key_of(&self, place: Seat) -> &[u8] {
        key_of(&self.newcomers, &self.regulars, place)
    }
}

fn key_of<'a>(newcomers: &'a Ring, regulars: &'a Ring, place: Seat) -> &'a [u8] {
    let ring = if place.is_regular() {
        regulars
    } else {
        newcomers
    };
    ring.get(place.number())
        .map_or(&[], |stored| stored.entry().key())
}
