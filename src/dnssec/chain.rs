//! The chain of trust: which zone a name lies in, and whether the zone is signed, from the trust
//! anchor down (RFC 4035, sections 5.2 and 5.4).
//!
//! A signature names its signer, and the signer's DS response names the zone above in turn: for
//! signed data the chain has two fetches a zone, whatever the number of labels. Only data without
//! signatures makes the walk ask for the DS of every label from the top, until a signed proof shows
//! an unsigned delegation, or none is left and the data is bogus. The signer's name is a shortcut,
//! never the truth: it counts once it has been proved to be a zone.

use std::sync::Arc;

use crate::wire::{CLASS_IN, Name, Question, rcode, rtype};

use super::{
    denial::Absence,
    keys::{self, Authenticated, KeyCache, Learned, ZoneKeys, ZoneStatus},
    machine::{Fetched, Section, Validation},
    rdata::Ds,
    rrset::{RrSet, Sections},
    trust::Trust,
    verdict::{Reason, Security, Why},
};

/// What a name is in the chain.
#[derive(Clone, Debug)]
pub(super) enum Cut {
    /// The apex of a secure zone.
    Secure(Arc<ZoneKeys>),
    /// Proved to be no apex.
    Inside { nothing_below: bool },
    /// Insecure, bogus or indeterminate, as the reason says; and so is what lies below.
    Not(Reason),
}

pub(super) fn ds_of(name: &Name) -> Question {
    Question {
        name: name.clone(),
        qtype: rtype::DS,
        qclass: CLASS_IN,
    }
}

pub(super) fn dnskey_of(name: &Name) -> Question {
    Question {
        name: name.clone(),
        qtype: rtype::DNSKEY,
        qclass: CLASS_IN,
    }
}

impl Validation {
    /// What `name` is in the chain; `None` while fetches are missing.
    pub(super) fn cut(&mut self, keys: &KeyCache, name: &Name) -> Option<Cut> {
        self.cut_once(keys, name, true)
    }

    /// What a name is that a signature calls its signer. That it was no zone a while ago is not
    /// held against it: it may have become one.
    pub(super) fn signer_cut(&mut self, keys: &KeyCache, name: &Name) -> Option<Cut> {
        self.cut_once(keys, name, false)
    }

    fn cut_once(&mut self, keys: &KeyCache, name: &Name, absence_counts: bool) -> Option<Cut> {
        if let Some(cut) = self.cuts.get(name) {
            return Some(cut.clone());
        }
        // A cut is found from names above it only, so this cannot happen; should it all the same,
        // a bogus verdict is better than a stack that overflows.
        if self.visiting.contains(name) {
            return Some(Cut::Not(Reason::new(Why::OverBudget, name, rtype::DS)));
        }
        self.visiting.push(name.clone());
        let cut = self.find_cut(keys, name, absence_counts);
        self.visiting.pop();
        let cut = cut?;
        self.cuts.insert(name.clone(), cut.clone());
        Some(cut)
    }

    fn find_cut(&mut self, keys: &KeyCache, name: &Name, absence_counts: bool) -> Option<Cut> {
        if let Some(zone) = self.settings.negative_above(name, self.now.unix_s) {
            let reason = Reason::new(Why::NegativeTrustAnchor, &zone, rtype::DS);
            return Some(Cut::Not(reason));
        }
        let known = keys
            .lookup(name, &self.now)
            .filter(|_| self.renewed.as_ref() != Some(name));
        match known {
            Some(ZoneStatus::Secure(zone)) => return Some(Cut::Secure(Arc::clone(zone))),
            Some(ZoneStatus::Insecure(reason)) => return Some(Cut::Not(reason.clone())),
            Some(ZoneStatus::NotACut { nothing_below }) if absence_counts => {
                return Some(Cut::Inside {
                    nothing_below: *nothing_below,
                });
            }
            Some(ZoneStatus::NotACut { .. }) | None => {}
        }
        let Some(anchor) = self.settings.anchor_above(name) else {
            return Some(Cut::Not(Reason::new(Why::NoAnchor, name, rtype::DNSKEY)));
        };
        if anchor == *name {
            let anchors = self.settings.anchors.get(name).cloned().unwrap_or_default();
            return self.cut_from_ds(name, &anchors, keys::ZONE_TTL_MAX_S);
        }
        if let Some(reason) = self.insecure_above(keys, name, &anchor) {
            return Some(Cut::Not(reason));
        }
        let question = ds_of(name);
        let sections = match self.fetched.get(&question) {
            Some(Fetched::Got(sections)) => Arc::clone(sections),
            Some(Fetched::Failed(why)) => return Some(failed(*why, &question)),
            None => {
                self.want(question, true);
                // A signer has keys; a name on the way of a walk has them only if it is a zone,
                // which most are that have one label or two.
                if !absence_counts || name.label_count() <= 2 {
                    self.want(dnskey_of(name), false);
                }
                self.want_above(keys, name, &anchor);
                return None;
            }
        };
        if !matches!(sections.rcode, rcode::NOERROR | rcode::NXDOMAIN) {
            return Some(failed(Why::UpstreamFailure, &question));
        }
        self.judge_ds_response(keys, name, &question, &sections)
    }

