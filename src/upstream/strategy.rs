//! In which order the upstreams for a question are tried. Sans I/O: health and chance are arguments.
//!
//! What is known of an upstream comes before every strategy: one that is down is asked when nobody
//! else is left, whatever its weight or place.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use psl::{List, Psl as _};
use rustls::pki_types::ServerName;

use super::{
    health::Facts,
    settings::{Strategy, UpstreamSettings},
};
use crate::wire::Name;

/// How much faster than the favourite another upstream must be at least: less is within the noise
/// of a line.
const MARGIN_MIN: Duration = Duration::from_millis(2);
/// The favourite gives way to one that is faster by this part of its own time, or more.
const MARGIN_PART: u32 = 5;
/// The mean of 32 answers is off by about a fifth of their deviation; what is nearer is chance.
const DEVIATION_PART: u32 = 4;
/// An upstream becomes the favourite once so many of its answers were timed.
pub(super) const SAMPLES_MIN: u32 = 4;

/// How good an upstream is to ask now, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Nothing is held against it.
    Good,
    /// It leaves DNSSEC records out.
    Incomplete,
    /// It is late and a probe is under way.
    Suspected,
    /// It is known to be down.
    Down,
}

/// One upstream to choose from.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Its place in the configuration.
    pub(super) place: usize,
    /// What its health says.
    pub(super) facts: Facts,
    pub(super) weight: u32,
    /// Who runs it, see [`operator`].
    pub(super) operator: u64,
}

/// Puts candidates that stand in the order of the configuration into the order in which to try
/// them. `favourite` is the place of the one that was fastest so far; `key` is the hash of the
/// question's registrable domain; `draw` gives random numbers.
pub(super) fn sort(
    strategy: Strategy,
    candidates: &mut [Candidate],
    favourite: &AtomicUsize,
    key: impl FnOnce() -> u64,
    mut draw: impl FnMut() -> u64,
) {
    match strategy {
        Strategy::Ordered => candidates.sort_by_key(|it| it.facts.standing),
        Strategy::Fastest => {
            let first = favour(candidates, favourite.load(Ordering::Relaxed));
            if let Some(first) = first {
                favourite.store(first, Ordering::Relaxed);
            }
            let time = |it: &Candidate| it.facts.cost.unwrap_or(Duration::MAX);
            candidates.sort_by_key(|it| (it.facts.standing, Some(it.place) != first, time(it)));
        }
        Strategy::Weighted => {
            let mut left = &mut *candidates;
            while let Some(place) = lot(left, draw()) {
                left.swap(0, place);
                left = left.get_mut(1..).unwrap_or_default();
            }
            candidates.sort_by_key(|it| it.facts.standing);
        }
        Strategy::Spread => {
            let key = key();
            let time = |it: &Candidate| it.facts.cost.unwrap_or(Duration::MAX);
            candidates.sort_by_key(|it| (it.facts.standing, mix(key ^ it.operator), time(it)));
        }
    }
}

/// Which of the good candidates is the favourite now. The old one stays unless another is faster
/// beyond doubt, so that noise does not send queries to and fro, and it comes back after an outage.
fn favour(candidates: &[Candidate], old: usize) -> Option<usize> {
    let timed =
        |it: &&Candidate| it.facts.standing == Standing::Good && it.facts.samples >= SAMPLES_MIN;
    let fastest = candidates
        .iter()
        .filter(timed)
        .min_by_key(|it| it.facts.cost)?;
    let Some(old) = candidates.iter().find(|it| it.place == old) else {
        return Some(fastest.place);
    };
    if !timed(&old) {
        // Somebody else stands in for it meanwhile.
        return Some(old.place);
    }
    let cost = |it: &Candidate| it.facts.cost.unwrap_or(Duration::MAX);
    let margin = (cost(old) / MARGIN_PART)
        .max(old.facts.deviation / DEVIATION_PART)
        .max(MARGIN_MIN);
    let is_faster = cost(fastest).saturating_add(margin) < cost(old);
    Some(if is_faster { fastest.place } else { old.place })
}

