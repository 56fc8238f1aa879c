use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    cache::{Fill, Settings, Stored},
    wire::{CLASS_IN, Name, Question, Record, Records, rtype},
};

const BOOT: [u8; 16] = [3; 16];
const TTL_MAX_S: u32 = 86_400;
const STALE_S: u32 = 100;
const SETTINGS: Settings = Settings {
    size_octets: 32 << 20,
    ttl_min_s: 0,
    ttl_max_s: TTL_MAX_S,
    negative_ttl_max_s: 3_600,
    serve_stale_s: STALE_S,
    prefetch: true,
};

/// The moment of saving.
fn now() -> Now {
    Now {
        unix_s: 1_800_000_000,
        uptime_s: 5_000_000,
        ..Now::read()
    }
}

fn head() -> Head {
    Head {
        unix_s: now().unix_s,
        uptime_s: now().uptime_s,
        boot: BOOT,
        judge: [9; 32],
    }
}

fn key(question: &Question) -> Vec<u8> {
    let mut key = question.name.as_wire().to_vec();
    key.extend(question.qtype.to_be_bytes());
    key.extend([0, 1, 0]);
    key
}

fn question(name: &str) -> Question {
    Question {
        name: Name::parse(name).unwrap(),
        qtype: rtype::A,
        qclass: CLASS_IN,
    }
}

/// An answer with an alias, an address and a signature, stored `age_s` before [`now`].
fn answer(name: &str, ttl_s: u32, age_s: u32, failure: Option<u8>) -> Stored {
    let question = question(name);
    let target = Name::parse("target.example").unwrap();
    let record = |owner: &Name, rtype, rdata: &[u8]| Record {
        owner: owner.clone(),
        rtype,
        class: CLASS_IN,
        ttl_s,
        rdata: Box::from(rdata),
    };
    let mut signature = vec![0; 18];
    signature.extend_from_slice(Name::parse("example").unwrap().as_wire());
    signature.extend_from_slice(&[7; 64]);
    let records = [
        record(&question.name, rtype::CNAME, target.as_wire()),
        record(&target, rtype::A, &[192, 0, 2, 1]),
        record(&target, rtype::RRSIG, &signature),
    ];
    let encode = |count| Records::encode(&question, records.iter().take(count), [].iter()).unwrap();
    let fill = Fill {
        rcode: 0,
        ttl_s,
        secure: true,
        signed_s: 86_400,
        ends: false,
        failure,
        extended_error: Some((4, "a text")),
        with_dnssec: &encode(3),
        plain: &encode(2),
    };
    Stored::pack(&key(&question), &fill, now().uptime_s - age_s).unwrap()
}

fn cache(entries: impl IntoIterator<Item = Stored>) -> Cache {
    let cache = Cache::new(&Settings::default());
    for entry in entries {
        cache.insert(entry);
    }
    cache
}

fn saved(cache: &Cache) -> Vec<u8> {
    let mut file = Vec::new();
    save(cache, &head(), &SETTINGS, &mut file).unwrap();
    file
}

/// Loads a whole file into an empty cache, `later_s` after it was saved.
fn loaded(file: &[u8], later_s: u32) -> Result<(Cache, Loaded), FileError> {
    verify(&mut &*file)?;
    let cache = cache([]);
    let now_s = now().uptime_s + later_s;
    let loaded = load(&mut &*file, &cache, later_s, now_s, &SETTINGS, || true)?;
    Ok((cache, loaded))
}

/// All entries in the order of their octets.
fn entries(cache: &Cache) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    cache.for_each(|entry| entries.push(entry.octets().to_vec()));
    entries.sort();
    entries
}

/// The file of one entry with these octets, with a digest that holds.
fn forged(entry: &[u8]) -> Vec<u8> {
    let mut file = head().octets();
    file.extend(u32::try_from(entry.len()).unwrap().to_be_bytes());
    file.extend(entry);
    file.extend([0; 4]);
    file.extend(1_u64.to_be_bytes());
    let digest = ring::digest::digest(&SHA256, &file);
    file.extend(digest.as_ref());
    file
}

#[test]
fn what_is_saved_is_loaded_and_as_old_as_it_is() {
    let before = cache([
        answer("a.example", 300, 0, None),
        answer("b.example", 60, 20, None),
    ]);
    let (after, count) = loaded(&saved(&before), 30).unwrap();
    assert_eq!(count.taken, 2);
    assert_eq!(entries(&after), entries(&before), "the same boot");
    let of = |name| key(&question(name));
    let age = |entry: Entry<'_>| entry.age_s(now().uptime_s + 30);
    assert_eq!(after.read(&of("a.example"), age), Some(30));
    assert_eq!(after.read(&of("b.example"), age), Some(50));
}