    /// The cut that a response to the question for `name`'s DS shows.
    fn judge_ds_response(
        &mut self,
        keys: &KeyCache,
        name: &Name,
        question: &Question,
        sections: &Arc<Sections>,
    ) -> Option<Cut> {
        // The aliases come first: whoever has one at or above the name has no delegation there.
        let alias = sections.answer.iter().position(|set| {
            (set.rtype == rtype::CNAME && set.owner == *name && !set.signatures.is_empty())
                || (set.rtype == rtype::DNAME && set.owner != *name && name.is_within(&set.owner))
        });
        let ds = sections
            .answer
            .iter()
            .position(|set| set.rtype == rtype::DS && set.owner == *name);
        if let Some(place) = ds {
            let set = sections.answer.get(place)?;
            return match self.trust(keys, question, sections, Section::Answer, place)? {
                Trust::Secure(validated, _) if validated.wildcard.is_some() => Some(Cut::Not(
                    Reason::new(Why::DsFromWildcard, name, rtype::DS).with_source(question),
                )),
                Trust::Secure(validated, _) => {
                    let records: Vec<Ds> = set
                        .canonical_rdata()
                        .iter()
                        .filter_map(|rdata| Ds::parse(rdata))
                        .collect();
                    let ttl_s = validated.ttl_cap_s.min(set.ttl_s());
                    self.cut_from_ds(name, &records, ttl_s)
                }
                Trust::Not(reason) => Some(Cut::Not(reason)),
            };
        }
        if let Some(place) = alias {
            let set = sections.answer.get(place)?;
            return Some(
                match self.trust(keys, question, sections, Section::Answer, place)? {
                    Trust::Secure(validated, zone) => {
                        if let Some(closest_encloser) = &validated.wildcard
                            && let Err(reason) = self.wildcard_applies(
                                question,
                                sections,
                                set,
                                closest_encloser,
                                &zone,
                            )
                        {
                            return Some(Cut::Not(reason));
                        }
                        let nothing_below = set.rtype == rtype::DNAME;
                        let ttl_s = validated.ttl_cap_s.min(set.ttl_s());
                        let ttl_s = ttl_s.min(keys::ABSENCE_TTL_MAX_S);
                        self.learn(name, ZoneStatus::NotACut { nothing_below }, ttl_s);
                        Cut::Inside { nothing_below }
                    }
                    Trust::Not(reason) => Cut::Not(reason),
                },
            );
        }
        let mut gathered = match self.gather(keys, question, sections, name, rtype::DS)? {
            Ok(gathered) => gathered,
            Err(reason) => return Some(Cut::Not(reason)),
        };
        let reason = |why| Reason::new(why, name, rtype::DS).with_source(question);
        let absence = gathered.evidence.ds_absent(name, &mut self.budget);
        let status = match absence {
            Ok(Absence::NotACut { nothing_below }) => ZoneStatus::NotACut { nothing_below },
            Ok(Absence::UnsignedDelegation) => {
                ZoneStatus::Insecure(reason(Why::UnsignedDelegation))
            }
            Ok(Absence::OptOut) => ZoneStatus::Insecure(reason(Why::OptOut)),
            Err(why) if why.security() == Security::Insecure => ZoneStatus::Insecure(reason(why)),
            Err(why) => return Some(Cut::Not(reason(why))),
        };
        let ttl_s = gathered.ttl_s.min(keys::ABSENCE_TTL_MAX_S);
        self.learn(name, status.clone(), ttl_s);
        Some(match status {
            ZoneStatus::Insecure(reason) => Cut::Not(reason),
            ZoneStatus::NotACut { nothing_below } => Cut::Inside { nothing_below },
            ZoneStatus::Secure(zone) => Cut::Secure(zone),
        })
    }

