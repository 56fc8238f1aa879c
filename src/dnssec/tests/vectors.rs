//! The examples that the RFCs print. Each test is named after its section.

use std::sync::Arc;

use crate::{
    clock::Now,
    dnssec::{
        Ds, Judged, KeyCache, Security, Settings, Step, Validation, Why,
        chain::{dnskey_of, ds_of},
        denial::{Absence, Denial, Evidence},
        limits::Budget,
        rrset::Sections,
    },
    wire::{Name, Question, Record, Response, rcode, rtype},
};

use super::{
    lab::{name, question},
    text::{records, time},
};

fn response(question: &Question, rcode: u16, answer: &str, authority: &str) -> Response {
    Response {
        rcode,
        truncated: false,
        question: question.clone(),
        answer: records(answer),
        authority: records(authority),
        extended_errors: Vec::new(),
    }
}

/// Settings that trust these DNSKEY records of one zone, by digests of their SEP keys.
fn trusting(keys: &[Record], digest_type: u8) -> Settings {
    let zone = keys[0].owner.clone();
    let anchors = keys
        .iter()
        .filter(|one| one.rtype == rtype::DNSKEY && one.rdata[1] & 1 == 1)
        .map(|one| Ds {
            key_tag: crate::dnssec::key_tag(&one.rdata),
            algorithm: one.rdata[3],
            digest_type,
            digest: Box::from(
                crate::dnssec::crypto::ds_digest(digest_type, true, zone.as_wire(), &one.rdata)
                    .unwrap()
                    .as_ref(),
            ),
        })
        .collect();
    let mut settings = Settings::with_root_anchors(Vec::new());
    settings.anchors = [(zone, anchors)].into();
    settings.sha1 = true;
    settings
}

fn at(date: &str) -> Now {
    Now {
        unix_s: u64::from(time(date)),
        ..Now::read()
    }
}

/// Runs a validation with the responses at hand; any further fetch fails.
fn judge(
    question: &Question,
    answer: &Response,
    others: &[Response],
    settings: Settings,
    now: Now,
) -> Judged {
    let keys = KeyCache::new();
    let mut validation = Validation::new(question.clone(), answer, Arc::new(settings), now);
    loop {
        match validation.step(&keys) {
            Step::Done(judged) => return *judged,
            Step::Need(questions) => {
                for one in questions {
                    let response = others.iter().find(|other| other.question == one);
                    validation.supply(one, response.ok_or(crate::dnssec::FetchFailed::Network));
                }
            }
        }
    }
}

mod rfc_4035_appendix_b {
    use super::*;

