//! What must hold for any octets, one function for each fuzz target. `tests/it/seeds.rs` runs
//! them on the seeds, so that a crash once found is tried again by every `cargo test`.

#![allow(dead_code, reason = "each fuzz target uses one of these")]

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use truename::{
    cache::{self, Cache, Entry, Fill, Stored, file},
    clock::Now,
    config::{self, Options, Surroundings},
    dnssec::{self, FetchFailed, KeyCache, Step, Validation, Verdict},
    handler::{Client, Transport},
    listener, net, reply, upstream,
    wire::{Name, Query, Question, Record, Records, Response, ttl_offsets},
};

/// What is tried with octets; panics when it does not hold.
type Claim = fn(&[u8]);

/// Every target with its function, by the name of its seeds' directory.
pub(crate) const ALL: [(&str, Claim); 10] = [
    ("cache_file", cache_file),
    ("config", config),
    ("doh_request", doh_request),
    ("entry", entry),
    ("framing", framing),
    ("name", name),
    ("query_peek", query_peek),
    ("response", response),
    ("stamp_url", stamp_url),
    ("validate", validate),
];

/// A query that can be looked up has a key and a question that agree; what cannot gets a reply
/// that no client can mistake for another's.
pub(crate) fn query_peek(octets: &[u8]) {
    match Query::peek(octets) {
        Ok(query) => {
            let question = query.question();
            let wire = question.name.as_wire();
            assert!(query.key().starts_with(&wire.to_ascii_lowercase()));
            assert_eq!(question.qtype, query.qtype());
            // The question keeps the client's spelling (0x20), the name does not.
            let asked = query.question_octets().get(..wire.len());
            assert!(asked.is_some_and(|asked| asked.eq_ignore_ascii_case(wire)));
            assert_eq!(query.octets(), octets);
        }
        Err(fault) => {
            let mut out = Vec::new();
            if reply::fault(octets, fault, &mut out) {
                assert_eq!(out.get(..2), octets.get(..2), "the id");
                assert!(out[2] & 0x80 != 0, "a response");
                assert!(
                    out.len() < 12 + 255 + 4 + 11 + 1,
                    "never much longer than a query"
                );
            } else {
                assert!(out.is_empty());
            }
        }
    }
}

/// A response that parses is written again and read back the same, but for letter case.
pub(crate) fn response(octets: &[u8]) {
    let Ok(response) = Response::parse(octets) else {
        return;
    };
    let Some(records) = encode(&response) else {
        // Names of the message were more compressed than we compress.
        return;
    };
    let ttls = ttl_offsets(&records.octets).count();
    assert_eq!(ttls, response.answer.len() + response.authority.len());
    let mut again = vec![0, 0, 0x80, 0, 0, 1];
    again.extend(records.answers.to_be_bytes());
    again.extend(records.authorities.to_be_bytes());
    again.extend([0, 0]);
    again.extend(response.question.name.as_wire());
    again.extend(response.question.qtype.to_be_bytes());
    again.extend(response.question.qclass.to_be_bytes());
    again.extend(&records.octets);
    if again.len() > 65_535 {
        return;
    }
    let read = Response::parse(&again).expect("what we write can be read");
    assert_eq!(read.question, response.question);
    assert_same(&read.answer, &response.answer);
    assert_same(&read.authority, &response.authority);
}

/// A name in RDATA may take the spelling of an earlier one that it is compressed to.
fn assert_same(read: &[Record], written: &[Record]) {
    assert_eq!(read.len(), written.len());
    for (read, written) in read.iter().zip(written) {
        assert_eq!(read.owner, written.owner);
        assert_eq!((read.rtype, read.class), (written.rtype, written.class));
        assert_eq!(read.ttl_s, written.ttl_s);
        assert!(read.rdata.eq_ignore_ascii_case(&written.rdata));
    }
}

fn encode(response: &Response) -> Option<Records> {
    Records::encode(
        &response.question,
        response.answer.iter(),
        response.authority.iter(),
    )
}

