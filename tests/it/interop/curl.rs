//! curl: DoH over HTTP/1.1 and HTTP/2 as anybody can send it, and curl as a client of DoH itself.

use std::{fs, path::PathBuf, process::Command};

use data_encoding::BASE64URL_NOPAD;

use super::{
    stage::Stage,
    tools::{Ran, finish, program},
    web::{PAGE, Web},
};
use crate::lab::{Answered, Ask};

/// What came back: version, status and content type; the head and the body are in files.
struct Fetched {
    version: String,
    status: u16,
    content_type: String,
    head: String,
    body: Vec<u8>,
    ran: Ran,
}

/// The versions, as curl is asked for them and as it reports them.
const VERSIONS: [(&str, &str); 2] = [("--http1.1", "1.1"), ("--http2", "2")];

const MEDIA_TYPE: &str = "content-type: application/dns-message";

fn curl(stage: &Stage, arguments: &[&str]) -> Fetched {
    let [head, body] = ["head", "body"].map(|name| stage.truename.file(name));
    fs::write(&body, "").unwrap();
    let ran = finish(
        Command::new(program("curl", "curl"))
            .args(["-sS", "--max-time", "20", "--cacert"])
            .arg(stage.truename.ca())
            .args(["-w", "%{http_version} %{http_code} %{content_type}", "-o"])
            .arg(&body)
            .arg("-D")
            .arg(&head)
            .args(arguments),
    )
    .succeeded();
    let mut words = ran.stdout.splitn(3, ' ');
    Fetched {
        version: words.next().unwrap().to_owned(),
        status: words.next().unwrap().parse().unwrap(),
        content_type: words.next().unwrap_or("").to_owned(),
        head: fs::read_to_string(head).unwrap().to_ascii_lowercase(),
        body: fs::read(body).unwrap(),
        ran,
    }
}

