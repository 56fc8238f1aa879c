//! DoH over HTTP/1.1, HTTP/2 and HTTP/3: one table of requests and statuses for all three.

use std::{future::poll_fn, task::Poll};

use bytes::{Buf, Bytes, BytesMut};
use data_encoding::BASE64URL_NOPAD;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, StatusCode};
use quinn::{Endpoint, crypto::rustls::QuicClientConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{tls::connect, *};

#[derive(Debug)]
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// Method, path, content type, body, and the status that must come.
type Case = (Method, String, Option<&'static str>, Vec<u8>, u16);

const DNS: Option<&str> = Some("application/dns-message");

fn get_path(label: &str) -> String {
    format!(
        "/dns-query?dns={}",
        BASE64URL_NOPAD.encode(&query(0, label))
    )
}

fn cases() -> Vec<Case> {
    let post = |content_type, body: Vec<u8>, status| {
        let path = "/dns-query".to_owned();
        (Method::POST, path, content_type, body, status)
    };
    let get = |path: &str, status| (Method::GET, path.to_owned(), None, Vec::new(), status);
    let response = BASE64URL_NOPAD.encode(&reply_to(&query(0, "now")));
    vec![
        get(&get_path("now"), 200),
        post(DNS, query(0, "now"), 200),
        get("/dns-query", 400),
        get("/dns-query?dns=!", 400),
        get("/dns-query?dns=AAAA", 400),
        get(&format!("/dns-query?dns={response}"), 400),
        post(DNS, Vec::new(), 400),
        post(DNS, vec![0; 5], 400),
        get("/", 404),
        get("/other", 404),
        (Method::PUT, "/dns-query".into(), DNS, query(0, "now"), 405),
        post(DNS, vec![0; 4097], 413),
        post(Some("text/plain"), query(0, "now"), 415),
        post(None, query(0, "now"), 415),
        get(&get_path("refuse"), 429),
    ]
}

fn check(case: &Case, got: &Got, has_alt_svc: bool) {
    let (method, path, _, _, status) = case;
    let context = format!("{method} {path}: {got:?}");
    assert_eq!(got.status, *status, "{context}");
    let octets = got.body.len().to_string();
    assert_eq!(got.headers["content-length"], *octets, "{context}");
    assert_eq!(
        got.headers.contains_key("alt-svc"),
        has_alt_svc,
        "{context}"
    );
    match *status {
        200 => {
            assert_eq!(got.body, reply_to(&query(0, "now")), "{context}");
            assert_eq!(got.headers["content-type"], "application/dns-message");
            assert_eq!(got.headers["cache-control"], format!("max-age={TTL_S}"));
        }
        405 => assert_eq!(got.headers["allow"], "GET, POST"),
        _ => {}
    }
}

// HTTP/1.1, by hand.

async fn http1(house: &House) -> TlsStream<TcpStream> {
    let config = Arc::new(house.client_config(&[b"http/1.1"]));
    let address = house.address(Transport::Https);
    connect(address, &config).await.unwrap()
}

async fn ask_http1(tls: &mut TlsStream<TcpStream>, case: &Case) -> Got {
    let (method, path, content_type, body, _) = case;
    let content_type =
        content_type.map_or(String::new(), |value| format!("content-type: {value}\r\n"));
    let octets = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: dns.test\r\n{content_type}content-length: {octets}\r\n\r\n"
    );
    let mut octets = request.into_bytes();
    octets.extend(body);
    tls.write_all(&octets).await.unwrap();
    read_http1(tls).await
}

async fn read_http1(tls: &mut TlsStream<TcpStream>) -> Got {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(tls.read_u8()).await.unwrap());
    }
    let text = String::from_utf8(head).unwrap();
    let mut lines = text.trim_end().lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers: HeaderMap = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            let name: http::HeaderName = name.parse().unwrap();
            (name, value.parse().unwrap())
        })
        .collect();
    let octets: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
    let mut body = vec![0; octets];
    within(tls.read_exact(&mut body)).await.unwrap();
    Got {
        status: status.parse().unwrap(),
        headers,
        body,
    }
}

