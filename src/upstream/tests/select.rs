//! Several upstreams.

use super::*;

/// An upstream that answers everything with this rcode; counts its queries.
async fn with_rcode(rcode: u8) -> (UpstreamSettings, Arc<AtomicUsize>) {
    let queries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&queries);
    let (address, _) = listen(move |_, mut stream| {
        let count = Arc::clone(&count);
        async move {
            while let Some(query) = read_query(&mut stream).await {
                count.fetch_add(1, Ordering::SeqCst);
                let response = framed(&response(&query, rcode));
                stream.write_all(&response).await.unwrap();
            }
        }
    })
    .await;
    (upstream(Transport::Tcp, address), queries)
}

/// An upstream to which datagrams go and from which none come. Keep the socket.
async fn silent() -> (UpstreamSettings, tokio::net::UdpSocket) {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (upstream(Transport::Udp, address), socket)
}

#[tokio::test]
async fn the_next_is_asked_when_one_cannot_be_reached_or_will_not_answer() {
    let closed = upstream(Transport::Tcp, closed_address());
    for rcode in [1, 2, 4, 5] {
        let (refusing, _) = with_rcode(rcode).await;
        let (good, _) = with_rcode(0).await;
        let upstreams = upstreams([closed.clone(), refusing, good.clone()]);
        let exchanged = ask(&upstreams, "a.example").await.unwrap();
        assert_is_answer(&exchanged, "a.example");
        assert_eq!(*exchanged.upstream, *good.name);
        assert_eq!(exchanged.transport, Transport::Tcp);
    }
}

