//! The clocks of a scenario, moved by hand.

use std::{cell::Cell, time::Duration};

use truename::clock::Now;

use super::words::{Words, read};

thread_local! {
    /// The time of the scenario that this thread runs.
    static NOW: Cell<Option<Now>> = const { Cell::new(None) };
    /// By how many seconds its wall clock is wrong.
    static WRONG_BY_S: Cell<i64> = const { Cell::new(0) };
}

/// Begins a scenario with a right wall clock.
pub(super) fn begin(unix_s: u64) {
    NOW.set(Some(Now {
        unix_s,
        ..Now::read()
    }));
    WRONG_BY_S.set(0);
}

pub(super) fn now() -> Now {
    NOW.get().expect("a scenario runs")
}

/// Sets the wall clock so much ahead.
pub(super) fn set(by_s: i64) {
    let now = now();
    WRONG_BY_S.set(WRONG_BY_S.get() + by_s);
    NOW.set(Some(Now {
        unix_s: now.unix_s.checked_add_signed(by_s).expect("a time"),
        ..now
    }));
}

/// Sets the wall clock right.
pub(super) fn set_right() {
    set(-WRONG_BY_S.get());
}

/// Lets time pass.
pub(super) fn pass(words: &mut Words<'_>) -> Result<(), String> {
    let word = words.word("seconds")?;
    let mut then = now();
    match (word.split_at_checked(1), words.optional()) {
        (Some(("+", seconds)), None) => then = then.plus(Duration::from_secs(read(seconds)?)),
        (Some(("+", seconds)), Some("WALL")) => then.unix_s += read::<u64>(seconds)?,
        (Some(("-", seconds)), Some("WALL")) => then.unix_s -= read::<u64>(seconds)?,
        (_, None) => return Err(format!("{word} does not begin with +")),
        (_, Some(other)) => return Err(format!("{word} {other} cannot be understood")),
    }
    NOW.set(Some(then));
    Ok(())
}