#[tokio::test]
async fn http1_says_what_it_must() {
    let house = House::start();
    for case in cases() {
        let mut tls = http1(&house).await;
        check(&case, &ask_http1(&mut tls, &case).await, true);
    }
}

#[tokio::test]
async fn http1_connections_are_kept_and_waits_answered() {
    let house = House::start();
    let mut tls = http1(&house).await;
    let case = (Method::GET, get_path("now"), None, Vec::new(), 200);
    for _ in 0..3 {
        check(&case, &ask_http1(&mut tls, &case).await, true);
    }
    house.handler.open("wait");
    let case = (Method::GET, get_path("wait"), None, Vec::new(), 200);
    let got = ask_http1(&mut tls, &case).await;
    assert_eq!(got.body, reply_to(&query(0, "wait")));
}

#[tokio::test]
async fn http1_is_spoken_without_alpn_too() {
    let house = House::start();
    let config = Arc::new(house.client_config(&[]));
    let address = house.address(Transport::Https);
    let mut tls = connect(address, &config).await.unwrap();
    let case = (Method::GET, get_path("now"), None, Vec::new(), 200);
    check(&case, &ask_http1(&mut tls, &case).await, true);
}

#[tokio::test]
async fn http1_silence_is_ended() {
    let house = House::with(1, |settings| settings.idle = Duration::from_millis(30));
    let mut tls = http1(&house).await;
    let mut rest = Vec::new();
    let _ = within(tls.read_to_end(&mut rest)).await;
}

// HTTP/2, with the h2 crate's client.

async fn http2(house: &House) -> SendRequest<Bytes> {
    let config = Arc::new(house.client_config(&[b"h2"]));
    let address = house.address(Transport::Https);
    let tls = connect(address, &config).await.unwrap();
    let (client, connection) = within(h2::client::handshake(tls)).await.unwrap();
    tokio::spawn(connection);
    client
}

fn request(case: &Case) -> Request<()> {
    let (method, path, content_type, _, _) = case;
    let mut request = Request::builder()
        .method(method)
        .uri(format!("https://dns.test{path}"));
    if let Some(content_type) = content_type {
        request = request.header("content-type", *content_type);
    }
    request.body(()).unwrap()
}

async fn ask_http2(client: &mut SendRequest<Bytes>, case: &Case) -> Got {
    poll_fn(|context| client.poll_ready(context)).await.unwrap();
    let body = Bytes::from(case.3.clone());
    let (response, mut stream) = client.send_request(request(case), body.is_empty()).unwrap();
    if !body.is_empty() {
        stream.send_data(body, true).unwrap();
    }
    read_http2(response).await
}

async fn read_http2(response: h2::client::ResponseFuture) -> Got {
    let (head, mut body) = within(response).await.unwrap().into_parts();
    let mut octets = Vec::new();
    while let Some(data) = within(body.data()).await {
        // A refused body is answered and then reset, which takes nothing from the answer.
        let Ok(data) = data else { break };
        let _ = body.flow_control().release_capacity(data.len());
        octets.extend(data);
    }
    Got {
        status: head.status,
        headers: head.headers,
        body: octets,
    }
}

#[tokio::test]
async fn http2_says_what_it_must() {
    let house = House::start();
    let mut client = http2(&house).await;
    for case in cases() {
        check(&case, &ask_http2(&mut client, &case).await, true);
    }
}