/// Whatever was stored, a reply is a message that its client can read, within its limit, and no
/// TTL grows.
pub(crate) fn entry(octets: &[u8]) {
    let Some((&[rcode, flags, failure, age, limit, at], rest)) = octets.split_first_chunk() else {
        return;
    };
    let (query, message) = rest.split_at(rest.len().min(usize::from(at)));
    let (Ok(query), Ok(response)) = (Query::peek(query), Response::parse(message)) else {
        return;
    };
    // The records of any response, written for the question that is asked.
    let question = query.question();
    let kept = |record: &&Record| flags & 0x10 == 0 || record.rtype != 46;
    let encode = |question: &Question, all: bool| {
        let kept = |record: &&Record| all || kept(record);
        let (answer, authority) = (response.answer.iter(), response.authority.iter());
        Records::encode(question, answer.filter(kept), authority.filter(kept))
    };
    let (Some(with_dnssec), Some(plain)) = (encode(&question, true), encode(&question, false))
    else {
        return;
    };
    let text = String::from_utf8_lossy(message);
    let ttls = response.answer.iter().chain(&response.authority);
    let ttl_s = ttls.map(|record| record.ttl_s).min().unwrap_or(60);
    let fill = Fill {
        rcode: rcode & 0x0f,
        ttl_s,
        secure: flags & 1 != 0,
        signed_s: ttl_s,
        ends: false,
        failure: (flags & 2 != 0).then_some(failure),
        extended_error: (flags & 4 != 0).then_some((u16::from(failure), &*text)),
        with_dnssec: &with_dnssec,
        plain: &plain,
    };
    let now = Now::read();
    let Some(stored) = Stored::pack(query.key(), &fill, now.uptime_s) else {
        return;
    };
    let entry = stored.entry();
    assert_eq!(entry.key(), query.key());
    let transport = Transport::ALL[usize::from(limit) % Transport::ALL.len()];
    let client = Client {
        address: ([127, 0, 0, 1], 53).into(),
        transport,
    };
    let settings = reply::Settings {
        idle: Duration::from_secs(30),
        cookie_secret: [7; 16],
    };
    let later = now.plus(Duration::from_secs(u64::from(age)));
    let mut out = Vec::new();
    let answer = reply::answer(&settings, &query, &client, &entry, &later, &mut out);
    assert!(answer.ttl_s <= ttl_s);
    assert_eq!(out.get(..2), query.octets().get(..2), "the id");
    if transport == Transport::Udp {
        let offered = query
            .edns()
            .map_or(512, |edns| edns.payload_octets.max(512));
        assert!(out.len() <= usize::from(offered.min(1232)), "{}", out.len());
    } else {
        assert!(out.len() <= 65_535, "{}", out.len());
    }
    let read = Response::parse(&out).expect("a reply can be read");
    assert_eq!(read.question, question);
    for (record, stored) in read.answer.iter().zip(&response.answer) {
        if flags & 0x10 == 0 {
            assert!(record.ttl_s <= stored.ttl_s);
        }
    }
}

/// The end of a file of the cache with one entry: no more entries, one in all, and a digest that is
/// none.
const FILE_TAIL_OCTETS: usize = 4 + 8 + 32;

/// What is taken out of a file, damaged or forged, is answers that any client can read, of questions
/// that somebody can ask, and they are saved and loaded the same.
pub(crate) fn cache_file(octets: &[u8]) {
    // The digest of a file that a fuzzer made never holds, so it is not asked for.
    let _ = file::verify(&mut &*octets);
    let now = Now::read();
    let cache = Cache::new(&cache::Settings::default());
    let _ = file::load(
        &mut &*octets,
        &cache,
        0,
        now.uptime_s,
        &cache::Settings::default(),
        || true,
    );
    let settings = reply::Settings {
        idle: Duration::from_secs(30),
        cookie_secret: [7; 16],
    };
    let mut count = 0;
    cache.for_each(|entry| {
        count += 1;
        assert!(entry.failure().is_none());
        assert!(entry.is_fresh(now.uptime_s) || entry.is_stale(now.uptime_s, 86_400));
        for dnssec in [false, true] {
            ask(&settings, &entry, dnssec, &now);
        }
    });
    let head = file::Head {
        unix_s: now.unix_s,
        uptime_s: now.uptime_s,
        boot: [1; 16],
        judge: [2; 32],
    };
    let mut saved = Vec::new();
    assert_eq!(
        file::save(&cache, &head, &cache::Settings::default(), &mut saved).ok(),
        Some(count)
    );
    assert_eq!(file::verify(&mut &*saved).ok(), Some(head));
    assert!(saved.len() >= file::HEAD_OCTETS + FILE_TAIL_OCTETS);
    let again = Cache::new(&cache::Settings::default());
    let loaded = file::load(
        &mut &*saved,
        &again,
        0,
        now.uptime_s,
        &cache::Settings::default(),
        || true,
    );
    let loaded = loaded.expect("what was saved is loaded");
    assert_eq!((loaded.taken, loaded.refused), (count, 0));
}

