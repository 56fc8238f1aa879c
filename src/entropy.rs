//! Randomness, drawn in one place: query ids, source ports, letter case, jitter, hash seeds.
//!
//! The source is a cryptographic generator per thread, seeded by the operating system. What must
//! be repeatable under test takes its random value as an argument instead of drawing it.

use rand::{Rng, RngExt};

/// A random 16-bit value: a query id.
#[must_use]
pub fn u16() -> u16 {
    source().random()
}

/// A random 64-bit value: a hash seed, a set of case bits.
#[must_use]
pub fn u64() -> u64 {
    source().random()
}

/// A random number in `0..bound`; 0 when `bound` is 0.
#[must_use]
pub fn below(bound: u32) -> u32 {
    if bound == 0 {
        0
    } else {
        source().random_range(0..bound)
    }
}

/// A hash with a key of its own, so that nobody can make keys that meet in one place of a table.
#[must_use]
pub fn hasher() -> ahash::RandomState {
    ahash::RandomState::with_seeds(u64(), u64(), u64(), u64())
}

/// Fills `out` with random octets.
pub fn fill(out: &mut [u8]) {
    source().fill_bytes(out);
}

#[allow(clippy::disallowed_methods, reason = "the one place that draws")]
fn source() -> impl Rng {
    rand::rng()
}