    const KEYS: &str = "
example. 3600 DNSKEY 256 3 5 AQOy1bZVvpPqhg4j7EJoM9rI3ZmyEx2OzDBVrZy/lvI5CQePxXHZS4i8dANH4DX3tbHol61ek8EFMcsGXxKciJFHyhl94C+NwILQdzsUlSFovBZsyl/NX6yEbtw/xN9ZNcrbYvgjjZ/UVPZIySFNsgEYvh0z2542lzMKR4Dh8uZffQ==
example. 3600 DNSKEY 257 3 5 AQOeX7+baTmvpVHb2CcLnL1dMRWbuscRvHXlLnXwDzvqp4tZVKp1sZMepFb8MvxhhW3y/0QZsyCjczGJ1qk8vJe52iOhInKROVLRwxGpMfzPRLMlGybr51bOV/1se0ODacj3DomyB4QB5gKTYot/K9alk5/j8vfd4jWCWD+E1Sze0Q==
example. 3600 RRSIG DNSKEY 5 1 3600 20040509183619 20040409183619 9465 example. ZxgauAuIj+k1YoVEOSlZfx41fcmKzTFHoweZxYnz99JVQZJ33wFS0Q0jcP7VXKkaElXk9nYJXevO/7nAbo88iWsMkSpSR6jWzYYKwfrBI/L9hjYmyVO9m6FjQ7uwM4dCP/bIuV/DKqOAK9NYNC3AHfvCV1Tp4VKDqxqG7R5tTVM=
example. 3600 RRSIG DNSKEY 5 1 3600 20040509183619 20040409183619 38519 example. eGL0s90glUqcOmloo/2y+bSzyEfKVOQViD9ZDNhLz/Yn9CQZlDVRJffACQDAUhXpU/oP34ribKBpysRXosczFrKqS5Oa0bzMOfXCXup9qHApeFIku28Vqfr8Nt7cigZLxjK+u0Ws/4lIRjKk7z5OXogYVaFzHKillDt3HRxHIZM=";
    const SOA: &str = "
example. 3600 SOA ns1.example. bugs.x.w.example. 1081539377 3600 300 3600000 3600
example. 3600 RRSIG SOA 5 1 3600 20040509183619 20040409183619 38519 example. ONx0k36rcjaxYtcNgq6iQnpNV5+drqYAsC9h7TSJaHCqbhE67Sr6aH2xDUGcqQWu/n0UVzrFvkgO9ebarZ0GWDKcuwlM6eNB5SiX2K74l5LWDA7S/Un/IbtDq4Ay8NMNLQI7Dw7n4p8/rjkBjV7j86HyQgM5e7+miRAz8V01b0I=";
    const NSEC_APEX: &str = "
example. 3600 NSEC a.example. NS SOA MX RRSIG NSEC DNSKEY
example. 3600 RRSIG NSEC 5 1 3600 20040509183619 20040409183619 38519 example. O0k558jHhyrC97ISHnislm4kLMW48C7U7cBmFTfhke5iVqNRVTB1STLMpgpbDIC9hcryoO0VZ9ME5xPzUEhbvGnHd5sfzgFVeGxr5Nyyq4tWSDBgIBiLQUv1ivy29vhXy7WgR62dPrZ0PWvmjfFJ5arXf4nPxp/kEowGgBRzY/U=";
    const NSEC_B: &str = "
b.example. 3600 NSEC ns1.example. NS RRSIG NSEC
b.example. 3600 RRSIG NSEC 5 2 3600 20040509183619 20040409183619 38519 example. GNuxHn844wfmUhPzGWKJCPY5ttEX/RfjDoOx9ueK1PtYkOWKOOdiJ/PJKCYB3hYX+858dDWSxb2qnV/LSTCNVBnkm6owOpysY97MVj5VQEWs0lm9tFoqjcptQkmQKYPrwUnCSNwvvclSF1xZvhRXgWT7OuFXldoCG6TfVFMs9xE=";
    const NSEC_XYW: &str = "
x.y.w.example. 3600 NSEC xx.example. MX RRSIG NSEC
x.y.w.example. 3600 RRSIG NSEC 5 4 3600 20040509183619 20040409183619 38519 example. OvE6WUzN2ziieJcvKPWbCAyXyP6ef8cr6CspArVSTzKSquNwbezZmkU7E34o5lmb6CWSSSpgxw098kNUFnHcQf/LzY2zqRomubrNQhJTiDTXa0ArunJQCzPjOYq5t0SLjm6qp6McJI1AP5VrQoKqJDCLnoAlcPOPKAm/jJkn3jk=";
    const NSEC_WILD: &str = "
*.w.example. 3600 NSEC x.w.example. MX RRSIG NSEC
*.w.example. 3600 RRSIG NSEC 5 2 3600 20040509183619 20040409183619 38519 example. r/mZnRC3I/VIcrelgIcteSxDhtsdlTDt8ng9HSBlABOlzLxQtfgTnn8f+aOwJIAFe1Ee5RvU5cVhQJNP5XpXMJHfyps8tVvfxSAXfahpYqtx91gsmcV/1V9/bZAG55CefP9cM4Z9Y9NT9XQ8s1InQ2UoIv6tJEaaKkP701j8OLA=";
    const NS: &str = "
example. 3600 NS ns1.example.
example. 3600 NS ns2.example.
example. 3600 RRSIG NS 5 1 3600 20040509183619 20040409183619 38519 example. gl13F00f2U0R+SWiXXLHwsMY+qStYy5k6zfdEuivWc+wd1fmbNCyql0Tk7lHTX6UOxc8AgNf4ISFve8XqF4q+o9qlnqIzmppU3LiNeKT4FZ8RO5urFOvoMRTbQxW3U0hXWuggE4g3ZpsHv480HjMeRaZB/FRPGfJPajngcq6Kwg=";

