//! `truename query`: resolve one name and show the answer.

use std::{
    io::Write,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    CommandError, ExitStatus,
    answer::{Shown, exit_of, milliseconds},
    arguments::Query,
    explain, mnemonic, runtime, stub, write_json,
};
use crate::{
    app, clock,
    config::{self, LoadError, Options, Place, Problems, Surroundings},
    dnssec,
    handler::Transport,
    resolver::{self, explain::Explanation},
    upstream::{self, Exchange as _, UpstreamSettings, Upstreams},
    wire::{CLASS_IN, Name, Question, rtype},
};

/// How long a person waits for an answer: as long as a stub resolver tries.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came back, from whom and over what.
struct Answered {
    octets: Vec<u8>,
    server: String,
    transport: Transport,
}

/// Asks and shows.
pub(super) fn run(
    arguments: &Query,
    surroundings: &Surroundings,
    out: &mut dyn Write,
) -> Result<ExitStatus, CommandError> {
    let question = question(&arguments.name, arguments.rtype.as_deref())?;
    let start = clock::instant();
    let deadline = start + PATIENCE;
    if let Some(called) = &arguments.server {
        let server = server(called, surroundings)?;
        if !server.transport.is_encrypted() && !arguments.explain {
            // A server named by plain address is asked as programs would ask it.
            let answered = ask_plain(&question, &server, called, deadline);
            return show(answered, start, arguments.json, out);
        }
    }
    let options = Options {
        config: arguments.config.clone(),
        upstreams: arguments.server.iter().cloned().collect(),
        serves_nobody: arguments.server.is_some(),
        ..Options::default()
    };
    let settings = config::load(&options, surroundings)?;
    if arguments.server.is_none()
        && let Some(local) = settings.names.answer(&question)
    {
        return write(
            &Shown::local(question, local, elapsed(start)),
            arguments.json,
            out,
        );
    }
    if !settings.dnssec.validate && !arguments.explain {
        let answered = ask_upstreams(&question, &settings.upstream, deadline);
        return show(answered, start, arguments.json, out);
    }
    let validator = app::validator_settings(&settings)?;
    let explanation = resolve(question, &settings.upstream, validator.clone(), deadline);
    let explanation = match explanation {
        Ok(explanation) => explanation,
        Err(message) => return fail(message, start, arguments.json, out),
    };
    if arguments.explain {
        return show_explanation(&explanation, &validator, start, arguments.json, out);
    }
    match Shown::judged(&explanation, elapsed(start)) {
        Some(shown) => write(&shown, arguments.json, out),
        None => fail(no_answer(&explanation), start, arguments.json, out),
    }
}

fn elapsed(start: Instant) -> Duration {
    clock::instant().saturating_duration_since(start)
}

/// Shows what a server said, unjudged.
fn show(
    answered: Result<Answered, String>,
    start: Instant,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<ExitStatus, CommandError> {
    let elapsed = elapsed(start);
    let shown = answered.and_then(|answered| {
        let Answered {
            octets,
            server,
            transport,
        } = answered;
        Shown::new(&octets, server.clone(), transport, elapsed)
            .map_err(|error| format!("{server} sent what is no answer: {error}"))
    });
    match shown {
        Ok(shown) => write(&shown, as_json, out),
        Err(message) => fail(message, start, as_json, out),
    }
}

fn write(shown: &Shown, as_json: bool, out: &mut dyn Write) -> Result<ExitStatus, CommandError> {
    if as_json {
        write_json(out, &shown.json())?;
    } else {
        shown.write_text(out)?;
    }
    Ok(shown.exit())
}

/// Tells that there is no answer.
fn fail(
    message: String,
    start: Instant,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<ExitStatus, CommandError> {
    if as_json {
        let value = json!({
            "status": null,
            "verdict": null,
            "reason": null,
            "error": message,
            "elapsed_ms": milliseconds(elapsed(start)),
        });
        write_json(out, &value)?;
    }
    Err(CommandError::NoAnswer(message))
}

fn show_explanation(
    explanation: &Explanation,
    validator: &dnssec::Settings,
    start: Instant,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<ExitStatus, CommandError> {
    if as_json {
        let mut value = explain::json(explanation, validator);
        if let Some(object) = value.as_object_mut() {
            let elapsed_ms = milliseconds(elapsed(start));
            object.insert("elapsed_ms".to_owned(), elapsed_ms.into());
        }
        write_json(out, &value)?;
    } else {
        explain::write_text(explanation, validator, out)?;
    }
    match &explanation.outcome {
        Ok(verdict) => Ok(exit_of(verdict)),
        Err(_) => Err(CommandError::NoAnswer(no_answer(explanation))),
    }
}

/// Why there is nothing to judge: what came of the question itself, if anything did.
fn no_answer(explanation: &Explanation) -> String {
    let link = explanation.links.last().map(|link| &link.question);
    let mut exchanges = explanation.exchanges.iter().rev();
    let error = exchanges
        .find(|heard| Some(&heard.question) == link)
        .and_then(|heard| heard.outcome.as_ref().err());
    match (error, &explanation.outcome) {
        (Some(error), _) => format!("no answer: {error}"),
        (None, Err(failure)) => format!("no answer: {}", failure.extended_error().text),
        (None, Ok(_)) => "no answer".to_owned(),
    }
}

/// What is asked. An address asks for the name at its place in the reverse tree.
fn question(name: &str, rtype: Option<&str>) -> Result<Question, CommandError> {
    let address = name.parse::<IpAddr>().ok();
    let qtype = match rtype {
        Some(text) => mnemonic::read_type(text).ok_or_else(|| {
            CommandError::Usage(format!(
                "{text:?} is not a record type; write one such as A, AAAA, MX, HTTPS or TYPE65280"
            ))
        })?,
        None if address.is_some() => rtype::PTR,
        None => rtype::A,
    };
    let text = match address {
        Some(address) => reverse(address),
        None if name.is_ascii() => name.to_owned(),
        // Letters beyond ASCII travel in their Punycode form (RFC 5891).
        None => hickory_proto::rr::Name::from_utf8(name)
            .map_err(|error| not_a_name(name, &error))?
            .to_ascii(),
    };
    Ok(Question {
        name: Name::parse(&text).map_err(|error| not_a_name(name, &error))?,
        qtype,
        qclass: CLASS_IN,
    })
}

fn not_a_name(name: &str, error: &dyn std::fmt::Display) -> CommandError {
    CommandError::Usage(format!("{name:?} is not a domain name: {error}"))
}

/// The name under in-addr.arpa or ip6.arpa (RFC 1035, section 3.5; RFC 3596, section 2.5).
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            let nibbles = octets
                .iter()
                .rev()
                .map(|octet| format!("{:x}.{:x}.", octet & 0x0f, octet >> 4));
            format!("{}ip6.arpa", nibbles.collect::<Vec<_>>().concat())
        }
    }
}

