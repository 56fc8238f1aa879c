//! Real signatures: what a response proves, and what it cannot.

use super::lab::{DAY_S, Signer, date, name, response, revoked, root_keys, seed, state};
use crate::{
    anchors::{Event, Keeper, NotObserved, Source, State, built_in},
    clock::Now,
    dnssec::{KeyCache, Security, Settings, Step, Validation, Why, key_tag},
    wire::{Name, Response, rtype},
};

fn settings() -> Settings {
    Settings::with_root_anchors(Vec::new())
}

fn keeper(zone: &Name, key: &Signer, now_s: u64) -> Keeper {
    let mut keeper = Keeper::new(0);
    keeper.seed(&[seed(zone, &key.rdata)], Source::Configured, now_s);
    keeper
}

#[test]
fn a_whole_roll_with_signatures() {
    for zone in [Name::root(), name("island.example")] {
        let t = date("2026-12-01");
        let (old, new, old_revoked) = (Signer::new(1), Signer::new(2), Signer::revoked(1));
        let mut keeper = keeper(&zone, &old, t);
        let mut observe = |keys: &[&Signer], signers: &[&Signer], now_s| {
            let response = response(&zone, keys, signers, now_s);
            let changes = keeper
                .observe(&zone, &response, &settings(), now_s)
                .unwrap();
            let events: Vec<Event> = changes.into_iter().map(|change| change.event).collect();
            (events, keeper.anchors()[&zone].clone())
        };
        let until_s = t + 30 * DAY_S;
        let (events, _) = observe(&[&old, &new], &[&old], t);
        assert_eq!(events, [Event::Pending { until_s }]);
        let (events, anchors) = observe(&[&old, &new], &[&old], until_s);
        assert_eq!(events, [Event::Trusted]);
        assert_eq!(anchors, [old.ds(&zone), new.ds(&zone)]);
        // The new key signs, the old one withdraws itself.
        let (events, anchors) = observe(
            &[&old_revoked, &new],
            &[&old_revoked, &new],
            until_s + DAY_S,
        );
        assert_eq!(events, [Event::Revoked]);
        assert_eq!(anchors, [new.ds(&zone)]);
        let (events, _) = observe(&[&new], &[&new], until_s + 40 * DAY_S);
        assert_eq!(events, [Event::Removed]);
    }
}

#[test]
fn forged_unsigned_and_stale_sets_change_nothing() {
    let zone = name("island.example");
    let t = date("2026-12-01");
    let (old, thief) = (Signer::new(1), Signer::new(9));
    let mut keeper = keeper(&zone, &old, t);
    let before = keeper.anchors();
    let set = [&old, &thief];
    let mut tampered = response(&zone, &set, &[&old], t);
    tampered.answer[1].rdata[20] ^= 1;
    let mut empty = response(&zone, &set, &[&old], t);
    empty.answer.clear();
    let mut foreign = response(&name("other.example"), &set, &[&old], t);
    foreign.question.name = zone.clone();
    let cases = [
        ("unsigned", response(&zone, &set, &[], t)),
        ("signed by a stranger", response(&zone, &set, &[&thief], t)),
        ("tampered", tampered),
        ("empty", empty),
        ("another zone's", foreign),
        ("expired", response(&zone, &set, &[&old], t - 40 * DAY_S)),
        (
            "from the future",
            response(&zone, &set, &[&old], t + 40 * DAY_S),
        ),
        // The bit alone revokes nothing, nor does a revocation of a key nobody trusts.
        (
            "revoked, unsigned",
            response(&zone, &[&Signer::revoked(1)], &[], t),
        ),
        (
            "revoked, signed by another",
            response(&zone, &[&Signer::revoked(1), &thief], &[&thief], t),
        ),
    ];
    for (case, response) in cases {
        let refused = keeper.observe(&zone, &response, &settings(), t);
        assert!(matches!(refused, Err(NotObserved::NotProved(_))), "{case}");
        assert_eq!(keeper.anchors(), before, "{case}");
        assert_eq!(state(&keeper, &zone, &thief.rdata), None, "{case}");
        assert_eq!(keeper.next_query_s(&zone), Some(t + 3600), "{case}");
    }
    // A stranger who revokes himself is none of our business.
    let own = Signer::revoked(9);
    let response = response(&zone, &[&own], &[&own], t);
    assert_eq!(
        keeper.observe(&zone, &response, &settings(), t),
        Ok(Vec::new())
    );
    assert_eq!(keeper.anchors(), before);
}

