//! A response as people know it from dig, and as JSON.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    ExitStatus,
    explain::reason_json,
    mnemonic::{class_text, extended_error_text, rcode_text, type_text},
    rdata,
};
use crate::{
    dnssec::{Security, Verdict},
    handler::Transport,
    names::Local,
    resolver::explain::Explanation,
    wire::{Question, Record, Response, ResponseError, rcode, rtype},
};

/// Extended errors by which a validating server says that an answer is bogus (RFC 8914, sections
/// 4.7 to 4.13).
const BOGUS: std::ops::RangeInclusive<u16> = 6..=12;

/// The header's flags by their place in the second 16 bits of a message.
const FLAGS: [(u16, &str); 7] = [
    (0x8000, "qr"),
    (0x0400, "aa"),
    (0x0200, "tc"),
    (0x0100, "rd"),
    (0x0080, "ra"),
    (0x0020, "ad"),
    (0x0010, "cd"),
];

/// A response, and how it came.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    response: Response,
    flags: Vec<&'static str>,
    /// `None` when it was made here, from a response that was judged.
    id: Option<u16>,
    size_octets: usize,
    /// Our own verdict; `None` when nothing was validated here.
    verdict: Option<Verdict>,
    server: String,
    /// `None` when nobody was asked.
    transport: Option<Transport>,
    elapsed: Duration,
}

impl Shown {
    /// Takes the response's octets apart. `server` is what was asked, as the person calls it.
    pub(super) fn new(
        octets: &[u8],
        server: String,
        transport: Transport,
        elapsed: Duration,
    ) -> Result<Self, ResponseError> {
        let response = Response::parse(octets)?;
        let word = |at: usize| {
            let octets = octets.get(at..).and_then(<[u8]>::first_chunk);
            octets.map_or(0, |octets| u16::from_be_bytes(*octets))
        };
        let flags = FLAGS
            .iter()
            .filter(|(bit, _)| word(2) & bit != 0)
            .map(|(_, name)| *name);
        Ok(Self {
            response,
            flags: flags.collect(),
            id: Some(word(0)),
            size_octets: octets.len(),
            verdict: None,
            server,
            transport: Some(transport),
            elapsed,
        })
    }

    /// What a client would get for a name that is answered here.
    pub(super) fn local(question: Question, local: Local, elapsed: Duration) -> Self {
        Self {
            response: Response {
                rcode: local.rcode,
                truncated: false,
                question,
                answer: local.answer,
                authority: local.authority,
                extended_errors: Vec::new(),
            },
            flags: vec!["qr", "rd", "ra"],
            id: None,
            size_octets: 0,
            verdict: None,
            server: format!("nobody, a special-use name ({})", local.document),
            transport: None,
            elapsed,
        }
    }

    /// What a client that does not ask for DNSSEC records would get for what was judged; `None`
    /// when no upstream answered the question.
    pub(super) fn judged(explanation: &Explanation, elapsed: Duration) -> Option<Self> {
        let verdict = explanation.outcome.as_ref().ok()?;
        let last = &explanation.links.last()?.question;
        let (_, said) = explanation
            .said(last)
            .or_else(|| explanation.said(&explanation.question))?;
        let qtype = explanation.question.qtype;
        let shown = |records: &[Record]| -> Vec<Record> {
            let is_proof = |record: &Record| {
                matches!(record.rtype, rtype::RRSIG | rtype::NSEC | rtype::NSEC3)
                    && record.rtype != qtype
            };
            let records = records.iter().filter(|record| !is_proof(record));
            records.cloned().collect()
        };
        let reason = verdict.reason();
        let ours = reason
            .and_then(|reason| Some((reason.why.extended_error()?, reason.to_string())))
            .into_iter();
        let theirs = said.response.extended_errors.iter().cloned();
        let mut flags = vec!["qr", "rd", "ra"];
        if *verdict == Verdict::Secure {
            flags.push("ad");
        }
        Some(Self {
            response: Response {
                rcode: explanation.rcode,
                truncated: false,
                question: explanation.question.clone(),
                answer: shown(&explanation.answer),
                authority: shown(&explanation.authority),
                extended_errors: ours.chain(theirs).collect(),
            },
            flags,
            id: None,
            size_octets: said.octets,
            verdict: Some(verdict.clone()),
            server: said.upstream.to_string(),
            transport: Some(said.transport),
            elapsed,
        })
    }

