//! Years of key rollover in milliseconds.

use super::lab::{
    DAY_S, assumed, date, events, keeper, name, proved, revoked, root_keys, seed, state, tags,
};
use crate::{
    anchors::{
        ADD_HOLD_DOWN_S, Event, KEYS_PER_TRUST_POINT_MAX, Keeper, NotObserved, REMOVE_HOLD_DOWN_S,
        Source, State, TRUST_POINTS_MAX, built_in,
    },
    clock,
    wire::Name,
};

/// A key of a made-up kind: ECDSA P-256 has 64 octets, whatever they are.
fn key(number: u8) -> Vec<u8> {
    let mut rdata = vec![1, 1, 3, 13];
    rdata.extend_from_slice(&[number; 64]);
    rdata
}

/// The keys the root zone had or will have on a day.
fn root_on(day_s: u64) -> Vec<Box<[u8]>> {
    let [ksk_2017, ksk_2024] = root_keys();
    let mut keys = Vec::new();
    if day_s < date("2027-01-11") {
        keys.push(ksk_2017);
    } else if day_s < date("2027-03-22") {
        keys.push(revoked(&ksk_2017));
    }
    if date("2025-01-11") <= day_s {
        keys.push(ksk_2024);
    }
    // A ZSK, which comes and goes and must never matter.
    let mut zsk = key(u8::try_from(day_s / (90 * DAY_S) % 200).unwrap());
    zsk[1] = 0;
    keys.push(zsk.into_boxed_slice());
    keys
}

/// Lets the days pass, with one query each when it is due, and the state stored after each.
fn live(keeper: &mut Keeper, from_s: u64, until_s: u64) -> Vec<(u64, Option<u16>, Event)> {
    let root = Name::root();
    let mut seen = Vec::new();
    let mut now_s = from_s;
    while now_s < until_s {
        let keys = root_on(now_s);
        let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        let changes = keeper.take(&proved(&root, &keys), now_s).unwrap();
        seen.extend(
            changes
                .iter()
                .map(|change| (now_s / DAY_S * DAY_S, change.key_tag, change.event)),
        );
        *keeper = Keeper::from_text(&keeper.to_text(), 0).unwrap();
        let next_s = keeper.next_query_s(&root).unwrap();
        assert!((now_s + 3600..=now_s + 15 * DAY_S).contains(&next_s));
        now_s = next_s;
    }
    seen
}

#[test]
fn root_rolls_from_2024_to_2027() {
    let root = Name::root();
    let [ksk_2017, ksk_2024] = root_keys();
    let start_s = date("2024-07-18");
    let mut keeper = keeper(&root, &[&ksk_2017], start_s);
    assert_eq!(tags(&keeper, &root), [20326]);

    let seen = live(&mut keeper, start_s, date("2025-02-05"));
    let until_s = date("2025-01-11") + ADD_HOLD_DOWN_S;
    assert_eq!(
        seen,
        [(date("2025-01-11"), Some(38696), Event::Pending { until_s })]
    );
    assert_eq!(tags(&keeper, &root), [20326]);

    // The signing switch of 2026-10-11 is no event: both are trusted.
    let seen = live(&mut keeper, date("2025-02-05"), date("2027-01-11"));
    assert_eq!(seen, [(until_s, Some(38696), Event::Trusted)]);
    assert_eq!(tags(&keeper, &root), [20326, 38696]);

    let seen = live(&mut keeper, date("2027-01-11"), date("2028-01-01"));
    assert_eq!(seen[0], (date("2027-01-11"), Some(20326), Event::Revoked));
    assert_eq!((seen[1].1, seen[1].2), (Some(20326), Event::Removed));
    // Thirty days after it was last seen, and not after it was revoked.
    let last_seen_s = date("2027-03-22") - DAY_S;
    assert!(
        (last_seen_s + REMOVE_HOLD_DOWN_S..last_seen_s + REMOVE_HOLD_DOWN_S + 3 * DAY_S)
            .contains(&seen[1].0)
    );
    assert_eq!(seen.len(), 2);
    assert_eq!(tags(&keeper, &root), [38696]);
    assert_eq!(state(&keeper, &root, &ksk_2017), Some(State::Removed));
    assert_eq!(state(&keeper, &root, &ksk_2024), Some(State::Valid));
}

