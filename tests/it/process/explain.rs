//! `query` as a validator of its own, and `--explain`: what it shows of each kind of answer.

use serde_json::Value;

use super::*;
use crate::lab::expectations::{Verdict, expectations};

fn explain(setup: &Setup, name: &str, rtype: &str) -> Ended {
    setup.run(&["query", "--explain", name, rtype])
}

fn explain_json(setup: &Setup, name: &str, rtype: &str) -> (Option<i32>, Value) {
    let ended = setup.run(&["query", "--explain", "--json", name, rtype]);
    (ended.status.code(), ended.json())
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

fn zone<'a>(json: &'a Value, name: &str) -> &'a Value {
    let zones = json["zones"].as_array().unwrap();
    let found = zones.iter().find(|zone| zone["name"] == name);
    found.unwrap_or_else(|| panic!("no zone {name} in {json:#}"))
}

#[test]
fn every_verdict_of_the_lab_is_explained_and_exits_by_it() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    let mut wrong = Vec::new();
    for (name, rtype, expected) in expectations() {
        let (code, json) = explain_json(&setup, name, rtype);
        let verdict = match expected.verdict {
            Verdict::Secure => "secure",
            Verdict::Insecure => "insecure",
            Verdict::Bogus => "bogus",
            // It may be found out by ourselves or told by the upstream.
            Verdict::Failure => json["verdict"].as_str().unwrap_or_default(),
        };
        let chain = json["zones"]
            .as_array()
            .is_some_and(|zones| !zones.is_empty());
        if json["verdict"] != verdict || !chain {
            wrong.push(format!(
                "{name} {rtype}: {} instead of {verdict}",
                json["verdict"]
            ));
        }
        let allowed = match expected.verdict {
            Verdict::Secure | Verdict::Insecure => &[0][..],
            Verdict::Bogus => &[3],
            Verdict::Failure => &[3, 4],
        };
        if !code.is_some_and(|code| allowed.contains(&code)) {
            wrong.push(format!("{name} {rtype}: exits with {code:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_secure_answer_is_drawn_from_the_root() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    let text = explain(&setup, "www.secure.com", "A").succeeded();
    contains(
        &text,
        &[
            "www.secure.com. A, asked of lab (dot), judged by",
            "\nzone .: secure\n│  trust anchor ",
            ", RSASHA256, KSK, the trust anchor points at it\n",
            "\n└─ zone com.: secure\n",
            "\n   └─ zone secure.com.: secure\n",
            ", ECDSAP256SHA256, KSK, the DS points at it\n",
            "\n      └─ www.secure.com. A\n            A 192.0.2.80\n",
            ": good, expires in 1",
            "\nstatus: NOERROR\nverdict: secure, ",
        ],
    );
    assert!(!text.contains("<=="), "{text}");

    let (code, json) = explain_json(&setup, "www.secure.com", "A");
    assert_eq!((code, &json["reason"]), (Some(0), &Value::Null));
    assert_eq!(json["question"]["name"], "www.secure.com.");
    let zone = zone(&json, "secure.com.");
    assert_eq!(
        (&zone["parent"], &zone["verdict"]),
        (&"com.".into(), &"secure".into())
    );
    assert_eq!(zone["ds"]["records"][0]["fits_a_key"], true);
    assert_eq!(zone["ds"]["signatures"][0]["signer"], "com.");
    assert_eq!(zone["dnskey"]["keys"][0]["role"], "KSK");
    assert_eq!(zone["dnskey_from"]["transport"], "dot");
    let answer = &json["answer"][0];
    assert_eq!(answer["records"][0]["data"], "192.0.2.80");
    assert_eq!(answer["signatures"][0]["state"], "good");
    assert_eq!(json["exchanges"][0]["upstream"], "lab");
}

#[test]
fn the_one_record_that_breaks_an_answer_is_named() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    for (name, code, parts) in [
        (
            "www.expired.com",
            "signature_expired",
            &[
                "www.expired.com. A   <== here it breaks\n",
                "the signature has expired, expired 31 d ago (",
                "verdict: bogus, www.expired.com. A (key tag ",
                "forgot to sign again",
            ][..],
        ),
        (
            "www.wrongds.com",
            "key_missing",
            &[
                "zone wrongds.com.: bogus   <== here it breaks\n",
                ", fits no key of the zone\n",
                "verdict: bogus, wrongds.com. DNSKEY (key tag ",
                "DS at the registrar",
            ],
        ),
        (
            "www.nosig.com",
            "signature_missing",
            &[
                "   <== here it breaks\n",
                "not signed\n",
                ": the signature is missing\n",
                "strips signatures",
            ],
        ),
        (
            "nothing.stripped.com",
            "denial_missing",
            &[
                ": the proof that it does not exist is missing   <== here it breaks\n",
                "leaves the NSEC or NSEC3 records out",
            ],
        ),
        (
            "expired.cname.com",
            "signature_expired",
            &[
                "\n   ├─ zone cname.com.: secure\n",
                "expired.cname.com. CNAME\n",
                "www.expired.com. A   <== here it breaks\n",
            ],
        ),
    ] {
        let ended = explain(&setup, name, "A");
        assert_eq!(ended.status.code(), Some(3), "{ended:#?}");
        contains(&ended.out, parts);
        assert_eq!(ended.out.matches("<==").count(), 1, "{}", ended.out);
        let (status, json) = explain_json(&setup, name, "A");
        assert_eq!(status, Some(3));
        assert_eq!(json["verdict"], "bogus");
        assert_eq!(json["reason"]["code"], code);
        assert!(json["reason"]["advice"].is_string(), "{json:#}");
    }
}

#[test]
fn absence_and_unsigned_delegations_show_their_proofs() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    let text = explain(&setup, "nothing.secure.com", "A").succeeded();
    contains(
        &text,
        &[
            "\n      ├─ secure.com. SOA\n",
            "proof mixed-case.secure.com. NSEC\n",
            "\nstatus: NXDOMAIN\nverdict: secure",
        ],
    );
    let (_, json) = explain_json(&setup, "nothing.secure.com", "A");
    assert_eq!(
        (&json["status"], &json["verdict"]),
        (&"NXDOMAIN".into(), &"secure".into())
    );
    let proof = json["proof"].as_array().unwrap();
    assert!(proof.iter().any(|set| set["type"] == "NSEC"), "{json:#}");

    let text = explain(&setup, "www.insecure.com", "A").succeeded();
    contains(
        &text,
        &[
            "zone insecure.com.: insecure   <== nothing is proved from here on\n",
            "no DS at its parent\n",
            ".com. NSEC3 1 0 0 - ",
            "verdict: insecure, insecure.com. DS: the zone is not signed",
        ],
    );
    let (_, json) = explain_json(&setup, "www.insecure.com", "A");
    assert_eq!(
        zone(&json, "insecure.com.")["ds_absent"][0]["type"],
        "NSEC3"
    );
    assert_eq!(json["reason"]["code"], "unsigned_delegation");

    // A DS is proved by its parent; the zone it leads to is shown all the same.
    let (_, json) = explain_json(&setup, "com", "DS");
    assert_eq!(zone(&json, "com.")["verdict"], "secure");
    let text = explain(&setup, "www.secure.dname.com", "A").succeeded();
    contains(
        &text,
        &["made from the DNAME of secure.dname.com., which is signed"],
    );
}

#[test]
fn without_upstreams_nothing_is_explained_away() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    lab.faults().everywhere(|set| set.refuse = true);
    let ended = explain(&setup, "www.secure.com", "A");
    assert_eq!(ended.status.code(), Some(4), "{ended:#?}");
    contains(
        &ended.out,
        &[
            "\nnot answered:\n",
            "www.secure.com. A: ",
            "\nverdict: none, ",
        ],
    );
    assert_eq!(ended.errors.lines().count(), 1, "{ended:#?}");
    let (code, json) = explain_json(&setup, "www.secure.com", "A");
    assert_eq!((code, &json["verdict"]), (Some(4), &Value::Null));
    assert!(json["error"].is_string(), "{json:#}");
}