    /// What the program's exit says of it.
    pub(super) fn exit(&self) -> ExitStatus {
        if let Some(verdict) = &self.verdict {
            return exit_of(verdict);
        }
        let codes = self.response.extended_errors.iter().map(|(code, _)| code);
        match self.response.rcode {
            rcode::NOERROR | rcode::NXDOMAIN => ExitStatus::Success,
            rcode::SERVFAIL if codes.into_iter().any(|code| BOGUS.contains(code)) => {
                ExitStatus::Bogus
            }
            _ => ExitStatus::NoAnswer,
        }
    }

    /// Writes it as dig would.
    pub(super) fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Response {
            question,
            answer,
            authority,
            extended_errors,
            rcode,
            ..
        } = &self.response;
        let status = rcode_text(*rcode);
        write!(out, ";; ->>HEADER<<- opcode: QUERY, status: {status}")?;
        match self.id {
            Some(id) => writeln!(out, ", id: {id}")?,
            None => writeln!(out)?,
        }
        writeln!(
            out,
            ";; flags: {}; QUERY: 1, ANSWER: {}, AUTHORITY: {}",
            self.flags.join(" "),
            answer.len(),
            authority.len()
        )?;
        for (code, text) in extended_errors {
            write!(out, "; EDE: {code} ({})", extended_error_text(*code))?;
            if text.is_empty() {
                writeln!(out)?;
            } else {
                writeln!(out, ": ({text})")?;
            }
        }
        if let Some(verdict) = &self.verdict {
            write!(out, ";; VERDICT: {}", verdict.security().label())?;
            match verdict.reason() {
                Some(reason) => writeln!(out, ", {reason}; --explain shows more")?,
                None => writeln!(out)?,
            }
        }
        writeln!(out, "\n;; QUESTION SECTION:")?;
        writeln!(
            out,
            ";{}\t\t{}\t{}",
            question.name,
            class_text(question.qclass),
            type_text(question.qtype)
        )?;
        section(out, "ANSWER", answer)?;
        section(out, "AUTHORITY", authority)?;
        writeln!(out, "\n;; Query time: {} msec", self.elapsed.as_millis())?;
        match self.transport {
            Some(transport) => {
                writeln!(out, ";; SERVER: {} ({})", self.server, transport.label())?;
                writeln!(out, ";; MSG SIZE  rcvd: {}", self.size_octets)
            }
            None => writeln!(out, ";; SERVER: {}", self.server),
        }
    }

    /// The same as JSON; keys are stable.
    pub(super) fn json(&self) -> Value {
        let Response {
            question,
            answer,
            authority,
            extended_errors,
            rcode,
            ..
        } = &self.response;
        let ede = extended_errors.iter().map(|(code, text)| {
            json!({ "code": code, "name": extended_error_text(*code), "text": text })
        });
        json!({
            "status": rcode_text(*rcode),
            "verdict": self.verdict.as_ref().map(|verdict| verdict.security().label()),
            "reason": self.verdict.as_ref().and_then(Verdict::reason).map(reason_json),
            "flags": self.flags,
            "question": {
                "name": question.name.to_string(),
                "type": type_text(question.qtype),
                "class": class_text(question.qclass),
            },
            "answer": answer.iter().map(record).collect::<Vec<_>>(),
            "authority": authority.iter().map(record).collect::<Vec<_>>(),
            "ede": ede.collect::<Vec<_>>(),
            "server": self.server,
            "transport": self.transport.map(Transport::label),
            "elapsed_ms": milliseconds(self.elapsed),
            "size_octets": self.size_octets,
        })
    }
}

/// What the program's exit says of a verdict.
pub(super) fn exit_of(verdict: &Verdict) -> ExitStatus {
    match verdict.security() {
        Security::Secure | Security::Insecure => ExitStatus::Success,
        Security::Bogus => ExitStatus::Bogus,
        Security::Indeterminate => ExitStatus::NoAnswer,
    }
}