#[test]
fn fresh_install_after_the_roll_needs_only_the_new_key() {
    let root = Name::root();
    for (start, before, after) in [
        ("2026-11-20", &[20326, 38696][..], &[38696][..]),
        // Between revocation and removal.
        ("2027-02-01", &[38696], &[38696]),
        // The old key has left the zone unseen: missing, and by the RFC still trusted.
        ("2028-06-01", &[20326, 38696], &[20326, 38696]),
    ] {
        let start_s = date(start);
        let mut keeper = Keeper::new(0);
        keeper.seed(&built_in(), Source::BuiltIn, start_s);
        live(&mut keeper, start_s, start_s + DAY_S);
        assert_eq!(tags(&keeper, &root), before, "{start}");
        live(&mut keeper, start_s + DAY_S, start_s + 200 * DAY_S);
        assert_eq!(tags(&keeper, &root), after, "{start}");
    }
}

#[test]
fn key_that_vanishes_during_hold_down_starts_again() {
    let zone = name("island.example");
    let (old, new) = (key(1), key(2));
    let t = date("2026-12-01");
    let mut keeper = keeper(&zone, &[&old], t);
    let both = proved(&zone, &[&old, &new]);
    let alone = proved(&zone, &[&old]);
    keeper.take(&both, t).unwrap();
    let changes = keeper.take(&alone, t + 29 * DAY_S).unwrap();
    assert_eq!(changes[0].event, Event::Withdrawn);
    assert_eq!(state(&keeper, &zone, &new), None);
    keeper.take(&both, t + 30 * DAY_S).unwrap();
    // Not even a second early.
    assert_eq!(keeper.take(&both, t + 60 * DAY_S - 1).unwrap(), []);
    let changes = keeper.take(&both, t + 60 * DAY_S).unwrap();
    assert_eq!(changes[0].event, Event::Trusted);
}

#[test]
fn hold_down_ends_only_when_the_key_is_seen_again() {
    let zone = name("island.example");
    let (old, new) = (key(1), key(2));
    let t = date("2026-12-01");
    let mut keeper = keeper(&zone, &[&old], t);
    keeper.take(&proved(&zone, &[&old, &new]), t).unwrap();
    // Gone at the first query after the hold-down: it was never there long enough.
    let changes = keeper
        .take(&proved(&zone, &[&old]), t + 40 * DAY_S)
        .unwrap();
    assert_eq!(changes[0].event, Event::Withdrawn);
    assert_eq!(keeper.anchors()[&zone].len(), 1);
}

#[test]
fn standby_key_waits_as_valid_and_goes_missing_and_comes_back() {
    let zone = name("island.example");
    let (active, standby) = (key(1), key(2));
    let t = date("2026-12-01");
    let mut keeper = keeper(&zone, &[&active], t);
    let both = proved(&zone, &[&active, &standby]);
    keeper.take(&both, t).unwrap();
    keeper.take(&both, t + 31 * DAY_S).unwrap();
    assert_eq!(state(&keeper, &zone, &standby), Some(State::Valid));
    let changes = keeper
        .take(&proved(&zone, &[&standby]), t + 32 * DAY_S)
        .unwrap();
    assert_eq!(changes[0].event, Event::Missing);
    assert_eq!(keeper.anchors()[&zone].len(), 2, "missing keys are trusted");
    let changes = keeper.take(&both, t + 33 * DAY_S).unwrap();
    assert_eq!(changes[0].event, Event::Back);
}

