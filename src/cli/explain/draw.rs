//! The chain of trust as a tree of text.

use std::io::{self, Write};

use super::{
    answer_sets, closest, home, is_proof, key_set, keys_of, pointers, role,
    words::{advice, algorithm, digest, window, worth},
};
use crate::{
    anchors::time_text,
    cli::{
        mnemonic::{rcode_text, type_text},
        rdata,
    },
    dnssec::{Ds, InspectedSet, Reason, Security, Settings, Verdict},
    resolver::explain::{ExplainedZone, Explanation, Looked, Said},
    wire::{Name, Record, rtype},
};

/// Records or signatures of one set that are drawn; the rest is counted.
const RECORDS_DRAWN_MAX: usize = 12;
/// Letters of one record's data that are drawn; keys and long texts say nothing to the eye.
const DATA_DRAWN_MAX: usize = 100;

/// Marks what a failure is about.
const BREAKS: &str = "   <== here it breaks";
/// Columns that sentences are wrapped at.
const COLUMNS: usize = 96;

/// A box of the tree: its first line, the lines below it, and what hangs on it.
#[derive(Debug, Default)]
struct Node {
    head: String,
    lines: Vec<String>,
    children: Vec<Node>,
}

/// Writes the tree and the verdict.
pub(in crate::cli) fn write_text(
    explanation: &Explanation,
    settings: &Settings,
    out: &mut dyn Write,
) -> io::Result<()> {
    let now_s = explanation.now.unix_s;
    let painter = Painter {
        explanation,
        settings,
        now_s,
        only_source: only_source(explanation),
    };
    write!(
        out,
        "{} {}",
        explanation.question.name,
        type_text(explanation.question.qtype)
    )?;
    if let Some(source) = &painter.only_source {
        write!(out, ", asked of {source}")?;
    }
    let clock = time_text(now_s);
    writeln!(out, ", judged by this machine's clock at {clock}")?;
    for root in painter.roots() {
        writeln!(out)?;
        write_node(&root, "", "", out)?;
    }
    painter.write_failures(out)?;
    painter.write_verdict(out)
}

fn write_node(node: &Node, first: &str, rest: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{first}{}", node.head)?;
    let bar = if node.children.is_empty() { " " } else { "│" };
    for line in &node.lines {
        writeln!(out, "{rest}{bar}  {line}")?;
    }
    let mut children = node.children.iter().peekable();
    while let Some(child) = children.next() {
        let (branch, below) = if children.peek().is_some() {
            ("├─ ", "│  ")
        } else {
            ("└─ ", "   ")
        };
        writeln!(out, "{rest}│")?;
        write_node(
            child,
            &format!("{rest}{branch}"),
            &format!("{rest}{below}"),
            out,
        )?;
    }
    Ok(())
}

struct Painter<'a> {
    explanation: &'a Explanation,
    settings: &'a Settings,
    now_s: u64,
    /// The upstream, where all responses came from one.
    only_source: Option<String>,
}

/// The upstream that everything came from, if it was one.
fn only_source(explanation: &Explanation) -> Option<String> {
    let exchanges = explanation.exchanges.iter();
    let mut sources = exchanges.filter_map(|heard| heard.outcome.as_ref().ok().map(source));
    let first = sources.next()?;
    sources.all(|source| source == first).then_some(first)
}

fn source(said: &Said) -> String {
    format!("{} ({})", said.upstream, said.transport.label())
}