    fn validate(owner: &str, qtype: u16, rcode: u16, answer: &str, authority: &[&str]) -> Judged {
        let question = question(owner, qtype);
        let authority = authority.concat();
        let keys = response(&dnskey_of(&name("example.")), 0, KEYS, "");
        // B.5 once more, as the parent answers the question for the unsigned child's DS.
        let ds_b = response(&ds_of(&name("b.example.")), 0, "", &[SOA, NSEC_B].concat());
        judge(
            &question,
            &response(&question, rcode, answer, &authority),
            &[keys.clone(), ds_b],
            trusting(&keys.answer, 1),
            at("20040501120000"),
        )
    }

    #[track_caller]
    fn is_secure(judged: &Judged, rcode: u16) {
        assert_eq!(judged.verdict.security(), Security::Secure, "{judged:?}");
        assert_eq!(judged.rcode, rcode);
    }

    #[test]
    fn b_1_answer() {
        let mx = "
x.w.example. 3600 MX 1 xx.example.
x.w.example. 3600 RRSIG MX 5 3 3600 20040509183619 20040409183619 38519 example. Il2WTZ+Bkv+OytBx4LItNW5mjB4RCwhOO8y1XzPHZmZUTVYL7LaA63f6T9ysVBzJRI3KRjAPH3U1qaYnDoN1DrWqmi9RJe4FoObkbcdm7P3Ikx70ePCoFgRz1Yq+bVVXCvGuAU4xALv3W/Y1jNSlwZ2mSWKHfxFQxPtLj8s32+k=";
        let judged = validate("x.w.example.", rtype::MX, 0, mx, &[NS]);
        is_secure(&judged, rcode::NOERROR);
        assert_eq!((judged.answer.len(), judged.authority.len()), (2, 0));
    }

    #[test]
    fn b_2_name_error() {
        let all = [SOA, NSEC_B, NSEC_APEX];
        let judged = validate("ml.example.", rtype::A, rcode::NXDOMAIN, "", &all);
        is_secure(&judged, rcode::NXDOMAIN);
        assert_eq!(judged.authority.len(), 6);
        for missing in [NSEC_B, NSEC_APEX] {
            let rest: Vec<&str> = all.into_iter().filter(|one| *one != missing).collect();
            let judged = validate("ml.example.", rtype::A, rcode::NXDOMAIN, "", &rest);
            assert_eq!(judged.verdict.reason().unwrap().why, Why::DenialMissing);
        }
    }

    #[test]
    fn b_3_no_data_error() {
        let nsec = "
ns1.example. 3600 NSEC ns2.example. A RRSIG NSEC
ns1.example. 3600 RRSIG NSEC 5 2 3600 20040509183619 20040409183619 38519 example. I4hj+Kt6+8rCcHcUdolks2S+Wzri9h3fHas81rGN/eILdJHN7JpV6lLGPIh/8fIBkfvdyWnBjjf1q3O7JgYO1UdI7FvBNWqaaEPJK3UkddBqZIaLi8Qr2XHkjq38BeQsbp8X0+6h4ETWSGT8IZaIGBLryQWGLw6Y6X8dqhlnxJM=";
        let judged = validate("ns1.example.", rtype::MX, 0, "", &[SOA, nsec]);
        is_secure(&judged, rcode::NOERROR);
        let judged = validate("ns1.example.", rtype::A, 0, "", &[SOA, nsec]);
        assert_eq!(judged.verdict.reason().unwrap().why, Why::DenialContradicts);
    }