#[tokio::test]
async fn http2_answers_many_at_once_in_any_order() {
    let house = House::start();
    let mut client = http2(&house).await;
    let ask = |client: &mut SendRequest<Bytes>, label: &str| {
        let case = (Method::GET, get_path(label), None, Vec::new(), 200);
        client.send_request(request(&case), true).unwrap().0
    };
    let waiting = ask(&mut client, "wait");
    let now: Vec<_> = (0..50).map(|_| ask(&mut client, "now")).collect();
    for response in now {
        let got = read_http2(response).await;
        assert_eq!(got.body, reply_to(&query(0, "now")));
    }
    house.handler.open("wait");
    let got = read_http2(waiting).await;
    assert_eq!(got.body, reply_to(&query(0, "wait")));
}

#[tokio::test]
async fn http2_takes_a_body_in_pieces() {
    let house = House::start();
    let mut client = http2(&house).await;
    let case = (Method::POST, "/dns-query".into(), DNS, Vec::new(), 200);
    let (response, mut stream) = client.send_request(request(&case), false).unwrap();
    for octet in query(0, "now") {
        stream.send_data(Bytes::from(vec![octet]), false).unwrap();
        tokio::task::yield_now().await;
    }
    stream.send_data(Bytes::new(), true).unwrap();
    check(&case, &read_http2(response).await, true);
}

#[tokio::test]
async fn http2_answers_larger_than_the_window_arrive() {
    let house = House::start();
    let mut client = http2(&house).await;
    let case = (Method::GET, get_path("large"), None, Vec::new(), 200);
    // Read at the same time: unread streams hold on to the connection's window.
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (response, _) = client.send_request(request(&case), true).unwrap();
        reading.spawn(read_http2(response));
    }
    for got in reading.join_all().await {
        assert_eq!(got.body.len(), LARGE_OCTETS);
    }
}

#[tokio::test]
async fn http2_resets_withdraw_queries() {
    let house = House::start();
    let mut client = http2(&house).await;
    let case = (Method::GET, get_path("wait"), None, Vec::new(), 200);
    let (response, mut stream) = client.send_request(request(&case), true).unwrap();
    house.handler.waiting(1).await;
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    house.handler.waiting(0).await;
}

#[tokio::test]
async fn http2_rapid_resets_end_the_connection() {
    let house = House::start();
    let mut client = http2(&house).await;
    let case = (Method::GET, get_path("wait"), None, Vec::new(), 200);
    let rapid = async {
        loop {
            poll_fn(|context| client.poll_ready(context)).await?;
            let (_response, mut stream) = client.send_request(request(&case), true)?;
            stream.send_reset(h2::Reason::CANCEL);
            tokio::task::yield_now().await;
        }
    };
    let ended: Result<(), h2::Error> = within(rapid).await;
    // How it hears of it depends on what the goodbye overtakes.
    assert!(ended.is_err());
    assert!(house.handler.asked.load(Ordering::Relaxed) < 1000);
    house.handler.waiting(0).await;
    // Others are served meanwhile.
    let case = (Method::GET, get_path("now"), None, Vec::new(), 200);
    let mut other = http2(&house).await;
    check(&case, &ask_http2(&mut other, &case).await, true);
}

#[tokio::test]
async fn http2_silence_is_ended_with_goodbye() {
    let house = House::with(1, |settings| settings.idle = Duration::from_millis(30));
    let config = Arc::new(house.client_config(&[b"h2"]));
    let address = house.address(Transport::Https);
    let tls = connect(address, &config).await.unwrap();
    let (_client, connection) = within(h2::client::handshake::<_>(tls)).await.unwrap();
    within(connection).await.unwrap();
}

#[tokio::test]
async fn http2_stopping_answers_what_is_in_flight() {
    let house = House::start();
    let mut client = http2(&house).await;
    let case = (Method::GET, get_path("wait"), None, Vec::new(), 200);
    let (response, _) = client.send_request(request(&case), true).unwrap();
    house.handler.waiting(1).await;
    house.stop.send_replace(true);
    house.handler.open("wait");
    assert_eq!(read_http2(response).await.status, 200);
    house.stop().await;
}

