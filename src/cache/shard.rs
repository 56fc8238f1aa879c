//! One shard: a table of entry numbers, the entries, and the hand that evicts.

use hashbrown::HashTable;

use super::entry::{Entry, Stored};

/// Octets an entry costs beside its own: its place in the shard, its number in the table at usual
/// load, and the allocator's header and rounding.
const ENTRY_OVERHEAD_OCTETS: usize = 48;

/// A part of the cache under one lock.
///
/// Eviction is CLOCK with a second chance: reading sets a mark and writes nothing else, and the
/// hand takes the first entry it finds unmarked. Names in use survive a flood of names asked once
/// (CacheFlush), which a plain LRU list does not achieve, and a hit touches no neighbours' links.
#[derive(Debug)]
pub(super) struct Shard {
    table: HashTable<u32>,
    slots: Vec<Option<Stored>>,
    free: Vec<u32>,
    hand: usize,
    octets: usize,
    octets_max: usize,
}

impl Shard {
    pub(super) fn new(octets_max: usize) -> Self {
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            octets: 0,
            octets_max,
        }
    }

    /// Holds so many octets from now on.
    pub(super) fn resize(&mut self, octets_max: usize, rehash: impl Fn(&[u8]) -> u64) {
        self.octets_max = octets_max;
        while self.octets > octets_max && self.evict(&rehash) {}
    }

    /// The entry under `key`, marked as read.
    pub(super) fn read(&mut self, hash: u64, key: &[u8]) -> Option<Entry<'_>> {
        let number = self.find(hash, key)?;
        let stored = slot_mut(&mut self.slots, number)?;
        stored.visit();
        Some(stored.entry())
    }

    /// The entry under `key` to be marked, not counted as read.
    pub(super) fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Stored> {
        let number = self.find(hash, key)?;
        slot_mut(&mut self.slots, number)
    }

    /// Stores an entry in place of any other under its key, and evicts what no longer fits.
    pub(super) fn insert(&mut self, hash: u64, stored: Stored, rehash: impl Fn(&[u8]) -> u64) {
        self.remove(hash, stored.entry().key());
        let cost = cost(&stored);
        if cost > self.octets_max {
            return;
        }
        while self.octets + cost > self.octets_max && self.evict(&rehash) {}
        let number = match self.free.pop() {
            Some(number) => number,
            None => match u32::try_from(self.slots.len()) {
                Ok(number) => {
                    self.slots.push(None);
                    number
                }
                Err(_) => return,
            },
        };
        if let Some(slot) = usize::try_from(number)
            .ok()
            .and_then(|at| self.slots.get_mut(at))
        {
            *slot = Some(stored);
        }
        self.octets += cost;
        let slots = &self.slots;
        self.table
            .insert_unique(hash, number, |&number| rehash(key_of(slots, number)));
    }

    /// Removes the entry under `key`.
    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) {
        let slots = &self.slots;
        let Ok(occupied) = self
            .table
            .find_entry(hash, |&number| key_of(slots, number) == key)
        else {
            return;
        };
        let (number, _) = occupied.remove();
        self.release(number);
    }

    /// Removes every entry for which `keep` says no.
    pub(super) fn retain(
        &mut self,
        keep: impl Fn(Entry<'_>) -> bool,
        rehash: impl Fn(&[u8]) -> u64,
    ) {
        for at in 0..self.slots.len() {
            let Some(Some(stored)) = self.slots.get(at) else {
                continue;
            };
            if !keep(stored.entry()) {
                let key = stored.entry().key().to_vec();
                self.remove(rehash(&key), &key);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.slots.iter().flatten().map(Stored::entry)
    }

    /// The first entry at or behind the place `at`, and its place.
    pub(super) fn entry_from(&self, at: usize) -> Option<(usize, Entry<'_>)> {
        let slots = self.slots.iter().enumerate().skip(at);
        let mut entries = slots.filter_map(|(at, slot)| Some((at, slot.as_ref()?.entry())));
        entries.next()
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.table
            .find(hash, |&number| key_of(&self.slots, number) == key)
            .copied()
    }

    /// Moves the hand to an entry that was not read since it last passed, and removes that one;
    /// whether there was any entry to remove. Two turns suffice: the first clears every mark.
    fn evict(&mut self, rehash: &impl Fn(&[u8]) -> u64) -> bool {
        for _ in 0..=2 * self.slots.len() {
            let at = self.hand;
            self.hand = if at + 1 < self.slots.len() { at + 1 } else { 0 };
            let Some(Some(stored)) = self.slots.get_mut(at) else {
                continue;
            };
            if stored.take_visit() {
                continue;
            }
            let hash = rehash(stored.entry().key());
            if let Ok(occupied) = self
                .table
                .find_entry(hash, |&number| usize::try_from(number) == Ok(at))
            {
                let (number, _) = occupied.remove();
                self.release(number);
                return true;
            }
        }
        false
    }

    fn release(&mut self, number: u32) {
        let slot = usize::try_from(number)
            .ok()
            .and_then(|at| self.slots.get_mut(at));
        if let Some(stored) = slot.and_then(Option::take) {
            self.octets = self.octets.saturating_sub(cost(&stored));
            self.free.push(number);
        }
    }
}

fn cost(stored: &Stored) -> usize {
    stored.octets() + ENTRY_OVERHEAD_OCTETS
}

fn slot_mut(slots: &mut [Option<Stored>], number: u32) -> Option<&mut Stored> {
    slots.get_mut(usize::try_from(number).ok()?)?.as_mut()
}

fn key_of(slots: &[Option<Stored>], number: u32) -> &[u8] {
    usize::try_from(number)
        .ok()
        .and_then(|at| slots.get(at))
        .and_then(Option::as_ref)
        .map_or(&[], |stored| stored.entry().key())
}
