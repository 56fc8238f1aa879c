//! `truename query`: resolve one name and show the answer.

use std::{
    io::Write,
    net::IpAddr,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    CommandError, ExitStatus,
    answer::{Shown, milliseconds},
    arguments::Query,
    mnemonic, runtime, stub, write_json,
};
use crate::{
    clock,
    config::{self, LoadError, Options, Place, Problems, Settings, Surroundings},
    handler::Transport,
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
    let settings = settings(arguments, surroundings)?;
    let start = clock::instant();
    let deadline = start + PATIENCE;
    let answered = match (&arguments.server, settings.upstream.upstreams.as_slice()) {
        // A server named by plain address is asked as programs would ask it.
        (Some(server), [only]) if !only.transport.is_encrypted() => {
            ask_plain(&question, only, server, deadline)
        }
        _ => ask_upstreams(&question, &settings.upstream, deadline),
    };
    let elapsed = clock::instant().saturating_duration_since(start);
    let shown = answered.and_then(|answered| {
        let Answered {
            octets,
            server,
            transport,
        } = answered;
        Shown::new(&octets, server.clone(), transport, elapsed)
            .map_err(|error| format!("{server} sent what is no answer: {error}"))
    });
    let shown = match shown {
        Ok(shown) => shown,
        Err(message) => {
            if arguments.json {
                let value = json!({
                    "status": null,
                    "error": message,
                    "elapsed_ms": milliseconds(elapsed),
                });
                write_json(out, &value)?;
            }
            return Err(CommandError::NoAnswer(message));
        }
    };
    if arguments.json {
        write_json(out, &shown.json())?;
    } else {
        shown.write_text(out)?;
    }
    Ok(shown.exit())
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

fn settings(arguments: &Query, surroundings: &Surroundings) -> Result<Settings, CommandError> {
    let Some(server) = &arguments.server else {
        let options = Options {
            config: arguments.config.clone(),
            ..Options::default()
        };
        return Ok(config::load(&options, surroundings)?);
    };
    let options = Options {
        upstreams: vec![server.clone()],
        ..Options::default()
    };
    config::parse("", None, surroundings, &options).map_err(|Problems(mut problems)| {
        for problem in &mut problems {
            problem.place = Place::Flag("--server");
        }
        LoadError::Invalid(Problems(problems)).into()
    })
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
            let exchanged = upstreams.exchange(question, deadline).await;
            exchanged.map_err(|error| format!("no answer: {error}"))
        });
    outcome.map(|exchanged| Answered {
        octets: exchanged.octets,
        server: exchanged.upstream.to_string(),
        transport: exchanged.transport,
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
    fn what_cannot_be_asked_is_a_usage_error() {
        for (name, rtype) in [("a..b", None), ("", None), ("example.com", Some("AAAAA"))] {
            let error = question(name, rtype).unwrap_err();
            assert_eq!(error.exit(), ExitStatus::Usage, "{error}");
        }
    }
}