/// Milliseconds with three digits behind the point.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn section(out: &mut dyn Write, title: &str, records: &[Record]) -> io::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n;; {title} SECTION:")?;
    for record in records {
        writeln!(
            out,
            "{}\t{}\t{}\t{}\t{}",
            record.owner,
            record.ttl_s,
            class_text(record.class),
            type_text(record.rtype),
            rdata::text(record.rtype, &record.rdata)
        )?;
    }
    Ok(())
}

/// One record as JSON.
pub(super) fn record(record: &Record) -> Value {
    json!({
        "name": record.owner.to_string(),
        "type": type_text(record.rtype),
        "class": class_text(record.class),
        "ttl": record.ttl_s,
        "data": rdata::text(record.rtype, &record.rdata),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A response for `a.example A`: flags and rcode, one A record, one SOA, one extended error.
    fn message(rcode: u8, ede: Option<(u16, &str)>) -> Vec<u8> {
        let mut octets = vec![0x12, 0x34, 0x81, 0xa0 | rcode];
        octets.extend([0, 1, 0, 1, 0, 1, 0, 1]);
        octets.extend(b"\x01a\x07example\x00\x00\x01\x00\x01");
        octets.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\xc0\x00\x02\x01");
        octets.extend(b"\xc0\x0e\x00\x06\x00\x01\x00\x00\x00\x3c\x00\x18\xc0\x0e\xc0\x0e");
        for number in [1_u32, 2, 3, 4, 5] {
            octets.extend(number.to_be_bytes());
        }
        octets.extend(b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00");
        let option = ede.map_or(Vec::new(), |(code, text)| {
            let mut option = vec![0, 15, 0, u8::try_from(text.len() + 2).unwrap()];
            option.extend(code.to_be_bytes());
            option.extend(text.as_bytes());
            option
        });
        octets.extend(u16::try_from(option.len()).unwrap().to_be_bytes());
        octets.extend(option);
        octets
    }

    fn shown(octets: &[u8]) -> Shown {
        let elapsed = Duration::from_micros(12_345);
        Shown::new(octets, "quad9".to_owned(), Transport::Tls, elapsed).unwrap()
    }

    #[test]
    fn an_answer_looks_as_from_dig() {
        let mut out = Vec::new();
        shown(&message(0, Some((3, "old\u{1b}[m"))))
            .write_text(&mut out)
            .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 4660
;; flags: qr rd ra ad; QUERY: 1, ANSWER: 1, AUTHORITY: 1
; EDE: 3 (Stale Answer): (old[m)

;; QUESTION SECTION:
;a.example.\t\tIN\tA

;; ANSWER SECTION:
a.example.\t300\tIN\tA\t192.0.2.1

;; AUTHORITY SECTION:
example.\t60\tIN\tSOA\texample. example. 1 2 3 4 5

;; Query time: 12 msec
;; SERVER: quad9 (dot)
;; MSG SIZE  rcvd: 102
"
        );
    }

    #[test]
    fn json_has_the_same_under_stable_keys() {
        let json = shown(&message(0, Some((3, "old")))).json();
        assert_eq!(
            json,
            json!({
                "status": "NOERROR",
                "verdict": null,
                "reason": null,
                "flags": ["qr", "rd", "ra", "ad"],
                "question": { "name": "a.example.", "type": "A", "class": "IN" },
                "answer": [{
                    "name": "a.example.", "type": "A", "class": "IN", "ttl": 300,
                    "data": "192.0.2.1",
                }],
                "authority": [{
                    "name": "example.", "type": "SOA", "class": "IN", "ttl": 60,
                    "data": "example. example. 1 2 3 4 5",
                }],
                "ede": [{ "code": 3, "name": "Stale Answer", "text": "old" }],
                "server": "quad9",
                "transport": "dot",
                "elapsed_ms": 12.345,
                "size_octets": 99,
            })
        );
    }

    #[test]
    fn the_exit_says_what_kind_of_answer_it_is() {
        for (rcode, ede, expected) in [
            (0, None, ExitStatus::Success),
            (3, None, ExitStatus::Success),
            (2, None, ExitStatus::NoAnswer),
            (2, Some((22, "")), ExitStatus::NoAnswer),
            (2, Some((6, "")), ExitStatus::Bogus),
            (5, None, ExitStatus::NoAnswer),
        ] {
            assert_eq!(
                shown(&message(rcode, ede)).exit(),
                expected,
                "{rcode} {ede:?}"
            );
        }
    }
}