/// Asks the question of an entry; the reply must be readable.
fn ask(settings: &reply::Settings, entry: &Entry<'_>, dnssec: bool, now: &Now) {
    let (question, checking_disabled) = entry.key().split_at(entry.key().len() - 1);
    let mut query = vec![0, 7, 1, checking_disabled[0] << 4, 0, 1, 0, 0, 0, 0, 0, 1];
    query.extend_from_slice(question);
    query.extend_from_slice(&[0, 0, 41, 0xff, 0xff, 0, 0, u8::from(dnssec) << 7, 0, 0, 0]);
    // Transfers and the like have no key, so no entry of theirs is ever found.
    let Ok(query) = Query::peek(&query) else {
        return;
    };
    assert_eq!(query.key(), entry.key());
    let client = Client {
        address: ([127, 0, 0, 1], 53).into(),
        transport: Transport::Tcp,
    };
    let mut out = Vec::new();
    reply::answer(settings, &query, &client, entry, now, &mut out);
    let read = Response::parse(&out).expect("a reply can be read");
    assert_eq!(read.question, query.question());
    for record in read.answer.iter().chain(&read.authority) {
        assert!(record.ttl_s >= entry.ttl_s().saturating_sub(entry.age_s(now.uptime_s)));
    }
}

/// A query taken out of a request is within the bound, and is the one that was put in.
pub(crate) fn doh_request(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (method, target, media) = (line(), line(), line());
    let Ok(method) = http::Method::from_bytes(method.as_bytes()) else {
        return;
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let request = listener::doh_request("/dns-query", &method, path, query, Some(media.as_bytes()));
    if let Ok(listener::Request::Query(found)) = request {
        assert!(found.len() <= listener::QUERY_MAX_OCTETS);
        let target = format!("dns={}", net::doh::encode_dns_variable(&found));
        let again = listener::doh_request("/dns-query", &method, path, Some(&target), None);
        assert_eq!(again, Ok(listener::Request::Query(found)));
    }
}

/// An upstream that parses has somewhere to go.
pub(crate) fn stamp_url(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else {
        return;
    };
    if let Ok(upstream) = upstream::parse(text, upstream::Overrides::default()) {
        // Addresses are known or can be looked up, and only where a certificate vouches for the host.
        assert_eq!(upstream.addresses.is_empty(), upstream.look_up.is_some());
        assert!(upstream.look_up.is_none() || upstream.transport.is_encrypted());
        assert!(!upstream.name.is_empty());
        if upstream.transport.is_encrypted() {
            assert!(upstream.server_name.is_some() || !upstream.pins.is_empty());
        }
    }
}

/// A file is either checked settings, whose printed form means the same, or problems at places
/// within it.
pub(crate) fn config(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else {
        return;
    };
    let parse = |text: &str| {
        config::parse(
            text,
            Some(Path::new("/etc/truename/truename.toml")),
            &Surroundings::default(),
            &Options::default(),
        )
    };
    match parse(text) {
        Ok(settings) => {
            let effective = settings.effective();
            let again = parse(&effective).unwrap_or_else(|error| panic!("{error}\n{effective}"));
            assert_eq!(again.effective(), effective);
        }
        Err(config::Problems(problems)) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                assert!(!problem.to_string().contains('\n'), "{problem}");
                if let config::Place::File { line, column, .. } = problem.place {
                    assert!(line >= 1 && column >= 1);
                    assert!(line <= text.matches('\n').count() + 1);
                }
            }
        }
    }
}

