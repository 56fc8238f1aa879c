//! What is said on standard output: programs that start truename read it.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
};

use crate::{config::Settings, handler::Transport, upstream::Probe};

/// One line for each listener: `listening udp 127.0.0.1:5300`.
pub(super) fn listening(listeners: &[(Transport, SocketAddr)]) {
    let mut lines = String::new();
    for (transport, address) in listeners {
        lines.push_str(&format!("listening {} {address}\n", transport.label()));
    }
    say(&lines);
}

/// The receipt: version, configuration, upstreams with their latency, and what is validated.
pub(super) fn upstreams(settings: &Settings, probes: &[Probe], dnssec: &str) {
    let mut lines = format!("truename {}", env!("CARGO_PKG_VERSION"));
    match &settings.source {
        Some(path) => lines.push_str(&format!(", configuration {}\n", path.display())),
        None => lines.push_str(", built-in configuration\n"),
    }
    for probe in probes {
        let Probe {
            upstream,
            transport,
            latency,
        } = probe;
        let transport = transport.label();
        let heard = match latency {
            Ok(latency) => format!("{} ms", latency.as_millis()),
            Err(error) => format!("no answer: {}", error.failure()),
        };
        lines.push_str(&format!("upstream {upstream} ({transport}): {heard}\n"));
    }
    lines.push_str(&format!("DNSSEC: {dnssec}\n"));
    say(&lines);
}

/// A reader that went away must not stop the service.
fn say(lines: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
}
