use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::*;
use crate::{
    access,
    handler::Transport,
    upstream::{ExchangeError, Exchanged},
    wire::{CLASS_IN, Name, Question, Record, Records, Response, rcode},
};

/// Upstreams that follow a script.
#[derive(Debug)]
struct Script {
    responses: Mutex<HashMap<Question, Vec<u8>>>,
    asked: Mutex<Vec<Question>>,
    /// Each exchange takes one permit.
    gate: Semaphore,
}

impl Script {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            responses: Mutex::default(),
            asked: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    fn says(&self, name: &str, rcode: u16, answer: &[Record], authority: &[Record]) {
        let question = question(name);
        let records = Records::encode(&question, answer.iter(), authority.iter()).unwrap();
        let mut octets = vec![0, 0, 0x81, 0x80 | u8::try_from(rcode).unwrap(), 0, 1];
        octets.extend_from_slice(&records.answers.to_be_bytes());
        octets.extend_from_slice(&records.authorities.to_be_bytes());
        octets.extend_from_slice(&[0, 0]);
        octets.extend_from_slice(question.name.as_wire());
        octets.extend_from_slice(&[0, 1, 0, 1]);
        octets.extend_from_slice(&records.octets);
        self.responses.lock().unwrap().insert(question, octets);
    }

    fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Exchange for Script {
    fn timeout(&self) -> Duration {
        Duration::from_secs(4)
    }

    fn count(&self, _: &Question) -> usize {
        1
    }

    fn is_down(&self, _: &Question) -> bool {
        false
    }

    fn incomplete(&self, _: &str) {}

    async fn exchange(
        &self,
        question: &Question,
        _: Instant,
        _: Option<&str>,
    ) -> Result<Exchanged, ExchangeError> {
        self.asked.lock().unwrap().push(question.clone());
        self.gate.acquire().await.unwrap().forget();
        let responses = self.responses.lock().unwrap();
        let octets = responses.get(question).cloned().unwrap_or_default();
        Ok(Exchanged {
            octets,
            age_s: 0,
            upstream: "script".into(),
            transport: Transport::Tls,
        })
    }
}

fn question(name: &str) -> Question {
    Question {
        name: Name::parse(name).unwrap(),
        qtype: rtype::A,
        qclass: CLASS_IN,
    }
}

fn record(owner: &str, rtype: u16, ttl_s: u32, rdata: &[u8]) -> Record {
    Record {
        owner: Name::parse(owner).unwrap(),
        rtype,
        class: CLASS_IN,
        ttl_s,
        rdata: Box::from(rdata),
    }
}

fn a(owner: &str, ttl_s: u32) -> Record {
    record(owner, rtype::A, ttl_s, &[192, 0, 2, 1])
}

fn cname(owner: &str, target: &str) -> Record {
    record(
        owner,
        rtype::CNAME,
        60,
        Name::parse(target).unwrap().as_wire(),
    )
}

fn resolver(script: &Arc<Script>) -> Resolver<Script> {
    let shared = Shared::new(
        cache::Settings::default(),
        Access::new(access::Settings::default()),
        reply::Settings::new(Duration::from_secs(30)),
        None,
    );
    Resolver::new(Arc::new(shared), Arc::clone(script))
}

fn query(name: &str) -> Vec<u8> {
    let mut octets = vec![0xab, 0xcd, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    octets.extend_from_slice(Name::parse(name).unwrap().as_wire());
    octets.extend_from_slice(&[0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    octets
}

fn client(address: &str) -> Client {
    Client {
        address: address.parse().unwrap(),
        transport: Transport::Tls,
    }
}

/// Both steps; the reply, and whether the first step was enough.
async fn ask(resolver: &Resolver<Script>, octets: &[u8]) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    match resolver.try_answer(&resolver.now(), octets, &client("127.0.0.1:4000"), &mut out) {
        Attempt::Answered(_) => (out, true),
        Attempt::Pending(pending) => {
            resolver.finish(pending, &mut out).await;
            (out, false)
        }
        other => panic!("{other:?}"),
    }
}

fn read(reply: &[u8]) -> Response {
    Response::parse(reply).unwrap()
}

#[tokio::test]
async fn a_miss_is_a_fill_followed_by_a_hit() {
    let script = Script::new();
    script.says("www.example.com", 0, &[a("www.example.com", 60)], &[]);
    let resolver = resolver(&script);
    let (first, at_once) = ask(&resolver, &query("www.example.com")).await;
    assert!(!at_once);
    let (second, at_once) = ask(&resolver, &query("WWW.example.COM")).await;
    assert!(at_once);
    assert_eq!(read(&first).answer, [a("www.example.com", 60)]);
    assert_eq!(read(&first).answer, read(&second).answer);
    assert_eq!(script.times_asked(), 1);
    assert_eq!(resolver.shared.counters.hits.value(), 1);
}

#[tokio::test]
async fn equal_questions_share_one_exchange_and_all_are_answered() {
    let script = Script::new();
    script.says("www.example.com", 0, &[a("www.example.com", 0)], &[]);
    script.gate.forget_permits(Semaphore::MAX_PERMITS);
    let resolver = Arc::new(resolver(&script));
    let asking: Vec<_> = (0..200)
        .map(|_| {
            let resolver = Arc::clone(&resolver);
            tokio::spawn(async move { ask(&resolver, &query("www.example.com")).await })
        })
        .collect();
    while resolver.shared.waiting.count() < 200 {
        tokio::task::yield_now().await;
    }
    script.gate.add_permits(1);
    for task in asking {
        let (reply, _) = task.await.unwrap();
        assert_eq!(read(&reply).answer.len(), 1);
    }
    assert_eq!(script.times_asked(), 1);
    assert_eq!(resolver.shared.waiting.count(), 0);
    // TTL 0 is for those who asked, not for the cache.
    assert!(resolver.shared.cache.is_empty());
}

#[tokio::test]
async fn a_flight_goes_on_when_its_client_leaves() {
    let script = Script::new();
    script.says("www.example.com", 0, &[a("www.example.com", 60)], &[]);
    script.gate.forget_permits(Semaphore::MAX_PERMITS);
    let resolver = Arc::new(resolver(&script));
    let leaving = tokio::spawn({
        let resolver = Arc::clone(&resolver);
        async move { ask(&resolver, &query("www.example.com")).await }
    });
    while script.times_asked() == 0 {
        tokio::task::yield_now().await;
    }
    leaving.abort();
    assert!(leaving.await.is_err());
    assert_eq!(resolver.shared.waiting.count(), 0);
    script.gate.add_permits(1);
    while resolver.shared.cache.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(ask(&resolver, &query("www.example.com")).await.1);
}

#[tokio::test]
async fn what_was_asked_for_before_answers_were_forgotten_is_not_kept() {
    let script = Script::new();
    script.says("www.example.com", 0, &[a("www.example.com", 60)], &[]);
    script.gate.forget_permits(Semaphore::MAX_PERMITS);
    let resolver = Arc::new(resolver(&script));
    let under_way = tokio::spawn({
        let resolver = Arc::clone(&resolver);
        async move { ask(&resolver, &query("www.example.com")).await }
    });
    while script.times_asked() == 0 {
        tokio::task::yield_now().await;
    }
    // The name is routed elsewhere, or somebody knows that its answer is old.
    resolver.shared.flush(&Name::parse("example.com").unwrap());
    script.gate.add_permits(1);
    let (reply, _) = under_way.await.unwrap();
    assert_eq!(read(&reply).answer.len(), 1);
    assert!(resolver.shared.cache.is_empty());
    script.gate.add_permits(1);
    assert!(!ask(&resolver, &query("www.example.com")).await.1);
    assert!(ask(&resolver, &query("www.example.com")).await.1);
}

#[tokio::test]
async fn an_alias_left_open_is_followed() {
    let script = Script::new();
    script.says(
        "www.example.com",
        0,
        &[cname("www.example.com", "a.example.net")],
        &[],
    );
    script.says("a.example.net", 0, &[a("a.example.net", 30)], &[]);
    let resolver = resolver(&script);
    let (reply, _) = ask(&resolver, &query("www.example.com")).await;
    assert_eq!(
        read(&reply).answer,
        [
            cname("www.example.com", "a.example.net"),
            a("a.example.net", 30)
        ]
    );
    // The target is known under the name asked for, and under no other.
    assert!(!ask(&resolver, &query("a.example.net")).await.1);
}

#[tokio::test]
async fn an_alias_to_a_special_use_name_is_answered_here() {
    let script = Script::new();
    let alias = cname("www.example.com", "printer.local");
    script.says("www.example.com", 0, std::slice::from_ref(&alias), &[]);
    let resolver = resolver(&script);
    for _ in 0..2 {
        let (reply, _) = ask(&resolver, &query("www.example.com")).await;
        let reply = read(&reply);
        assert_eq!(reply.rcode, rcode::NXDOMAIN);
        assert_eq!(reply.answer, std::slice::from_ref(&alias));
        assert_eq!(reply.authority.len(), 1);
    }
    assert_eq!(script.times_asked(), 1);
}

#[tokio::test]
async fn circles_over_several_responses_end() {
    let script = Script::new();
    script.says("a.example", 0, &[cname("a.example", "b.example")], &[]);
    script.says("b.example", 0, &[cname("b.example", "a.example")], &[]);
    for i in 0..40 {
        let (from, to) = (format!("n{i}.example"), format!("n{}.example", i + 1));
        script.says(&from, 0, &[cname(&from, &to)], &[]);
    }
    let resolver = resolver(&script);
    let (reply, _) = ask(&resolver, &query("a.example")).await;
    assert_eq!(read(&reply).rcode, rcode::SERVFAIL);
    assert_eq!(script.times_asked(), 2);
    let (reply, _) = ask(&resolver, &query("n0.example")).await;
    assert_eq!(read(&reply).rcode, rcode::SERVFAIL);
    assert!(script.times_asked() <= 2 + 12);
}

#[tokio::test]
async fn a_failure_says_why_and_is_remembered() {
    let script = Script::new();
    script.says("www.example.com", rcode::REFUSED, &[], &[]);
    let resolver = resolver(&script);
    let (reply, _) = ask(&resolver, &query("www.example.com")).await;
    let reply = read(&reply);
    assert_eq!(reply.rcode, rcode::SERVFAIL);
    assert_eq!(
        reply.extended_errors,
        [(23, "script answered REFUSED".to_owned())]
    );
    assert!(ask(&resolver, &query("www.example.com")).await.1);
    assert_eq!(script.times_asked(), 1);
}

#[tokio::test]
async fn a_response_that_does_not_parse_never_reaches_the_client() {
    let script = Script::new();
    let resolver = resolver(&script);
    let (reply, _) = ask(&resolver, &query("www.example.com")).await;
    let reply = read(&reply);
    assert_eq!(reply.rcode, rcode::SERVFAIL);
    assert!(reply.extended_errors[0].1.contains("broken message"));
}

#[tokio::test]
async fn nothing_beside_the_answer_is_learnt() {
    let script = Script::new();
    script.says(
        "www.example.com",
        0,
        &[a("www.example.com", 60), a("victim.example", 60)],
        &[a("victim.example", 60)],
    );
    script.says("victim.example", 0, &[a("victim.example", 7)], &[]);
    let resolver = resolver(&script);
    let (reply, _) = ask(&resolver, &query("www.example.com")).await;
    assert_eq!(read(&reply).answer.len(), 1);
    let (reply, at_once) = ask(&resolver, &query("victim.example")).await;
    assert!(!at_once);
    assert_eq!(read(&reply).answer, [a("victim.example", 7)]);
}

#[tokio::test]
async fn cd_has_entries_of_its_own() {
    let script = Script::new();
    script.says("www.example.com", 0, &[a("www.example.com", 60)], &[]);
    let resolver = resolver(&script);
    ask(&resolver, &query("www.example.com")).await;
    let mut with_cd = query("www.example.com");
    with_cd[3] |= 0x10;
    let (reply, at_once) = ask(&resolver, &with_cd).await;
    assert!(!at_once);
    assert_eq!(reply[3] & 0x10, 0x10);
}

#[tokio::test]
async fn no_answer_is_called_authentic() {
    let script = Script::new();
    script.says("www.example.com", 0, &[a("www.example.com", 60)], &[]);
    let resolver = resolver(&script);
    let mut with_ad = query("www.example.com");
    with_ad[3] |= 0x20;
    let (reply, _) = ask(&resolver, &with_ad).await;
    assert_eq!(reply[3] & 0x20, 0);
}

#[tokio::test]
async fn any_is_answered_small_and_asked_of_nobody() {
    let script = Script::new();
    let resolver = resolver(&script);
    let mut any = query("www.example.com");
    let at = any.len() - 15 + 1;
    any[at] = 0;
    let at = 12 + 17 + 1;
    any[at] = 255;
    let (reply, at_once) = ask(&resolver, &any).await;
    assert!(at_once);
    assert_eq!(read(&reply).answer.len(), 1);
    assert_eq!(read(&reply).answer[0].rtype, rtype::HINFO);
    assert_eq!(script.times_asked(), 0);
}

#[tokio::test]
async fn strangers_are_refused_on_every_transport() {
    let script = Script::new();
    let resolver = resolver(&script);
    for transport in Transport::ALL {
        let mut out = Vec::new();
        let client = Client {
            address: "192.0.2.1:5000".parse().unwrap(),
            transport,
        };
        let attempt = resolver.try_answer(
            &resolver.now(),
            &query("www.example.com"),
            &client,
            &mut out,
        );
        assert!(matches!(attempt, Attempt::Answered(_)));
        let reply = read(&out);
        assert_eq!(
            (reply.rcode, reply.extended_errors[0].0),
            (rcode::REFUSED, 18)
        );
        assert!(!resolver.admits(client.address.ip()));
    }
    assert!(resolver.admits("127.0.0.1".parse().unwrap()));
    assert_eq!(script.times_asked(), 0);
}

#[tokio::test]
async fn one_client_cannot_fill_the_waiting_room() {
    let script = Script::new();
    script.gate.forget_permits(Semaphore::MAX_PERMITS);
    let resolver = resolver(&script);
    let mut places = Vec::new();
    for i in 0..201 {
        let mut out = Vec::new();
        let query = query(&format!("n{i}.example"));
        match resolver.try_answer(&resolver.now(), &query, &client("192.168.1.7:1"), &mut out) {
            Attempt::Pending(pending) => places.push(pending),
            Attempt::Answered(_) => {
                assert_eq!(i, 200);
                assert_eq!(read(&out).rcode, rcode::SERVFAIL);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(places.len(), 200);
    let mut out = Vec::new();
    resolver.decline(places.remove(0), &mut out);
    assert_eq!(read(&out).rcode, rcode::SERVFAIL);
}

#[tokio::test]
async fn a_cache_hit_allocates_nothing() {
    let script = Script::new();
    script.says("www.example.com", 0, &[a("www.example.com", 60)], &[]);
    let resolver = resolver(&script);
    let asked = query("www.example.com");
    ask(&resolver, &asked).await;
    let mut out = Vec::with_capacity(4096);
    let client = client("192.168.1.7:1");
    let counted = allocation_counter::measure(|| {
        for _ in 0..100 {
            out.clear();
            let attempt = resolver.try_answer(&resolver.now(), &asked, &client, &mut out);
            assert!(matches!(attempt, Attempt::Answered(_)));
        }
    });
    assert_eq!(counted.count_total, 0);
    assert_eq!(read(&out).answer.len(), 1);
}

thread_local! {
    /// How far a test has moved the time, seconds.
    static AHEAD_S: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

fn moved() -> Now {
    Now::read().plus(Duration::from_secs(AHEAD_S.get().into()))
}

#[tokio::test]
async fn names_that_end_together_are_no_storm() {
    let script = Script::new();
    let mut resolver = resolver(&script);
    let shared = Arc::into_inner(resolver.shared).unwrap();
    resolver.shared = Arc::new(shared.with_clock(moved));
    let names: Vec<String> = (0..200).map(|i| format!("n{i}.example")).collect();
    for name in &names {
        script.says(name, 0, &[a(name, 60)], &[]);
        for _ in 0..4 {
            ask(&resolver, &query(name)).await;
        }
    }
    assert_eq!(script.times_asked(), 200);
    AHEAD_S.set(57);
    for name in &names {
        assert!(ask(&resolver, &query(name)).await.1);
    }
    let prefetches = resolver.shared.counters.prefetches.value();
    // Fifty are saved up, and two hundred queries pay for ten more.
    assert!((50..=60).contains(&prefetches), "{prefetches}");
    let wanted = 200 + usize::try_from(prefetches).unwrap();
    while script.times_asked() < wanted {
        tokio::task::yield_now().await;
    }
    // A second look at them starts nothing more.
    for name in &names {
        assert!(ask(&resolver, &query(name)).await.1);
    }
    assert_eq!(resolver.shared.counters.prefetches.value(), prefetches);
}

#[tokio::test]
async fn a_client_that_may_not_wait_gets_what_is_stale() {
    let script = Script::new();
    let mut resolver = resolver(&script);
    let shared = Arc::into_inner(resolver.shared).unwrap();
    resolver.shared = Arc::new(shared.with_clock(moved));
    script.says("www.example.com", 0, &[a("www.example.com", 60)], &[]);
    ask(&resolver, &query("www.example.com")).await;
    AHEAD_S.set(60);
    script.gate.forget_permits(Semaphore::MAX_PERMITS);
    let client = client("192.168.1.7:1");
    let mut places = Vec::new();
    for i in 0..200 {
        let query = query(&format!("n{i}.example"));
        match resolver.try_answer(&resolver.now(), &query, &client, &mut Vec::new()) {
            Attempt::Pending(pending) => places.push(pending),
            other => panic!("{other:?}"),
        }
    }
    let mut out = Vec::new();
    let attempt = resolver.try_answer(
        &resolver.now(),
        &query("www.example.com"),
        &client,
        &mut out,
    );
    assert!(matches!(attempt, Attempt::Answered(Answer { ttl_s: 30 })));
    assert_eq!(read(&out).answer, [a("www.example.com", 30)]);
    assert_eq!(read(&out).extended_errors[0].0, 3);
    assert_eq!(resolver.shared.counters.stale.value(), 1);
}
