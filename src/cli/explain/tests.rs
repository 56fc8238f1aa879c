//! The drawing, of chains made by hand.

use std::sync::Arc;

use super::*;
use crate::{
    clock::Now,
    dnssec::{
        Ds, Inspected, InspectedSignature, Reason, Security, Settings, Verdict, Why, Worth,
        ds_of_key,
    },
    handler::Transport,
    reply::Failure,
    resolver::explain::{Heard, Link, Looked, Said},
    wire::{CLASS_IN, Question, Record, Response, rcode},
};

/// 2026-11-20.
const NOW: u32 = 1_795_132_800;
const DAY: u32 = 86_400;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn ask(owner: &str, qtype: u16) -> Question {
    Question {
        name: name(owner),
        qtype,
        qclass: CLASS_IN,
    }
}

fn record(owner: &str, rtype: u16, rdata: &[u8]) -> Record {
    Record {
        owner: name(owner),
        rtype,
        class: CLASS_IN,
        ttl_s: 300,
        rdata: Box::from(rdata),
    }
}

fn signature(signer: &str, key_tag: u16, worth: Worth, ends: u32) -> InspectedSignature {
    InspectedSignature {
        signer: name(signer),
        key_tag,
        algorithm: 13,
        inception: NOW - 10 * DAY,
        expiration: ends,
        worth,
        wildcard: None,
    }
}

fn set(records: &[Record], signatures: &[InspectedSignature]) -> InspectedSet {
    InspectedSet {
        owner: records[0].owner.clone(),
        rtype: records[0].rtype,
        records: records.to_vec(),
        signatures: signatures.to_vec(),
    }
}

fn answer(sets: &[InspectedSet]) -> Inspected {
    Inspected {
        answer: sets.to_vec(),
        authority: Vec::new(),
    }
}

fn denial(sets: &[InspectedSet]) -> Inspected {
    Inspected {
        answer: Vec::new(),
        authority: sets.to_vec(),
    }
}

/// A DNSKEY with flags KSK or ZSK and a key of zeros but for one octet.
fn dnskey(zone: &str, flags: u16, octet: u8) -> Record {
    let mut rdata = flags.to_be_bytes().to_vec();
    rdata.extend([3, 13]);
    rdata.extend([octet; 64]);
    record(zone, rtype::DNSKEY, &rdata)
}

fn ds_record(zone: &str, ds: &Ds) -> Record {
    let mut rdata = ds.key_tag.to_be_bytes().to_vec();
    rdata.extend([ds.algorithm, ds.digest_type]);
    rdata.extend(&*ds.digest);
    record(zone, rtype::DS, &rdata)
}

/// Builds an explanation step by step.
struct Story(Explanation);

impl Story {
    /// A root with one key, below a trust anchor, asked of one upstream.
    fn new(question: Question) -> Self {
        let now = Now {
            unix_s: NOW.into(),
            ..Now::read()
        };
        let mut story = Self(Explanation {
            question,
            now,
            outcome: Ok(Verdict::Secure),
            rcode: rcode::NOERROR,
            answer: Vec::new(),
            authority: Vec::new(),
            zones: Vec::new(),
            links: Vec::new(),
            exchanges: Vec::new(),
        });
        let key = dnskey(".", 0x0101, 1);
        let anchor = ds_of_key(&Name::root(), &key.rdata).unwrap();
        let good = signature(".", anchor.key_tag, Worth::Good, NOW + 3 * DAY);
        let looked = story.hear(ask(".", rtype::DNSKEY), answer(&[set(&[key], &[good])]));
        story.0.zones.push(ExplainedZone {
            name: Name::root(),
            security: Some(Security::Secure),
            reason: None,
            anchors: vec![anchor],
            ds: None,
            dnskey: Some(looked),
        });
        story
    }

    fn hear(&mut self, question: Question, inspected: Inspected) -> Looked {
        self.hear_from("lab", question, inspected)
    }

    fn hear_from(&mut self, upstream: &str, question: Question, inspected: Inspected) -> Looked {
        let response = Response {
            rcode: rcode::NOERROR,
            truncated: false,
            question: question.clone(),
            answer: Vec::new(),
            authority: Vec::new(),
            extended_errors: Vec::new(),
        };
        self.0.exchanges.push(Heard {
            question,
            outcome: Ok(Said {
                upstream: Arc::from(upstream),
                transport: Transport::Tls,
                octets: 100,
                response,
            }),
        });
        Looked {
            exchange: self.0.exchanges.len() - 1,
            inspected,
        }
    }

