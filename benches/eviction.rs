//! What the cache's eviction keeps, beside other policies: `cargo bench --bench eviction`.
//!
//! Questions are Zipf(1.0) over a million names, mixed with names that are asked once (random
//! subdomains), and in the last column a burst of such names halfway. A row is one policy; a figure
//! is the share of hits among the questions for the million names, the first quarter left out. No
//! chance but the seed is in it: two runs give the same figures, but for the hash of our own cache.
#![allow(clippy::indexing_slicing, reason = "nothing here comes from outside")]
#![allow(
    clippy::print_stdout,
    reason = "a table is what this program is there for"
)]

use std::{collections::VecDeque, num::NonZero};

use truename::{
    cache::{Cache, Fill, Settings, Stored},
    wire::Records,
};

const NAMES: u32 = 1_000_000;
const QUESTIONS: u32 = 2_000_000;
const BURST: u32 = 200_000;
/// No place, in a table from names to places.
const NOWHERE: u32 = u32::MAX;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(((self.next() >> 32) * u64::from(end)) >> 32).expect("it is below a u32")
    }

    fn unit(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).expect("32 bits")) / 4_294_967_296.0
    }
}

/// Names below `NAMES` are ranks of the Zipf distribution; every other is asked once.
fn trace(one_off_percent: u32, burst: bool, sums: &[f64]) -> Vec<u32> {
    let mut chance = Chance(5);
    let mut once = NAMES;
    let mut out = Vec::new();
    for i in 0..QUESTIONS {
        if burst && i == QUESTIONS / 2 {
            out.extend(once..once + BURST);
            once += BURST;
        }
        if chance.below(100) < one_off_percent {
            out.push(once);
            once += 1;
        } else {
            let at = chance.unit() * sums[sums.len() - 1];
            let rank = sums.partition_point(|&sum| sum < at);
            out.push(u32::try_from(rank).expect("a rank"));
        }
    }
    out
}

trait Policy {
    /// Looks a name up and stores it if it is not there; whether it was.
    fn ask(&mut self, name: u32) -> bool;
}

/// The cache as it is, with one address under each name.
struct Ours(Cache);

impl Ours {
    fn new(entries: u32) -> Self {
        // A cache of the wanted number of entries is one of that many times the octets of one.
        let settings = |octets| Settings {
            size_octets: octets,
            ..Settings::default()
        };
        let probe = Cache::new(&settings(1 << 20));
        probe.insert(Self::stored(0));
        let each = probe.octets();
        Self(Cache::new(&settings(
            usize::try_from(entries).expect("a size") * each,
        )))
    }

    fn key(name: u32) -> [u8; 23] {
        let mut key = *b"\x0500000\x04name\x04test\0\0\x01\0\x01\0\0";
        key[2..6].copy_from_slice(&name.to_be_bytes());
        key
    }

    fn stored(name: u32) -> Stored {
        let records = Records {
            answers: 1,
            authorities: 0,
            octets: vec![0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0x2c, 0, 4, 192, 0, 2, 1],
        };
        let fill = Fill {
            rcode: 0,
            ttl_s: 300,
            secure: false,
            signed_s: 0,
            ends: false,
            failure: None,
            extended_error: None,
            with_dnssec: &records,
            plain: &records,
        };
        Stored::pack(&Self::key(name), &fill, 1).expect("it fits")
    }
}

impl Policy for Ours {
    fn ask(&mut self, name: u32) -> bool {
        let is_hit = self.0.read(&Self::key(name), |_| ()).is_some();
        if !is_hit {
            self.0.insert(Self::stored(name));
        }
        is_hit
    }
}

/// The list of the crate `lru`.
struct Lru(lru::LruCache<u32, ()>);

impl Policy for Lru {
    fn ask(&mut self, name: u32) -> bool {
        let is_hit = self.0.get(&name).is_some();
        if !is_hit {
            self.0.put(name, ());
        }
        is_hit
    }
}

/// A ring with a hand. An entry counts its reads up to `count_max`; the hand takes one from each
/// that it passes and evicts the first that has none, or the next when it passed `passes_max`. A
/// `count_max` of 0 is FIFO, of 1 CLOCK.
struct Ring {
    places: Vec<u32>,
    counts: Vec<u8>,
    names: Vec<u32>,
    entries: usize,
    hand: usize,
    count_max: u8,
    passes_max: usize,
}