    #[test]
    fn b_4_referral_to_signed_zone() {
        // The DS set of the referral, as the answer to a question for it.
        let ds = "
a.example. 3600 DS 57855 5 1 B6DCD485719ADCA18E5F3D48A2331627FDD3636B
a.example. 3600 RRSIG DS 5 2 3600 20040509183619 20040409183619 38519 example. oXIKit/QtdG64J/CB+Gi8dOvnwRvqrto1AdQoRkAN15FP3iZ7suB7gvTBmXzCjL7XUgQVcoHkdhyCuzp8W9qJHgRUSwKKkczSyuL64nhgjuDEML8l9wlWVsl7PR2VnZduM9bLyBhaaPmRKX/Fm+v6ccF2EGNLRiY08kdkz+XHHo=";
        let judged = validate("a.example.", rtype::DS, 0, ds, &[]);
        is_secure(&judged, rcode::NOERROR);
    }

    #[test]
    fn b_5_referral_to_unsigned_zone() {
        // The child's unsigned answer, insecure by the parent's proof that it has no DS.
        let mx = "mc.b.example. 3600 MX 1 xx.example.";
        let judged = validate("mc.b.example.", rtype::MX, 0, mx, &[]);
        let reason = judged.verdict.reason().unwrap();
        assert_eq!(reason.why, Why::UnsignedDelegation);
        assert_eq!(reason.owner, name("b.example."));
        assert_eq!(judged.answer.len(), 1);
    }

    #[test]
    fn b_6_wildcard_expansion() {
        let mx = "
a.z.w.example. 3600 MX 1 ai.example.
a.z.w.example. 3600 RRSIG MX 5 2 3600 20040509183619 20040409183619 38519 example. OMK8rAZlepfzLWW75Dxd63jy2wswESzxDKG2f9AMN1CytCd10cYISAxfAdvXSZ7xujKAtPbctvOQ2ofO7AZJ+d01EeeQTVBPq4/6KCWhqe2XTjnkVLNvvhnc0u28aoSsG0+4InvkkOHknKxw4kX18MMR34i8lC36SR5xBni8vHI=";
        let judged = validate("a.z.w.example.", rtype::MX, 0, mx, &[NS, NSEC_XYW]);
        is_secure(&judged, rcode::NOERROR);
        assert!(judged.wildcard);
        let judged = validate("a.z.w.example.", rtype::MX, 0, mx, &[NS]);
        assert_eq!(judged.verdict.reason().unwrap().why, Why::WildcardUnproven);
    }

    #[test]
    fn b_7_wildcard_no_data_error() {
        let all = [SOA, NSEC_XYW, NSEC_WILD];
        let judged = validate("a.z.w.example.", rtype::AAAA, 0, "", &all);
        is_secure(&judged, rcode::NOERROR);
        let judged = validate("a.z.w.example.", rtype::AAAA, 0, "", &[SOA, NSEC_WILD]);
        assert_eq!(judged.verdict.reason().unwrap().why, Why::DenialMissing);
    }

    #[test]
    fn b_8_ds_child_zone_no_data_error() {
        // The child's apex answers for its own DS: it does not know, and the anchor is below.
        let judged = validate("example.", rtype::DS, 0, "", &[SOA, NSEC_APEX]);
        assert!(!judged.verdict.is_usable());
    }

    #[test]
    fn sha1_is_insecure_by_default() {
        let question = question("x.w.example.", rtype::MX);
        let keys = records(KEYS);
        let mut settings = trusting(&keys, 2);
        settings.sha1 = false;
        let answer = response(&question, 0, "x.w.example. 3600 MX 1 xx.example.", "");
        let judged = judge(&question, &answer, &[], settings, at("20040501120000"));
        let reason = judged.verdict.reason().unwrap();
        assert_eq!(reason.why, Why::UnsupportedAlgorithm);
    }
}

/// The keys of this zone have 512 bits, which no maintained library checks any more; so the proofs
/// are tested without their signatures.
mod rfc_5155_appendix_b {
    use super::*;