#[test]
fn a_set_signed_by_the_revoked_key_alone_revokes_it_and_closes_the_zone() {
    let zone = name("island.example");
    let t = date("2026-12-01");
    let (old, thief) = (Signer::new(1), Signer::new(9));
    let withdrawn = Signer::revoked(1);
    let mut keeper = keeper(&zone, &old, t);
    let last = response(&zone, &[&withdrawn, &thief], &[&withdrawn], t);
    let changes = keeper.observe(&zone, &last, &settings(), t).unwrap();
    let events: Vec<Event> = changes.into_iter().map(|change| change.event).collect();
    assert_eq!(events, [Event::Revoked, Event::NoneLeft]);
    // From here on nothing is proved, neither by the thief nor by the key's former self.
    for signer in [&old, &thief] {
        let set = response(&zone, &[&old, &thief], &[signer], t + DAY_S);
        let refused = keeper.observe(&zone, &set, &settings(), t + DAY_S);
        let Err(NotObserved::NotProved(reason)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(reason.why, Why::KeyMissing);
        assert_eq!(reason.why.security(), Security::Bogus);
        assert_eq!((reason.owner, reason.rtype), (zone.clone(), rtype::DNSKEY));
    }
    assert!(matches!(
        state(&keeper, &zone, &old.rdata),
        Some(State::Revoked { .. })
    ));
}

/// What the validator says of a zone's own keys, given the keeper's anchors.
fn verdict(keeper: &Keeper, response: &Response, unix_s: u64) -> Security {
    let settings = Settings {
        anchors: keeper.anchors(),
        ..settings()
    };
    let now = Now {
        unix_s,
        ..Now::read()
    };
    let question = response.question.clone();
    let mut validation = Validation::new(question, response, settings.shared(), now);
    match validation.step(&KeyCache::new()) {
        Step::Done(judged) => judged.verdict.security(),
        Step::Need(questions) => panic!("{questions:?}"),
    }
}

#[test]
fn the_validator_finds_a_closed_zone_bogus_with_and_without_an_anchor_above() {
    let zone = name("island.example");
    let t = date("2026-12-01");
    let (old, withdrawn) = (Signer::new(1), Signer::revoked(1));
    for with_root in [false, true] {
        let mut keeper = Keeper::new(0);
        let mut seeds = vec![seed(&zone, &old.rdata)];
        if with_root {
            seeds.extend(built_in());
        }
        keeper.seed(&seeds, Source::Configured, t);
        let good = response(&zone, &[&old], &[&old], t);
        assert_eq!(verdict(&keeper, &good, t), Security::Secure);
        let last = response(&zone, &[&withdrawn], &[&withdrawn], t);
        keeper.observe(&zone, &last, &settings(), t).unwrap();
        assert_eq!(verdict(&keeper, &good, t), Security::Bogus);
        assert_eq!(verdict(&keeper, &last, t), Security::Bogus);
        let unsigned = response(&zone, &[&old], &[], t);
        assert_eq!(verdict(&keeper, &unsigned, t), Security::Bogus);
    }
}

#[test]
fn only_keys_fit_for_an_anchor_are_taken_up() {
    let zone = name("island.example");
    let t = date("2026-12-01");
    let old = Signer::new(1);
    let mut keeper = keeper(&zone, &old, t);
    let odd = |seed: u8, place: usize, value: u8| {
        let mut signer = Signer::new(seed);
        signer.rdata[place] = value;
        signer
    };
    // No SEP, no ZONE, another protocol, algorithms unknown and resting on SHA-1.
    let others = [
        odd(2, 1, 0),
        odd(3, 0, 0),
        odd(4, 2, 4),
        odd(5, 3, 200),
        odd(6, 3, 7),
    ];
    let mut keys = vec![&old];
    keys.extend(&others);
    let set = response(&zone, &keys, &[&old], t);
    let sha1 = Settings {
        sha1: true,
        ..settings()
    };
    assert_eq!(keeper.observe(&zone, &set, &sha1, t), Ok(Vec::new()));
}

#[test]
fn ksk_2017_changes_its_tag_when_it_is_revoked() {
    let [ksk_2017, _] = root_keys();
    assert_eq!(key_tag(&ksk_2017), 20326);
    assert_eq!(key_tag(&revoked(&ksk_2017)), 20454);
}
