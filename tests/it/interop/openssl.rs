//! OpenSSL's own client: versions of TLS, ALPN, and sessions that are resumed.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    stage::{Stage, Truename},
    tools::program,
};
use crate::lab::{Answered, Ask, ask::framed};

/// A DoT client made of `openssl s_client`: what it said, and the response to one query.
fn s_client(truename: &Truename, listener: &str, arguments: &[&str]) -> (String, Vec<u8>) {
    let port = truename.port(listener);
    let ca = truename.ca();
    // `-ign_eof` keeps it from closing before the answer is there; the server closes no earlier
    // than asked, so the reader below stops it.
    let mut child = Command::new(program("openssl", "openssl"))
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
        .args(["-servername", "localhost", "-verify_return_error"])
        .args(["-verify_hostname", "localhost", "-quiet", "-CAfile"])
        .arg(&ca)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let query = framed(&Ask::new("www.secure.com", "A").encode());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&query).unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut length = [0; 2];
    let mut message = Vec::new();
    if stdout.read_exact(&mut length).is_ok() {
        message.resize(usize::from(u16::from_be_bytes(length)), 0);
        stdout.read_exact(&mut message).unwrap();
    }
    // The end of its input ends it.
    drop(stdin);
    let mut said = String::new();
    child.kill().unwrap();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    child.wait().unwrap();
    (said, message)
}

/// What `openssl s_client` shows of a handshake, with the session written or read as told.
fn handshake(truename: &Truename, listener: &str, arguments: &[&str]) -> String {
    let port = truename.port(listener);
    let mut child = Command::new(program("openssl", "openssl"))
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
        .args(["-servername", "localhost", "-verify_hostname", "localhost"])
        .args(["-verify_return_error", "-CAfile"])
        .arg(truename.ca())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // TLS 1.3 sends its tickets behind the handshake; an answer shows that they have come.
    let query = framed(&Ask::new("www.secure.com", "A").encode());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&query).unwrap();
    let mut shown = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = [0; 4096];
    let answer = [192, 0, 2, 80];
    loop {
        let count = stdout.read(&mut buffer).unwrap();
        shown.extend(&buffer[..count]);
        if count == 0 || shown.windows(4).any(|octets| octets == answer) {
            break;
        }
    }
    drop(stdin);
    child.wait().unwrap();
    stdout.read_to_end(&mut shown).unwrap();
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn both_versions_of_tls_answer_over_dot() {
    let stage = Stage::start();
    for version in ["-tls1_2", "-tls1_3"] {
        for alpn in [&["-alpn", "dot"][..], &[]] {
            let arguments = [&[version], alpn].concat();
            let (said, message) = s_client(&stage.truename, "dot", &arguments);
            let answered = Answered::parse(&message).unwrap_or_else(|| panic!("{said}"));
            assert_eq!(answered.rdata("A"), [[192, 0, 2, 80]], "{said}");
        }
    }
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn older_tls_is_refused() {
    let stage = Stage::start();
    for listener in ["dot", "doh"] {
        let old = ["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"];
        let (said, message) = s_client(&stage.truename, listener, &old);
        assert!(message.is_empty(), "{said}");
        assert!(said.contains("alert"), "{said}");
    }
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn the_application_protocol_is_agreed_upon() {
    let stage = Stage::start();
    let shown = handshake(&stage.truename, "dot", &["-alpn", "dot"]);
    assert!(shown.contains("ALPN protocol: dot"), "{shown}");
    assert!(shown.contains("Verification: OK"), "{shown}");
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn sessions_are_resumed() {
    let stage = Stage::start();
    for version in ["-tls1_2", "-tls1_3"] {
        let session: PathBuf = stage.truename.file("session.pem");
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let first = [version, "-sess_out", &path(&session)];
        let shown = handshake(&stage.truename, "dot", &first);
        assert!(shown.contains("New, TLSv1."), "{shown}");
        let second = [version, "-sess_in", &path(&session)];
        let shown = handshake(&stage.truename, "dot", &second);
        assert!(shown.contains("Reused, TLSv1."), "{version}: {shown}");
    }
}