#[test]
fn revoked_key_never_returns() {
    let zone = name("island.example");
    let (old, new) = (key(1), key(2));
    let t = date("2026-12-01");
    let mut keeper = keeper(&zone, &[&old, &new], t);
    let withdrawn = proved(&zone, &[&revoked(&old), &new]);
    assert_eq!(keeper.take(&withdrawn, t).unwrap()[0].event, Event::Revoked);
    // The thief, or the owner by mistake, publishes it again as if nothing had been.
    let again = proved(&zone, &[&old, &new]);
    for day in 1..100 {
        assert_eq!(keeper.take(&again, t + day * DAY_S).unwrap(), []);
    }
    assert!(matches!(
        state(&keeper, &zone, &old),
        Some(State::Revoked { .. })
    ));
    // Nor by the file it came from, whatever else changes in it.
    let seeds = [seed(&zone, &old), seed(&zone, &new), seed(&zone, &key(3))];
    let changes = keeper.seed(&seeds, Source::Configured, t + 100 * DAY_S);
    assert_eq!(changes[0].event, Event::SeedRevoked);
    assert!(changes[0].event.is_alarm());
    assert_eq!(keeper.anchors()[&zone].len(), 2);
    // Nor after it counts as removed.
    let without = proved(&zone, &[&new, &key(3)]);
    keeper.take(&without, t + 101 * DAY_S).unwrap();
    keeper.take(&without, t + 140 * DAY_S).unwrap();
    assert_eq!(state(&keeper, &zone, &old), Some(State::Removed));
    keeper.take(&again, t + 141 * DAY_S).unwrap();
    assert_eq!(state(&keeper, &zone, &old), Some(State::Removed));
}

#[test]
fn revoked_key_is_remembered_while_no_file_names_it() {
    let zone = name("island.example");
    let (old, new) = (key(1), key(2));
    let t = date("2026-12-01");
    let mut keeper = keeper(&zone, &[&old, &new], t);
    keeper
        .take(&proved(&zone, &[&revoked(&old), &new]), t)
        .unwrap();
    keeper.seed(&[seed(&zone, &new)], Source::Configured, t + DAY_S);
    let changes = keeper.seed(&[seed(&zone, &old)], Source::Configured, t + 2 * DAY_S);
    assert!(
        changes
            .iter()
            .any(|change| change.event == Event::SeedRevoked)
    );
    assert_eq!(changes.last().unwrap().event, Event::NoneLeft);
}

#[test]
fn a_pending_key_that_revokes_itself_is_never_trusted() {
    let zone = name("island.example");
    let (old, new) = (key(1), key(2));
    let t = date("2026-12-01");
    let mut keeper = keeper(&zone, &[&old], t);
    keeper.take(&proved(&zone, &[&old, &new]), t).unwrap();
    let set = proved(&zone, &[&old, &revoked(&new)]);
    assert_eq!(
        keeper.take(&set, t + DAY_S).unwrap()[0].event,
        Event::Revoked
    );
    keeper
        .take(&proved(&zone, &[&old, &new]), t + 90 * DAY_S)
        .unwrap();
    assert_eq!(keeper.anchors()[&zone].len(), 1);
}

#[test]
fn revocation_needs_no_other_proof_and_proves_nothing_else() {
    let zone = name("island.example");
    let (old, other, new) = (key(1), key(2), key(3));
    let t = date("2026-12-01");
    let mut keeper = keeper(&zone, &[&old, &other], t);
    let set = assumed(&zone, false, &[&revoked(&old), &new]);
    let changes = keeper.take(&set, t).unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].event, Event::Revoked);
    // The new key was not announced by anybody trusted, the other one is not proved to be gone.
    assert_eq!(state(&keeper, &zone, &new), None);
    assert_eq!(state(&keeper, &zone, &other), Some(State::Valid));
}