/// The server that a flag names.
fn server(called: &str, surroundings: &Surroundings) -> Result<UpstreamSettings, CommandError> {
    let options = Options {
        upstreams: vec![called.to_owned()],
        serves_nobody: true,
        ..Options::default()
    };
    let settings = config::parse("", None, surroundings, &options);
    let settings = settings.map_err(|Problems(mut problems)| {
        for problem in &mut problems {
            problem.place = Place::Flag("--server");
        }
        LoadError::Invalid(Problems(problems))
    })?;
    let mut upstreams = settings.upstream.upstreams.into_iter();
    upstreams
        .next()
        .ok_or_else(|| CommandError::Usage(format!("--server: {called:?} is no resolver")))
}

fn ask_plain(
    question: &Question,
    server: &UpstreamSettings,
    called: &str,
    deadline: Instant,
) -> Result<Answered, String> {
    let mut failure = format!("{called} has no address");
    for address in &server.addresses {
        match stub::ask(question, *address, server.transport, deadline) {
            Ok((octets, transport)) => {
                return Ok(Answered {
                    octets,
                    server: address.to_string(),
                    transport,
                });
            }
            Err(error) => failure = format!("no answer from {address}: {error}"),
        }
    }
    Err(failure)
}

/// Asks as the resolver does for its clients: the configured upstreams, or the one named.
fn ask_upstreams(
    question: &Question,
    settings: &upstream::Settings,
    deadline: Instant,
) -> Result<Answered, String> {
    let outcome = runtime()
        .map_err(|error| error.to_string())?
        .block_on(async {
            let upstreams = Upstreams::new(settings).map_err(|error| error.to_string())?;
            let exchanged = upstreams.exchange(question, deadline, None).await;
            exchanged.map_err(|error| format!("no answer: {error}"))
        });
    outcome.map(|exchanged| Answered {
        octets: exchanged.octets,
        server: exchanged.upstream.to_string(),
        transport: exchanged.transport,
    })
}

/// Asks as the resolver does for its clients, validates, and keeps what was seen.
fn resolve(
    question: Question,
    settings: &upstream::Settings,
    validator: dnssec::Settings,
    deadline: Instant,
) -> Result<Explanation, String> {
    runtime()
        .map_err(|error| error.to_string())?
        .block_on(async {
            let upstreams = Upstreams::new(settings).map_err(|error| error.to_string())?;
            Ok(
                resolver::explain::explain(Arc::new(upstreams), validator, question, deadline)
                    .await,
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, rtype: Option<&str>) -> (String, u16) {
        let question = question(name, rtype).unwrap();
        (question.name.to_string(), question.qtype)
    }

    #[test]
    fn a_name_alone_asks_for_its_address_and_an_address_for_its_name() {
        assert_eq!(asked("example.com", None), ("example.com.".into(), 1));
        assert_eq!(
            asked("example.com.", Some("mx")),
            ("example.com.".into(), 15)
        );
        assert_eq!(
            asked("192.0.2.1", None),
            ("1.2.0.192.in-addr.arpa.".into(), 12)
        );
        let (name, qtype) = asked("2001:db8::1", Some("TXT"));
        assert_eq!(
            name,
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
        );
        assert_eq!(qtype, 16);
        assert_eq!(asked("bücher.example", None).0, "xn--bcher-kva.example.");
        assert_eq!(asked(".", Some("NS")), (".".into(), 2));
    }

    #[test]
    fn a_truename_that_runs_here_can_be_asked() {
        // Where truename listens unless told otherwise.
        for called in ["udp://127.0.0.1:5300", "https://127.0.0.1:8443/dns-query"] {
            server(called, &Surroundings::default()).unwrap();
            let options = Options {
                upstreams: vec![called.to_owned()],
                ..Options::default()
            };
            config::parse("", None, &Surroundings::default(), &options).unwrap_err();
        }
    }

    #[test]
    fn what_cannot_be_asked_is_a_usage_error() {
        for (name, rtype) in [("a..b", None), ("", None), ("example.com", Some("AAAAA"))] {
            let error = question(name, rtype).unwrap_err();
            assert_eq!(error.exit(), ExitStatus::Usage, "{error}");
        }
    }
}