#[tokio::test]
async fn http2_what_was_asked_just_before_the_end_is_answered() {
    let house = House::start();
    let mut client = http2(&house).await;
    let case = (Method::GET, get_path("now"), None, Vec::new(), 200);
    assert_eq!(ask_http2(&mut client, &case).await.status, 200);
    let (response, _) = client.send_request(request(&case), true).unwrap();
    house.stop.send_replace(true);
    assert_eq!(read_http2(response).await.status, 200);
    house.stop().await;
}

// HTTP/3, with the h3 crate's client.

type Http3 = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;

async fn quic_for_http3(house: &House) -> (Endpoint, quinn::Connection) {
    let config = QuicClientConfig::try_from(house.client_config(&[b"h3"])).unwrap();
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
    let address = house.address(Transport::Http3);
    let connection = within(endpoint.connect(address, "dns.test").unwrap())
        .await
        .unwrap();
    (endpoint, connection)
}

async fn http3(house: &House) -> (Endpoint, Http3) {
    let (endpoint, connection) = quic_for_http3(house).await;
    let (mut driver, client) = h3::client::new(h3_quinn::Connection::new(connection))
        .await
        .unwrap();
    tokio::spawn(async move { poll_fn(|context| driver.poll_close(context)).await });
    (endpoint, client)
}

async fn ask_http3(client: &mut Http3, case: &Case) -> Got {
    let mut stream = within(client.send_request(request(case))).await.unwrap();
    if !case.3.is_empty() {
        // The server may refuse before it has read all.
        let _ = stream.send_data(Bytes::from(case.3.clone())).await;
    }
    let _ = stream.finish().await;
    let head = within(stream.recv_response()).await.unwrap();
    let mut body = BytesMut::new();
    while let Some(mut data) = within(stream.recv_data()).await.unwrap() {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Got {
        status: head.status(),
        headers: head.headers().clone(),
        body: body.to_vec(),
    }
}

#[tokio::test]
async fn http3_says_what_it_must() {
    let house = House::start();
    let (_endpoint, mut client) = http3(&house).await;
    for case in cases() {
        check(&case, &ask_http3(&mut client, &case).await, false);
    }
}

#[tokio::test]
async fn http3_answers_out_of_order() {
    let house = House::start();
    let (_endpoint, mut client) = http3(&house).await;
    let mut other = client.clone();
    let waiting = async move {
        let case = (Method::GET, get_path("wait"), None, Vec::new(), 200);
        ask_http3(&mut other, &case).await
    };
    let mut waiting = std::pin::pin!(waiting);
    let first = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
    assert!(first.is_pending());
    let case = (Method::GET, get_path("now"), None, Vec::new(), 200);
    check(&case, &ask_http3(&mut client, &case).await, false);
    house.handler.open("wait");
    assert_eq!(waiting.await.body, reply_to(&query(0, "wait")));
}

#[tokio::test]
async fn http3_stops() {
    let house = House::start();
    let (_endpoint, mut client) = http3(&house).await;
    let case = (Method::GET, get_path("now"), None, Vec::new(), 200);
    check(&case, &ask_http3(&mut client, &case).await, false);
    house.stop().await;
}

#[tokio::test]
async fn http3_what_was_asked_just_before_the_end_is_answered() {
    for label in ["now", "wait"] {
        let house = House::start();
        let (_endpoint, mut client) = http3(&house).await;
        let case = (Method::GET, get_path("now"), None, Vec::new(), 200);
        assert_eq!(ask_http3(&mut client, &case).await.status, 200);
        let case = (Method::GET, get_path(label), None, Vec::new(), 200);
        let answered = async {
            let asking = ask_http3(&mut client, &case);
            let mut asking = std::pin::pin!(asking);
            let first = poll_fn(|context| Poll::Ready(asking.as_mut().poll(context))).await;
            assert!(first.is_pending());
            house.stop.send_replace(true);
            if label == "wait" {
                house.handler.waiting(1).await;
                house.handler.open("wait");
            }
            asking.await
        };
        assert_eq!(within(answered).await.status, 200);
        house.stop().await;
    }
}

/// A frame that announces nearly a gigabyte, of a type that only h3 itself reads to its end.
const ENDLESS_HEADERS: [u8; 5] = [0x01, 0xbf, 0xff, 0xff, 0xff];
const ENDLESS_UNKNOWN: [u8; 5] = [0x21, 0xbf, 0xff, 0xff, 0xff];

/// Writes zeros until the stream does not take them any more; how many it took.
async fn pour(send: &mut quinn::SendStream) -> usize {
    let mut octets = 0;
    while octets < 1 << 20 && within(send.write_all(&[0; 1024])).await.is_ok() {
        octets += 1024;
    }
    octets
}

#[tokio::test]
async fn http3_holds_no_endless_frame_of_a_control_stream() {
    let house = House::start();
    let connection = quic_for_http3(&house).await.1;
    let mut control = connection.open_uni().await.unwrap();
    control.write_all(&[0, 4, 0]).await.unwrap();
    control.write_all(&ENDLESS_UNKNOWN).await.unwrap();
    assert!(pour(&mut control).await < 200_000);
    match within(connection.closed()).await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            assert_eq!(close.error_code, quinn::VarInt::from_u32(0x107));
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn http3_holds_no_endless_frame_of_a_request() {
    let house = House::start();
    let (_endpoint, connection) = quic_for_http3(&house).await;
    for endless in [ENDLESS_HEADERS, ENDLESS_UNKNOWN] {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&endless).await.unwrap();
        assert!(pour(&mut send).await < 100_000);
        let excessive = quinn::VarInt::from_u32(0x107);
        assert_eq!(within(send.stopped()).await, Ok(Some(excessive)));
        assert_eq!(
            within(receive.read_to_end(100)).await,
            Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(
                excessive
            )))
        );
    }
    assert!(connection.close_reason().is_none());
}