/// Messages split off a stream, put together again, are the stream.
pub(crate) fn framing(octets: &[u8]) {
    use truename::net::framing::{close, open, split};

    let (mut rest, mut again) = (octets, Vec::new());
    while let Some((message, taken)) = split(rest) {
        let at = open(&mut again);
        again.extend_from_slice(message);
        assert!(close(&mut again, at));
        rest = &rest[taken..];
    }
    again.extend_from_slice(rest);
    assert_eq!(again, octets);
}

/// A name read is within the bounds, and its text means the same name.
pub(crate) fn name(octets: &[u8]) {
    let Some((start, message)) = octets.split_first() else {
        return;
    };
    let start = usize::from(*start);
    if let Ok((name, end)) = Name::read(message, start) {
        assert!(end > start && end <= message.len());
        assert!(name.as_wire().len() <= 255);
        assert_eq!(Name::from_wire(name.as_wire()).as_ref(), Ok(&name));
        let text = name.to_string();
        assert_eq!(Name::parse(&text).as_ref(), Ok(&name), "{text}");
        assert_eq!(name.labels().count(), name.label_count());
        let mut ancestor = Some(name.clone());
        while let Some(above) = ancestor {
            assert!(name.is_within(&above));
            ancestor = above.parent();
        }
    }
    if let Ok(text) = std::str::from_utf8(message)
        && let Ok(name) = Name::parse(text)
    {
        assert!(name.as_wire().len() <= 255);
        assert_eq!(Name::parse(&name.to_string()), Ok(name));
    }
}

/// A second within the life of the signatures in [`CONVERSATION`]: 2019-06-01.
pub(crate) const CONVERSATION_UNIX_S: u64 = 1_559_347_200;
/// The responses of an honest upstream to eight questions and to those of their chains, in hex, as
/// `make_seeds.py` writes them from the records of RFC 9102, appendix A.
const CONVERSATION: &str = include_str!("rfc9102.hex");
/// The questions that clients ask come first ...
const ASKED: usize = 8;
/// ... and the last of them is about a name that opt-out leaves unsigned.
const UNSIGNED: usize = 7;

/// The responses of an honest upstream.
pub(crate) fn conversation() -> &'static [Response] {
    static READ: OnceLock<Vec<Response>> = OnceLock::new();
    READ.get_or_init(|| {
        let response = |line: &str| {
            let octet = |at| u8::from_str_radix(&line[at..at + 2], 16).expect("hex");
            let octets: Vec<u8> = (0..line.len()).step_by(2).map(octet).collect();
            Response::parse(&octets).expect("a response")
        };
        CONVERSATION.lines().map(response).collect()
    })
}

