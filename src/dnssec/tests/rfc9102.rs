//! The chains of RFC 9102, appendix A, from the root down; each test is named after its section.

use std::sync::Arc;

use crate::{
    clock::Now,
    dnssec::{FetchFailed, Judged, KeyCache, Security, Settings, Step, Validation, Why, ds_of_key},
    wire::{Name, Question, Record, Response, rcode, rtype},
};

use super::{
    lab::{name, question},
    text::{records, time},
};

const TLSA: u16 = 52;

/// Every record, in the order of the appendix.
fn all() -> Vec<Record> {
    records(include_str!("rfc9102.zone"))
}

/// The sets of these owners and types with their signatures.
fn sets(wanted: &[(&str, u16)]) -> Vec<Record> {
    let covers = |record: &Record, wanted: u16| {
        let covered = record.rdata.first_chunk().copied().map(u16::from_be_bytes);
        record.rtype == wanted || (record.rtype == rtype::RRSIG && covered == Some(wanted))
    };
    let all = all();
    let set = |(owner, wanted): &(&str, u16)| {
        let owner = name(owner);
        let found = all
            .iter()
            .filter(move |one| one.owner == owner && covers(one, *wanted));
        found.cloned().collect::<Vec<_>>()
    };
    wanted.iter().flat_map(set).collect()
}

fn response(
    question: &Question,
    rcode: u16,
    answer: Vec<Record>,
    authority: Vec<Record>,
) -> Response {
    Response {
        rcode,
        truncated: false,
        question: question.clone(),
        answer,
        authority,
        extended_errors: Vec::new(),
    }
}

/// Judges a TLSA response with nothing known but the root's DS, which the keys' digest must give.
fn judge(owner: &str, rcode: u16, answer: &[(&str, u16)], authority: &[(&str, u16)]) -> Judged {
    let sep = sets(&[(".", rtype::DNSKEY)]).swap_remove(2);
    let anchor = ds_of_key(&Name::root(), &sep.rdata).unwrap();
    assert_eq!((anchor.key_tag, anchor.algorithm), (47005, 13));
    let settings = Arc::new(Settings::with_root_anchors(vec![anchor]));
    let now = Now {
        unix_s: u64::from(time("20190601000000")),
        ..Now::read()
    };
    let question = question(owner, TLSA);
    let first = response(&question, rcode, sets(answer), sets(authority));
    let mut validation = Validation::new(question, &first, settings, now);
    let keys = KeyCache::new();
    loop {
        match validation.step(&keys) {
            Step::Done(judged) => return *judged,
            Step::Need(needs) => {
                for need in needs {
                    let found = sets(&[(&need.name.to_string(), need.qtype)]);
                    let response = response(&need, rcode::NOERROR, found, Vec::new());
                    let outcome = if response.answer.is_empty() {
                        Err(FetchFailed::Network)
                    } else {
                        Ok(&response)
                    };
                    validation.supply(need, outcome);
                }
            }
        }
    }
}

#[track_caller]
fn is_secure(judged: &Judged, rcode: u16) {
    assert_eq!(judged.verdict.security(), Security::Secure, "{judged:?}");
    assert_eq!((judged.rcode, &judged.next), (rcode, &None));
}

const EXAMPLE_ORG_DLM7: &str = "dlm7rss9pejqnh0ev6h7k1ikqqcl5mae.example.org.";
const EXAMPLE_ORG_VKV6: &str = "vkv62jbv85822q8rtmfnbhfnmnat9ve3.example.org.";
const EXAMPLE_ORG_A73B: &str = "a73bi8coh6dvf1arqdeuogf95r0828mk.example.org.";

#[test]
fn rfc_9102_appendix_a_1_www_example_com() {
    let owner = "_443._tcp.www.example.com.";
    let judged = judge(owner, 0, &[(owner, TLSA)], &[]);
    is_secure(&judged, rcode::NOERROR);
    assert_eq!(judged.answer.len(), 2);
}