    /// The cut at a name whose DS set, or trust anchor, is known.
    fn cut_from_ds(&mut self, name: &Name, ds_set: &[Ds], ttl_s: u32) -> Option<Cut> {
        if let Err(why) = keys::supported_ds(ds_set, self.when.sha1) {
            return Some(self.unusable_zone(name, why, ttl_s));
        }
        let question = dnskey_of(name);
        let sections = match self.fetched.get(&question) {
            Some(Fetched::Got(sections)) => Arc::clone(sections),
            Some(Fetched::Failed(why)) => return Some(failed(*why, &question)),
            None => {
                self.want(question, true);
                return None;
            }
        };
        if !matches!(sections.rcode, rcode::NOERROR | rcode::NXDOMAIN) {
            return Some(failed(Why::UpstreamFailure, &question));
        }
        let Some(set) = sections.answer(name, rtype::DNSKEY) else {
            let reason = Reason::new(Why::KeyMissing, name, rtype::DNSKEY);
            return Some(Cut::Not(reason.with_source(&question)));
        };
        Some(
            match keys::authenticate(name, set, ds_set, self.when, &mut self.budget) {
                Authenticated::Keys(zone, keys_ttl_s) => {
                    let status = ZoneStatus::Secure(Arc::clone(&zone));
                    self.learn(name, status, ttl_s.min(keys_ttl_s));
                    Cut::Secure(zone)
                }
                Authenticated::Unusable(why) => self.unusable_zone(name, why, ttl_s),
                Authenticated::Failed(reason) => Cut::Not(reason.with_source(&question)),
            },
        )
    }

    /// Whether an alias that came out of a wildcard is proved to stand at its owner: replayed without
    /// the proof it would hide a delegation (RFC 4035, section 5.3.4).
    fn wildcard_applies(
        &mut self,
        question: &Question,
        sections: &Arc<Sections>,
        set: &RrSet,
        closest_encloser: &Name,
        zone: &Arc<ZoneKeys>,
    ) -> Result<(), Reason> {
        let next_closer = set.owner.suffix(closest_encloser.label_count() + 1);
        let mut gathered = self.collect(question, sections, zone, false)?;
        let reason = |why| Reason::new(why, &set.owner, set.rtype).with_source(question);
        let proved = gathered
            .evidence
            .no_closer_match(&next_closer, &mut self.budget);
        match proved {
            Ok(false) => Ok(()),
            Ok(true) => Err(reason(Why::OptOut)),
            Err(why) => Err(reason(why)),
        }
    }

    fn unusable_zone(&mut self, name: &Name, why: Why, ttl_s: u32) -> Cut {
        let reason = Reason::new(why, name, rtype::DS);
        let ttl_s = ttl_s.min(keys::ABSENCE_TTL_MAX_S);
        self.learn(name, ZoneStatus::Insecure(reason.clone()), ttl_s);
        Cut::Not(reason)
    }

    fn learn(&mut self, name: &Name, status: ZoneStatus, ttl_s: u32) {
        self.learned.push(Learned {
            name: name.clone(),
            status,
            ttl_s,
        });
    }

    /// Whether an ancestor of `name` below the anchor is known to be insecure.
    fn insecure_above(&self, keys: &KeyCache, name: &Name, anchor: &Name) -> Option<Reason> {
        let mut at = name.parent();
        while let Some(zone) = at {
            if zone == *anchor {
                return None;
            }
            if let Some(Cut::Not(reason)) = self.cuts.get(&zone)
                && reason.why.security() == Security::Insecure
            {
                return Some(reason.clone());
            }
            if let Some(ZoneStatus::Insecure(reason)) = keys.lookup(&zone, &self.now) {
                return Some(reason.clone());
            }
            at = zone.parent();
        }
        None
    }

