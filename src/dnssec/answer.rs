//! Judging a whole answer: the chain of aliases link by link, and what stands at its end.

use std::{collections::HashSet, sync::Arc};

use crate::wire::{Name, Question, Record, rcode, rtype};

use super::{
    canonical,
    denial::Denial,
    keys::{KeyCache, ZoneKeys},
    limits,
    machine::{Judged, Section, Validation},
    rdata::Rrsig,
    rrset::{RrSet, Sections},
    signature::Validated,
    trust::{Gathered, Trust},
    verdict::{Reason, Security, Verdict, Why},
};

/// One link of the chain of aliases: a set of the answer section, and for a DNAME the name it
/// redirects.
struct Link {
    place: usize,
    /// The CNAME synthesized from the DNAME at `place`.
    synthesized: Option<Record>,
}

/// What stands at the end of the chain of aliases.
enum End {
    /// The last link is the RRset asked for.
    Answered,
    /// The response denies this name or its type.
    Denied(Name),
    /// The response says nothing about this name.
    Open(Name),
    /// The DNAME at the last link makes the name too long (RFC 6672, section 2.2).
    TooLong,
    /// The chain cannot be followed.
    Broken(Why),
}

/// What is kept of the response while the links are judged.
struct Kept {
    verdict: Verdict,
    rcode: u16,
    answer: Vec<Record>,
    authority: Vec<Record>,
    authority_places: Vec<usize>,
    ttl_cap_s: u32,
    signed_s: u32,
    wildcard: bool,
    pending: bool,
}

impl Kept {
    fn weigh(&mut self, reason: Reason) {
        let verdict = std::mem::replace(&mut self.verdict, Verdict::Secure);
        self.verdict = verdict.and(Verdict::from_reason(reason));
    }

    /// The whole lives no longer than this part.
    fn cap(&mut self, validated: &Validated) {
        self.ttl_cap_s = self.ttl_cap_s.min(validated.ttl_cap_s);
        self.signed_s = self.signed_s.min(validated.remaining_s);
    }
}

impl Validation {
    /// Judges a response of rcode NOERROR, NXDOMAIN or YXDOMAIN; `None` while fetches are missing.
    pub(super) fn judge_answer(
        &mut self,
        keys: &KeyCache,
        question: &Question,
        sections: &Arc<Sections>,
    ) -> Option<Judged> {
        let (links, end) = follow(question, sections);
        let mut kept = Kept {
            verdict: Verdict::Secure,
            rcode: rcode::NOERROR,
            answer: Vec::new(),
            authority: Vec::new(),
            authority_places: Vec::new(),
            ttl_cap_s: u32::MAX,
            signed_s: u32::MAX,
            wildcard: false,
            pending: false,
        };
        for link in links {
            self.judge_link(keys, question, sections, link, &mut kept);
        }
        let mut next = None;
        match end {
            End::Answered => {}
            End::Open(name) => next = Some(name),
            End::TooLong => kept.rcode = rcode::YXDOMAIN,
            End::Broken(why) => {
                let reason = Reason::new(why, &question.name, question.qtype);
                kept.weigh(reason.with_source(question));
            }
            End::Denied(name) => self.judge_denial(keys, question, sections, &name, &mut kept),
        }
        let bogus = kept.verdict.security() == Security::Bogus;
        if kept.pending && !bogus {
            return None;
        }
        if !kept.verdict.is_usable() {
            return Some(Judged::unusable(kept.verdict));
        }
        // What is not validated now may be validated when the anchor ends (RFC 7646, section 2).
        if let Some(ends_in_s) = self.negative_anchor_ends_in_s(&kept.verdict) {
            kept.ttl_cap_s = kept.ttl_cap_s.min(ends_in_s);
        }
        Some(Judged {
            verdict: kept.verdict,
            rcode: kept.rcode,
            answer: kept.answer,
            authority: kept.authority,
            ttl_cap_s: kept.ttl_cap_s,
            signed_s: kept.signed_s,
            next,
            wildcard: kept.wildcard,
            learned: Vec::new(),
            proven: Vec::new(),
        })
    }

