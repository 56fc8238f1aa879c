//! How long an upstream takes to answer, as far as its answers show. Sans I/O.
//!
//! A smoothed time and its mean deviation, in the shape of RFC 6298, say which upstream is faster;
//! a small histogram says when an answer is later than nearly all of this upstream's answers. The
//! times of a resolver have two humps, names it knows and names it must look up, so no multiple of
//! a deviation would find its tail.

use std::time::{Duration, Instant};

/// The smoothed time is the mean of about so many answers. RFC 6298 takes eight, for packets on
/// one path; the names a resolver must look up would make that jump.
const SMOOTHED_OVER: u32 = 32;
/// An estimate that got no answer for so long is from another time: the next answer counts half.
const STALE_AFTER: Duration = Duration::from_secs(30);
/// With fewer answers nothing is said of a tail.
const TAIL_SAMPLES_MIN: u32 = 16;
/// One answer of so many is in the tail: p95.
const TAIL_ONE_IN: u32 = 20;
/// When the histogram holds so many answers all counts are halved, so that it follows the present.
const COUNTED_MAX: u32 = 256;
/// Where the buckets of the first doubling begin: at 1 ms, each 19 % after the one before.
const FIRST_EDGES_US: [u64; 4] = [1000, 1189, 1414, 1682];
/// Buckets: from 1 ms to 16 s.
const BUCKETS: usize = 56;
/// Longer than any exchange takes; keeps the sums small.
const TIME_MAX_US: i64 = 30_000_000;

/// What the answers of one upstream showed.
#[derive(Clone, Debug)]
pub(super) struct Estimate {
    samples: u32,
    smoothed_us: i64,
    deviation_us: i64,
    last_at: Option<Instant>,
    counts: [u16; BUCKETS],
    counted: u32,
}

impl Estimate {
    pub(super) const fn new() -> Self {
        Self {
            samples: 0,
            smoothed_us: 0,
            deviation_us: 0,
            last_at: None,
            counts: [0; BUCKETS],
            counted: 0,
        }
    }

    /// An answer came after `took`, the time for connecting not included.
    pub(super) fn answered(&mut self, now: Instant, took: Duration) {
        let is_stale = self
            .last_at
            .is_some_and(|last| now.saturating_duration_since(last) > STALE_AFTER);
        self.last_at = Some(now);
        self.samples = self.samples.saturating_add(1);
        let sample = i64::try_from(took.as_micros()).map_or(TIME_MAX_US, |us| us.min(TIME_MAX_US));
        if self.samples == 1 {
            self.smoothed_us = sample;
            self.deviation_us = sample / 2;
        } else {
            let over = if is_stale {
                2
            } else {
                self.samples.min(SMOOTHED_OVER)
            };
            let over = i64::from(over);
            let error = sample - self.smoothed_us;
            self.deviation_us += (error.abs() - self.deviation_us) / over;
            self.smoothed_us += error / over;
        }
        if is_stale {
            self.halve();
        }
        self.count(took);
    }

    /// Nobody waited for the answer any more after `waited`; it would have taken at least so long.
    pub(super) fn cut_short(&mut self, waited: Duration) {
        self.count(waited);
    }

    /// How many answers this is made from.
    pub(super) const fn samples(&self) -> u32 {
        self.samples
    }

    /// When the last answer came.
    pub(super) const fn last_at(&self) -> Option<Instant> {
        self.last_at
    }

    /// The smoothed time of an answer; `None` before the first.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        (self.samples > 0).then(|| micros(self.smoothed_us))
    }

    /// The mean deviation of an answer's time from the smoothed one.
    pub(super) fn deviation(&self) -> Duration {
        micros(self.deviation_us)
    }

    /// The time within which nineteen of twenty answers come; `None` while too few came to tell.
    pub(super) fn tail(&self) -> Option<Duration> {
        if self.counted < TAIL_SAMPLES_MIN {
            return None;
        }
        let mut beyond = 0;
        for (at, count) in self.counts.iter().enumerate().rev() {
            beyond += u32::from(*count);
            if beyond > self.counted / TAIL_ONE_IN {
                return Some(upper_edge(at));
            }
        }
        None
    }

    fn count(&mut self, took: Duration) {
        if let Some(count) = self.counts.get_mut(bucket(took)) {
            *count = count.saturating_add(1);
            self.counted += 1;
        }
        if self.counted >= COUNTED_MAX {
            self.halve();
        }
    }

    fn halve(&mut self) {
        for count in &mut self.counts {
            *count /= 2;
        }
        self.counted = self.counts.iter().copied().map(u32::from).sum();
    }
}