#[test]
fn zone_whose_keys_are_all_revoked_stays_closed() {
    let root = Name::root();
    let [ksk_2017, ksk_2024] = root_keys();
    let t = date("2026-12-01");
    let mut keeper = keeper(&root, &[&ksk_2017, &ksk_2024], t);
    let set = assumed(&root, false, &[&revoked(&ksk_2017), &revoked(&ksk_2024)]);
    let changes = keeper.take(&set, t).unwrap();
    let last = changes.last().unwrap();
    assert_eq!((last.key_tag, last.event), (None, Event::NoneLeft));
    assert!(last.event.is_alarm());
    // There still is an anchor, so that the zone does not fall to its parent or to insecure, and
    // it is one that no key fits.
    let anchors = keeper.anchors();
    assert_eq!(anchors[&root].len(), 1);
    assert_eq!(*anchors[&root][0].digest, [0; 32]);
    assert!(crate::dnssec::ds_usable(&anchors[&root][0], false));
    // A new anchor opens it again.
    keeper.seed(&[seed(&root, &key(7))], Source::Configured, t + 1);
    assert_eq!(keeper.anchors()[&root].len(), 1);
    assert_ne!(*keeper.anchors()[&root][0].digest, [0; 32]);
}

#[test]
fn two_zones_roll_apart() {
    let (root, island) = (Name::root(), name("island.example"));
    let t = date("2026-12-01");
    let mut keeper = Keeper::new(0);
    let mut seeds = built_in();
    seeds.push(seed(&island, &key(1)));
    keeper.seed(&seeds, Source::Configured, t);
    keeper
        .take(&proved(&island, &[&key(1), &key(2)]), t)
        .unwrap();
    keeper
        .take(&proved(&island, &[&key(1), &key(2)]), t + 31 * DAY_S)
        .unwrap();
    keeper
        .take(
            &proved(&island, &[&revoked(&key(1)), &key(2)]),
            t + 32 * DAY_S,
        )
        .unwrap();
    assert_eq!(keeper.anchors()[&island].len(), 1);
    assert_eq!(tags(&keeper, &root), [20326, 38696]);
    // A key of the island is nothing to the root.
    assert_eq!(state(&keeper, &root, &key(2)), None);
    let stranger = proved(&name("other.example"), &[&key(1)]);
    assert_eq!(
        keeper.take(&stranger, t + 33 * DAY_S),
        Err(NotObserved::NotTracked)
    );
}

#[test]
fn bad_clock_starts_and_advances_nothing() {
    let zone = name("island.example");
    let (old, new) = (key(1), key(2));
    let floor_s = clock::FLOOR_UNIX_S;
    let mut keeper = Keeper::new(floor_s);
    keeper.seed(&[seed(&zone, &old)], Source::Configured, 0);
    let both = proved(&zone, &[&old, &new]);
    // Before the build, as a machine without a battery wakes up.
    for now_s in [0, 1, floor_s - 1] {
        let refused = keeper.take(&both, now_s);
        assert_eq!(refused, Err(NotObserved::ClockBehind { now_s, floor_s }));
        assert_eq!(state(&keeper, &zone, &new), None);
    }
    keeper.take(&both, floor_s).unwrap();
    let pending = state(&keeper, &zone, &new);
    keeper.take(&both, floor_s + 20 * DAY_S).unwrap();
    // Behind the last time, also across a restart.
    let mut keeper = Keeper::from_text(&keeper.to_text(), floor_s).unwrap();
    assert!(keeper.take(&both, floor_s + 19 * DAY_S).is_err());
    assert!(
        keeper
            .take(&proved(&zone, &[&revoked(&old)]), floor_s + 19 * DAY_S)
            .is_err()
    );
    assert_eq!(state(&keeper, &zone, &new), pending);
    assert_eq!(state(&keeper, &zone, &old), Some(State::Valid));
    // Once the clock is right, the next try is not far.
    assert!(keeper.next_query_s(&zone).unwrap() <= floor_s + 20 * DAY_S);
    let changes = keeper.take(&both, floor_s + 30 * DAY_S).unwrap();
    assert_eq!(changes[0].event, Event::Trusted);
}