    /// For how long the negative trust anchor that a verdict rests on still holds, in seconds.
    fn negative_anchor_ends_in_s(&self, verdict: &Verdict) -> Option<u32> {
        let reason = verdict.reason()?;
        if reason.why != Why::NegativeTrustAnchor {
            return None;
        }
        let until = self.settings.negative_trust_anchors.get(&reason.owner)?;
        let left = until.saturating_sub(self.now.unix_s);
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// Judges one link, with the proof it needs when it came out of a wildcard.
    fn judge_link(
        &mut self,
        keys: &KeyCache,
        question: &Question,
        sections: &Arc<Sections>,
        link: Link,
        kept: &mut Kept,
    ) {
        let Some(set) = sections.answer.get(link.place) else {
            return;
        };
        match self.trust(keys, question, sections, Section::Answer, link.place) {
            None => kept.pending = true,
            Some(Trust::Not(reason)) => {
                kept.weigh(reason);
                kept.answer.extend(set.records.iter().cloned());
                kept.answer.extend(set.signature_records.iter().cloned());
                kept.answer.extend(link.synthesized);
            }
            Some(Trust::Secure(validated, zone)) => {
                kept.cap(&validated);
                push_set(&mut kept.answer, set, &validated, &zone.zone);
                if let Some(mut record) = link.synthesized {
                    record.ttl_s = record.ttl_s.min(validated.ttl_cap_s);
                    kept.answer.push(record);
                }
                if let Some(closest_encloser) = &validated.wildcard {
                    kept.wildcard = true;
                    let next_closer = set.owner.suffix(closest_encloser.label_count() + 1);
                    self.judge_wildcard(question, sections, set, &next_closer, &zone, kept);
                }
            }
        }
    }

    /// Looks for the proof that a wildcard applied (RFC 4035, section 5.3.4; RFC 5155,
    /// section 8.8).
    fn judge_wildcard(
        &mut self,
        question: &Question,
        sections: &Arc<Sections>,
        set: &RrSet,
        next_closer: &Name,
        zone: &Arc<ZoneKeys>,
        kept: &mut Kept,
    ) {
        let reason = |why| Reason::new(why, &set.owner, set.rtype).with_source(question);
        let mut gathered = match self.collect(question, sections, zone, false) {
            Ok(gathered) => gathered,
            Err(reason) => return kept.weigh(reason),
        };
        match gathered
            .evidence
            .no_closer_match(next_closer, &mut self.budget)
        {
            Ok(false) => {}
            Ok(true) => kept.weigh(reason(Why::OptOut)),
            Err(why) => kept.weigh(reason(why)),
        }
        self.keep_proof(question, sections, &gathered, kept);
    }

    /// Judges the denial of `name`, the question's own or the end of a chain of aliases.
    fn judge_denial(
        &mut self,
        keys: &KeyCache,
        question: &Question,
        sections: &Arc<Sections>,
        name: &Name,
        kept: &mut Kept,
    ) {
        match self.gather(keys, question, sections, name, question.qtype) {
            None => kept.pending = true,
            Some(Err(reason)) => {
                kept.weigh(reason);
                Self::keep_unsigned_denial(question, sections, name, kept);
            }
            Some(Ok(mut gathered)) => {
                let reason = |why| Reason::new(why, name, question.qtype).with_source(question);
                if gathered.evidence.is_empty() {
                    return kept.weigh(reason(Why::DenialMissing));
                }
                match gathered
                    .evidence
                    .deny(name, question.qtype, &mut self.budget)
                {
                    Ok(denial) => {
                        kept.rcode = match denial {
                            Denial {
                                nx_domain: false, ..
                            } => rcode::NOERROR,
                            Denial { opt_out: false, .. } => rcode::NXDOMAIN,
                            // Whether an unsigned delegation is in the span, nobody proves.
                            Denial { .. } => unsigned_rcode(sections),
                        };
                        if denial.opt_out {
                            kept.weigh(reason(Why::OptOut));
                        }
                    }
                    Err(why) => {
                        kept.weigh(reason(why));
                        kept.rcode = unsigned_rcode(sections);
                    }
                }
                self.keep_proof(question, sections, &gathered, kept);
            }
        }
    }

    /// Keeps the validated sets of a proof.
    fn keep_proof(
        &self,
        question: &Question,
        sections: &Sections,
        gathered: &Gathered,
        kept: &mut Kept,
    ) {
        for &place in &gathered.sets {
            let Some(set) = sections.authority.get(place) else {
                continue;
            };
            let validated = self.verified(question, Section::Authority, place, &gathered.zone);
            let Some(validated) = validated else {
                continue;
            };
            kept.cap(validated);
            if !kept.authority_places.contains(&place) {
                kept.authority_places.push(place);
                push_set(&mut kept.authority, set, validated, &gathered.zone);
            }
        }
    }

    /// Keeps what an insecure zone says of absence: its SOA, and NSEC or NSEC3 if it has them.
    fn keep_unsigned_denial(
        question: &Question,
        sections: &Sections,
        name: &Name,
        kept: &mut Kept,
    ) {
        kept.rcode = unsigned_rcode(sections);
        let parent_side = question.qtype == rtype::DS && !name.is_root();
        let apex = sections
            .authority
            .iter()
            .filter(|set| set.rtype == rtype::SOA && name.is_within(&set.owner))
            .filter(|set| !(parent_side && set.owner == *name))
            .map(|set| &set.owner)
            .max_by_key(|owner| owner.as_wire().len());
        let Some(apex) = apex else {
            return;
        };
        for (place, set) in sections.authority.iter().enumerate() {
            let belongs = match set.rtype {
                rtype::SOA => set.owner == *apex,
                rtype::NSEC | rtype::NSEC3 => set.owner.is_within(apex),
                _ => false,
            };
            if belongs && !kept.authority_places.contains(&place) {
                kept.authority_places.push(place);
                kept.authority.extend(set.records.iter().cloned());
                kept.authority.extend(set.signature_records.iter().cloned());
            }
        }
    }
}

/// The rcode of a denial that nothing proves.
fn unsigned_rcode(sections: &Sections) -> u16 {
    if sections.rcode == rcode::NXDOMAIN {
        rcode::NXDOMAIN
    } else {
        rcode::NOERROR
    }
}

/// Appends a validated set with capped TTLs, and those of its signatures that are of the same zone
/// and of the same true owner.
pub(super) fn push_set(out: &mut Vec<Record>, set: &RrSet, validated: &Validated, zone: &Name) {
    let ttl_s = set.ttl_s().min(validated.ttl_cap_s);
    let labels = validated
        .wildcard
        .as_ref()
        .map_or_else(|| set.owner_labels(), Name::label_count);
    let mut push = |record: &Record| {
        out.push(Record {
            ttl_s,
            ..record.clone()
        });
    };
    if set.canonical_rdata().len() == set.records.len() {
        set.records.iter().for_each(&mut push);
    } else {
        let mut seen = HashSet::new();
        for record in &set.records {
            if seen.insert(canonical::rdata(record.rtype, &record.rdata)) {
                push(record);
            }
        }
    }
    for record in &set.signature_records {
        if let Some((its_labels, signer)) = Rrsig::labels_and_signer(&record.rdata)
            && signer == *zone
            && usize::from(its_labels) == labels
        {
            push(record);
        }
    }
}

/// Follows the chain of aliases through the answer section.
fn follow(question: &Question, sections: &Sections) -> (Vec<Link>, End) {
    let mut name = question.name.clone();
    let mut links = Vec::new();
    let mut seen = vec![name.clone()];
    let find = |name: &Name, rtype: u16| {
        sections
            .answer
            .iter()
            .position(|set| set.rtype == rtype && set.owner == *name)
    };
    let is_signed = |place: usize| {
        sections
            .answer
            .get(place)
            .is_some_and(|set| !set.signatures.is_empty())
    };
    loop {
        // A CNAME without signature under a DNAME is the upstream's synthesis; ours counts.
        let dname = redirection(sections, &name);
        if question.qtype != rtype::CNAME
            && let Some(place) = find(&name, question.qtype)
        {
            links.push(Link {
                place,
                synthesized: None,
            });
            return (links, End::Answered);
        }
        let cname = find(&name, rtype::CNAME).filter(|place| dname.is_none() || is_signed(*place));
        let target = if let Some(place) = cname {
            links.push(Link {
                place,
                synthesized: None,
            });
            if question.qtype == rtype::CNAME {
                return (links, End::Answered);
            }
            match sections.answer.get(place).and_then(only_target) {
                Some(target) => target,
                None => return (links, End::Broken(Why::UpstreamFailure)),
            }
        } else if let Some(place) = dname {
            let Some((record, target)) = sections
                .answer
                .get(place)
                .and_then(|set| synthesize(set, &name))
            else {
                return (links, End::Broken(Why::UpstreamFailure));
            };
            let Some(target) = target else {
                links.push(Link {
                    place,
                    synthesized: None,
                });
                return (links, End::TooLong);
            };
            links.push(Link {
                place,
                synthesized: Some(record),
            });
            if question.qtype == rtype::CNAME {
                return (links, End::Answered);
            }
            target
        } else {
            let denied = links.is_empty()
                || sections
                    .authority
                    .iter()
                    .any(|set| set.rtype == rtype::SOA && name.is_within(&set.owner));
            let end = if denied { End::Denied } else { End::Open };
            return (links, end(name));
        };
        if seen.contains(&target) || links.len() > limits::ALIASES_MAX {
            return (links, End::Broken(Why::AliasLoop));
        }
        seen.push(target.clone());
        name = target;
    }
}

/// The closest DNAME above `name` in the answer section.
fn redirection(sections: &Sections, name: &Name) -> Option<usize> {
    sections
        .answer
        .iter()
        .enumerate()
        .filter(|(_, set)| {
            set.rtype == rtype::DNAME && set.owner != *name && name.is_within(&set.owner)
        })
        .max_by_key(|(_, set)| set.owner.as_wire().len())
        .map(|(place, _)| place)
}

/// The one name that a CNAME or DNAME set leads to; `None` when it has several or none.
fn only_target(set: &RrSet) -> Option<Name> {
    match set.canonical_rdata() {
        [rdata] => Name::from_wire(rdata).ok(),
        _ => None,
    }
}

/// The CNAME that a DNAME set makes for `name` (RFC 6672, section 3.1), and its target; the target
/// is `None` when it is longer than a name may be. `None` when the DNAME is broken.
fn synthesize(set: &RrSet, name: &Name) -> Option<(Record, Option<Name>)> {
    let base = only_target(set)?;
    let own = name.label_count().checked_sub(set.owner.label_count())?;
    let labels: Vec<&[u8]> = name.labels().take(own).collect();
    let mut target = Some(base);
    for label in labels.into_iter().rev() {
        target = target.and_then(|below| below.child(label).ok());
    }
    let record = Record {
        owner: name.clone(),
        rtype: rtype::CNAME,
        class: set.class,
        ttl_s: set.ttl_s(),
        rdata: target
            .as_ref()
            .map_or_else(|| Box::from([]), |target| Box::from(target.as_wire())),
    };
    Some((record, target))
}