#[test]
fn rfc_9102_appendix_a_2_nsec_wildcard() {
    let owner = "_25._tcp.example.com.";
    let proof = [("*._tcp.example.com.", rtype::NSEC)];
    let judged = judge(owner, 0, &[(owner, TLSA)], &proof);
    is_secure(&judged, rcode::NOERROR);
    assert!(judged.wildcard);
    let bare = judge(owner, 0, &[(owner, TLSA)], &[]);
    assert_eq!(bare.verdict.reason().unwrap().why, Why::WildcardUnproven);
}

#[test]
fn rfc_9102_appendix_a_3_nsec3_wildcard() {
    let owner = "_25._tcp.example.org.";
    let judged = judge(
        owner,
        0,
        &[(owner, TLSA)],
        &[(EXAMPLE_ORG_DLM7, rtype::NSEC3)],
    );
    is_secure(&judged, rcode::NOERROR);
    assert!(judged.wildcard);
    let other = judge(
        owner,
        0,
        &[(owner, TLSA)],
        &[(EXAMPLE_ORG_A73B, rtype::NSEC3)],
    );
    assert_eq!(other.verdict.reason().unwrap().why, Why::WildcardUnproven);
}

#[test]
fn rfc_9102_appendix_a_4_cname() {
    let owner = "_443._tcp.www.example.org.";
    let chain = [(owner, rtype::CNAME), ("dane311.example.org.", TLSA)];
    is_secure(&judge(owner, 0, &chain, &[]), rcode::NOERROR);
    let half = judge(owner, 0, &chain[..1], &[]);
    assert_eq!(half.verdict.security(), Security::Secure);
    assert_eq!(half.next, Some(name("dane311.example.org.")));
}

#[test]
fn rfc_9102_appendix_a_5_dname() {
    let target = "_443._tcp.www.example.com.";
    let chain = [("example.net.", rtype::DNAME), (target, TLSA)];
    let judged = judge("_443._tcp.www.example.net.", 0, &chain, &[]);
    is_secure(&judged, rcode::NOERROR);
    // The CNAME, which nobody signs, is made here.
    let cname = judged.answer.iter().find(|one| one.rtype == rtype::CNAME);
    assert_eq!(&*cname.unwrap().rdata, name(target).as_wire());
}

#[test]
fn rfc_9102_appendix_a_6_nsec_denial() {
    let proof = [("smtp.example.com.", rtype::NSEC)];
    is_secure(
        &judge("_25._tcp.smtp.example.com.", 3, &[], &proof),
        rcode::NXDOMAIN,
    );
}

#[test]
fn rfc_9102_appendix_a_7_nsec3_denial() {
    let owner = "_25._tcp.smtp.example.org.";
    let proof = [EXAMPLE_ORG_VKV6, EXAMPLE_ORG_DLM7, EXAMPLE_ORG_A73B];
    let proof = proof.map(|owner| (owner, rtype::NSEC3));
    is_secure(&judge(owner, 3, &[], &proof), rcode::NXDOMAIN);
    for missing in 0..proof.len() {
        let mut rest = proof.to_vec();
        rest.remove(missing);
        let judged = judge(owner, 3, &[], &rest);
        assert_eq!(judged.verdict.security(), Security::Bogus, "{missing}");
    }
}

#[test]
fn rfc_9102_appendix_a_8_opt_out_insecure_delegation() {
    let proof = [
        ("c1kgc91hrn9nqi2qjh1ms78ki8p7s75o.example.", rtype::NSEC3),
        ("shn05itmoa45mmnv74lc4p0nnfmimtjt.example.", rtype::NSEC3),
    ];
    let judged = judge("_443._tcp.www.insecure.example.", 0, &[], &proof);
    assert_eq!(judged.verdict.security(), Security::Insecure, "{judged:?}");
    assert_eq!(judged.verdict.reason().unwrap().why, Why::OptOut);
}
