//! Turning what was found into what is stored: TTLs clamped, both forms encoded, failures given
//! their short life. RFC 2308 (negative answers), RFC 9520 (failures), RFC 8484 section 5.1.

use crate::{
    cache::{Cache, Fill, Settings, Stored},
    reply::Failure,
    wire::{Question, Record, Records, rtype},
};

use super::driver::Found;

/// A negative answer without SOA says nothing of its life (RFC 2308, section 5): long enough to
/// answer a burst of equal questions, seconds.
const NEGATIVE_WITHOUT_SOA_S: u32 = 5;
/// How long a failure to resolve is remembered at first, seconds; each that follows at once doubles
/// it (RFC 9520, section 3.2) ...
const FAILURE_S: u32 = 1;
/// ... up to this, seconds.
const FAILURE_MAX_S: u32 = 300;
/// ... or up to this when the answer was bogus: its zone may be mended any minute, seconds.
const BOGUS_MAX_S: u32 = 60;

/// Packs an answer to `question` under `key`; `None` when it is larger than a message.
pub(super) fn pack(
    settings: &Settings,
    key: &[u8],
    question: &Question,
    mut found: Found,
    now_s: u32,
) -> Option<Stored> {
    let is_positive = found
        .answer
        .iter()
        .any(|record| record.rtype == question.qtype);
    let ceiling = if is_positive {
        settings.ttl_max_s
    } else {
        settings.ttl_max_s.min(settings.negative_ttl_max_s)
    };
    // No signature outlives its expiry in the cache.
    let ceiling = found.ttl_cap_s.map_or(ceiling, |cap_s| cap_s.min(ceiling));
    let mut ttl_s = ceiling;
    if !is_positive {
        ttl_s = ttl_s.min(negative_ttl_s(&mut found.authority));
    }
    let floor = if is_positive {
        settings.ttl_min_s.min(ceiling)
    } else {
        0
    };
    for record in found.answer.iter_mut().chain(&mut found.authority) {
        record.ttl_s = record.ttl_s.clamp(floor, ceiling);
        ttl_s = ttl_s.min(record.ttl_s);
    }
    let wanted = |record: &Record, dnssec_ok: bool| {
        dnssec_ok || record.rtype == question.qtype || !is_dnssec(record.rtype)
    };
    let records = |dnssec_ok: bool| {
        let wanted = |record: &&Record| wanted(record, dnssec_ok);
        Records::encode(
            question,
            found.answer.iter().filter(wanted),
            found.authority.iter().filter(wanted),
        )
    };
    let with_dnssec = records(true)?;
    let mut all = found.answer.iter().chain(&found.authority);
    let differ = all.any(|record| !wanted(record, false));
    let plain = if differ { Some(records(false)?) } else { None };
    let fill = Fill {
        rcode: u8::try_from(found.rcode).unwrap_or(0),
        ttl_s,
        secure: found.secure,
        signed_s: found.signed_s.unwrap_or(0),
        ends: found.ends,
        failure: None,
        extended_error: found
            .extended_error
            .as_ref()
            .map(|error| (error.code, &*error.text)),
        with_dnssec: &with_dnssec,
        plain: plain.as_ref().unwrap_or(&with_dnssec),
    };
    Stored::pack(key, &fill, now_s)
}

/// Packs a failure. One that is the name's own lives longer when the cache remembers others right
/// before it.
pub(super) fn pack_failure(
    cache: &Cache,
    key: &[u8],
    failure: &Failure,
    now_s: u32,
) -> Option<Stored> {
    // The network may be back any moment, and our own limits are not the name's fault: that says
    // nothing about the name, and is neither remembered nor counted (RFC 9520, section 3).
    let is_of_name = is_of_name(failure);
    let before = cache
        .read(key, |entry| {
            let recent = entry.age_s(now_s) <= entry.ttl_s().saturating_add(FAILURE_MAX_S);
            entry.failure().filter(|_| recent && is_of_name)
        })
        .flatten()
        .unwrap_or(0);
    let ttl_s = match failure {
        Failure::Bogus(_) => doubled(before).min(BOGUS_MAX_S),
        Failure::Upstream(_) => doubled(before).min(FAILURE_MAX_S),
        _ => FAILURE_S,
    };
    let count = if is_of_name {
        before.saturating_add(1).min(16)
    } else {
        0
    };
    let error = failure.extended_error();
    let nothing = Records::default();
    let fill = Fill {
        rcode: u8::try_from(failure.rcode()).unwrap_or(2),
        ttl_s,
        secure: false,
        signed_s: 0,
        ends: true,
        failure: Some(count),
        extended_error: Some((error.code, &error.text)),
        with_dnssec: &nothing,
        plain: &nothing,
    };
    Stored::pack(key, &fill, now_s)
}

/// Whether a failure says something about the name.
pub(super) fn is_of_name(failure: &Failure) -> bool {
    matches!(failure, Failure::Upstream(_) | Failure::Bogus(_))
}

/// [`FAILURE_S`], doubled `times` times.
pub(super) fn doubled(times: u8) -> u32 {
    FAILURE_S.checked_shl(u32::from(times)).unwrap_or(u32::MAX)
}

/// The life of a negative answer: the smaller of the SOA's TTL and its MINIMUM field, which also
/// becomes the TTL the client sees (RFC 2308, section 5).
fn negative_ttl_s(authority: &mut [Record]) -> u32 {
    let mut ttl_s = None;
    for record in authority
        .iter_mut()
        .filter(|record| record.rtype == rtype::SOA)
    {
        let minimum = record
            .rdata
            .last_chunk::<4>()
            .map_or(0, |field| u32::from_be_bytes(*field));
        record.ttl_s = record.ttl_s.min(minimum);
        ttl_s = Some(record.ttl_s);
    }
    ttl_s.unwrap_or(NEGATIVE_WITHOUT_SOA_S)
}