    const CHAIN: &str = "
0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example. 3600 NSEC3 1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr MX DNSKEY NS SOA NSEC3PARAM RRSIG
2t7b4g4vsa5smi47k61mv5bv1a22bojr.example. 3600 NSEC3 1 1 12 aabbccdd 2vptu5timamqttgl4luu9kg21e0aor3s A RRSIG
2vptu5timamqttgl4luu9kg21e0aor3s.example. 3600 NSEC3 1 1 12 aabbccdd 35mthgpgcu1qg68fab165klnsnk3dpvl MX RRSIG
35mthgpgcu1qg68fab165klnsnk3dpvl.example. 3600 NSEC3 1 1 12 aabbccdd b4um86eghhds6nea196smvmlo4ors995 NS DS RRSIG
b4um86eghhds6nea196smvmlo4ors995.example. 3600 NSEC3 1 1 12 aabbccdd gjeqe526plbf1g8mklp59enfd789njgi MX RRSIG
gjeqe526plbf1g8mklp59enfd789njgi.example. 3600 NSEC3 1 1 12 aabbccdd ji6neoaepv8b5o6k4ev33abha8ht9fgc A HINFO AAAA RRSIG
ji6neoaepv8b5o6k4ev33abha8ht9fgc.example. 3600 NSEC3 1 1 12 aabbccdd k8udemvp1j2f7eg6jebps17vp3n8i58h
k8udemvp1j2f7eg6jebps17vp3n8i58h.example. 3600 NSEC3 1 1 12 aabbccdd kohar7mbb8dc2ce8a9qvl8hon4k53uhi
kohar7mbb8dc2ce8a9qvl8hon4k53uhi.example. 3600 NSEC3 1 1 12 aabbccdd q04jkcevqvmu85r014c7dkba38o0ji5r A RRSIG
q04jkcevqvmu85r014c7dkba38o0ji5r.example. 3600 NSEC3 1 1 12 aabbccdd r53bq7cc2uvmubfu5ocmm6pers9tk9en A RRSIG
r53bq7cc2uvmubfu5ocmm6pers9tk9en.example. 3600 NSEC3 1 1 12 aabbccdd t644ebqk9bibcna874givr6joj62mlhv MX RRSIG
t644ebqk9bibcna874givr6joj62mlhv.example. 3600 NSEC3 1 1 12 aabbccdd 0p9mhaveqvm6t7vbl5lop2u3t2rp3tom A HINFO AAAA RRSIG";

    /// The evidence of those records of the chain whose owners begin so.
    fn evidence(owners: &[&str]) -> Evidence {
        evidence_of(CHAIN, owners)
    }

    fn evidence_of(chain: &str, owners: &[&str]) -> Evidence {
        let mut evidence = Evidence::new(&name("example."));
        let answer = response(&question("example.", 1), 0, "", chain);
        for set in &Sections::new(&answer).authority {
            let owner = set.owner.to_string();
            if owners.iter().any(|one| owner.starts_with(one)) {
                evidence.add(set);
            }
        }
        evidence
    }

    fn deny(owners: &[&str], owner: &str, qtype: u16) -> Result<Denial, Why> {
        evidence(owners).deny(&name(owner), qtype, &mut Budget::new())
    }

    #[test]
    fn b_1_name_error() {
        let all = ["0p9m", "b4um", "35mt"];
        let denial = deny(&all, "a.c.x.w.example.", rtype::A);
        // Every record of the zone opts out, so the absence is not secure.
        assert_eq!(denial, Ok(Denial::NX_DOMAIN.opting_out(true)));
        assert!(deny(&["b4um", "35mt"], "a.c.x.w.example.", rtype::A).is_err());
        assert!(deny(&["0p9m", "35mt"], "a.c.x.w.example.", rtype::A).is_err());
        let without_wildcard = deny(&["0p9m", "b4um"], "a.c.x.w.example.", rtype::A);
        assert_eq!(without_wildcard, Ok(Denial::NO_DATA.opting_out(true)));
    }