#[test]
fn queries_are_scheduled_as_rfc_5011_section_2_3_says() {
    use crate::dnssec::ProvedKeys;
    let zone = name("island.example");
    let t = date("2026-12-01");
    // TTL, remaining life, interval, retry.
    for (ttl_s, life_s, interval_s, retry_s) in [
        (172_800, 1_814_400, 86_400, 17_280),
        (60, 1_814_400, 3600, 3600),
        (172_800, 600, 3600, 3600),
        (5_184_000, 5_184_000, 15 * DAY_S, DAY_S),
    ] {
        let mut keeper = keeper(&zone, &[&key(1)], t);
        assert_eq!(keeper.next_query_s(&zone), Some(t), "at once");
        let set = ProvedKeys::assumed(zone.clone(), true, Vec::new(), ttl_s, life_s);
        keeper.take(&set, t).unwrap();
        assert_eq!(keeper.next_query_s(&zone), Some(t + interval_s));
        keeper.failed(&zone, t + interval_s);
        assert_eq!(keeper.next_query_s(&zone), Some(t + interval_s + retry_s));
    }
}

#[test]
fn hold_down_lasts_as_long_as_a_long_ttl() {
    use crate::dnssec::{ProvedKeys, SeenKey};
    let zone = name("island.example");
    let t = date("2026-12-01");
    let mut keeper = keeper(&zone, &[&key(1)], t);
    let seen = SeenKey {
        rdata: key(2).into(),
        eligible: true,
        revoked: false,
    };
    let ttl_s = 40 * 86_400;
    let set = ProvedKeys::assumed(zone.clone(), true, vec![seen], ttl_s, 1_000_000);
    keeper.take(&set, t).unwrap();
    let until_s = t + u64::from(ttl_s);
    assert_eq!(
        state(&keeper, &zone, &key(2)),
        Some(State::Pending { until_s })
    );
}

#[test]
fn keys_and_zones_are_bounded() {
    let zone = name("island.example");
    let t = date("2026-12-01");
    let mut keeper = keeper(&zone, &[&key(0)], t);
    let max = u8::try_from(KEYS_PER_TRUST_POINT_MAX).unwrap();
    let many: Vec<Vec<u8>> = (0..=max).map(key).collect();
    let all: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    let changes = keeper.take(&proved(&zone, &all), t).unwrap();
    assert_eq!(changes.last().unwrap().event, Event::TooManyKeys);
    let count = |keeper: &Keeper| keeper.points().next().unwrap().1.keys.len();
    assert_eq!(count(&keeper), KEYS_PER_TRUST_POINT_MAX);
    // The bound does not keep the trusted key from living on, and text of that size is read.
    assert_eq!(state(&keeper, &zone, &key(0)), Some(State::Valid));
    assert_eq!(
        Keeper::from_text(&keeper.to_text(), 0).unwrap().to_text(),
        keeper.to_text()
    );
    // A removed key makes room.
    keeper
        .take(&proved(&zone, &[&key(0), &key(1)]), t + 1)
        .unwrap();
    let mut t = t + 1;
    for round in 1..=100 {
        let (old, new) = (key(round), key(round + 1));
        let both = proved(&zone, &[&key(0), &old, &new]);
        keeper.take(&both, t).unwrap();
        keeper.take(&both, t + 31 * DAY_S).unwrap();
        keeper
            .take(
                &proved(&zone, &[&key(0), &revoked(&old), &new]),
                t + 32 * DAY_S,
            )
            .unwrap();
        keeper
            .take(&proved(&zone, &[&key(0), &new]), t + 70 * DAY_S)
            .unwrap();
        t += 70 * DAY_S;
        assert_eq!(state(&keeper, &zone, &new), Some(State::Valid), "{round}");
    }
    assert_eq!(count(&keeper), KEYS_PER_TRUST_POINT_MAX);

    let seeds: Vec<_> = (0..=TRUST_POINTS_MAX)
        .map(|number| seed(&name(&format!("z{number}.example")), &key(1)))
        .collect();
    let changes = keeper.seed(&seeds, Source::Configured, t);
    assert_eq!(changes.last().unwrap().event, Event::TooManyZones);
    assert_eq!(keeper.points().count(), TRUST_POINTS_MAX);
}