/// Whatever comes instead of the responses of an honest upstream, a verdict is reached; what is
/// secure is the truth, and what is signed does not become insecure.
///
/// The first octet chooses the question, then each five change one response.
pub(crate) fn validate(octets: &[u8]) {
    let Some((pick, mut rest)) = octets.split_first() else {
        return;
    };
    let honest = conversation();
    let pick = usize::from(*pick) % ASKED;
    let mut told = honest.to_vec();
    while let Some((change, after)) = rest.split_first_chunk::<5>() {
        rest = after;
        if change[1] == 0xff {
            // The rest is a message of its own.
            if let Ok(response) = Response::parse(rest) {
                let place = usize::from(change[0]) % told.len();
                let question = told[place].question.clone();
                told[place] = Response {
                    question,
                    ..response
                };
            }
            break;
        }
        tell_otherwise(&mut told, *change);
    }
    let now = Now {
        unix_s: CONVERSATION_UNIX_S,
        ..Now::read()
    };
    let root_keys = honest.last().expect("the root's keys come last");
    let anchors = root_keys.answer.iter().filter(|one| one.rtype == 48);
    let anchors = anchors
        .filter(|one| one.rdata.get(1) == Some(&1))
        .filter_map(|one| dnssec::ds_of_key(&Name::root(), &one.rdata));
    let settings = Arc::new(dnssec::Settings::with_root_anchors(anchors.collect()));
    let mut keys = KeyCache::new();
    let mut gaps = dnssec::Gaps::new();
    let asked = &honest[pick].question;
    let mut validation = Validation::new(asked.clone(), &told[pick], Arc::clone(&settings), now);
    let mut steps = 0;
    let judged = loop {
        match validation.step(&keys) {
            Step::Done(judged) => break judged,
            Step::Need(needs) => {
                steps += 1;
                assert!(steps < 200 && !needs.is_empty(), "it never ends");
                for need in needs {
                    let response = told.iter().find(|one| one.question == need);
                    validation.supply(need, response.ok_or(FetchFailed::Network));
                }
            }
        }
    };
    let truth = &honest[pick];
    if octets.len() == 1 {
        assert!(judged.verdict.is_usable(), "{judged:?}");
    }
    match &judged.verdict {
        Verdict::Secure => {
            let (said, true_data) = (data(&judged.answer), data(&truth.answer));
            assert!(said.is_subset(&true_data), "{judged:?}");
            if judged.next.is_none() {
                assert_eq!(said, true_data, "{judged:?}");
                assert_eq!(judged.rcode, truth.rcode);
            }
            assert!(pick != UNSIGNED, "{judged:?}");
        }
        Verdict::Insecure(reason) => assert!(pick == UNSIGNED, "{reason}"),
        Verdict::Indeterminate(_) | Verdict::Bogus(_) => {
            assert!(judged.answer.is_empty() && judged.authority.is_empty());
        }
    }
    // What was learned must not deny what exists, nor make later answers anything but the truth.
    keys.learn(judged.learned, &now);
    gaps.learn(judged.proven, &now);
    for one in &honest[..ASKED] {
        if let Some(denied) = gaps.deny(&one.question, &settings, &now) {
            assert!(one.answer.is_empty(), "{denied:?}");
        }
    }
}

/// Owner, type and RDATA of what answers, in any order and case.
fn data(records: &[Record]) -> BTreeSet<(Vec<u8>, u16, Vec<u8>)> {
    let data = records.iter().filter(|record| record.rtype != 46);
    data.map(|record| {
        let owner = record.owner.as_wire().to_ascii_lowercase();
        (owner, record.rtype, record.rdata.to_ascii_lowercase())
    })
    .collect()
}

/// One change to one of the responses.
fn tell_otherwise(told: &mut [Response], [message, what, record, at, value]: [u8; 5]) {
    let count = told.len();
    let other = told[usize::from(at) % count].clone();
    let response = &mut told[usize::from(message) % count];
    let answers = response.answer.len();
    let all = answers + response.authority.len();
    match what % 10 {
        // Records of another response, all of them.
        0 => {
            response.answer.extend(other.answer);
            response.authority.extend(other.authority);
        }
        1 => response.rcode = u16::from(value % 8),
        2 => response.truncated = true,
        3 => std::mem::swap(&mut response.answer, &mut response.authority),
        _ if all == 0 => {}
        what => {
            let place = usize::from(record) % all;
            let (section, place) = if place < answers {
                (&mut response.answer, place)
            } else {
                (&mut response.authority, place - answers)
            };
            match what {
                4 => _ = section.remove(place),
                5 => {
                    let one = section[place].clone();
                    section.push(one);
                }
                6 => section[place].ttl_s = u32::from(value) << 24,
                7 => section[place].rtype = u16::from(value),
                8 => {
                    let mut others = other.answer.iter().chain(&other.authority);
                    if let Some(from) = others.nth(usize::from(value)) {
                        section[place].owner = from.owner.clone();
                    }
                }
                _ => {
                    let rdata = &mut section[place].rdata;
                    if let Some(octet) = rdata.get_mut(usize::from(at)) {
                        *octet ^= value.max(1);
                    }
                }
            }
        }
    }
}
