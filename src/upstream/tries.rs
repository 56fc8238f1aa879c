//! The budget of one exchange.

use std::sync::atomic::{AtomicU8, Ordering};

/// How many upstreams one question is put to when they live but do not answer it. Those that cannot
/// be reached are not counted: see [`Walk`](super::walk::Walk).
const UPSTREAMS_MAX: u8 = 3;
/// How often one question may be repeated on a fresh connection, at all upstreams together: enough
/// for one that loses its sessions (a dead connection, then refused early data) and one more dead
/// connection at the next. A budget of its own, so that no upstream uses up another's turn.
const REPEATS_MAX: u8 = 3;

/// The tries that are left.
#[derive(Debug)]
pub(super) struct Tries {
    upstreams: AtomicU8,
    repeats: AtomicU8,
}

impl Tries {
    pub(super) const fn new() -> Self {
        Self {
            upstreams: AtomicU8::new(UPSTREAMS_MAX),
            repeats: AtomicU8::new(REPEATS_MAX),
        }
    }

    /// Whether one more upstream may be asked.
    pub(super) fn are_left(&self) -> bool {
        self.upstreams.load(Ordering::Relaxed) > 0
    }

    /// Takes one upstream; false when none is left.
    pub(super) fn take(&self) -> bool {
        take(&self.upstreams)
    }

    /// Takes one repeat on a fresh connection; false when none is left.
    pub(super) fn take_repeat(&self) -> bool {
        take(&self.repeats)
    }
}

fn take(left: &AtomicU8) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(1)
    })
    .is_ok()
}