    fn answered(&mut self, inspected: Inspected, verdict: Verdict) {
        let question = self.0.question.clone();
        let looked = self.hear(question.clone(), inspected);
        self.0.links.push(Link {
            question,
            verdict: Some(verdict.clone()),
            looked: Some(looked),
        });
        self.0.outcome = Ok(verdict);
    }

    fn root_tag(&self) -> u16 {
        self.0.zones[0].anchors[0].key_tag
    }

    fn drawn(&self) -> String {
        let mut out = Vec::new();
        write_text(&self.0, &Settings::with_root_anchors(Vec::new()), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        json(&self.0, &Settings::with_root_anchors(Vec::new()))
    }
}

fn reason(why: Why, owner: &str, rtype: u16, source: Question) -> Reason {
    Reason {
        why,
        owner: name(owner),
        rtype,
        key_tag: None,
        source: Some(source),
    }
}

#[test]
fn a_secure_answer_hangs_on_its_chain() {
    let question = ask("www.com", rtype::A);
    let mut story = Story::new(question);
    let root_tag = story.root_tag();
    let (ksk, zsk) = (dnskey("com", 0x0101, 2), dnskey("com", 0x0100, 3));
    let ds = ds_of_key(&name("com"), &ksk.rdata).unwrap();
    let by_root = signature(".", root_tag, Worth::Good, NOW + 3 * DAY);
    let by_com = signature("com", ds.key_tag, Worth::Good, NOW + DAY);
    let ds_set = set(&[ds_record("com", &ds)], &[by_root]);
    let ds_looked = story.hear(ask("com", rtype::DS), answer(&[ds_set]));
    let keys = set(&[ksk, zsk.clone()], std::slice::from_ref(&by_com));
    let dnskey_looked = story.hear(ask("com", rtype::DNSKEY), answer(&[keys]));
    story.0.zones.push(ExplainedZone {
        name: name("com"),
        security: Some(Security::Secure),
        reason: None,
        anchors: Vec::new(),
        ds: Some(ds_looked),
        dnskey: Some(dnskey_looked),
    });
    let data = set(&[record("www.com", rtype::A, &[192, 0, 2, 1])], &[by_com]);
    story.answered(answer(&[data]), Verdict::Secure);
    let (com, zsk) = (ds.key_tag, crate::dnssec::key_tag(&zsk.rdata));
    let window = "(2026-11-10T00:00:00Z to 2026-11-2";
    let expected = format!(
        "\
www.com. A, asked of lab (dot), judged by this machine's clock at 2026-11-20T00:00:00Z

zone .: secure
│  trust anchor {root_tag}, ECDSAP256SHA256, SHA-256
│  DNSKEY {root_tag}, ECDSAP256SHA256, KSK, the trust anchor points at it
│    signed by key {root_tag} of .: good, expires in 3 d {window}3T00:00:00Z)
│
└─ zone com.: secure
   │  DS {com}, ECDSAP256SHA256, SHA-256
   │    signed by key {root_tag} of .: good, expires in 3 d {window}3T00:00:00Z)
   │  DNSKEY {com}, ECDSAP256SHA256, KSK, the DS points at it
   │  DNSKEY {zsk}, ECDSAP256SHA256, ZSK
   │    signed by key {com} of com.: good, expires in 24 h {window}1T00:00:00Z)
   │
   └─ www.com. A
         A 192.0.2.1
           signed by key {com} of com.: good, expires in 24 h {window}1T00:00:00Z)

status: NOERROR
verdict: secure, every record is signed by a chain of keys from the trust anchor
"
    );
    assert_eq!(story.drawn(), expected);
    let json = story.json();
    assert_eq!(json["verdict"], "secure");
    assert_eq!(json["zones"][1]["parent"], ".");
    assert_eq!(json["zones"][1]["ds"]["records"][0]["fits_a_key"], true);
    let keys = &json["zones"][1]["dnskey"]["keys"];
    assert_eq!(
        (&keys[0]["role"], &keys[0]["pointed_at"]),
        (&"KSK".into(), &true.into())
    );
    assert_eq!(
        (&keys[1]["role"], &keys[1]["pointed_at"]),
        (&"ZSK".into(), &false.into())
    );
    assert_eq!(json["answer"][0]["signatures"][0]["state"], "good");
}