/// A query in a file, as `--data-binary` wants it.
fn query_file(stage: &Stage, octets: &[u8]) -> (PathBuf, String) {
    let path = stage.truename.file("query");
    fs::write(&path, octets).unwrap();
    let data = format!("@{}", path.display());
    (path, data)
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn curl_gets_and_posts_over_both_versions() {
    let stage = Stage::start();
    let url = stage.truename.doh_url();
    for (version, reported) in VERSIONS {
        for (name, kind) in [("www.secure.com", "A"), ("giant.secure.com", "TXT")] {
            let query = Ask::new(name, kind).id(0).encode();
            let (_, data) = query_file(&stage, &query);
            let get = format!("{url}?dns={}", BASE64URL_NOPAD.encode(&query));
            let post = [version, "-H", MEDIA_TYPE, "--data-binary", &data, &url];
            for arguments in [&[version, &get][..], &post] {
                let fetched = curl(&stage, arguments);
                assert_eq!(fetched.status, 200, "{}", fetched.ran);
                assert_eq!(fetched.version, reported, "{}", fetched.ran);
                assert_eq!(fetched.content_type, "application/dns-message");
                let answered = Answered::parse(&fetched.body).unwrap();
                assert_eq!((answered.id, answered.rcode), (0, 0));
                let records = answered.rdata(kind);
                assert_eq!(records.len(), if kind == "A" { 1 } else { 80 });
                // RFC 8484, section 5.1: no longer than the records themselves.
                let ttl_s = answered.answer().iter().map(|record| record.ttl_s).min();
                let age = format!("max-age={}", ttl_s.unwrap());
                assert!(fetched.head.contains(&age), "{age}: {}", fetched.head);
            }
        }
    }
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn curl_is_told_what_is_wrong_by_the_status() {
    let stage = Stage::start();
    let url = stage.truename.doh_url();
    let query = Ask::new("www.secure.com", "A").id(0).encode();
    let encoded = BASE64URL_NOPAD.encode(&query);
    let elsewhere = url.replace("/dns-query", "/elsewhere");
    let (_, data) = query_file(&stage, &query);
    let large = stage.truename.file("large");
    fs::write(&large, vec![0; 60_000]).unwrap();
    let large = format!("@{}", large.display());
    let get = |rest: &str| format!("{url}{rest}");
    let cases: [(u16, Vec<String>); 11] = [
        (400, vec![url.clone()]),
        (400, vec![get("?dns=")]),
        (400, vec![get("?dns=!!!!")]),
        (400, vec![get("?dns=AAAA")]),
        (400, vec![get(&format!("?other={encoded}"))]),
        (404, vec![format!("{elsewhere}?dns={encoded}")]),
        (
            405,
            words(&["-X", "PUT", "-H", MEDIA_TYPE, "--data-binary", &data, &url]),
        ),
        (405, words(&["-X", "DELETE", &url])),
        (
            413,
            words(&["-H", MEDIA_TYPE, "--data-binary", &large, &url]),
        ),
        (
            415,
            words(&[
                "-H",
                "content-type: text/plain",
                "--data-binary",
                &data,
                &url,
            ]),
        ),
        (
            415,
            words(&["-H", "content-type:", "--data-binary", &data, &url]),
        ),
    ];
    for (version, _) in VERSIONS {
        for (status, arguments) in &cases {
            let mut all = vec![version];
            all.extend(arguments.iter().map(String::as_str));
            let fetched = curl(&stage, &all);
            assert_eq!(fetched.status, *status, "{}\n{}", fetched.ran, fetched.head);
            if *status == 405 {
                assert!(fetched.head.contains("allow:"), "{}", fetched.head);
            }
        }
        // A HEAD request is a GET without the body.
        let head = curl(&stage, &[version, "-I", &get(&format!("?dns={encoded}"))]);
        assert!(matches!(head.status, 200 | 405), "{}", head.ran);
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn curl_uses_one_connection_for_many_questions() {
    let stage = Stage::start();
    let url = stage.truename.doh_url();
    for (version, _) in VERSIONS {
        let mut command = Command::new(program("curl", "curl"));
        command.args(["-sS", version, "--cacert"]);
        command.arg(stage.truename.ca());
        command.args(["-w", "%{http_code} %{num_connects}\n"]);
        for number in 0..50 {
            let name = format!("n{number}.wild.secure.com");
            let encoded = BASE64URL_NOPAD.encode(&Ask::new(&name, "A").id(0).encode());
            command.args(["-o", "/dev/null", &format!("{url}?dns={encoded}")]);
        }
        let ran = finish(&mut command).succeeded();
        let lines: Vec<_> = ran.stdout.lines().collect();
        let mut expected = vec!["200 0"; 50];
        expected[0] = "200 1";
        assert_eq!(lines, expected, "{ran}");
    }
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn curl_asks_many_things_at_once_over_http2() {
    const QUESTIONS: usize = 400;
    let stage = Stage::start();
    let url = stage.truename.doh_url();
    // Twice: each name waits for the upstream first, then memory has it.
    for _ in 0..2 {
        let mut command = Command::new(program("curl", "curl"));
        command.args(["-sS", "--http2", "-Z", "--parallel-max", "100", "--cacert"]);
        command.arg(stage.truename.ca());
        command.args(["-w", "%{http_code} %{size_download}\n"]);
        let query = |number| Ask::new(&format!("n{number:03}.wild.secure.com"), "A").id(0);
        for number in 0..QUESTIONS {
            let encoded = BASE64URL_NOPAD.encode(&query(number).encode());
            let body = stage.truename.file(&format!("body{number}"));
            command.arg("-o").arg(body);
            command.arg(format!("{url}?dns={encoded}"));
        }
        let ran = finish(&mut command).succeeded();
        let answered = ran.stdout.lines().filter(|line| line.starts_with("200 "));
        assert_eq!(answered.count(), QUESTIONS, "{ran}");
        for number in 0..QUESTIONS {
            let body = fs::read(stage.truename.file(&format!("body{number}"))).unwrap();
            let answered = Answered::parse(&body).unwrap();
            let asked = query(number).encode();
            assert!(asked[12..].starts_with(&answered.question), "{number}");
            assert_eq!(answered.rdata("A"), [[192, 0, 2, 42]]);
        }
    }
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn curl_resolves_through_doh() {
    let stage = Stage::start();
    let web = Web::start();
    let name = "loopback.insecure.com";
    let fetch = |doh: &str| {
        finish(
            Command::new(program("curl", "curl"))
                .args(["-sS", "--max-time", "20", "--doh-url", doh, "--cacert"])
                .arg(stage.truename.ca())
                .arg(web.url(name)),
        )
    };
    let ran = fetch(&stage.truename.doh_url()).succeeded();
    assert_eq!(ran.stdout, PAGE, "{ran}");
    let hosts = web.hosts();
    assert!(hosts[0].starts_with(name), "{hosts:?}");
    assert!(!stage.lab.record().queries_below(name).is_empty());

    // The certificate is for the name and the addresses of this machine, and curl checks that.
    let elsewhere = stage
        .truename
        .doh_url()
        .replace("localhost", "elsewhere.localhost");
    let ran = fetch(&elsewhere);
    assert_ne!(ran.status, Some(0), "{ran}");
}
