use super::{shard::Shard, *};
use crate::wire::Records;

fn records(octets: usize) -> Records {
    Records {
        answers: 1,
        authorities: 0,
        octets: vec![7; octets],
    }
}

/// `answers` and as many more address records of the question's name.
fn addresses(answers: u16, authorities: u16) -> Records {
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
    Records {
        answers,
        authorities,
        octets: record.repeat(usize::from(answers + authorities)),
    }
}

fn key(name: &str) -> Vec<u8> {
    let mut key = Name::parse(name).unwrap().as_wire().to_vec();
    key.extend_from_slice(&[0, 1, 0, 1, 0]);
    key
}

fn stored(key: &[u8], octets: usize, now_s: u32) -> Stored {
    let records = records(octets);
    let fill = Fill {
        rcode: 0,
        ttl_s: 60,
        secure: false,
        signed_s: 0,
        ends: false,
        failure: None,
        extended_error: None,
        with_dnssec: &records,
        plain: &records,
    };
    Stored::pack(key, &fill, now_s).unwrap()
}

fn cache(size_octets: usize) -> Cache {
    Cache::new(&Settings {
        size_octets,
        ..Settings::default()
    })
}

#[test]
fn what_is_stored_is_read_in_both_forms() {
    let (with_dnssec, plain) = (addresses(2, 1), addresses(1, 0));
    let fill = Fill {
        rcode: 3,
        ttl_s: 60,
        secure: true,
        signed_s: 0,
        ends: false,
        failure: None,
        extended_error: Some((6, "www.example. A: why")),
        with_dnssec: &with_dnssec,
        plain: &plain,
    };
    let stored = Stored::pack(&key("www.example"), &fill, 1000).unwrap();
    let entry = stored.entry();
    assert_eq!(entry.key(), key("www.example"));
    assert_eq!(
        (entry.rcode(), entry.ttl_s(), entry.age_s(1010)),
        (3, 60, 10)
    );
    assert!(entry.is_secure() && entry.failure().is_none());
    assert!(entry.is_fresh(1059) && !entry.is_fresh(1060));
    assert_eq!(entry.extended_error(), Some((6, "www.example. A: why")));
    let form = entry.form(true);
    assert_eq!((form.answers, form.authorities), (2, 1));
    assert_eq!(form.records, with_dnssec.octets);
    assert_eq!(form.ttl_offsets().collect::<Vec<_>>(), [6, 22, 38]);
    let form = entry.form(false);
    assert_eq!((form.answers, form.authorities), (1, 0));
    assert_eq!(form.records, plain.octets);
    assert_eq!(form.ttl_offsets().collect::<Vec<_>>(), [6]);
}

#[test]
fn counts_beyond_an_octet_and_single_forms_read_back() {
    for (answers, authorities) in [(0, 0), (1, 0), (255, 255), (256, 0), (0, 256), (700, 3)] {
        let records = addresses(answers, authorities);
        for (secure, text) in [(false, None), (true, None), (true, Some((4, "why")))] {
            let fill = Fill {
                rcode: 0,
                ttl_s: 60,
                secure,
                signed_s: 600,
                ends: false,
                failure: None,
                extended_error: text,
                with_dnssec: &records,
                plain: &records,
            };
            let key = key("www.example");
            let stored = Stored::pack(&key, &fill, 1000).unwrap();
            let entry = stored.entry();
            let form = entry.form(false);
            assert_eq!((form.answers, form.authorities), (answers, authorities));
            assert_eq!(form.records, records.octets);
            assert_eq!((entry.key(), entry.extended_error()), (&*key, text));
            assert_eq!(entry.is_signed_for(30, 1570), secure);
            assert_eq!(Stored::unpack(entry.octets(), 1000), Some(stored.clone()));
        }
    }
}

#[test]
fn an_address_costs_sixteen_octets_beside_its_key_and_record() {
    let key = key("www.example");
    let records = addresses(1, 0);
    let fill = Fill {
        rcode: 0,
        ttl_s: 60,
        secure: false,
        signed_s: 0,
        ends: false,
        failure: None,
        extended_error: None,
        with_dnssec: &records,
        plain: &records,
    };
    let stored = Stored::pack(&key, &fill, 1).unwrap();
    assert_eq!(stored.octets(), 16 + key.len() + records.octets.len());
}