#[tokio::test]
async fn whom_to_avoid_is_asked_only_where_there_is_nobody_else() {
    let (one, queries) = with_rcode(0).await;
    let (refusing, _) = with_rcode(5).await;
    let asked = async |list: Vec<UpstreamSettings>| {
        let upstreams = upstreams(list);
        let deadline = clock::instant() + PATIENCE;
        let question = question("a.example");
        let asked = upstreams.exchange(&question, deadline, Some(&one.name));
        message::rcode(&asked.await.unwrap().octets)
    };
    assert_eq!(asked(vec![one.clone(), refusing]).await, 5);
    assert_eq!(queries.load(Ordering::SeqCst), 0);
    assert_eq!(asked(vec![one.clone()]).await, 0);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_an_answer() {
    let (first, _) = with_rcode(3).await;
    let (second, queries) = with_rcode(0).await;
    let upstreams = upstreams([first, second]);
    let exchanged = ask(&upstreams, "a.example").await.unwrap();
    assert_eq!(message::rcode(&exchanged.octets), 3);
    assert_eq!(queries.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_last_refusal_is_given_back_when_nobody_has_better() {
    let (first, first_queries) = with_rcode(5).await;
    let (second, second_queries) = with_rcode(2).await;
    let upstreams = upstreams([first, second]);
    let exchanged = ask(&upstreams, "a.example").await.unwrap();
    assert_eq!(message::rcode(&exchanged.octets), 2);
    assert_eq!(first_queries.load(Ordering::SeqCst), 1);
    assert_eq!(second_queries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn one_question_is_put_to_three_upstreams_at_most() {
    let mut all = Vec::new();
    let mut counts = Vec::new();
    for _ in 0..5 {
        let (settings, queries) = with_rcode(2).await;
        all.push(settings);
        counts.push(queries);
    }
    let upstreams = upstreams(all);
    ask(&upstreams, "a.example").await.unwrap();
    let counts: Vec<_> = counts
        .iter()
        .map(|count| count.load(Ordering::SeqCst))
        .collect();
    assert_eq!(counts, [1, 1, 1, 0, 0]);
}

#[tokio::test]
async fn a_silent_upstream_is_passed_by_and_then_tried_last() {
    let (first, socket) = silent().await;
    let (second, queries) = with_rcode(0).await;
    let upstreams = upstreams([first, second.clone()]);
    let exchanged = ask(&upstreams, "a.example").await.unwrap();
    assert_eq!(*exchanged.upstream, *second.name);
    // The second question does not go to the silent one any more, on any worker.
    let mut buffer = [0; 512];
    while socket.try_recv(&mut buffer).is_ok() {}
    ask(&upstreams, "b.example").await.unwrap();
    ask(&upstreams.for_worker(), "c.example").await.unwrap();
    assert!(socket.try_recv(&mut buffer).is_err());
    assert_eq!(queries.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn when_all_are_silent_the_client_is_told_in_time() {
    let (first, _socket) = silent().await;
    let (second, _other) = silent().await;
    let upstreams = upstreams([first, second]);
    // The timeout of these settings is far longer.
    let error = ask(&upstreams, "a.example").await.unwrap_err();
    assert!(error.is_silent());
    assert_eq!(error.label(), "receive");
}

/// A TCP upstream that answers at once; a name that begins with `slow` when silence would have
/// ended the exchange.
async fn slow_for_some() -> UpstreamSettings {
    let (address, _) = listen(|_, mut stream| async move {
        let mut slow = None;
        let delay = tokio::time::sleep(Duration::from_millis(2500));
        tokio::pin!(delay);
        loop {
            let query = tokio::select! {
                query = read_query(&mut stream) => query,
                () = &mut delay, if slow.is_some() => slow.take(),
            };
            let Some(query) = query else { return };
            if query[13..].starts_with(b"slow") && slow.is_none() && !delay.is_elapsed() {
                slow = Some(query);
                continue;
            }
            stream.write_all(&framed(&answer(&query))).await.unwrap();
        }
    })
    .await;
    upstream(Transport::Tcp, address)
}

#[tokio::test]
async fn an_upstream_that_answers_others_may_take_its_time() {
    let upstreams = upstreams([slow_for_some().await]);
    let (slow, ()) = tokio::join!(biased; ask(&upstreams, "slow.example"), async {
        ask(&upstreams, "quick.example").await.unwrap();
    });
    assert_is_answer(&slow.unwrap(), "slow.example");
}

#[tokio::test]
async fn an_upstream_that_answers_a_probe_may_take_its_time() {
    let upstreams = upstreams([slow_for_some().await]);
    let slow = ask(&upstreams, "slow.example").await;
    assert_is_answer(&slow.unwrap(), "slow.example");
}

#[tokio::test]
async fn a_handshake_alone_is_no_sign_of_work() {
    let (address, _) =
        listen(|_, mut stream| async move { while read_query(&mut stream).await.is_some() {} })
            .await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    let error = ask(&upstreams, "slow.example").await.unwrap_err();
    assert_eq!(error.class(), Class::Silent);
}

#[tokio::test]
async fn silence_after_a_refusal_ends_as_soon_as_any() {
    let (refusing, _) = with_rcode(2).await;
    let (second, _socket) = silent().await;
    let upstreams = upstreams([refusing, second]);
    let asking = ask(&upstreams, "a.example");
    let exchanged = tokio::time::timeout(PATIENCE / 2, asking).await.unwrap();
    assert_eq!(message::rcode(&exchanged.unwrap().octets), 2);
}

#[tokio::test]
async fn the_deadline_is_kept() {
    let (address, _) = listen(|_, mut stream| async move {
        read_query(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let upstreams = upstreams([upstream(Transport::Tcp, address)]);
    let deadline = clock::instant() + Duration::from_millis(100);
    let outcome = upstreams
        .exchange(&question("a.example"), deadline, None)
        .await;
    let error = outcome.unwrap_err();
    assert!(!error.is_silent());
    assert!(error.to_string().contains("no answer in time"), "{error}");
}

#[tokio::test]
async fn silence_up_to_an_early_deadline_is_told_as_such() {
    let (first, _socket) = silent().await;
    let upstreams = upstreams([first]);
    let deadline = clock::instant() + Duration::from_millis(50);
    let outcome = upstreams
        .exchange(&question("a.example"), deadline, None)
        .await;
    assert_eq!(outcome.unwrap_err().class(), Class::Silent);
}

#[tokio::test]
async fn an_error_tells_whether_anything_is_known_about_the_name() {
    let closed = || upstream(Transport::Tcp, closed_address());
    let (mismatched, _) = listen(|_, mut stream| async move {
        while let Some(mut query) = read_query(&mut stream).await {
            query[13] ^= 0x01;
            stream.write_all(&framed(&answer(&query))).await.unwrap();
        }
    })
    .await;
    let mismatched = upstream(Transport::Tcp, mismatched);
    let class = |list: Vec<UpstreamSettings>| async {
        let error = ask(&upstreams(list), "a.example").await.unwrap_err();
        error.class()
    };
    assert_eq!(class(vec![closed()]).await, Class::Network);
    assert_eq!(class(vec![mismatched.clone()]).await, Class::Answerless);
    let both = vec![mismatched, closed()];
    assert_eq!(class(both).await, Class::Answerless, "the last says less");
}

#[tokio::test]
async fn a_probe_tells_latency_or_error_of_each() {
    let (good, _) = with_rcode(0).await;
    let closed = upstream(Transport::Tcp, closed_address());
    let upstreams = upstreams([closed.clone(), good.clone()]);
    let names: Vec<_> = upstreams.names().map(ToString::to_string).collect();
    assert_eq!(names, [closed.name.clone(), good.name.clone()]);
    let probes = upstreams.probe().await;
    assert_eq!(*probes[0].upstream, *closed.name);
    assert!(probes[0].latency.is_err());
    assert_eq!(*probes[1].upstream, *good.name);
    assert!(probes[1].latency.is_ok());
}

#[test]
fn answers_stand_unless_others_are_asked_for_a_zone_with_a_route() {
    let at = |port| upstream(Transport::Udp, SocketAddr::from(([127, 0, 0, 1], port)));
    let settings = |ports: &[u16], routed: &[(&str, &[u16])]| Settings {
        upstreams: ports.iter().map(|port| at(*port)).collect(),
        routes: routed
            .iter()
            .map(|(zone, ports)| Route {
                zones: vec![Name::parse(zone).unwrap()],
                upstreams: ports.iter().map(|port| at(*port).name).collect(),
            })
            .collect(),
        strategy: Strategy::Ordered,
        timeout: PATIENCE,
    };
    let routed = settings(&[1, 2, 3], &[("corp.example", &[2])]);
    let old = Upstreams::new(&routed).unwrap();
    let stand = |new: &Settings| old.renewed(new).unwrap().stand_for(&old);
    assert!(stand(&routed));
    // Everybody else answers from one public DNS.
    assert!(stand(&settings(&[2, 4], &[("corp.example", &[2])])));
    assert!(!stand(&settings(&[1, 2, 3], &[("corp.example", &[3, 2])])));
    assert!(!stand(&settings(&[1, 2, 3], &[("corp.example", &[3])])));
    assert!(!stand(&settings(&[1, 2, 3], &[])));
    let deeper = [("corp.example", &[2][..]), ("x.corp.example", &[3])];
    assert!(!stand(&settings(&[1, 2, 3], &deeper)));
    let more = [("corp.example", &[2][..]), ("home.example", &[2])];
    assert!(!stand(&settings(&[1, 2, 3], &more)));
    // Another server under the same name.
    let mut moved = routed;
    moved.upstreams[1].addresses = vec![SocketAddr::from(([127, 0, 0, 1], 4))];
    assert!(!stand(&moved));
    // The same, set up anew since certificates were held to no date.
    let now = clock::Now::read();
    let gate = Arc::new(clock::Gate::lenient(0, &now));
    assert!(!old.under(&gate).unwrap().stand_for(&old));
}

#[tokio::test]
async fn what_did_not_change_is_kept_when_settings_do() {
    let (address, connections) = listen(|_, stream| answer_all(stream)).await;
    let kept = upstream(Transport::Tcp, address);
    let (other, _) = with_rcode(0).await;
    let settings = |upstreams: Vec<UpstreamSettings>| Settings {
        upstreams,
        routes: Vec::new(),
        strategy: Strategy::Ordered,
        timeout: PATIENCE,
    };
    let before = Upstreams::new(&settings(vec![kept.clone()])).unwrap();
    let working = before.for_worker();
    ask(&working, "a.example").await.unwrap();

    let heavier = UpstreamSettings { weight: 7, ..kept };
    let after = before.renewed(&settings(vec![heavier, other])).unwrap();
    let [first, second] = after.status().try_into().unwrap();
    assert_eq!((first.exchanges, second.exchanges), (1, 0));
    assert!(first.rtt.is_some());
    ask(&after.for_worker_from(&working), "b.example")
        .await
        .unwrap();
    assert_eq!(
        connections.load(Ordering::SeqCst),
        1,
        "the connection is kept"
    );
    ask(&after.for_worker(), "c.example").await.unwrap();
    assert_eq!(
        connections.load(Ordering::SeqCst),
        2,
        "another worker has its own"
    );
}

/// Settings with this strategy, else as those of [`upstreams`].
fn chosen_by(strategy: Strategy, list: Vec<UpstreamSettings>) -> Upstreams {
    Upstreams::new(&Settings {
        upstreams: list,
        routes: Vec::new(),
        strategy,
        timeout: PATIENCE,
    })
    .unwrap()
}

/// Waits for `condition`; time alone proves nothing.
async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

fn state(upstreams: &Upstreams, place: usize) -> State {
    upstreams.status()[place].state
}

/// A TCP upstream that can be made to answer nothing, SERVFAIL, or late.
#[derive(Clone)]
struct Moody {
    settings: UpstreamSettings,
    mood: tokio::sync::watch::Sender<Mood>,
    /// The names it was asked for.
    names: Arc<std::sync::Mutex<Vec<String>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Mute,
    Failing,
    /// Answers after so many milliseconds, but what it knows at once.
    Late(u64),
}

impl Moody {
    async fn start() -> Self {
        let mood = tokio::sync::watch::Sender::new(Mood::Well);
        let names = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (seen, asked) = (mood.clone(), Arc::clone(&names));
        let (address, _) = listen(move |_, stream| {
            let (seen, asked) = (seen.clone(), Arc::clone(&asked));
            let (mut reading, mut writing) = stream.into_split();
            let (answers, mut answered) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
            async move {
                tokio::spawn(async move {
                    while let Some(answer) = answered.recv().await {
                        if writing.write_all(&framed(&answer)).await.is_err() {
                            return;
                        }
                    }
                });
                while let Some(query) = read_query(&mut reading).await {
                    let (name, _) = Name::read(&query, 12).unwrap();
                    asked.lock().unwrap().push(name.to_string());
                    let mood = *seen.borrow();
                    let answers = answers.clone();
                    tokio::spawn(async move {
                        if let Mood::Late(ms) = mood
                            && !name.is_root()
                        {
                            tokio::time::sleep(Duration::from_millis(ms)).await;
                        }
                        let rcode = if mood == Mood::Failing { 2 } else { 0 };
                        if mood != Mood::Mute {
                            let _ = answers.send(response(&query, rcode));
                        }
                    });
                }
            }
        })
        .await;
        Self {
            settings: upstream(Transport::Tcp, address),
            mood,
            names,
        }
    }

    fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// How many clients' questions it got; probes are for the root.
    fn questions(&self) -> usize {
        let names = self.names.lock().unwrap();
        names.iter().filter(|name| *name != ".").count()
    }
}

async fn two_moody() -> (Moody, Moody, Upstreams) {
    let (first, second) = (Moody::start().await, Moody::start().await);
    let upstreams = upstreams([first.settings.clone(), second.settings.clone()]);
    for number in 0..20 {
        ask(&upstreams, &format!("before{number}.example"))
            .await
            .unwrap();
    }
    assert_eq!((first.questions(), second.questions()), (20, 0));
    (first, second, upstreams)
}

#[tokio::test]
async fn what_falls_silent_costs_one_client_a_little_and_comes_back_with_the_first_probe() {
    let (first, second, upstreams) = two_moody().await;
    first.is(Mood::Mute);
    for number in 0..20 {
        let exchanged = ask(&upstreams, &format!("mute{number}.example"))
            .await
            .unwrap();
        assert_eq!(*exchanged.upstream, *second.settings.name);
    }
    assert_eq!(first.questions(), 21, "only the first was tried on it");
    until(|| state(&upstreams, 0) == State::Down).await;
    assert!(
        !upstreams.is_down(&question("a.example")),
        "the other is up"
    );

    first.is(Mood::Well);
    until(|| state(&upstreams, 0) == State::Up).await;
    assert_eq!(first.questions(), 21, "no client's question was needed");
    let exchanged = ask(&upstreams, "after.example").await.unwrap();
    assert_eq!(*exchanged.upstream, *first.settings.name);
}

#[tokio::test]
async fn questions_in_flight_move_when_their_upstream_is_found_dead() {
    let (first, second, upstreams) = two_moody().await;
    first.is(Mood::Mute);
    // Far more than the budget has duplicates for.
    ask_many(&upstreams, 300).await;
    assert_eq!(second.questions(), 300);
}

#[tokio::test]
async fn a_late_answer_is_overtaken() {
    let (first, second, upstreams) = two_moody().await;
    first.is(Mood::Late(10_000));
    let exchanged = ask(&upstreams, "late.example").await.unwrap();
    assert_eq!(*exchanged.upstream, *second.settings.name);
}

#[tokio::test]
async fn when_all_are_slow_the_load_is_not_doubled() {
    let (first, second, upstreams) = two_moody().await;
    for moody in [&first, &second] {
        moody.is(Mood::Late(400));
    }
    ask_many(&upstreams, 400).await;
    let questions = first.questions() + second.questions() - 20;
    // 8 duplicates to begin with, and a twentieth of all queries.
    assert!((401..=429).contains(&questions), "{questions}");
}

#[tokio::test]
async fn an_upstream_that_cannot_answer_what_others_can_is_left_alone_until_it_can() {
    let (first, second, upstreams) = two_moody().await;
    first.is(Mood::Failing);
    for number in 0..20 {
        let exchanged = ask(&upstreams, &format!("fail{number}.example"))
            .await
            .unwrap();
        assert_eq!(*exchanged.upstream, *second.settings.name);
    }
    assert_eq!(state(&upstreams, 0), State::Down);
    first.is(Mood::Well);
    until(|| state(&upstreams, 0) == State::Up).await;
    let names = first.names.lock().unwrap().clone();
    assert_eq!(
        names.last().unwrap(),
        "fail4.example.",
        "the probe is where it failed"
    );
}

#[tokio::test]
async fn when_all_are_down_clients_are_told_fast_and_the_first_back_is_used() {
    let (first, second, upstreams) = two_moody().await;
    first.is(Mood::Mute);
    second.is(Mood::Mute);
    let error = ask(&upstreams, "a.example").await.unwrap_err();
    assert!(error.is_silent());
    until(|| upstreams.is_down(&question("b.example"))).await;
    ask(&upstreams, "b.example").await.unwrap_err();
    second.is(Mood::Well);
    until(|| !upstreams.is_down(&question("b.example"))).await;
    let exchanged = ask(&upstreams, "b.example").await.unwrap();
    assert_eq!(*exchanged.upstream, *second.settings.name);
}

#[tokio::test]
async fn a_live_upstreams_failure_is_not_held_back_for_one_that_is_down() {
    let (first, second, upstreams) = two_moody().await;
    second.is(Mood::Failing);
    first.is(Mood::Mute);
    ask(&upstreams, "a.example").await.unwrap();
    until(|| state(&upstreams, 0) == State::Down).await;
    let before = first.questions();
    for name in ["b.example", "c.example"] {
        let exchanged = ask(&upstreams, name).await.unwrap();
        assert_eq!(message::rcode(&exchanged.octets), 2);
    }
    assert_eq!(first.questions(), before);
}

#[tokio::test]
async fn another_network_makes_everybody_worth_a_try() {
    let (first, _second, upstreams) = two_moody().await;
    first.is(Mood::Mute);
    ask(&upstreams, "a.example").await.unwrap();
    until(|| state(&upstreams, 0) == State::Down).await;
    first.is(Mood::Well);
    upstreams.retry_now();
    until(|| state(&upstreams, 0) == State::Up).await;
}

#[tokio::test]
async fn the_fastest_is_found_and_kept() {
    let (slow, quick) = (Moody::start().await, Moody::start().await);
    slow.is(Mood::Late(40));
    let list = vec![slow.settings.clone(), quick.settings.clone()];
    let upstreams = chosen_by(Strategy::Fastest, list);
    for number in 0..100 {
        ask(&upstreams, &format!("n{number}.example"))
            .await
            .unwrap();
    }
    let questions = slow.questions();
    assert!(questions < 30, "{questions}");
    let [first, second] = upstreams.status().try_into().unwrap();
    assert!(first.rtt.unwrap() > second.rtt.unwrap());
}

#[tokio::test]
async fn a_domain_stays_with_one_operator() {
    let mut moody = Vec::new();
    for host in [1, 2, 3, 4] {
        let (address, _) = listen(|_, stream| answer_all(stream)).await;
        // The address is who runs it; the first of these is dead, the second is used.
        let mut settings = upstream(Transport::Tcp, address);
        settings
            .addresses
            .insert(0, SocketAddr::from(([127, 0, 0, host], 1)));
        moody.push(settings);
    }
    let upstreams = chosen_by(Strategy::Spread, moody);
    let mut used = std::collections::HashSet::new();
    for domain in 0..20 {
        let mut by = std::collections::HashSet::new();
        for label in ["www", "mail", "a.b"] {
            let name = format!("{label}.d{domain}.co.uk");
            by.insert(ask(&upstreams, &name).await.unwrap().upstream.to_string());
        }
        assert_eq!(by.len(), 1, "{by:?}");
        used.extend(by);
    }
    assert!(used.len() > 1, "{used:?}");
}