impl Ring {
    fn new(entries: u32, names: usize, count_max: u8, passes_max: usize) -> Self {
        Self {
            places: vec![NOWHERE; names],
            counts: Vec::new(),
            names: Vec::new(),
            entries: usize::try_from(entries).expect("a size"),
            hand: 0,
            count_max,
            passes_max,
        }
    }
}

impl Policy for Ring {
    fn ask(&mut self, name: u32) -> bool {
        let place = &mut self.places[name as usize];
        if *place != NOWHERE {
            let count = &mut self.counts[*place as usize];
            *count = self.count_max.min(*count + 1);
            return true;
        }
        if self.names.len() < self.entries {
            *place = u32::try_from(self.names.len()).expect("a place");
            self.names.push(name);
            self.counts.push(0);
            return false;
        }
        let mut passes = 0;
        while self.counts[self.hand] > 0 && passes < self.passes_max {
            self.counts[self.hand] -= 1;
            self.hand = (self.hand + 1) % self.entries;
            passes += 1;
        }
        self.places[name as usize] = u32::try_from(self.hand).expect("a place");
        self.places[self.names[self.hand] as usize] = NOWHERE;
        self.names[self.hand] = name;
        self.counts[self.hand] = 0;
        self.hand = (self.hand + 1) % self.entries;
        false
    }
}

/// Any entry may go.
struct Random {
    places: Vec<u32>,
    all: Vec<u32>,
    entries: usize,
    chance: Chance,
}

impl Policy for Random {
    fn ask(&mut self, name: u32) -> bool {
        if self.places[name as usize] != NOWHERE {
            return true;
        }
        if self.all.len() < self.entries {
            self.places[name as usize] = 0;
            self.all.push(name);
        } else {
            let at = self
                .chance
                .below(u32::try_from(self.entries).expect("a size"));
            let old = std::mem::replace(&mut self.all[at as usize], name);
            self.places[old as usize] = NOWHERE;
            self.places[name as usize] = 0;
        }
        false
    }
}

/// SIEVE (Zhang and others, NSDI 2024): as CLOCK, but new entries come before all others, not where
/// the hand stands. Gaps are closed when there are as many as entries.
struct Sieve {
    places: Vec<u32>,
    visited: Vec<bool>,
    line: Vec<u32>,
    gaps: usize,
    hand: usize,
    entries: usize,
}

impl Sieve {
    fn evict(&mut self) {
        loop {
            if self.hand == self.line.len() {
                self.hand = 0;
            }
            let name = self.line[self.hand];
            self.hand += 1;
            if name == NOWHERE {
                continue;
            }
            if self.visited[name as usize] {
                self.visited[name as usize] = false;
            } else {
                self.line[self.hand - 1] = NOWHERE;
                self.places[name as usize] = NOWHERE;
                self.gaps += 1;
                return;
            }
        }
    }
}

impl Policy for Sieve {
    fn ask(&mut self, name: u32) -> bool {
        if self.places[name as usize] != NOWHERE {
            self.visited[name as usize] = true;
            return true;
        }
        if self.line.len() - self.gaps == self.entries {
            self.evict();
        }
        if self.gaps > self.entries {
            let before = self.line[..self.hand].iter();
            self.hand = before.filter(|&&name| name != NOWHERE).count();
            self.line.retain(|&name| name != NOWHERE);
            self.gaps = 0;
        }
        self.places[name as usize] = 0;
        self.visited[name as usize] = false;
        self.line.push(name);
        false
    }
}

/// S3-FIFO (Yang and others, SOSP 2023): a tenth of the places are for new names, which must be read
/// there to come to the others; a name that was thrown out from there not long ago goes to the
/// others at once.
struct S3Fifo {
    /// 0 nowhere, 1 among the new, 2 among the others.
    places: Vec<u8>,
    counts: Vec<u8>,
    new: VecDeque<u32>,
    main: VecDeque<u32>,
    ghosts: VecDeque<u32>,
    is_ghost: Vec<bool>,
    entries: usize,
}