#[test]
fn numbers_that_change_stay_within_their_bits() {
    let mut stored = stored(&key("www.example"), 16, 1000);
    for _ in 0..40 {
        stored.visit();
    }
    stored.mark_failed(1_000_000_000, 255);
    let entry = stored.entry();
    assert_eq!((entry.hits(), entry.rcode()), (15, 0));
    assert_eq!(entry.key(), key("www.example"));
    // What does not fit failed earlier than it did, which makes the next try come sooner.
    assert_eq!(entry.refresh_failed(), Some((1000 + 0x00ff_fffe, 127)));
    stored.mark_failed(1060, 3);
    assert_eq!(stored.entry().refresh_failed(), Some((1060, 3)));
}

#[test]
fn a_clock_that_steps_back_makes_nothing_younger_than_new() {
    let stored = stored(&key("a"), 16, 1000);
    assert_eq!(stored.entry().age_s(10), 0);
}

#[test]
fn a_new_answer_replaces_the_old() {
    let cache = cache(1 << 20);
    cache.insert(stored(&key("a"), 16, 1));
    cache.insert(stored(&key("a"), 20, 2));
    assert_eq!(cache.len(), 1);
    let len = cache.read(&key("a"), |entry| entry.form(false).records.len());
    assert_eq!(len, Some(20));
}

#[test]
fn the_cache_never_exceeds_its_size_and_keeps_names_in_use() {
    let size = 1 << 20;
    let cache = cache(size);
    let in_use: Vec<Vec<u8>> = (0..20).map(|i| key(&format!("used{i}.example"))).collect();
    for key in &in_use {
        cache.insert(stored(key, 100, 1));
    }
    for i in 0..30_000 {
        cache.insert(stored(&key(&format!("once{i}.example")), 1_200, 1));
        let used = &in_use[i % 20];
        assert!(cache.read(used, |_| ()).is_some(), "evicted after {i}");
    }
    assert!(cache.octets() <= size);
    assert!(cache.octets() > size / 2);
}

/// Stores names that nobody asks for again, `count` of them.
fn flood(cache: &Cache, mark: &str, count: usize) {
    for i in 0..count {
        cache.insert(stored(&key(&format!("{i}.{mark}.example")), 100, 1));
    }
}

fn is_there(cache: &Cache, name: &str) -> bool {
    let mut is_there = false;
    cache.for_each(|entry| is_there |= entry.key() == key(name));
    is_there
}

#[test]
fn names_asked_for_once_do_not_displace_those_asked_for_twice() {
    let cache = cache(1 << 20);
    flood(&cache, "fill", 20_000);
    for i in 0..100 {
        let key = key(&format!("used{i}.example"));
        cache.insert(stored(&key, 100, 1));
        assert!(cache.read(&key, |_| ()).is_some());
    }
    // Five times what there is room for, and nobody reads the hundred meanwhile.
    flood(&cache, "flood", 30_000);
    for i in 0..100 {
        assert!(is_there(&cache, &format!("used{i}.example")), "{i}");
    }
}

#[test]
fn the_latest_to_come_stays() {
    let hash = |key: &[u8]| {
        let step =
            |hash: u64, octet: &u8| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
        key.iter().fold(0xcbf2_9ce4_8422_2325, step)
    };
    let mut shard = Shard::new(64 << 10);
    let mut chance = 1_u32;
    for step in 0..50_000 {
        chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let octets = 20 + usize::try_from(chance >> 20).unwrap() % 300;
        let key = key(&format!("{step}.example"));
        shard.insert(hash(&key), stored(&key, octets, 1), hash);
        assert!(shard.find_mut(hash(&key), &key).is_some(), "{step}");
    }
}

#[test]
fn names_asked_for_again_soon_after_they_left_stay() {
    let cache = cache(1 << 20);
    let name = |i| format!("again{i}.example");
    let there = || (0..50).filter(|&i| is_there(&cache, &name(i))).count();
    flood(&cache, "fill", 20_000);
    (0..50).for_each(|i| cache.insert(stored(&key(&name(i)), 100, 1)));
    flood(&cache, "first", 2_000);
    assert_eq!(there(), 0);
    (0..50).for_each(|i| cache.insert(stored(&key(&name(i)), 100, 1)));
    flood(&cache, "second", 30_000);
    // A later name may have taken the place where one was remembered: about one in six.
    assert!(there() > 25, "{}", there());
}