/// Types that only clients with DO get (RFC 4035, section 3.2.1), unless they ask for them.
fn is_dnssec(rtype: u16) -> bool {
    matches!(rtype, rtype::RRSIG | rtype::NSEC | rtype::NSEC3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{CLASS_IN, Name, rcode};

    fn question() -> Question {
        Question {
            name: Name::parse("www.example.com").unwrap(),
            qtype: rtype::A,
            qclass: CLASS_IN,
        }
    }

    fn record(rtype: u16, ttl_s: u32, rdata: &[u8]) -> Record {
        Record {
            owner: question().name,
            rtype,
            class: CLASS_IN,
            ttl_s,
            rdata: Box::from(rdata),
        }
    }

    fn soa(ttl_s: u32, minimum: u32) -> Record {
        let mut rdata = vec![0; 18];
        rdata.extend_from_slice(&minimum.to_be_bytes());
        record(rtype::SOA, ttl_s, &rdata)
    }

    fn ttl_of(answer: Vec<Record>, authority: Vec<Record>) -> (u32, u32) {
        let settings = Settings {
            ttl_min_s: 10,
            ..Settings::default()
        };
        let found = Found {
            answer,
            authority,
            ..Found::default()
        };
        let stored = pack(&settings, b"key", &question(), found, 1).unwrap();
        let entry = stored.entry();
        let form = entry.form(true);
        let at = form.ttl_offsets().next().unwrap_or(0);
        let shown = form.records.get(at..at + 4).unwrap_or(&[0; 4]);
        (
            entry.ttl_s(),
            u32::from_be_bytes(*shown.first_chunk().unwrap()),
        )
    }

    #[test]
    fn ttls_are_clamped_and_the_smallest_counts() {
        let a = |ttl_s| record(rtype::A, ttl_s, &[192, 0, 2, 1]);
        assert_eq!(ttl_of(vec![a(300)], Vec::new()), (300, 300));
        assert_eq!(ttl_of(vec![a(1)], Vec::new()), (10, 10));
        assert_eq!(
            ttl_of(vec![a(i32::MAX.unsigned_abs())], Vec::new()),
            (86_400, 86_400)
        );
        assert_eq!(ttl_of(vec![a(300), a(200)], Vec::new()).0, 200);
    }

    #[test]
    fn negative_answers_live_as_their_soa_says() {
        assert_eq!(ttl_of(Vec::new(), vec![soa(300, 60)]), (60, 60));
        assert_eq!(ttl_of(Vec::new(), vec![soa(30, 600)]), (30, 30));
        // The configured floor is for positive answers.
        assert_eq!(ttl_of(Vec::new(), vec![soa(300, 5)]), (5, 5));
        assert_eq!(
            ttl_of(Vec::new(), vec![soa(90_000, 90_000)]),
            (3_600, 3_600)
        );
        assert_eq!(ttl_of(Vec::new(), Vec::new()).0, NEGATIVE_WITHOUT_SOA_S);
    }

    #[test]
    fn clients_without_do_get_no_signatures() {
        let found = Found {
            answer: vec![
                record(rtype::A, 60, &[192, 0, 2, 1]),
                record(rtype::RRSIG, 60, &[0; 40]),
            ],
            ..Found::default()
        };
        let stored = pack(&Settings::default(), b"key", &question(), found, 1).unwrap();
        assert_eq!(stored.entry().form(true).answers, 2);
        assert_eq!(stored.entry().form(false).answers, 1);
    }

    #[test]
    fn failures_in_a_row_live_longer_each() {
        let cache = Cache::new(&Settings::default());
        let why = Failure::Upstream("answered SERVFAIL".to_owned());
        let mut now_s = 1000;
        let mut lives = Vec::new();
        for _ in 0..11 {
            let stored = pack_failure(&cache, b"key", &why, now_s).unwrap();
            lives.push(stored.entry().ttl_s());
            now_s += stored.entry().ttl_s();
            cache.insert(stored);
        }
        assert_eq!(lives, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let bogus = Failure::Bogus(crate::reply::ExtendedError {
            code: 6,
            text: "bogus".into(),
        });
        let mut lives = Vec::new();
        for _ in 0..8 {
            let stored = pack_failure(&cache, b"bogus", &bogus, now_s).unwrap();
            lives.push(stored.entry().ttl_s());
            now_s += stored.entry().ttl_s();
            cache.insert(stored);
        }
        assert_eq!(lives, [1, 2, 4, 8, 16, 32, 60, 60]);
        let later = pack_failure(&cache, b"key", &why, now_s + 10_000).unwrap();
        assert_eq!(later.entry().ttl_s(), 1);
        // Ten minutes without a network say nothing about the name.
        for _ in 0..600 {
            let offline = Failure::Network("cannot connect".to_owned());
            let stored = pack_failure(&cache, b"other", &offline, now_s).unwrap();
            assert_eq!(stored.entry().ttl_s(), 1);
            cache.insert(stored);
            now_s += 1;
        }
        let first = pack_failure(&cache, b"other", &why, now_s).unwrap();
        assert_eq!(first.entry().ttl_s(), 1);
        let gone = pack_failure(&cache, b"key", &Failure::Unreachable, now_s).unwrap();
        assert_eq!(gone.entry().ttl_s(), 1);
        assert_eq!(u16::from(gone.entry().rcode()), rcode::SERVFAIL);
    }
}