    #[test]
    fn b_1_with_flags_and_owners_changed() {
        let all = ["0p9m", "b4um", "35mt"];
        let deny = |chain: &str| {
            evidence_of(chain, &all).deny(&name("a.c.x.w.example."), rtype::A, &mut Budget::new())
        };
        let plain = CHAIN.replace(" 1 1 12 ", " 1 0 12 ");
        assert_eq!(deny(&plain), Ok(Denial::NX_DOMAIN));
        // Opting out over the wildcard alone, or over the next closer name alone.
        for one in ["35mt", "0p9m"] {
            let lines: Vec<String> = plain
                .lines()
                .map(|line| {
                    if line.starts_with(one) {
                        line.replace(" 1 0 12 ", " 1 1 12 ")
                    } else {
                        line.to_owned()
                    }
                })
                .collect();
            let denial = deny(&lines.join("\n"));
            assert_eq!(denial, Ok(Denial::NX_DOMAIN.opting_out(true)), "{one}");
        }
        // Unknown flags and unknown hashes are as if not there (RFC 5155, section 8).
        assert_eq!(
            deny(&CHAIN.replace(" 1 1 12 ", " 1 2 12 ")),
            Err(Why::DenialMissing)
        );
        assert_eq!(
            deny(&CHAIN.replace(" 1 1 12 ", " 2 1 12 ")),
            Err(Why::DenialMissing)
        );
        // So are owners further down than one label.
        assert_eq!(
            deny(&CHAIN.replace(".example. 3600", ".x.example. 3600")),
            Err(Why::DenialMissing)
        );
    }

    #[test]
    fn b_2_no_data_error() {
        assert_eq!(
            deny(&["2t7b"], "ns1.example.", rtype::MX),
            Ok(Denial::NO_DATA)
        );
        let contradiction = deny(&["2t7b"], "ns1.example.", rtype::A);
        assert_eq!(contradiction, Err(Why::DenialContradicts));
    }

    #[test]
    fn b_2_1_no_data_error_empty_non_terminal() {
        assert_eq!(
            deny(&["ji6n"], "y.w.example.", rtype::A),
            Ok(Denial::NO_DATA)
        );
    }

    #[test]
    fn b_3_referral_to_an_opt_out_unsigned_zone() {
        let absence =
            evidence(&["35mt", "0p9m"]).ds_absent(&name("c.example."), &mut Budget::new());
        assert_eq!(absence, Ok(Absence::OptOut));
        let absence = evidence(&["0p9m"]).ds_absent(&name("c.example."), &mut Budget::new());
        assert_eq!(absence, Err(Why::DenialMissing));
    }

    #[test]
    fn b_4_wildcard_expansion() {
        let next_closer = name("z.w.example.");
        let proof = evidence(&["q04j"]).no_closer_match(&next_closer, &mut Budget::new());
        assert_eq!(proof, Ok(true));
        let proof = evidence(&["r53b"]).no_closer_match(&next_closer, &mut Budget::new());
        assert_eq!(proof, Err(Why::WildcardUnproven));
    }

    #[test]
    fn b_5_wildcard_no_data_error() {
        let all = ["k8ud", "q04j", "r53b"];
        let denial = deny(&all, "a.z.w.example.", rtype::AAAA);
        assert_eq!(denial, Ok(Denial::NO_DATA.opting_out(true)));
        let denial = deny(&all, "a.z.w.example.", rtype::MX);
        assert_eq!(denial, Err(Why::DenialContradicts));
    }

    #[test]
    fn b_6_ds_child_zone_no_data_error() {
        // The apex of the child has SOA, and does not speak about its DS.
        let denial = deny(&["0p9m"], "example.", rtype::DS);
        assert_eq!(denial, Err(Why::DenialContradicts));
    }
}

