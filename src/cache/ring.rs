//! Entries in a ring, and the hand that goes round.

use super::entry::Stored;

/// Octets an entry costs beside its own: its place in the ring, its number in the table at usual
/// load, what is remembered of one that left, and the allocator's header and rounding.
const ENTRY_OVERHEAD_OCTETS: usize = 48;

/// Entries by number. A new one takes the place that was left last, which is right behind the hand
/// when the hand took what was there.
#[derive(Debug, Default)]
pub(super) struct Ring {
    slots: Vec<Option<Stored>>,
    free: Vec<u32>,
    hand: usize,
    octets: usize,
}

impl Ring {
    pub(super) fn get(&self, number: u32) -> Option<&Stored> {
        self.slots.get(usize::try_from(number).ok()?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Stored> {
        self.slots.get_mut(usize::try_from(number).ok()?)?.as_mut()
    }

    /// Octets that its entries cost.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The places, empty ones included.
    pub(super) fn slots(&self) -> &[Option<Stored>] {
        &self.slots
    }

    /// Takes an entry up; its number, below `end`. `None` when there is no such number left.
    pub(super) fn put(&mut self, stored: Stored, end: u32) -> Option<u32> {
        let number = match self.free.pop() {
            Some(number) => number,
            None => u32::try_from(self.slots.len())
                .ok()
                .filter(|&number| number < end)?,
        };
        self.octets += cost(&stored);
        match self.slots.get_mut(usize::try_from(number).ok()?) {
            Some(slot) => *slot = Some(stored),
            None => self.slots.push(Some(stored)),
        }
        Some(number)
    }

    /// Puts an entry in the place of the one of that number, marked as read if that one was.
    pub(super) fn replace(&mut self, number: u32, mut stored: Stored) {
        let Some(old) = self.get_mut(number) else {
            return;
        };
        if old.take_visit() {
            stored.mark_visited();
        }
        let (before, after) = (cost(old), cost(&stored));
        *old = stored;
        self.octets = self.octets.saturating_sub(before).saturating_add(after);
    }

    /// Gives the entry of that number away.
    pub(super) fn take(&mut self, number: u32) -> Option<Stored> {
        let slot = self.slots.get_mut(usize::try_from(number).ok()?)?;
        let stored = slot.take()?;
        self.octets = self.octets.saturating_sub(cost(&stored));
        self.free.push(number);
        Some(stored)
    }

    /// Moves the hand past the next entry that is not to be spared: its number and whether it was read
    /// since the hand passed it last. `None` when there is no such entry.
    pub(super) fn pass_but(&mut self, is_spared: impl Fn(u32) -> bool) -> Option<(u32, bool)> {
        for _ in 0..self.slots.len() {
            let at = self.hand;
            self.hand = if at + 1 < self.slots.len() { at + 1 } else { 0 };
            let number = u32::try_from(at).ok()?;
            if let Some(Some(stored)) = self.slots.get_mut(at)
                && !is_spared(number)
            {
                return Some((number, stored.take_visit()));
            }
        }
        None
    }
}

/// Octets that an entry takes, overhead included.
pub(super) fn cost(stored: &Stored) -> usize {
    stored.octets() + ENTRY_OVERHEAD_OCTETS
}
