//! What one step costs: `cargo bench --bench micro`, with `-- cache` for a part.
//!
//! Whole queries are measured from outside, see README.md.
#![allow(clippy::indexing_slicing, reason = "nothing here comes from outside")]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use truename::{
    cache::{Cache, Fill, Settings, Stored},
    clock::Now,
    dnssec::{self, FetchFailed, KeyCache, Step, Validation},
    handler::{Client, Transport},
    reply,
    wire::{Name, Query, Records, Response},
};

#[path = "../fuzz/claims.rs"]
mod claims;

/// A query for the address of a name, with an OPT record that sets DO.
fn query(name: &str) -> Vec<u8> {
    let mut octets = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    octets.extend_from_slice(Name::parse(name).expect("a name").as_wire());
    octets.extend_from_slice(&[0, 1, 0, 1]);
    octets.extend_from_slice(&[0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, 0]);
    octets
}

/// The response to a query with one address, its OPT record left out.
fn response(query: &[u8]) -> Vec<u8> {
    let mut octets = query[..query.len() - 11].to_vec();
    octets[2] |= 0x80;
    octets[7] = 1;
    octets[11] = 0;
    octets.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0x2c, 0, 4, 192, 0, 2, 1]);
    octets
}

fn encode(response: &Response) -> Records {
    let (answer, authority) = (response.answer.iter(), response.authority.iter());
    Records::encode(&response.question, answer, authority).expect("it fits")
}

/// What is stored for a query.
fn stored(octets: &[u8], now: &Now) -> Stored {
    let response = Response::parse(&response(octets)).expect("a response");
    let records = encode(&response);
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
    let query = Query::peek(octets).expect("a query");
    Stored::pack(query.key(), &fill, now.uptime_s).expect("it fits")
}

fn wire(c: &mut Criterion) {
    let query = query("www.example.com");
    let received = response(&query);
    let parsed = Response::parse(&received).expect("a response");
    c.bench_function("wire/peek", |b| b.iter(|| Query::peek(black_box(&query))));
    c.bench_function("wire/parse", |b| {
        b.iter(|| Response::parse(black_box(&received)));
    });
    c.bench_function("wire/encode", |b| b.iter(|| encode(black_box(&parsed))));
}

fn cache(c: &mut Criterion) {
    let now = Now::read();
    for count in [5_000, 1_000_000_usize] {
        let cache = Cache::new(&Settings {
            size_octets: 1 << 30,
            ..Settings::default()
        });
        for i in 0..count {
            cache.insert(stored(&query(&format!("n{i}.example")), &now));
        }
        let queries: Vec<Vec<u8>> = (0..count.min(100_000))
            .map(|i| query(&format!("n{}.example", i * 7919 % count)))
            .collect();
        let mut turn = queries.iter().cycle();
        c.bench_function(&format!("cache/read of {count}"), |b| {
            b.iter(|| {
                let query = turn.next().expect("it never ends");
                let query = Query::peek(query).expect("a query");
                cache.read(query.key(), |entry| entry.ttl_s())
            });
        });
    }
    let cache = Cache::new(&Settings::default());
    let entry = stored(&query("www.example.com"), &now);
    c.bench_function("cache/insert", |b| b.iter(|| cache.insert(entry.clone())));
}

fn reply(c: &mut Criterion) {
    let now = Now::read();
    let octets = query("www.example.com");
    let stored = stored(&octets, &now);
    let settings = reply::Settings {
        idle: Duration::from_secs(30),
        cookie_secret: [7; 16],
    };
    let client = Client {
        address: ([127, 0, 0, 1], 5353).into(),
        transport: Transport::Udp,
    };
    let later = now.plus(Duration::from_secs(10));
    let mut out = Vec::new();
    c.bench_function("reply/answer", |b| {
        b.iter(|| {
            out.clear();
            let query = Query::peek(black_box(&octets)).expect("a query");
            reply::answer(
                &settings,
                &query,
                &client,
                &stored.entry(),
                &later,
                &mut out,
            )
        });
    });
}

/// A real chain (RFC 9102, appendix A), P-256 and RSA, from the root's key to an answer.
fn validator(c: &mut Criterion) {
    let told = claims::conversation();
    let now = Now {
        unix_s: claims::CONVERSATION_UNIX_S,
        ..Now::read()
    };
    let root_keys = told.last().expect("the root's keys come last");
    let anchors = root_keys
        .answer
        .iter()
        .filter(|one| one.rtype == 48 && one.rdata.get(1) == Some(&1))
        .filter_map(|one| dnssec::ds_of_key(&Name::root(), &one.rdata));
    let settings = Arc::new(dnssec::Settings::with_root_anchors(anchors.collect()));
    let judge = |keys: &KeyCache| {
        let asked = told[0].question.clone();
        let mut validation = Validation::new(asked, &told[0], Arc::clone(&settings), now);
        loop {
            match validation.step(keys) {
                Step::Done(judged) => return judged,
                Step::Need(needs) => {
                    for need in needs {
                        let response = told.iter().find(|one| one.question == need);
                        validation.supply(need, response.ok_or(FetchFailed::Network));
                    }
                }
            }
        }
    };
    let cold = KeyCache::new();
    let mut warm = KeyCache::new();
    warm.learn(judge(&cold).learned, &now);
    c.bench_function("validator/cold chain", |b| b.iter(|| judge(&cold)));
    c.bench_function("validator/warm chain", |b| b.iter(|| judge(&warm)));
}

criterion_group!(benches, wire, cache, reply, validator);
criterion_main!(benches);