/// Checks one signed set against one key of its zone.
fn one_set(key: &str, set: &str, date: &str) -> Result<(), Why> {
    let key = records(key);
    let set = records(set);
    let owner: &Name = &key[0].owner;
    let question = Question {
        name: set[0].owner.clone(),
        qtype: set[0].rtype,
        qclass: 1,
    };
    let zone_keys = crate::dnssec::keys::ZoneKeys::for_test(owner, &key[0].rdata);
    let answer = Response {
        answer: set,
        ..response(&question, 0, "", "")
    };
    let when = crate::dnssec::signature::When {
        unix_s: time(date),
        skew_s: 0,
        sha1: false,
    };
    let sections = Sections::new(&answer);
    crate::dnssec::signature::verify(&sections.answer[0], &zone_keys, when, &mut Budget::new())
        .map(|_| ())
        .map_err(|reason| reason.why)
}

#[test]
fn rfc_5702_section_6_1_rsa_sha256() {
    // A key of 512 bits is too short for anybody's comfort: unsupported.
    let key = "example.net. 3600 DNSKEY 256 3 8 AwEAAcFcGsaxxdgiuuGmCkVImy4h99CqT7jwY3pexPGcnUFtR2Fh36BponcwtkZ4cAgtvd4Qs8PkxUdp6p/DlUmObdk=";
    let set = "
www.example.net. 3600 A 192.0.2.91
www.example.net. 3600 RRSIG A 8 3 3600 20300101000000 20000101000000 9033 example.net. kRCOH6u7l0QGy9qpC9l1sLncJcOKFLJ7GhiUOibu4teYp5VE9RncriShZNz85mwlMgNEacFYK/lPtPiVYP4bwg==";
    let result = one_set(key, set, "20100101000000");
    assert_eq!(result, Err(Why::SignatureUnsupported));
}

#[test]
fn rfc_5702_section_6_2_rsa_sha512() {
    let key = "example.net. 3600 DNSKEY 256 3 10 AwEAAdHoNTOW+et86KuJOWRDp1pndvwb6Y83nSVXXyLA3DLroROUkN6X0O6pnWnjJQujX/AyhqFDxj13tOnD9u/1kTg7cV6rklMrZDtJCQ5PCl/D7QNPsgVsMu1J2Q8gpMpztNFLpPBz1bWXjDtaR7ZQBlZ3PFY12ZTSncorffcGmhOL";
    let set = "
www.example.net. 3600 A 192.0.2.91
www.example.net. 3600 RRSIG A 10 3 3600 20300101000000 20000101000000 3740 example.net. tsb4wnjRUDnB1BUi+t6TMTXThjVnG+eCkWqjvvjhzQL1d0YRoOe0CbxrVDYd0xDtsuJRaeUw1ep94PzEWzr0iGYgZBWm/zpq+9fOuagYJRfDqfReKBzMweOLDiNa8iP5g9vMhpuv6OPlvpXwm9Sa9ZXIbNl1MBGk0fthPgxdDLw=";
    assert_eq!(one_set(key, set, "20100101000000"), Ok(()));
    let forged = set.replace("192.0.2.91", "192.0.2.92");
    let result = one_set(key, &forged, "20100101000000");
    assert_eq!(result, Err(Why::SignatureInvalid));
}

#[test]
fn rfc_6605_section_6_1_p_256() {
    let key = "example.net. 3600 DNSKEY 257 3 13 GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==";
    let set = "
www.example.net. 3600 A 192.0.2.1
www.example.net. 3600 RRSIG A 13 3 3600 20100909100439 20100812100439 55648 example.net. qx6wLYqmh+l9oCKTN6qIc+bw6ya+KJ8oMz0YP107epXAyGmt+3SNruPFKG7tZoLBLlUzGGus7ZwmwWep666VCw==";
    assert_eq!(one_set(key, set, "20100901000000"), Ok(()));
    let result = one_set(key, set, "20100910000000");
    assert_eq!(result, Err(Why::SignatureExpired));
    ds_fits(
        key,
        "example.net. 3600 DS 55648 13 2 b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17",
    );
}

