//! The chain of trust as JSON; keys are stable.

use data_encoding::HEXUPPER;
use serde_json::{Value, json};

use super::{
    answer_sets, closest, is_proof, key_set, keys_of, pointers, role,
    words::{advice, algorithm, digest, moment, worth_label},
};
use crate::{
    anchors::time_text,
    cli::{
        answer,
        mnemonic::{rcode_text, type_text},
    },
    dnssec::{Ds, InspectedKey, InspectedSet, Reason, Security, Settings, Verdict},
    resolver::explain::{ExplainedZone, Explanation, Heard, Looked},
    wire::{Question, rtype},
};

/// The whole explanation.
pub(in crate::cli) fn json(explanation: &Explanation, settings: &Settings) -> Value {
    let writer = Writer {
        explanation,
        settings,
    };
    let (answer, proof) = answer_sets(explanation);
    let sets = |sets: Vec<&InspectedSet>| -> Vec<Value> {
        sets.into_iter().map(|set| writer.set(set)).collect()
    };
    let verdict = explanation.outcome.as_ref().ok();
    let error = explanation.outcome.as_ref().err();
    json!({
        "question": question(&explanation.question),
        "time": time_text(explanation.now.unix_s),
        "verdict": verdict.map(|verdict| verdict.security().label()),
        "reason": verdict.and_then(Verdict::reason).map(reason_json),
        "error": error.map(|failure| failure.extended_error().text),
        "status": rcode_text(explanation.rcode),
        "zones": explanation.zones.iter().map(|zone| writer.zone(zone)).collect::<Vec<_>>(),
        "answer": sets(answer),
        "proof": sets(proof),
        "exchanges": explanation.exchanges.iter().map(exchange).collect::<Vec<_>>(),
    })
}

/// Why an answer is not secure.
pub(in crate::cli) fn reason_json(reason: &Reason) -> Value {
    json!({
        "code": reason.why.label(),
        "text": reason.to_string(),
        "name": reason.owner.to_string(),
        "type": type_text(reason.rtype),
        "key_tag": reason.key_tag,
        "ede": reason.why.extended_error(),
        "advice": advice(reason.why),
    })
}

struct Writer<'a> {
    explanation: &'a Explanation,
    settings: &'a Settings,
}

impl Writer<'_> {
    fn zone(&self, zone: &ExplainedZone) -> Value {
        let zones = &self.explanation.zones;
        let parent = closest(zones, &zone.name, true)
            .and_then(|place| zones.get(place))
            .filter(|parent| parent.name != zone.name);
        let keys = keys_of(zone, &pointers(zone), self.settings);
        let delegation = zone.ds.as_ref().map(|looked| &looked.inspected);
        let ds_set = delegation.and_then(|inspected| {
            let mut sets = inspected.answer.iter();
            sets.find(|set| set.rtype == rtype::DS && set.owner == zone.name)
        });
        let no_ds = delegation.filter(|_| ds_set.is_none());
        let proof = no_ds.map(|inspected| {
            let sets = inspected.authority.iter();
            let sets = sets.filter(|set| is_proof(set));
            sets.map(|set| self.set(set)).collect::<Vec<_>>()
        });
        json!({
            "name": zone.name.to_string(),
            "parent": parent.map(|parent| parent.name.to_string()),
            "verdict": zone.security.map(Security::label),
            "reason": zone.reason.as_ref().map(reason_json),
            "trust_anchors": zone.anchors.iter().map(|ds| self.ds(zone, ds)).collect::<Vec<_>>(),
            "ds": ds_set.map(|set| {
                let records = set.records.iter();
                let records = records.filter_map(|record| Ds::parse(&record.rdata));
                json!({
                    "records": records.map(|ds| self.ds(zone, &ds)).collect::<Vec<_>>(),
                    "signatures": self.signatures(set),
                })
            }),
            "ds_absent": proof,
            "ds_from": zone.ds.as_ref().and_then(|looked| self.origin(looked)),
            "dnskey": key_set(zone).map(|set| json!({
                "keys": keys.unwrap_or_default().iter().map(key).collect::<Vec<_>>(),
                "signatures": self.signatures(set),
            })),
            "dnskey_from": zone.dnskey.as_ref().and_then(|looked| self.origin(looked)),
        })
    }

    fn ds(&self, zone: &ExplainedZone, ds: &Ds) -> Value {
        let keys = keys_of(zone, std::slice::from_ref(ds), self.settings);
        json!({
            "key_tag": ds.key_tag,
            "algorithm": ds.algorithm,
            "algorithm_name": algorithm(ds.algorithm),
            "digest_type": ds.digest_type,
            "digest_name": digest(ds.digest_type),
            "digest": HEXUPPER.encode(&ds.digest),
            "fits_a_key": keys.map(|keys| keys.iter().any(|key| key.pointed_at)),
        })
    }

    fn set(&self, set: &InspectedSet) -> Value {
        json!({
            "name": set.owner.to_string(),
            "type": type_text(set.rtype),
            "records": set.records.iter().map(answer::record).collect::<Vec<_>>(),
            "signatures": self.signatures(set),
        })
    }

    fn signatures(&self, set: &InspectedSet) -> Vec<Value> {
        let now_s = self.explanation.now.unix_s;
        let signatures = set.signatures.iter().map(|signature| {
            json!({
                "signer": signature.signer.to_string(),
                "key_tag": signature.key_tag,
                "algorithm": signature.algorithm,
                "algorithm_name": algorithm(signature.algorithm),
                "inception": time_text(moment(signature.inception, now_s)),
                "expiration": time_text(moment(signature.expiration, now_s)),
                "state": worth_label(signature.worth),
                "wildcard": signature.wildcard.as_ref().map(ToString::to_string),
            })
        });
        signatures.collect()
    }

    fn origin(&self, looked: &Looked) -> Option<Value> {
        let heard = self.explanation.exchanges.get(looked.exchange)?;
        let said = heard.outcome.as_ref().ok()?;
        Some(json!({
            "upstream": &*said.upstream,
            "transport": said.transport.label(),
        }))
    }
}

fn question(question: &Question) -> Value {
    json!({
        "name": question.name.to_string(),
        "type": type_text(question.qtype),
    })
}

fn key(key: &InspectedKey) -> Value {
    json!({
        "key_tag": key.tag,
        "algorithm": key.algorithm,
        "algorithm_name": algorithm(key.algorithm),
        "role": role(key),
        "revoked": key.revoked,
        "usable": key.usable,
        "pointed_at": key.pointed_at,
    })
}

fn exchange(heard: &Heard) -> Value {
    let said = heard.outcome.as_ref().ok();
    json!({
        "question": question(&heard.question),
        "upstream": said.map(|said| &*said.upstream),
        "transport": said.map(|said| said.transport.label()),
        "status": said.map(|said| rcode_text(said.response.rcode)),
        "error": heard.outcome.as_ref().err(),
    })
}