impl S3Fifo {
    fn evict(&mut self) {
        while self.new.len() > self.entries / 10 {
            let name = self.new.pop_front().expect("it is not empty");
            if self.counts[name as usize] > 0 {
                self.counts[name as usize] = 0;
                self.places[name as usize] = 2;
                self.main.push_back(name);
                continue;
            }
            self.places[name as usize] = 0;
            self.is_ghost[name as usize] = true;
            self.ghosts.push_back(name);
            if self.ghosts.len() > self.entries * 9 / 10 {
                let ghost = self.ghosts.pop_front().expect("it is not empty");
                self.is_ghost[ghost as usize] = false;
            }
            return;
        }
        while let Some(name) = self.main.pop_front() {
            if self.counts[name as usize] == 0 {
                self.places[name as usize] = 0;
                return;
            }
            self.counts[name as usize] -= 1;
            self.main.push_back(name);
        }
    }
}

impl Policy for S3Fifo {
    fn ask(&mut self, name: u32) -> bool {
        if self.places[name as usize] != 0 {
            self.counts[name as usize] = 3.min(self.counts[name as usize] + 1);
            return true;
        }
        if self.new.len() + self.main.len() >= self.entries {
            self.evict();
        }
        self.counts[name as usize] = 0;
        if std::mem::take(&mut self.is_ghost[name as usize]) {
            self.places[name as usize] = 2;
            self.main.push_back(name);
        } else {
            self.places[name as usize] = 1;
            self.new.push_back(name);
        }
        false
    }
}

/// Hits in percent of the questions for names that are not asked once.
fn hits_percent(trace: &[u32], policy: &mut dyn Policy) -> f64 {
    let (mut asked, mut hits) = (0_u32, 0_u32);
    for (i, &name) in trace.iter().enumerate() {
        let is_hit = policy.ask(name);
        if name < NAMES && i >= trace.len() / 4 {
            asked += 1;
            hits += u32::from(is_hit);
        }
    }
    100.0 * f64::from(hits) / f64::from(asked)
}

type Make = fn(u32, usize) -> Box<dyn Policy>;

const POLICIES: [(&str, Make); 9] = [
    ("truename", |entries, _| Box::new(Ours::new(entries))),
    ("LRU (crate lru)", |entries, _| {
        Box::new(Lru(lru::LruCache::new(
            NonZero::new(entries as usize).expect("a size"),
        )))
    }),
    ("FIFO", |entries, names| {
        Box::new(Ring::new(entries, names, 0, usize::MAX))
    }),
    ("random", |entries, names| {
        Box::new(Random {
            places: vec![NOWHERE; names],
            all: Vec::new(),
            entries: entries as usize,
            chance: Chance(7),
        })
    }),
    ("CLOCK", |entries, names| {
        Box::new(Ring::new(entries, names, 1, usize::MAX))
    }),
    ("CLOCK, 16 passes", |entries, names| {
        Box::new(Ring::new(entries, names, 1, 16))
    }),
    ("CLOCK, counts to 3", |entries, names| {
        Box::new(Ring::new(entries, names, 3, usize::MAX))
    }),
    ("SIEVE", |entries, names| {
        Box::new(Sieve {
            places: vec![NOWHERE; names],
            visited: vec![false; names],
            line: Vec::new(),
            gaps: 0,
            hand: 0,
            entries: entries as usize,
        })
    }),
    ("S3-FIFO", |entries, names| {
        Box::new(S3Fifo {
            places: vec![0; names],
            counts: vec![0; names],
            new: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: VecDeque::new(),
            is_ghost: vec![false; names],
            entries: entries as usize,
        })
    }),
];

fn main() {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=NAMES)
        .map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        })
        .collect();
    let mixes = [(0, false), (20, false), (50, false), (20, true)];
    let traces = mixes.map(|(percent, burst)| trace(percent, burst, &sums));
    for entries in [NAMES / 100, NAMES / 10] {
        println!(
            "\nHits, percent of the questions for {NAMES} names, cache of {entries} entries; one-off names:\n"
        );
        println!("| policy             |   0 % |  20 % |  50 % | 20 %, burst of {BURST} |");
        println!("|--------------------|-------|-------|-------|-----------------------|");
        for (name, make) in POLICIES {
            let cells: Vec<String> = traces
                .iter()
                .map(|trace| {
                    let names = trace.iter().max().map_or(0, |&name| name as usize + 1);
                    let percent = hits_percent(trace, &mut *make(entries, names));
                    format!("{percent:5.1}")
                })
                .collect();
            println!("| {name:18} | {} |", cells.join(" | "));
        }
    }
}