#[test]
fn query_gives_its_own_verdict() {
    let lab = RunningLab::start();
    let setup = before(&lab);
    let text = setup.run(&["query", "www.secure.com"]).succeeded();
    contains(
        &text,
        &[
            "flags: qr rd ra ad;",
            "\n;; VERDICT: secure\n",
            "A\t192.0.2.80\n",
        ],
    );
    assert!(!text.contains("RRSIG"), "{text}");
    let text = setup.run(&["query", "www.insecure.com"]).succeeded();
    contains(
        &text,
        &[
            "flags: qr rd ra;",
            ";; VERDICT: insecure, insecure.com. DS: ",
        ],
    );

    let ended = setup.run(&["query", "www.expired.com"]);
    assert_eq!(ended.status.code(), Some(3), "{ended:#?}");
    contains(
        &ended.out,
        &[
            "status: SERVFAIL",
            "EDE: 7 ",
            ";; VERDICT: bogus, www.expired.com. A ",
        ],
    );
    assert!(!ended.out.contains("192.0.2.80"), "{}", ended.out);
    let ended = setup.run(&["query", "--json", "www.expired.com"]);
    let json = ended.json();
    assert_eq!(
        (&json["verdict"], &json["status"]),
        (&"bogus".into(), &"SERVFAIL".into())
    );
    assert_eq!(json["reason"]["code"], "signature_expired");

    // Switched off, what the upstream says is shown as it came.
    let toml = fs::read_to_string(setup.path().join("truename.toml")).unwrap();
    let off = toml.replace("[dnssec]\n", "[dnssec]\nvalidate = false\n");
    setup.write("off.toml", &off);
    let ended = setup.run(&["query", "--config", "off.toml", "--json", "www.expired.com"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:#?}");
    assert_eq!(ended.json()["verdict"], Value::Null);

    // Another server, judged by the same anchors.
    let server = lab.url(Transport::Udp);
    let arguments = [
        "query",
        "--explain",
        "--json",
        "--server",
        &server,
        "www.secure.com",
    ];
    let json = setup.run(&arguments).json();
    assert_eq!(json["verdict"], "secure");
    assert_eq!(json["zones"][0]["dnskey_from"]["transport"], "udp");
    // Reading changes nothing.
    assert!(!setup.path().join("state").exists());
}