#[tokio::test]
async fn http3_a_body_that_does_not_end_is_answered_408() {
    let house = House::with(1, |settings| {
        settings.patience.query = Duration::from_millis(50);
    });
    let (_endpoint, mut client) = http3(&house).await;
    let case = (Method::POST, "/dns-query".into(), DNS, Vec::new(), 408);
    let mut stream = client.send_request(request(&case)).await.unwrap();
    stream
        .send_data(Bytes::from_static(&[0; 20]))
        .await
        .unwrap();
    let head = within(stream.recv_response()).await.unwrap();
    assert_eq!(head.status(), 408);
    // The connection is as good as before.
    let case = (Method::GET, get_path("now"), None, Vec::new(), 200);
    check(&case, &ask_http3(&mut client, &case).await, false);
}

#[tokio::test]
async fn http2_a_window_that_opens_octet_by_octet_gives_no_more_time() {
    let house = House::with(1, |settings| {
        settings.patience.reply = Duration::from_millis(100);
    });
    let config = Arc::new(house.client_config(&[b"h2"]));
    let address = house.address(Transport::Https);
    let tls = connect(address, &config).await.unwrap();
    let handshake = h2::client::Builder::new()
        .initial_window_size(1)
        .handshake::<_, Bytes>(tls);
    let (mut client, connection) = within(handshake).await.unwrap();
    tokio::spawn(connection);
    let case = (Method::GET, get_path("large"), None, Vec::new(), 200);
    let (response, _) = client.send_request(request(&case), true).unwrap();
    let mut body = within(response).await.unwrap().into_body();
    let drip = async {
        loop {
            let data = body.data().await.unwrap()?;
            body.flow_control().release_capacity(data.len())?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended: Result<(), h2::Error> = within(drip).await;
    assert_eq!(ended.unwrap_err().reason(), Some(h2::Reason::CANCEL));
}
