//! What validation costs in exchanges: how many, and how many of them one after the other.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use truename::{
    access::{self, Access},
    cache,
    clock::Now,
    dnssec::{KeyCache, Settings, Step, Validation, foresee},
    handler::{Attempt, Client, Handler},
    reply,
    resolver::{Resolver, Shared},
    upstream::{Exchange, ExchangeError, Exchanged},
    wire::{CLASS_IN, Name, Question, Response, rtype},
};

use super::{settings, validating};
use crate::{
    lab::{Answered, Ask, Lab, Transport, Universe, message::Query},
    support::start_lab,
};

/// Zones with a signed chain of three, all below one parent.
const ZONES: [&str; 18] = [
    "secure.com",
    "rsasha256.com",
    "rsasha512.com",
    "ecdsap256.com",
    "ecdsap384.com",
    "ed25519.com",
    "nsec.com",
    "nsec3.com",
    "salted.com",
    "optout.com",
    "wildcard.com",
    "wildcard3.com",
    "manyds.com",
    "amongothers.com",
    "dualalg.com",
    "halfbroken.com",
    "badthengood.com",
    "raisedttl.com",
];

/// Secure names of three labels with an address, four of most zones.
fn names() -> Vec<String> {
    let hosts = |zone: &str| -> &[&str] {
        if zone.starts_with("wildcard") {
            &["exists", "one", "two", "three"]
        } else {
            &["www", "mail", "alias"]
        }
    };
    let name = |zone: &&str| {
        let hosts = hosts(zone).iter();
        hosts
            .map(|host| format!("{host}.{zone}"))
            .collect::<Vec<_>>()
    };
    ZONES.iter().flat_map(name).collect()
}

/// An upstream that answers from the lab's zones, in waves: whoever asks waits until the test lets
/// all who wait go on.
struct Waves {
    universe: Arc<Universe>,
    asked: Mutex<Vec<Question>>,
    next: Notify,
}

impl Exchange for Waves {
    async fn exchange(
        &self,
        question: &Question,
        _: Instant,
        _: Option<&str>,
    ) -> Result<Exchanged, ExchangeError> {
        let go_on = self.next.notified();
        self.asked.lock().unwrap().push(question.clone());
        go_on.await;
        Ok(Exchanged {
            octets: truth(&self.universe, question),
            age_s: 0,
            upstream: "waves".into(),
            transport: Transport::Tls,
        })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn count(&self, _: &Question) -> usize {
        1
    }

    fn is_down(&self, _: &Question) -> bool {
        false
    }

    fn incomplete(&self, upstream: &str) {
        panic!("{upstream} is honest");
    }
}

/// The honest response.
pub(super) fn truth(universe: &Universe, question: &Question) -> Vec<u8> {
    let mut ask = Ask::new(&question.name.to_string(), "A")
        .dnssec()
        .flags(0x10);
    ask.rtype = question.qtype;
    let query = Query::parse(&ask.encode()).expect("a query");
    universe.answer(&query).encode(65_535)
}

/// truename's resolver by itself, without sockets.
struct Bare {
    shared: Arc<Shared>,
    resolver: Arc<Resolver<Waves>>,
    upstream: Arc<Waves>,
}

/// What one question cost.
#[derive(Debug)]
struct Cost {
    waves: usize,
    asked: Vec<Question>,
}

impl Bare {
    fn new(lab: &Lab) -> Self {
        let shared = Arc::new(Shared::new(
            cache::Settings::default(),
            Access::new(access::Settings::default()),
            reply::Settings::new(Duration::from_secs(30)),
            Some(settings(lab)),
        ));
        let upstream = Arc::new(Waves {
            universe: Arc::clone(lab.universe()),
            asked: Mutex::default(),
            next: Notify::new(),
        });
        Self {
            resolver: Arc::new(Resolver::new(Arc::clone(&shared), Arc::clone(&upstream))),
            shared,
            upstream,
        }
    }

    /// Asks, and lets the upstream answer wave by wave: each wave when nothing moves any more.
    async fn ask(&self, name: &str, rtype: &str) -> (Answered, Cost) {
        self.upstream.asked.lock().unwrap().clear();
        let query = Ask::new(name, rtype).dnssec().encode();
        let resolver = Arc::clone(&self.resolver);
        let asking = tokio::spawn(async move {
            let client = Client {
                address: SocketAddr::from(([127, 0, 0, 1], 1053)),
                transport: Transport::Tcp,
            };
            let mut out = Vec::new();
            match resolver.try_answer(&resolver.now(), &query, &client, &mut out) {
                Attempt::Answered(_) => {}
                Attempt::Pending(pending) => _ = resolver.finish(pending, &mut out).await,
                _ => panic!("a query that a resolver answers"),
            }
            Answered::parse(&out).expect("a response")
        });
        let mut waves = 0;
        loop {
            // Nothing here waits for time or sockets, so on one thread it comes to rest.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            if asking.is_finished() {
                break;
            }
            waves += 1;
            assert!(waves < 100, "{name} {rtype} never ends");
            self.upstream.next.notify_waiters();
        }
        let asked = self.upstream.asked.lock().unwrap().clone();
        (asking.await.unwrap(), Cost { waves, asked })
    }
}