#[test]
fn in_a_later_boot_the_wall_clock_says_how_old_answers_are() {
    let file = saved(&cache([answer("a.example", 300, 100, None)]));
    let later = Now {
        unix_s: now().unix_s + 150,
        uptime_s: crate::clock::UPTIME_AT_BOOT_S + 20,
        ..now()
    };
    let age_s = verify(&mut &*file).unwrap().age_s(&later, [4; 16]);
    assert_eq!(age_s, Some(150));
    let after = cache([]);
    let count = load(&mut &*file, &after, 150, later.uptime_s, &SETTINGS, || true).unwrap();
    assert_eq!(count.taken, 1);
    let entry = after.read(&key(&question("a.example")), |entry| {
        (
            entry.age_s(later.uptime_s),
            entry.is_secure(),
            entry.ttl_s(),
        )
    });
    assert_eq!(entry, Some((250, true, 300)));
}

#[test]
fn uptime_tells_the_age_in_the_same_boot_unless_the_wall_clock_was_set() {
    let mut later = now().plus(Duration::from_secs(40));
    for drift_s in [0, 300] {
        later.unix_s = now().unix_s + 40 + drift_s;
        assert_eq!(head().age_s(&later, BOOT), Some(40));
        later.unix_s = now().unix_s + 40 - drift_s;
        assert_eq!(head().age_s(&later, BOOT), Some(40));
    }
    // What was judged before was judged by a wrong time.
    for unix_s in [0, now().unix_s - 261, now().unix_s + 341, u64::MAX] {
        later.unix_s = unix_s;
        assert_eq!(head().age_s(&later, BOOT), None);
    }
    // A file from the future of this very boot is nobody's.
    later.uptime_s = now().uptime_s - 1;
    later.unix_s = now().unix_s;
    assert_eq!(head().age_s(&later, BOOT), None);
}

#[test]
fn the_wall_clock_is_not_believed_in_a_later_boot_when_it_went_back() {
    let mut later = now().plus(Duration::from_secs(40));
    later.unix_s = 0;
    assert_eq!(head().age_s(&later, [4; 16]), None);
    later.unix_s = now().unix_s - 1;
    assert_eq!(head().age_s(&later, [4; 16]), None);
    later.unix_s = now().unix_s;
    assert_eq!(head().age_s(&later, [4; 16]), Some(0));
    // Nobody knows the boot.
    let unknown = Head {
        boot: [0; 16],
        ..head()
    };
    assert_eq!(unknown.age_s(&later, [0; 16]), Some(0));
}

#[test]
fn failures_and_what_nobody_may_be_given_stay_behind() {
    let before = cache([
        answer("fails.example", 300, 0, Some(1)),
        answer("old.example", 60, 60 + STALE_S, None),
        answer("soon.example", 60, 50 + STALE_S, None),
        answer("stays.example", 60, 0, None),
    ]);
    let file = saved(&before);
    let (after, count) = loaded(&file, 10).unwrap();
    assert_eq!((after.len(), count.taken, count.expired), (1, 1, 1));
    assert_eq!(loaded(&file, 60 + STALE_S).unwrap().0.len(), 0);
    // A failure that somebody wrote into the file is none.
    let fails = answer("fails.example", 300, 0, Some(1));
    let (after, count) = loaded(&forged(fails.entry().octets()), 0).unwrap();
    assert_eq!((after.len(), count.refused), (0, 1));
}

#[test]
fn what_has_expired_may_stand_in_for_as_long_as_before() {
    let file = saved(&cache([answer("a.example", 60, 30, None)]));
    let of = key(&question("a.example"));
    for later_s in [0, 29, 30, 29 + STALE_S, 30 + STALE_S] {
        let (after, _) = loaded(&file, later_s).unwrap();
        let now_s = now().uptime_s + later_s;
        let read = after.read(&of, |entry| {
            (entry.is_fresh(now_s), entry.is_stale(now_s, STALE_S))
        });
        let expected = match later_s {
            0 | 29 => Some((true, false)),
            30 | 129 => Some((false, true)),
            _ => None,
        };
        assert_eq!(read, expected, "{later_s} s later");
    }
}

#[test]
fn what_somebody_had_seen_to_is_to_be_seen_to_again() {
    let before = cache([answer("a.example", 60, 0, None)]);
    let of = key(&question("a.example"));
    assert!(before.claim(&of) && !before.claim(&of));
    let (after, _) = loaded(&saved(&before), 0).unwrap();
    assert!(after.claim(&of));
}

#[test]
fn nothing_lives_longer_than_the_settings_of_now_allow() {
    let long = answer("long.example", TTL_MAX_S + 1, 0, None);
    let (after, count) = loaded(&saved(&cache([long])), 0).unwrap();
    assert_eq!((after.len(), count.expired), (0, 1));
}

#[test]
fn a_file_cut_anywhere_is_no_file() {
    let file = saved(&cache([answer("a.example", 300, 0, None)]));
    for end in 0..file.len() {
        assert!(loaded(&file[..end], 0).is_err(), "cut at {end}");
    }
    let longer = [&file[..], &[0]].concat();
    assert!(matches!(loaded(&longer, 0), Err(FileError::Damaged(_))));
}

