//! Validating programs that trust the lab's root and know it only through truename: what they
//! find secure has reached them whole, signatures and proofs included.

use std::fs;

use super::{
    resolvers::Unbound,
    stage::Stage,
    tools::{Ran, bind9_client, finish},
};
use crate::lab::{
    Transport,
    expectations::{Shape, Verdict, expectations},
};

/// A trust anchor file in BIND's syntax, from a DS line.
fn anchors(ds_line: &str) -> String {
    let fields: Vec<_> = ds_line.split_whitespace().collect();
    let ds = fields.iter().position(|&field| field == "DS").unwrap();
    let numbers = fields[ds + 1..ds + 4].join(" ");
    let digest = fields[ds + 4..].concat();
    format!("trust-anchors {{ . static-ds {numbers} \"{digest}\"; }};\n")
}

fn delv(stage: &Stage, name: &str, kind: &str) -> Ran {
    let path = stage.truename.file("anchors");
    fs::write(&path, anchors(&stage.lab.trust_anchor_ds())).unwrap();
    let mut delv = bind9_client("delv", stage.truename.port("udp"));
    finish(delv.args(["+root=.", "-a"]).arg(path).args([name, kind]))
}

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn delv_validates_what_passes_through() {
    let stage = Stage::start();
    let cases = [
        ("www.secure.com", "A", "; fully validated"),
        ("alias.secure.com", "A", "; fully validated"),
        ("any.wild.secure.com", "A", "; fully validated"),
        ("huge.secure.com", "TXT", "; fully validated"),
        (
            "nothing.secure.com",
            "A",
            "; negative response, fully validated",
        ),
        (
            "txt.secure.com",
            "A",
            "; negative response, fully validated",
        ),
        ("www.nsec3.com", "A", "; fully validated"),
        (
            "nothing.nsec3.com",
            "A",
            "; negative response, fully validated",
        ),
        ("www.rsasha256.com", "A", "; fully validated"),
        ("www.rsasha512.com", "A", "; fully validated"),
        ("www.ecdsap384.com", "A", "; fully validated"),
        ("www.ed25519.com", "A", "; fully validated"),
        ("www.secure.dname.com", "A", "; fully validated"),
        ("www.deeper.deep.secure.org", "A", "; fully validated"),
        ("www.insecure.com", "A", "; unsigned answer"),
        ("secure.com", "DNSKEY", "; fully validated"),
        ("com", "DS", "; fully validated"),
    ];
    for (name, kind, verdict) in cases {
        let ran = delv(&stage, name, kind);
        assert!(ran.stdout.contains(verdict), "{verdict}: {ran}");
    }
    for name in ["www.expired.com", "www.wrongds.com", "www.nosig.com"] {
        let ran = delv(&stage, name, "A");
        assert!(!ran.stdout.contains("192.0.2"), "{ran}");
        assert!(ran.to_string().contains("resolution failed"), "{ran}");
    }
}

/// Names whose verdict Unbound gives for reasons of its own, which are no fault of what is
/// between.
const UNBOUND_DIFFERS: &[&str] = &[
    // Too many iterations make a zone insecure for it, which RFC 9276 allows too.
    "nothing.iterations.com",
    // It still takes SHA-1 for a digest, alone or beside a better one.
    "www.sha1ds.com",
    "www.sha1beside.com",
    // It follows a DS to a key with the REVOKE flag.
    "www.revoked.com",
];

#[test]
#[ignore = "needs programs of others; .ci/run installs them"]
fn unbound_validates_through_the_dot_listener() {
    let stage = Stage::start();
    let dot = stage.truename.address("dot");
    let anchor = stage.truename.file("root.ds");
    fs::write(&anchor, format!("{}\n", stage.lab.trust_anchor_ds())).unwrap();
    // `use-caps-for-id`: it mixes the case of what it asks and wants it back (0x20).
    let unbound = Unbound::start(&format!(
        "server:\n\
         \x20 tls-cert-bundle: \"{}\"\n\
         \x20 trust-anchor-file: \"{}\"\n\
         \x20 use-caps-for-id: yes\n\
         forward-zone:\n\
         \x20 name: \".\"\n\
         \x20 forward-tls-upstream: yes\n\
         \x20 forward-addr: {}@{}#localhost\n",
        stage.truename.ca().display(),
        anchor.display(),
        dot.ip(),
        dot.port(),
    ));
    let mut wrong = Vec::new();
    for (name, kind, expected) in expectations() {
        if UNBOUND_DIFFERS.contains(name) {
            continue;
        }
        let shown = unbound.ask(&[name, kind, "+dnssec"]);
        let secure = shown.has("ad");
        let right = match expected.verdict {
            Verdict::Secure => shown.status != "SERVFAIL" && secure,
            Verdict::Insecure => shown.status != "SERVFAIL" && !secure,
            Verdict::Bogus | Verdict::Failure => shown.status == "SERVFAIL",
        };
        let data = !shown.answer.is_empty() || expected.shape != Shape::Data;
        if !right || !data {
            wrong.push(format!("{name} {kind}: {expected:?}, but {}", shown.text));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nUnbound's log:\n{}",
        wrong.join("\n"),
        unbound.log()
    );
    let asked = stage.lab.record().query_count(Transport::Tls);
    assert!(asked > 100, "{asked} questions came through");
}