fn micros(us: i64) -> Duration {
    Duration::from_micros(us.unsigned_abs())
}

/// In whole numbers: logarithms would be all that is wanted of libm, which costs 0.3 MB.
fn bucket(took: Duration) -> usize {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let doublings = (us / 1000).max(1).ilog2();
    let halved = us >> doublings;
    let within = FIRST_EDGES_US.iter().rposition(|edge| *edge <= halved);
    (doublings as usize * FIRST_EDGES_US.len() + within.unwrap_or(0)).min(BUCKETS - 1)
}

fn upper_edge(at: usize) -> Duration {
    let (doublings, within) = (
        (at + 1) / FIRST_EDGES_US.len(),
        (at + 1) % FIRST_EDGES_US.len(),
    );
    let edge = FIRST_EDGES_US.get(within).copied().unwrap_or(u64::MAX);
    Duration::from_micros(edge << doublings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    fn after(times_ms: impl IntoIterator<Item = u32>) -> Estimate {
        let now = clock::instant();
        let mut estimate = Estimate::new();
        for time in times_ms {
            estimate.answered(now, MS * time);
        }
        estimate
    }

    #[test]
    fn the_first_answer_is_taken_whole_and_one_more_moves_little() {
        assert_eq!(Estimate::new().smoothed(), None);
        assert_eq!(after([40]).smoothed(), Some(MS * 40));
        let estimate = after([40; 100].into_iter().chain([360]));
        assert_eq!(estimate.smoothed(), Some(MS * 50));
        assert!(after([40; 200]).deviation() < MS);
        assert!(after((0..200).map(|at| at % 2 * 80)).deviation() > MS * 30);
    }

    #[test]
    fn the_tail_is_where_one_in_twenty_answers_lies() {
        assert_eq!(after([10; 15]).tail(), None);
        let all_alike = after([20; 300]).tail().unwrap();
        assert!(all_alike > MS * 20 && all_alike < MS * 25, "{all_alike:?}");
        // One in a hundred is an exception; one in ten belongs to the upstream's habits.
        let rare = after((0..200).map(|at| if at % 100 == 0 { 900 } else { 20 }));
        assert!(rare.tail().unwrap() < MS * 25);
        let habit = after((0..200).map(|at| if at % 10 == 0 { 900 } else { 20 }));
        assert!(habit.tail().unwrap() > MS * 900);
    }

    #[test]
    fn the_tail_follows_an_upstream_that_gets_slower_even_when_its_answers_are_not_awaited() {
        let mut estimate = after([20; 300]);
        for _ in 0..30 {
            estimate.cut_short(MS * 100);
        }
        assert!(estimate.tail().unwrap() >= MS * 100);
        assert_eq!(estimate.smoothed(), Some(MS * 20));
    }

    #[test]
    fn an_estimate_of_another_time_gives_way_to_the_present() {
        let now = clock::instant();
        let mut estimate = after([800; 100]);
        for minutes in 1..=8 {
            estimate.answered(now + Duration::from_secs(60) * minutes, MS * 10);
        }
        assert!(estimate.smoothed().unwrap() < MS * 20);
    }

    #[test]
    fn a_time_is_in_the_bucket_between_whose_edges_it_lies() {
        for at in 0..BUCKETS - 1 {
            let edge = upper_edge(at);
            let before = edge.saturating_sub(Duration::from_micros(1));
            assert_eq!(bucket(before), at, "{edge:?}");
            assert_eq!(bucket(edge), at + 1, "{edge:?}");
        }
        assert_eq!(upper_edge(3), MS * 2);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn no_time_is_out_of_bounds() {
        for took in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let mut estimate = Estimate::new();
            for _ in 0..1000 {
                estimate.answered(clock::instant(), took);
                estimate.cut_short(took);
            }
            assert!(estimate.tail().is_some() && estimate.smoothed().is_some());
        }
    }
}