#[test]
fn changed_file_starts_the_zone_afresh() {
    let zone = name("island.example");
    let t = date("2026-12-01");
    let mut keeper = keeper(&zone, &[&key(1)], t);
    let both = proved(&zone, &[&key(1), &key(2)]);
    keeper.take(&both, t).unwrap();
    keeper.take(&both, t + 31 * DAY_S).unwrap();
    let t = t + 32 * DAY_S;
    // The same file changes nothing, in whatever order.
    assert_eq!(
        keeper.seed(&[seed(&zone, &key(1))], Source::Configured, t),
        []
    );
    assert_eq!(keeper.anchors()[&zone].len(), 2);
    // Another one is what holds.
    let changes = keeper.seed(&[seed(&zone, &key(3))], Source::Configured, t);
    let dropped = changes
        .iter()
        .filter(|change| change.event == Event::Dropped);
    assert_eq!(dropped.count(), 2);
    assert_eq!(changes.last().unwrap().event, Event::Seeded);
    assert_eq!(
        keeper.anchors()[&zone],
        [seed(&zone, &key(3)).key.ds(&zone).unwrap()]
    );
    // And a zone nobody writes down is no longer kept.
    keeper.seed(&[seed(&Name::root(), &key(3))], Source::Configured, t);
    assert!(!keeper.anchors().contains_key(&zone));
}

#[test]
fn changed_built_in_anchors_add_and_never_take_away() {
    let root = Name::root();
    let t = date("2026-12-01");
    let mut keeper = Keeper::new(0);
    let first = [seed(&root, &key(1))];
    keeper.seed(&first, Source::BuiltIn, t);
    let both = proved(&root, &[&key(1), &key(2), &key(3)]);
    keeper.take(&both, t).unwrap();
    keeper.take(&both, t + 31 * DAY_S).unwrap();
    keeper
        .take(
            &proved(&root, &[&revoked(&key(1)), &key(2), &key(3)]),
            t + 32 * DAY_S,
        )
        .unwrap();
    let t = t + 33 * DAY_S;
    let newer = [seed(&root, &key(4))];
    let changes = keeper.seed(&newer, Source::BuiltIn, t);
    assert_eq!(events(&changes).len(), 1);
    assert_eq!(keeper.anchors()[&root].len(), 3);
    // The older program again: its key was revoked, and what was learned stays.
    let changes = keeper.seed(&first, Source::BuiltIn, t);
    assert_eq!(changes[0].event, Event::SeedRevoked);
    assert_eq!(keeper.anchors()[&root].len(), 3);
    // An operator's file replaces them all.
    keeper.seed(&[seed(&root, &key(5))], Source::Configured, t);
    assert_eq!(keeper.anchors()[&root].len(), 1);
}

#[test]
fn seeds_count_in_their_time_only() {
    let zone = name("island.example");
    let t = date("2026-12-01");
    let mut dated = [
        seed(&zone, &key(1)),
        seed(&zone, &key(2)),
        seed(&zone, &key(3)),
    ];
    dated[0].valid_until_s = Some(t);
    dated[1].valid_from_s = Some(t);
    dated[2].valid_from_s = Some(t + 1);
    let mut keeper = Keeper::new(0);
    keeper.seed(&dated, Source::Configured, t);
    assert_eq!(keeper.anchors()[&zone], [dated[1].key.ds(&zone).unwrap()]);
    // None in its time: closed, and said.
    let mut keeper = Keeper::new(0);
    let changes = keeper.seed(&dated[..1], Source::Configured, t);
    assert_eq!(changes.last().unwrap().event, Event::NoneLeft);
    assert_eq!(*keeper.anchors()[&zone][0].digest, [0; 32]);
    // A dead clock does not bring an old key back: the floor counts.
    let mut keeper = Keeper::new(t);
    keeper.seed(&dated, Source::Configured, 0);
    assert_eq!(keeper.anchors()[&zone], [dated[1].key.ds(&zone).unwrap()]);
}
