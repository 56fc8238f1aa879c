//! How often a question that is answered late may be put to another upstream beside.
//!
//! A duplicate costs an upstream as much as a query. When all are slow because they, or the line,
//! have too much to do, duplicates for every query would double the load; so they are paid from a
//! budget that queries fill slowly, shared by all workers.

use std::sync::atomic::{AtomicU32, Ordering};

/// What one query adds, in thousandths of a duplicate: one in twenty queries.
const EARNED: u32 = 50;
/// What one duplicate costs.
const COST: u32 = 1000;
/// The most duplicates that are saved up: enough for those in flight when an upstream of a busy
/// house falls silent, and nothing that an upstream would feel.
const SAVED_MAX: u32 = 64 * COST;
/// What there is at the start, so that the first outage of a quiet machine is hedged too.
const AT_START: u32 = 8 * COST;

/// The duplicates that may still be sent.
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Budget {
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(AT_START))
    }

    /// A query was asked.
    pub(super) fn earn(&self) {
        self.change(|saved| Some(saved.saturating_add(EARNED).min(SAVED_MAX)));
    }

    /// Takes one duplicate; false when none is left.
    pub(super) fn take(&self) -> bool {
        self.change(|saved| saved.checked_sub(COST))
    }

    fn change(&self, to: impl FnMut(u32) -> Option<u32>) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, to)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(budget: &Budget) -> usize {
        std::iter::repeat_with(|| budget.take())
            .take_while(|taken| *taken)
            .count()
    }

    #[test]
    fn one_in_twenty_queries_may_be_doubled_after_a_small_start() {
        let budget = Budget::new();
        assert_eq!(take_all(&budget), 8);
        let mut doubled = 0;
        for _ in 0..2000 {
            budget.earn();
            doubled += usize::from(budget.take());
        }
        assert_eq!(doubled, 100);
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let budget = Budget::new();
        for _ in 0..1_000_000 {
            budget.earn();
        }
        assert_eq!(take_all(&budget), 64);
    }
}