#[test]
fn an_unsigned_delegation_shows_its_proof_and_different_upstreams_are_named() {
    let mut story = Story::new(ask("www.com", rtype::A));
    let root_tag = story.root_tag();
    let mut nsec = name("d").as_wire().to_vec();
    nsec.extend([0, 1, 0x20]);
    let by_root = signature(".", root_tag, Worth::Good, NOW + 3 * DAY);
    let proof = set(&[record("com", rtype::NSEC, &nsec)], &[by_root]);
    let question = ask("com", rtype::DS);
    let looked = story.hear_from("other", question.clone(), denial(&[proof]));
    let reason = reason(Why::UnsignedDelegation, "com", rtype::DS, question);
    story.0.zones.push(ExplainedZone {
        name: name("com"),
        security: Some(Security::Insecure),
        reason: Some(reason.clone()),
        anchors: Vec::new(),
        ds: Some(looked),
        dnskey: None,
    });
    let data = set(&[record("www.com", rtype::A, &[192, 0, 2, 1])], &[]);
    story.answered(answer(&[data]), Verdict::Insecure(reason));
    let drawn = story.drawn();
    for part in [
        "zone com.: insecure   <== nothing is proved from here on\n",
        "  no DS at its parent\n",
        "  proof: com. NSEC d. NS\n",
        "  DS as said by other (dot)\n",
        "  DNSKEY as said by lab (dot)\n",
        "\nwww.com. A as said by lab (dot)\n",
        "verdict: insecure, com. DS: the zone is not signed",
        "This is normal for a zone",
    ] {
        assert!(drawn.contains(part), "{part:?} in\n{drawn}");
    }
    assert!(
        drawn.lines().all(|line| line.chars().count() < 140),
        "{drawn}"
    );
    let json = story.json();
    assert_eq!(json["zones"][1]["ds_absent"][0]["type"], "NSEC");
    assert_eq!(json["zones"][1]["ds_from"]["upstream"], "other");
    assert_eq!(json["reason"]["code"], "unsigned_delegation");
}

#[test]
fn what_breaks_an_answer_is_marked_once() {
    let question = ask("www", rtype::A);
    let mut story = Story::new(question.clone());
    let bad = Worth::Bad(Why::SignatureExpired);
    let expired = signature(".", story.root_tag(), bad, NOW - 2 * DAY);
    let data = set(&[record("www", rtype::A, &[192, 0, 2, 1])], &[expired]);
    let reason = reason(Why::SignatureExpired, "www", rtype::A, question);
    story.answered(answer(&[data]), Verdict::Bogus(reason));
    let drawn = story.drawn();
    assert!(drawn.contains("─ www. A   <== here it breaks\n"), "{drawn}");
    assert!(
        drawn.contains("of .: the signature has expired, expired 2 d ago (2026-11-10"),
        "{drawn}"
    );
    assert_eq!(drawn.matches("<==").count(), 1, "{drawn}");
    assert_eq!(story.json()["reason"]["ede"], 7);
}

#[test]
fn what_is_missing_has_a_place_in_the_tree() {
    let question = ask("www", rtype::TXT);
    let mut story = Story::new(question.clone());
    let reason = reason(Why::DenialMissing, "www", rtype::TXT, question);
    story.answered(denial(&[]), Verdict::Bogus(reason));
    let drawn = story.drawn();
    let node = "└─ www. TXT: the proof that it does not exist is missing   <== here it breaks\n";
    assert!(drawn.contains(node), "{drawn}");
}

#[test]
fn without_an_answer_there_is_no_verdict_and_the_failures_are_told() {
    let question = ask("www", rtype::A);
    let mut story = Story::new(question.clone());
    story.0.exchanges.push(Heard {
        question,
        outcome: Err("lab: no answer in time".to_owned()),
    });
    story.0.outcome = Err(Failure::Unreachable);
    story.0.rcode = rcode::SERVFAIL;
    let drawn = story.drawn();
    for part in [
        "\nnot answered:\n  www. A: lab: no answer in time\n",
        "\nverdict: none, no upstream resolver answers\n",
        "`truename check`",
    ] {
        assert!(drawn.contains(part), "{part:?} in\n{drawn}");
    }
    let json = story.json();
    assert_eq!(json["verdict"], serde_json::Value::Null);
    assert_eq!(json["error"], "no upstream resolver answers");
}

#[test]
fn names_from_the_net_cannot_play_with_the_terminal() {
    let owner = Name::from_wire(b"\x05\x1b[2Ja\x00").unwrap();
    let question = Question {
        name: owner.clone(),
        ..ask("x", rtype::TXT)
    };
    let mut story = Story::new(question);
    let mut text = record("x", rtype::TXT, b"\x05\x1b[2J!");
    text.owner = owner;
    story.answered(answer(&[set(&[text], &[])]), Verdict::Secure);
    let drawn = story.drawn();
    assert!(!drawn.contains('\u{1b}'), "{drawn:?}");
}