/// The hash of what all names of one registrable domain have in common; of the name itself when
/// that is a public suffix or above one.
pub(super) fn domain_hash(name: &Name, hasher: &ahash::RandomState) -> u64 {
    let labels: Vec<&[u8]> = name.labels().collect();
    let suffix_octets = List.find(labels.iter().rev().copied()).len;
    // The suffix's length counts its dots.
    let mut octets = 0;
    let mut count = 0;
    for label in labels.iter().rev() {
        if octets >= suffix_octets {
            break;
        }
        octets += label.len() + usize::from(count > 0);
        count += 1;
    }
    hasher.hash_one(name.suffix(count + 1).as_wire())
}

/// Who runs an upstream, as a hash: the registrable domain of the name that its certificate shows,
/// else the address or name it is reached by.
pub(super) fn operator(settings: &UpstreamSettings, hasher: &ahash::RandomState) -> u64 {
    let name = match &settings.server_name {
        Some(ServerName::DnsName(name)) => Name::parse(name.as_ref()).ok(),
        _ => None,
    };
    match name {
        Some(name) => domain_hash(&name, hasher),
        None => hasher.hash_one(settings.addresses.first().map(std::net::SocketAddr::ip)),
    }
}

/// Which of `left` a random number falls to, in proportion to their weights; `None` when no weight
/// is left.
fn lot(left: &[Candidate], random: u64) -> Option<usize> {
    let sum: u64 = left.iter().map(|it| u64::from(it.weight)).sum();
    let mut point = random.checked_rem(sum)?;
    left.iter().position(|it| {
        let beyond = point.checked_sub(u64::from(it.weight));
        point = beyond.unwrap_or(point);
        beyond.is_none()
    })
}