#[test]
fn regulars_that_are_all_read_make_room_still() {
    let size = 1 << 20;
    let cache = cache(size);
    let read = |i| cache.read(&key(&format!("{i}.example")), |_| ()).is_some();
    for i in 0..20_000 {
        cache.insert(stored(&key(&format!("{i}.example")), 100, 1));
        assert!(read(i));
        if i % 1_000 == 999 {
            assert!((0..i).filter(|&j| read(j)).count() > 500);
        }
        assert!(cache.octets() <= size);
    }
    assert!(cache.octets() > size * 9 / 10);
}

#[test]
fn a_fresh_answer_inherits_the_place_of_the_old() {
    let cache = cache(1 << 20);
    flood(&cache, "fill", 20_000);
    cache.insert(stored(&key("used.example"), 100, 1));
    assert!(cache.read(&key("used.example"), |_| ()).is_some());
    cache.insert(stored(&key("used.example"), 300, 2));
    flood(&cache, "flood", 30_000);
    assert!(is_there(&cache, "used.example"));
}

#[test]
fn whatever_happens_every_entry_is_found_and_paid_for() {
    let mut size = 512 << 10;
    let cache = cache(size);
    let mut chance = 1_u32;
    for step in 0..60_000_u32 {
        chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let number = (chance >> 8) % 6_000;
        let key = key(&format!("{number}.example"));
        let octets = 20 + usize::try_from(chance >> 20).unwrap() % 300;
        match (chance >> 4) % 8 {
            0 => cache.remove(&key),
            1..4 => drop(cache.read(&key, |entry| assert_eq!(entry.key(), key))),
            // Some are larger than the newcomers' share of a shard, few larger than a shard.
            4 if step % 64 == 0 => cache.insert(stored(&key, octets * 200, 1)),
            _ => cache.insert(stored(&key, octets, 1)),
        }
        if step % 10_000 == 9_999 {
            size = if size == 512 << 10 {
                200 << 10
            } else {
                512 << 10
            };
            cache.resize(size);
            let zone = Name::parse(&format!("{number}.example")).unwrap();
            cache.remove_zone(&zone);
        }
        assert!(cache.octets() <= size);
    }
    let mut keys = Vec::new();
    cache.for_each(|entry| keys.push(entry.key().to_vec()));
    assert_eq!(keys.len(), cache.len());
    assert!(keys.len() > 100);
    for key in &keys {
        assert!(cache.read(key, |_| ()).is_some());
        cache.remove(key);
    }
    assert_eq!((cache.len(), cache.octets()), (0, 0));
}

#[test]
fn an_answer_larger_than_a_shard_is_not_kept() {
    let cache = cache(16 * 1024);
    cache.insert(stored(&key("big"), 60_000, 1));
    assert!(cache.is_empty());
    cache.insert(stored(&key("small"), 16, 1));
    assert_eq!(cache.len(), 1);
}

#[test]
fn flushing_takes_a_name_a_zone_or_all() {
    let cache = cache(1 << 20);
    for name in ["example", "a.example", "b.a.example", "other"] {
        cache.insert(stored(&key(name), 16, 1));
    }
    cache.remove(&key("example"));
    assert_eq!(cache.len(), 3);
    assert_eq!(cache.remove_zone(&Name::parse("a.example").unwrap()), 2);
    assert_eq!(cache.len(), 1);
    assert!(cache.read(&key("other"), |_| ()).is_some());
    cache.remove_zone(&Name::root());
    assert!(cache.is_empty());
    assert_eq!(cache.octets(), 0);
}

#[test]
fn failures_count_what_came_before() {
    let records = Records::default();
    let fill = Fill {
        rcode: 2,
        ttl_s: 5,
        secure: false,
        signed_s: 0,
        ends: false,
        failure: Some(3),
        extended_error: Some((22, "")),
        with_dnssec: &records,
        plain: &records,
    };
    let stored = Stored::pack(&key("a"), &fill, 1).unwrap();
    assert_eq!(stored.entry().failure(), Some(3));
    assert_eq!(stored.entry().extended_error(), Some((22, "")));
    assert_eq!(stored.entry().form(true), Form::default());
}