impl Painter<'_> {
    /// The tree; more than one when zones hang on anchors of their own, or on nothing.
    fn roots(&self) -> Vec<Node> {
        let zones = &self.explanation.zones;
        let mut nodes: Vec<Node> = zones.iter().map(|zone| self.zone(zone)).collect();
        let mut loose = Vec::new();
        let (answer, proof) = answer_sets(self.explanation);
        for set in answer.into_iter().chain(proof) {
            let node = self.answer(set);
            match home(zones, set).and_then(|place| nodes.get_mut(place)) {
                Some(zone) => zone.children.push(node),
                None => loose.push(node),
            }
        }
        if let Some(reason) = self.missing() {
            let node = Node {
                head: format!(
                    "{} {}: {}{BREAKS}",
                    reason.owner,
                    type_text(reason.rtype),
                    reason.why.words()
                ),
                ..Node::default()
            };
            let above = reason.rtype == rtype::DS;
            let place = closest(zones, &reason.owner, above);
            match place.and_then(|place| nodes.get_mut(place)) {
                Some(zone) => zone.children.push(node),
                None => loose.push(node),
            }
        }
        // Zones stand behind those they lie in, so from the end each is whole when it is hung up.
        let mut roots = Vec::new();
        while let Some(node) = nodes.pop() {
            let zone = zones.get(nodes.len());
            let parent = zone.and_then(|zone| closest(zones, &zone.name, true));
            match parent.and_then(|place| nodes.get_mut(place)) {
                Some(parent) => parent.children.insert(0, node),
                None => roots.insert(0, node),
            }
        }
        roots.extend(loose);
        roots
    }

    fn zone(&self, zone: &ExplainedZone) -> Node {
        let state = match zone.security {
            Some(security) => security.label(),
            None => "not reached",
        };
        let mark = match zone.security {
            Some(Security::Bogus | Security::Indeterminate) => BREAKS,
            Some(Security::Insecure) => "   <== nothing is proved from here on",
            _ => "",
        };
        // The name may be no zone at all: that is what could not be proved.
        let is_unclear = zone.security == Some(Security::Bogus)
            && key_set(zone).is_none()
            && pointers(zone).is_empty();
        let head = if is_unclear {
            format!(
                "{}: {state}, nothing proves whether a zone begins here{mark}",
                zone.name
            )
        } else {
            format!("zone {}: {state}{mark}", zone.name)
        };
        let mut lines = Vec::new();
        for anchor in &zone.anchors {
            lines.push(format!("trust anchor {}", ds_text(anchor)));
        }
        let delegated = zone.ds.as_ref().map(|looked| self.delegation(zone, looked));
        lines.extend(delegated.into_iter().flatten());
        if let Some(looked) = &zone.dnskey {
            lines.extend(self.keys(zone, looked));
        }
        if let Some(reason) = &zone.reason {
            lines.push(format!("{state}: {reason}"));
        }
        Node {
            head,
            lines,
            children: Vec::new(),
        }
    }

    /// What the parent says of the zone's keys.
    fn delegation(&self, zone: &ExplainedZone, looked: &Looked) -> Vec<String> {
        let mut lines = Vec::new();
        let mut sets = looked.inspected.answer.iter();
        if let Some(set) = sets.find(|set| set.rtype == rtype::DS && set.owner == zone.name) {
            for record in set.records.iter().take(RECORDS_DRAWN_MAX) {
                let Some(ds) = Ds::parse(&record.rdata) else {
                    continue;
                };
                let fits = keys_of(zone, std::slice::from_ref(&ds), self.settings);
                let fits = match fits {
                    Some(keys) if keys.iter().all(|key| !key.pointed_at) => {
                        ", fits no key of the zone"
                    }
                    _ => "",
                };
                lines.push(format!("DS {}{fits}", ds_text(&ds)));
            }
            lines.extend(more(set.records.len()));
            self.signatures(set, &mut lines);
        } else {
            lines.push("no DS at its parent".to_owned());
            for set in looked
                .inspected
                .authority
                .iter()
                .filter(|set| is_proof(set))
            {
                records(set, "proof: ", &mut lines);
                self.signatures(set, &mut lines);
            }
        }
        lines.extend(self.origin(looked));
        lines
    }

    fn keys(&self, zone: &ExplainedZone, looked: &Looked) -> Vec<String> {
        let mut lines = Vec::new();
        let ds_set = pointers(zone);
        let Some(set) = key_set(zone) else {
            lines.push("no DNSKEY in the response".to_owned());
            lines.extend(self.origin(looked));
            return lines;
        };
        let keys = keys_of(zone, &ds_set, self.settings).unwrap_or_default();
        for key in keys.iter().take(RECORDS_DRAWN_MAX) {
            let mut line = format!(
                "DNSKEY {}, {}, {}",
                key.tag,
                algorithm(key.algorithm),
                role(key)
            );
            if key.pointed_at {
                let by = if zone.anchors.is_empty() {
                    "DS"
                } else {
                    "trust anchor"
                };
                line.push_str(&format!(", the {by} points at it"));
            }
            if key.revoked {
                line.push_str(", revoked");
            } else if !key.usable {
                line.push_str(", does not count");
            }
            lines.push(line);
        }
        lines.extend(more(keys.len()));
        self.signatures(set, &mut lines);
        lines.extend(self.origin(looked));
        lines
    }

    /// One set of the answer.
    fn answer(&self, set: &InspectedSet) -> Node {
        let mut lines = Vec::new();
        records(set, "", &mut lines);
        self.signatures(set, &mut lines);
        let kind = if is_proof(set) { "proof " } else { "" };
        let mark = if self.is_broken(set) { BREAKS } else { "" };
        Node {
            head: format!("{kind}{} {}{mark}", set.owner, type_text(set.rtype)),
            lines,
            children: Vec::new(),
        }
    }

    /// The reason, if it is a failure of the answer itself and not of the chain to it.
    fn failure(&self) -> Option<&Reason> {
        self.explanation.reason().filter(|reason| {
            let links = self.explanation.links.iter();
            let mut questions = links.map(|link| &link.question);
            reason.why.security() == Security::Bogus
                && questions.any(|question| Some(question) == reason.source.as_ref())
        })
    }

    /// Whether this is the set that a failure is about.
    fn is_broken(&self, set: &InspectedSet) -> bool {
        self.failure()
            .is_some_and(|reason| reason.owner == set.owner && reason.rtype == set.rtype)
    }

    /// The failure, if it is about records that are not there.
    fn missing(&self) -> Option<&Reason> {
        let (answer, proof) = answer_sets(self.explanation);
        self.failure().filter(|reason| {
            let mut sets = answer.iter().chain(&proof);
            !sets.any(|set| self.is_broken(set))
                && !self
                    .explanation
                    .zones
                    .iter()
                    .any(|zone| zone.reason.as_ref() == Some(reason))
        })
    }

    /// The owner of the DNAME that makes a CNAME without signature (RFC 6672, section 5.3.1).
    fn dname_above(&self, set: &InspectedSet) -> Option<&Name> {
        let (answer, _) = answer_sets(self.explanation);
        let mut dnames = answer.into_iter().filter(|other| {
            other.rtype == rtype::DNAME
                && set.rtype == rtype::CNAME
                && set.owner.is_within(&other.owner)
                && set.owner != other.owner
        });
        dnames.next().map(|dname| &dname.owner)
    }

    fn signatures(&self, set: &InspectedSet, lines: &mut Vec<String>) {
        if set.signatures.is_empty() {
            lines.push(match self.dname_above(set) {
                Some(dname) => format!("  made from the DNAME of {dname}, which is signed"),
                None => "  not signed".to_owned(),
            });
        }
        for signature in set.signatures.iter().take(RECORDS_DRAWN_MAX) {
            let wildcard = match &signature.wildcard {
                Some(wildcard) => format!(", from the wildcard {wildcard}"),
                None => String::new(),
            };
            lines.push(format!(
                "  signed by key {} of {}: {}{wildcard}, {}",
                signature.key_tag,
                signature.signer,
                worth(signature.worth),
                window(signature, self.now_s)
            ));
        }
        lines.extend(more(set.signatures.len()).map(|more| format!("  {more}")));
    }

    /// Who said it, where that differs.
    fn origin(&self, looked: &Looked) -> Option<String> {
        if self.only_source.is_some() {
            return None;
        }
        let heard = self.explanation.exchanges.get(looked.exchange)?;
        let said = heard.outcome.as_ref().ok()?;
        let qtype = type_text(heard.question.qtype);
        Some(format!("  {qtype} as said by {}", source(said)))
    }

    fn write_failures(&self, out: &mut dyn Write) -> io::Result<()> {
        let exchanges = self.explanation.exchanges.iter();
        let mut failed = exchanges
            .filter_map(|heard| Some((&heard.question, heard.outcome.as_ref().err()?)))
            .peekable();
        if failed.peek().is_some() {
            writeln!(out, "\nnot answered:")?;
        }
        for (question, error) in failed {
            let qtype = type_text(question.qtype);
            writeln!(out, "  {} {qtype}: {error}", question.name)?;
        }
        Ok(())
    }

    fn write_verdict(&self, out: &mut dyn Write) -> io::Result<()> {
        let explanation = self.explanation;
        writeln!(out)?;
        if self.only_source.is_none() {
            for link in &explanation.links {
                if let Some((_, said)) = explanation.said(&link.question) {
                    let qtype = type_text(link.question.qtype);
                    let (name, source) = (&link.question.name, source(said));
                    writeln!(out, "{name} {qtype} as said by {source}")?;
                }
            }
        }
        writeln!(out, "status: {}", rcode_text(explanation.rcode))?;
        match &explanation.outcome {
            Ok(Verdict::Secure) => writeln!(
                out,
                "verdict: secure, every record is signed by a chain of keys from the trust anchor"
            ),
            Ok(verdict) => {
                let label = verdict.security().label();
                match verdict.reason() {
                    Some(reason) => write_reason(label, reason, out),
                    None => writeln!(out, "verdict: {label}"),
                }
            }
            Err(failure) => {
                writeln!(out, "verdict: none, {}", failure.extended_error().text)?;
                write_wrapped(
                    "Nothing can be said without an answer. Check the network and the upstreams \
                     (`truename check`).",
                    out,
                )
            }
        }
    }
}

