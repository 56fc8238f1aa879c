//! The budget of one exchange.

use std::sync::atomic::{AtomicU8, Ordering};

/// How often one question may be put to upstreams, repeats on fresh connections included: enough
/// for a dead connection and one bad upstream, small enough that nobody is hammered.
const TRIES_MAX: u8 = 3;

/// The tries that are left.
#[derive(Debug)]
pub(super) struct Tries(AtomicU8);

impl Tries {
    pub(super) const fn new() -> Self {
        Self(AtomicU8::new(TRIES_MAX))
    }

    /// Whether one is left.
    pub(super) fn are_left(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Takes one; false when none is left.
    pub(super) fn take(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }
}