#[tokio::test]
async fn a_cold_chain_costs_one_round_trip() {
    let lab = start_lab().await;
    for name in names() {
        let bare = Bare::new(&lab);
        let (answered, cost) = bare.ask(&name, "A").await;
        assert!(answered.has(0x20), "{name} is not secure");
        assert_eq!(cost.waves, 1, "{name}: {cost:?}");
        // The question; the root's keys; DS and keys of com and the zone.
        assert!(cost.asked.len() <= 6, "{name}: {cost:?}");
        let different: HashSet<_> = cost.asked.iter().collect();
        assert_eq!(different.len(), cost.asked.len(), "{name}: {cost:?}");
    }
}

#[tokio::test]
async fn a_chain_below_a_known_parent_costs_one_round_trip() {
    let lab = start_lab().await;
    let bare = Bare::new(&lab);
    bare.ask("com", "SOA").await;
    let mut seen = HashSet::new();
    for name in names() {
        let zone = name.split_once('.').unwrap().1.to_owned();
        let is_first = seen.insert(zone);
        let (answered, cost) = bare.ask(&name, "A").await;
        assert!(answered.has(0x20), "{name} is not secure");
        assert_eq!(cost.waves, 1, "{name}: {cost:?}");
        // The question, DS and keys of the zone; then the question alone.
        let most = if is_first { 3 } else { 1 };
        assert!(cost.asked.len() <= most, "{name}: {cost:?}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_proved_in_one_round_trip_too() {
    let lab = start_lab().await;
    for (name, rtype) in [
        ("nothing", "A"),
        ("nothing.com", "A"),
        ("nothing.secure.com", "A"),
        ("www.nsec3.com", "TXT"),
        ("secure.com", "DS"),
        ("www.secure.org", "A"),
    ] {
        let (answered, cost) = Bare::new(&lab).ask(name, rtype).await;
        assert!(answered.has(0x20), "{name} is not secure");
        assert_eq!(cost.waves, 1, "{name}: {cost:?}");
        assert!(cost.asked.len() <= 7, "{name}: {cost:?}");
    }
}

#[tokio::test]
async fn below_a_zone_proved_insecure_nothing_but_the_answer_is_asked_for() {
    let lab = start_lab().await;
    let bare = Bare::new(&lab);
    let (_, cost) = bare.ask("www.insecure.com", "A").await;
    assert_eq!(cost.waves, 1, "{cost:?}");
    for name in ["insecure.com", "txt.insecure.com", "www.sub.insecure.com"] {
        let (_, cost) = bare.ask(name, "A").await;
        assert_eq!((cost.waves, cost.asked.len()), (1, 1), "{name}: {cost:?}");
    }
}

#[tokio::test]
async fn deep_and_odd_names_stay_within_the_bounds() {
    let lab = start_lab().await;
    for (name, rtype) in [
        ("deep.er.and.deep.er.secure.com", "A"),
        ("www.deeper.deep.secure.org", "A"),
        ("www.cut.ent.secure.org", "A"),
        ("www.child.island.insecure.com", "A"),
        ("secure.cname.com", "A"),
        ("there-and-back.cname.com", "A"),
        ("www.secure.dname.com", "A"),
        ("1.2.3.45.in-addr.arpa", "PTR"),
    ] {
        let bare = Bare::new(&lab);
        let (answered, cost) = bare.ask(name, rtype).await;
        assert_eq!(answered.rcode, 0, "{name}");
        assert!(cost.waves <= 3, "{name}: {cost:?}");
        assert!(cost.asked.len() <= 16, "{name}: {cost:?}");
        let (_, again) = bare.ask(name, rtype).await;
        assert_eq!((again.waves, again.asked.len()), (0, 0), "{name}");
    }
    // A client's question counts once more than its chain only where that is asked for itself.
    let bare = Bare::new(&lab);
    bare.shared.flush(&Name::root());
    let (_, cost) = bare.ask(".", "DNSKEY").await;
    assert_eq!((cost.waves, cost.asked.len()), (1, 1), "{cost:?}");
}

/// When the questions of the chain are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chain {
    /// With the client's own.
    Ahead,
    /// When the answer is there and says what is needed.
    After,
    /// One after the other, each when there is no going on without it.
    OneByOne,
}

/// Validates without a resolver, over exchanges that take `latency`. Returns how many there were,
/// and how many of them one after the other.
async fn drive(
    universe: &Universe,
    settings: &Arc<Settings>,
    keys: &mut KeyCache,
    question: &Question,
    chain: Chain,
    latency: Duration,
) -> (usize, usize) {
    let now = Now::read();
    let respond = |question: &Question| Response::parse(&truth(universe, question)).unwrap();
    let foreseen = if chain == Chain::Ahead {
        foresee(question, keys, settings, &now)
    } else {
        Vec::new()
    };
    let response = respond(question);
    let early: Vec<Response> = foreseen.iter().map(&respond).collect();
    tokio::time::sleep(latency).await;
    let (mut exchanges, mut trips) = (1 + foreseen.len(), 1);
    let mut validation = Validation::new(question.clone(), &response, Arc::clone(settings), now);
    for (question, response) in foreseen.into_iter().zip(&early) {
        validation.supply(question, Ok(response));
    }
    loop {
        match validation.step(keys) {
            Step::Done(judged) => {
                assert!(judged.verdict.is_usable(), "{question:?}");
                keys.learn(judged.learned, &now);
                return (exchanges, trips);
            }
            Step::Need(mut needs) => {
                if chain == Chain::OneByOne {
                    needs.truncate(1);
                }
                let responses: Vec<Response> = needs.iter().map(&respond).collect();
                tokio::time::sleep(latency).await;
                exchanges += responses.len();
                trips += 1;
                for (question, response) in needs.into_iter().zip(&responses) {
                    validation.supply(question, Ok(response));
                }
            }
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// `cargo test --release --test it -- --ignored latency_table --nocapture`
#[tokio::test]
#[ignore = "measures time, and takes a minute"]
async fn latency_table() {
    let latency = Duration::from_millis(20);
    let lab = start_lab().await;
    let names = names();
    for name in &names {
        // Signatures are made when they are first asked for; that is the lab's time, not ours.
        Bare::new(&lab).ask(name, "A").await;
    }
    lab.faults().everywhere(|set| set.latency = latency);
    let root = Name::root();
    let settings = Arc::new(settings(&lab));
    let truename = validating(&lab);
    let address = truename.address(Transport::Udp);
    let timed = async |name: &str, flags: u16| {
        let start = Instant::now();
        let ask = Ask::new(name, "A").dnssec().flags(flags);
        let answered = ask.over_udp(address).await.unwrap();
        assert_eq!(answered.rcode, 0, "{name}");
        start.elapsed()
    };
    timed("www.secure.com", 0).await;
    let (mut plain, mut cold, mut warm) = (Vec::new(), Vec::new(), Vec::new());
    let mut queries = [0, 0];
    for name in &names {
        truename.shared().flush(&root);
        plain.push(timed(name, 0x10).await);
        truename.shared().flush(&root);
        lab.record().clear();
        cold.push(timed(name, 0).await);
        queries[0] += lab.record().len();
        truename.shared().flush(&root);
        let parent = Ask::new("com", "SOA").dnssec();
        parent.over_udp(address).await.unwrap();
        lab.record().clear();
        warm.push(timed(name, 0).await);
        queries[1] += lab.record().len();
    }
    let one = median(plain);
    let count = names.len();
    let line = |what: &str, time: Duration, rounds: String, queries: usize| {
        let ratio = time.as_secs_f64() / one.as_secs_f64();
        let ms = time.as_secs_f64() * 1e3;
        println!(
            "{what:34} {ms:8.2} ms {ratio:6.3} x  {rounds:>5}  {:5.1}",
            f64::from(u32::try_from(queries).unwrap()) / f64::from(u32::try_from(count).unwrap())
        );
    };
    println!("{count} names, {latency:?} an exchange     median      of one  trips  queries");
    line("unvalidated (CD)", one, "1".into(), count);
    line("cold", median(cold), "1".into(), queries[0]);
    line("parent known", median(warm), "1".into(), queries[1]);
    for (what, chain, with_parent) in [
        ("cold, chain after the answer", Chain::After, false),
        ("cold, one by one", Chain::OneByOne, false),
        ("parent known, chain after", Chain::After, true),
        ("parent known, one by one", Chain::OneByOne, true),
    ] {
        let (mut times, mut trips, mut exchanges) = (Vec::new(), Vec::new(), 0);
        for name in &names {
            let mut keys = KeyCache::new();
            let question = |name: &str, qtype: u16| Question {
                name: Name::parse(name).unwrap(),
                qtype,
                qclass: CLASS_IN,
            };
            if with_parent {
                let soa = question("com.", rtype::SOA);
                drive(
                    lab.universe(),
                    &settings,
                    &mut keys,
                    &soa,
                    Chain::Ahead,
                    Duration::ZERO,
                )
                .await;
            }
            let asked = question(name, rtype::A);
            let start = Instant::now();
            let cost = drive(lab.universe(), &settings, &mut keys, &asked, chain, latency).await;
            times.push(start.elapsed());
            exchanges += cost.0;
            trips.push(cost.1);
        }
        trips.sort_unstable();
        line(
            what,
            median(times),
            trips[trips.len() / 2].to_string(),
            exchanges,
        );
    }
}