#[test]
fn a_file_with_any_bit_changed_is_no_file() {
    let file = saved(&cache([answer("a.example", 300, 0, None)]));
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut changed = file.clone();
            changed[at] ^= 1 << bit;
            assert!(loaded(&changed, 0).is_err(), "bit {bit} of {at}");
        }
    }
}

#[test]
fn files_of_others_and_of_other_versions_are_told_from_damaged_ones() {
    let file = saved(&cache([]));
    for foreign in [
        &b""[..],
        b"truename",
        b"[listen]\ndns = [\"127.0.0.1:53\"]\n",
    ] {
        assert!(matches!(loaded(foreign, 0), Err(FileError::Foreign)));
    }
    for at in [17, 19] {
        let mut other = file.clone();
        other[at] ^= 0x40;
        assert!(matches!(loaded(&other, 0), Err(FileError::Version)));
    }
    assert_eq!(loaded(&file, 0).unwrap().1, Loaded::default());
}

#[test]
fn a_forged_digest_lets_no_wrong_entry_in() {
    let stored = answer("a.example", 300, 0, None);
    let honest = stored.entry().octets();
    assert_eq!(loaded(&forged(honest), 0).unwrap().1.taken, 1);
    let refused = |what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut octets = honest.to_vec();
        change(&mut octets);
        let (cache, count) = loaded(&forged(&octets), 0).unwrap();
        assert_eq!((cache.len(), count.refused), (0, 1), "{what}");
    };
    let name_at = 16 + 2 * 4;
    refused("counts of another width", &|octets| octets[10] |= 0x40);
    refused("another form less", &|octets| octets[10] &= !0x02);
    refused("SERVFAIL", &|octets| octets[11] = 0x20);
    refused("a key longer than it is", &|octets| octets[13] += 1);
    refused("a capital letter", &|octets| octets[name_at + 1] = b'A');
    refused("a label too long", &|octets| octets[name_at] = 64);
    refused("another class", &|octets| octets[name_at + 14] = 3);
    refused("CD and secure", &|octets| octets[name_at + 15] = 1);
    refused("an answer more", &|octets| octets[16] += 1);
    refused("records longer than they are", &|octets| octets[19] += 1);
    refused("a longer life than its records'", &|octets| octets[5] = 2);
    let ttl_at = name_at + 16 + 6;
    refused("a TTL that is none", &|octets| octets[ttl_at] = 0x80);
    refused("an octet more", &|octets| octets.push(0xff));
    refused("an octet less", &|octets| {
        octets.truncate(octets.len() - 40);
    });
    refused("nothing", &|octets| octets.truncate(3));
}

#[test]
fn loading_ends_when_it_shall() {
    let names = (0..50).map(|at| answer(&format!("n{at}.example"), 300, 0, None));
    let file = saved(&cache(names));
    let cache = cache([]);
    let mut left = 10;
    let goes_on = || {
        left -= 1;
        left >= 0
    };
    let now_s = now().uptime_s;
    let loaded = load(&mut &*file, &cache, 0, now_s, &SETTINGS, goes_on).unwrap();
    assert_eq!((loaded.taken, cache.len()), (10, 10));
}

#[test]
fn more_than_a_chunk_is_saved_whole() {
    let names = (0..3_000).map(|at| answer(&format!("n{at}.example"), 300, 0, None));
    let before = cache(names);
    assert!(before.octets() > 4 * CHUNK_OCTETS);
    let (after, count) = loaded(&saved(&before), 0).unwrap();
    assert_eq!(count.taken, 3_000);
    assert_eq!(entries(&after), entries(&before));
}

#[test]
fn a_disk_that_is_full_is_an_error() {
    let mut room = [0; 100];
    let full = save(
        &cache([answer("a.example", 300, 0, None)]),
        &head(),
        &SETTINGS,
        &mut &mut room[..],
    );
    assert!(full.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn round_trip(
        answers in prop::collection::vec(("[a-z0-9]{1,20}(\\.[a-z]{1,9}){0,3}", 1_u32..90_000, 0_u32..1_000), 0..20),
        later_s in 0_u32..1_000,
    ) {
        let before = cache(answers.iter().map(|(name, ttl_s, age_s)| answer(name, *ttl_s, *age_s, None)));
        let (after, count) = loaded(&saved(&before), later_s).unwrap();
        prop_assert_eq!(count.refused, 0);
        let expected = entries(&before).into_iter().filter(|octets| {
            let stored = Stored::unpack(octets, u32::from_be_bytes(*octets.first_chunk().unwrap()));
            let entry = stored.unwrap();
            is_of_use(&entry.entry(), now().uptime_s + later_s, &SETTINGS)
                && entry.entry().ttl_s() <= TTL_MAX_S
        });
        prop_assert_eq!(entries(&after), expected.collect::<Vec<_>>());
    }

    #[test]
    fn no_octets_are_too_much(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = loaded(&octets, 0);
        let _ = loaded(&[head().octets(), octets.clone()].concat(), 0);
        let _ = loaded(&forged(&octets), 0);
    }
}