    /// Foresees the chain above a zone of which nothing is known: DS and DNSKEY of the upper
    /// labels, where most zones are.
    fn want_above(&mut self, keys: &KeyCache, name: &Name, anchor: &Name) {
        let known = |keys: &KeyCache, name: &Name, this: &Self| {
            this.cuts.contains_key(name) || keys.lookup(name, &this.now).is_some()
        };
        let mut at = name.parent();
        while let Some(zone) = at {
            if known(keys, &zone, self) {
                return;
            }
            if zone == *anchor {
                self.want(dnskey_of(&zone), false);
                return;
            }
            if zone.label_count() <= super::foresight::UPPER_LABELS {
                self.want(ds_of(&zone), false);
                self.want(dnskey_of(&zone), false);
            }
            at = zone.parent();
        }
    }

    /// The zone that `name` lies in, found label by label from the deepest one known; `Err` when
    /// the walk ends in an insecure, bogus or indeterminate place.
    pub(super) fn enclosing(
        &mut self,
        keys: &KeyCache,
        name: &Name,
    ) -> Option<Result<Arc<ZoneKeys>, Reason>> {
        if let Some(zone) = self.settings.negative_above(name, self.now.unix_s) {
            let reason = Reason::new(Why::NegativeTrustAnchor, &zone, rtype::DS);
            return Some(Err(reason));
        }
        let Some(anchor) = self.settings.anchor_above(name) else {
            return Some(Err(Reason::new(Why::NoAnchor, name, rtype::DNSKEY)));
        };
        let start = self.deepest_secure(keys, name, &anchor);
        let mut zone = match self.cut(keys, &start) {
            Some(Cut::Secure(zone)) => zone,
            Some(Cut::Not(reason)) => return Some(Err(reason)),
            // An anchor or a secure zone is a cut; the cache cannot say otherwise.
            Some(Cut::Inside { .. }) => {
                return Some(Err(Reason::new(Why::KeyMissing, &start, rtype::DNSKEY)));
            }
            None => {
                self.want_walk(name, start.label_count());
                return None;
            }
        };
        for count in start.label_count() + 1..=name.label_count() {
            let child = name.suffix(count);
            match self.cut(keys, &child) {
                Some(Cut::Secure(below)) => zone = below,
                Some(Cut::Inside {
                    nothing_below: true,
                }) if self.settings.private_zones.contains(&child) => {
                    return Some(Err(Reason::new(Why::PrivateZone, &child, rtype::DS)));
                }
                Some(Cut::Inside {
                    nothing_below: true,
                }) if !self.private_below(name, count) => break,
                Some(Cut::Inside { .. }) => {}
                Some(Cut::Not(reason)) => return Some(Err(reason)),
                None => {
                    self.want_walk(name, count);
                    return None;
                }
            }
        }
        Some(Ok(zone))
    }

    /// Whether a private zone begins below the label `count` of `name`: a proof that nothing is
    /// there must not end the walk before it.
    fn private_below(&self, name: &Name, count: usize) -> bool {
        !self.settings.private_zones.is_empty()
            && (count + 1..=name.label_count())
                .any(|below| self.settings.private_zones.contains(&name.suffix(below)))
    }

    /// Foresees the rest of a walk that stands at the label `count`.
    fn want_walk(&mut self, name: &Name, count: usize) {
        for below in count + 1..=name.label_count() {
            self.want(ds_of(&name.suffix(below)), false);
        }
    }

    /// The deepest ancestor of `name`, or `name`, that is known to be secure; else the anchor.
    fn deepest_secure(&self, keys: &KeyCache, name: &Name, anchor: &Name) -> Name {
        let mut at = Some(name.clone());
        while let Some(zone) = at {
            let secure = matches!(self.cuts.get(&zone), Some(Cut::Secure(_)))
                || matches!(keys.lookup(&zone, &self.now), Some(ZoneStatus::Secure(_)));
            if secure || zone == *anchor {
                return zone;
            }
            at = zone.parent();
        }
        anchor.clone()
    }
}

/// The cut where a fetch failed.
fn failed(why: Why, question: &Question) -> Cut {
    Cut::Not(Reason::new(why, &question.name, question.qtype).with_source(question))
}