#[test]
fn rfc_6605_section_6_2_p_384() {
    let key = "example.net. 3600 DNSKEY 257 3 14 xKYaNhWdGOfJ+nPrL8/arkwf2EY3MDJ+SErKivBVSum1w/egsXvSADtNJhyem5RCOpgQ6K8X1DRSEkrbYQ+OB+v8/uX45NBwY8rp65F6Glur8I/mlVNgF6W/qTI37m40";
    let set = "
www.example.net. 3600 A 192.0.2.1
www.example.net. 3600 RRSIG A 14 3 3600 20100909102025 20100812102025 10771 example.net. /L5hDKIvGDyI1fcARX3z65qrmPsVz73QD1Mr5CEqOiLP95hxQouuroGCeZOvzFaxsT8Glr74hbavRKayJNuydCuzWTSSPdz7wnqXL5bdcJzusdnI0RSMROxxwGipWcJm";
    assert_eq!(one_set(key, set, "20100901000000"), Ok(()));
    ds_fits(
        key,
        "example.net. 3600 DS 10771 14 4 72d7b62976ce06438e9c0bf319013cf801f09ecc84b8d7e9495f27e305c6a9b0563a9b5f4d288405c3008a946df983d6",
    );
}

// The signatures of RFC 8080 are those of its erratum 4935.

#[test]
fn rfc_8080_section_6_1_ed25519_first() {
    let key = "example.com. 3600 DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=";
    let set = "
example.com. 3600 MX 10 mail.example.com.
example.com. 3600 RRSIG MX 15 2 3600 1440021600 1438207200 3613 example.com. oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeRAvTdszaPD+QLs3fx8A4M3e23mRZ9VrbpMngwcrqNAg==";
    assert_eq!(one_set(key, set, "1439000000"), Ok(()));
    ds_fits(
        key,
        "example.com. 3600 DS 3613 15 2 3aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b",
    );
}

#[test]
fn rfc_8080_section_6_1_ed25519_second() {
    let key = "example.com. 3600 DNSKEY 257 3 15 zPnZ/QwEe7S8C5SPz2OfS5RR40ATk2/rYnE9xHIEijs=";
    let set = "
example.com. 3600 MX 10 mail.example.com.
example.com. 3600 RRSIG MX 15 2 3600 1440021600 1438207200 35217 example.com. zXQ0bkYgQTEFyfLyi9QoiY6D8ZdYo4wyUhVioYZXFdT410QPRITQSqJSnzQoSm5poJ7gD7AQR0O7KuI5k2pcBg==";
    assert_eq!(one_set(key, set, "1439000000"), Ok(()));
    ds_fits(
        key,
        "example.com. 3600 DS 35217 15 2 401781b934e392de492ec77ae2e15d70f6575a1c0bc59c5275c04ebe80c6614c",
    );
}

#[test]
fn rfc_8080_section_6_2_ed448_is_unsupported() {
    let key = "example.com. 3600 DNSKEY 257 3 16 3kgROaDjrh0H2iuixWBrc8g2EpBBLCdGzHmn+G2MpTPhpj/OiBVHHSfPodx1FYYUcJKm1MDpJtIA";
    let set = "
example.com. 3600 MX 10 mail.example.com.
example.com. 3600 RRSIG MX 16 2 3600 1440021600 1438207200 9713 example.com. 3cPAHkmlnxcDHMyg7vFC34l0blBhuG1qpwLmjInI8w1CMB29FkEAIJUA0amxWndkmnBZ6SKiwZSAxGILn/NBtOXft0+Gj7FSvOKxE/07+4RQvE581N3Aj/JtIyaiYVdnYtyMWbSNyGEY2213WKsJlwEA";
    let result = one_set(key, set, "1439000000");
    assert_eq!(result, Err(Why::SignatureUnsupported));
}

#[track_caller]
fn ds_fits(key: &str, ds: &str) {
    let key = records(key);
    let ds = Ds::parse(&records(ds)[0].rdata).unwrap();
    assert_eq!(ds.key_tag, crate::dnssec::key_tag(&key[0].rdata));
    let owner = key[0].owner.as_wire();
    let digest =
        crate::dnssec::crypto::ds_digest(ds.digest_type, false, owner, &key[0].rdata).unwrap();
    assert_eq!(digest.as_ref(), &*ds.digest);
}