fn write_reason(label: &str, reason: &Reason, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "verdict: {label}, {reason}")?;
    if let Some(source) = &reason.source
        && (source.name != reason.owner || source.qtype != reason.rtype)
    {
        let qtype = type_text(source.qtype);
        writeln!(out, "  seen in the answer to {} {qtype}", source.name)?;
    }
    write_wrapped(advice(reason.why), out)
}

/// Writes sentences as an indented paragraph.
fn write_wrapped(text: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut line = String::from(" ");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > COLUMNS {
            writeln!(out, "{line}")?;
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln!(out, "{line}")
}

/// How many of `count` are not drawn.
fn more(count: usize) -> Option<String> {
    let more = count.checked_sub(RECORDS_DRAWN_MAX)?;
    (more > 0).then(|| format!("and {more} more"))
}

fn ds_text(ds: &Ds) -> String {
    format!(
        "{}, {}, {}",
        ds.key_tag,
        algorithm(ds.algorithm),
        digest(ds.digest_type)
    )
}

fn records(set: &InspectedSet, before: &str, lines: &mut Vec<String>) {
    for record in set.records.iter().take(RECORDS_DRAWN_MAX) {
        let owner = if before.is_empty() {
            String::new()
        } else {
            format!("{} ", record.owner)
        };
        lines.push(format!(
            "{before}{owner}{} {}",
            type_text(record.rtype),
            data_text(record)
        ));
    }
    lines.extend(more(set.records.len()));
}

fn data_text(record: &Record) -> String {
    let text = rdata::text(record.rtype, &record.rdata);
    match text.char_indices().nth(DATA_DRAWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