/// Spreads the bits of a number over all of it (the finalizer of splitmix64), so that the operator
/// with the smallest result is another one for each domain.
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{
        entropy,
        upstream::{Overrides, parse},
    };

    const MS: Duration = Duration::from_millis(1);

    fn candidates<const N: usize>() -> [Candidate; N] {
        std::array::from_fn(|place| Candidate {
            place,
            facts: Facts {
                standing: Standing::Good,
                cost: Some(MS * 20),
                deviation: Duration::ZERO,
                samples: 100,
                timed_at: None,
                late_after: MS * 50,
                silent_after: MS * 600,
                needs_watch: false,
            },
            weight: 1,
            operator: mix(place as u64 + 1),
        })
    }

    fn places(strategy: Strategy, mut candidates: Vec<Candidate>, key: u64) -> Vec<usize> {
        let favourite = AtomicUsize::new(usize::MAX);
        sort(strategy, &mut candidates, &favourite, || key, entropy::u64);
        candidates.iter().map(|it| it.place).collect()
    }

    #[test]
    fn standing_comes_before_every_strategy() {
        use Standing::{Down, Good, Incomplete, Suspected};
        let mut candidates = candidates::<4>();
        let standings = [Down, Suspected, Incomplete, Good];
        for (it, standing) in candidates.iter_mut().zip(standings) {
            it.facts.standing = standing;
            it.weight = if standing == Good { 0 } else { 1000 };
            it.facts.cost = Some(MS * if standing == Good { 900 } else { 1 });
        }
        for strategy in Strategy::ALL {
            let places = places(strategy, candidates.to_vec(), entropy::u64());
            assert_eq!(places, [3, 2, 1, 0], "{strategy:?}");
        }
    }

    #[test]
    fn the_favourite_is_the_fastest_until_another_is_so_beyond_doubt() {
        let favourite = AtomicUsize::new(usize::MAX);
        let first = |costs: [u32; 3], deviation: u32, standings: [Standing; 3]| {
            let mut candidates = candidates::<3>();
            for ((it, cost), standing) in candidates.iter_mut().zip(costs).zip(standings) {
                it.facts.cost = Some(MS * cost);
                it.facts.deviation = MS * deviation;
                it.facts.standing = standing;
            }
            sort(Strategy::Fastest, &mut candidates, &favourite, || 0, || 0);
            candidates[0].place
        };
        let good = [Standing::Good; 3];
        assert_eq!(first([30, 20, 40], 0, good), 1);
        assert_eq!(
            first([17, 20, 40], 0, good),
            1,
            "nearly as fast is no reason"
        );
        assert_eq!(first([10, 20, 40], 100, good), 1, "nor is chance");
        let away = [Standing::Good, Standing::Down, Standing::Good];
        assert_eq!(first([19, 20, 40], 0, away), 0);
        assert_eq!(first([19, 20, 40], 0, good), 1, "back after an outage");
        assert_eq!(first([10, 20, 40], 0, good), 0);
        assert_eq!(first([10, 20, 9], 0, good), 0);
    }

    #[test]
    fn what_was_never_timed_comes_after_what_was() {
        let mut candidates = candidates::<2>();
        candidates[0].facts.samples = 0;
        candidates[0].facts.cost = None;
        assert_eq!(places(Strategy::Fastest, candidates.to_vec(), 0), [1, 0]);
        candidates[1].facts.samples = 0;
        candidates[1].facts.cost = None;
        assert_eq!(places(Strategy::Fastest, candidates.to_vec(), 0), [0, 1]);
    }

    #[test]
    fn queries_are_shared_out_by_weight() {
        let mut candidates = candidates::<3>();
        for (it, weight) in candidates.iter_mut().zip([3, 1, 0]) {
            it.weight = weight;
        }
        let mut firsts = [0_u32; 3];
        let mut last = [0_u32; 3];
        for _ in 0..8000 {
            let places = places(Strategy::Weighted, candidates.to_vec(), 0);
            firsts[places[0]] += 1;
            last[places[2]] += 1;
        }
        assert!((5700..6300).contains(&firsts[0]), "{firsts:?}");
        assert_eq!(firsts[2], 0, "no weight, no queries");
        assert_eq!(last[2], 8000, "unless the others fail");
    }

    #[test]
    fn a_domain_stays_with_its_operator_and_only_a_lost_ones_domains_move() {
        let all = candidates::<4>();
        let mut shares = HashMap::new();
        for key in (0..1000).map(mix) {
            let before = places(Strategy::Spread, all.to_vec(), key);
            *shares.entry(before[0]).or_insert(0) += 1;
            let mut without = all.clone();
            without[2].facts.standing = Standing::Down;
            let after = places(Strategy::Spread, without.to_vec(), key);
            if before[0] == 2 {
                assert_eq!(after[0], before[1]);
            } else {
                assert_eq!(after[0], before[0]);
            }
        }
        assert!(shares.len() == 4 && shares.values().all(|share| *share > 200));
    }

    #[test]
    fn within_an_operator_the_fastest_is_first_and_its_others_are_next() {
        let mut candidates = candidates::<4>();
        for (it, (operator, cost)) in candidates
            .iter_mut()
            .zip([(7, 30), (9, 5), (7, 10), (9, 50)])
        {
            it.operator = operator;
            it.facts.cost = Some(MS * cost);
        }
        for key in (0..100).map(mix) {
            let places = places(Strategy::Spread, candidates.to_vec(), key);
            assert!(places == [2, 0, 1, 3] || places == [1, 3, 2, 0]);
        }
    }

    #[test]
    fn names_of_one_registrable_domain_have_one_hash() {
        let hasher = entropy::hasher();
        let hash = |name: &str| domain_hash(&Name::parse(name).unwrap(), &hasher);
        assert_eq!(hash("a.b.example.co.uk"), hash("example.co.uk"));
        assert_ne!(hash("example.co.uk"), hash("other.co.uk"));
        assert_ne!(hash("one.github.io"), hash("two.github.io"));
        assert_eq!(hash("nas.lan"), hash("x.nas.lan"), "a suffix nobody knows");
        assert_ne!(hash("com"), hash("."));
        assert_ne!(hash("com"), hash("example.com"));
        assert_ne!(hash("co.uk"), hash("uk"));
    }

    #[test]
    fn an_operator_is_known_by_its_certificates_domain_or_its_address() {
        let hasher = entropy::hasher();
        let of = |url: &str| operator(&parse(url, Overrides::default()).unwrap(), &hasher);
        let of_catalogue = |name: &str| of(name);
        assert_eq!(of_catalogue("quad9"), of_catalogue("quad9"));
        assert_ne!(of_catalogue("quad9"), of_catalogue("cloudflare"));
        assert_eq!(of("udp://192.0.2.1"), of("tcp://192.0.2.1"));
        assert_ne!(of("udp://192.0.2.1"), of("udp://192.0.2.2"));
    }
}
