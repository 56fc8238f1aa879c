//! From upstream entries as written to the upstream room's settings.

use std::net::SocketAddr;

use super::{problem::Collector, settings::UpstreamEntry};
use crate::{handler::Transport, upstream::UpstreamSettings};

/// Checks every entry. Returned are the settings and the entries they came from, pairwise; an
/// entry with a problem is in neither.
pub(super) fn all(
    entries: Vec<UpstreamEntry>,
    problems: &mut Collector<'_>,
) -> (Vec<UpstreamSettings>, Vec<UpstreamEntry>) {
    let mut checked: Vec<UpstreamSettings> = Vec::new();
    let mut kept = Vec::new();
    for entry in entries {
        match one(&entry) {
            Ok(settings) if checked.iter().any(|other| other.name == settings.name) => {
                let message = format!(
                    "another upstream is already called {:?}; give this one a `name` of its own",
                    settings.name
                );
                problems.add_at(entry.place, "upstream.name", message);
            }
            Ok(settings) => {
                checked.push(settings);
                kept.push(entry);
            }
            Err((key, message)) => problems.add_at(entry.place, key, message),
        }
    }
    (checked, kept)
}

fn one(entry: &UpstreamEntry) -> Result<UpstreamSettings, (&'static str, String)> {
    let (transport, port, rest) = match entry.url.split_once("://") {
        Some(("udp", rest)) => (Transport::Udp, 53, rest),
        Some(("tcp", rest)) => (Transport::Tcp, 53, rest),
        Some(("tls", rest)) => (Transport::Tls, 853, rest),
        None if entry.url == "quad9" => (Transport::Tls, 853, "9.9.9.9"),
        None if entry.url == "cloudflare" => (Transport::Tls, 853, "1.1.1.1"),
        _ => return Err(("upstream.url", format!("{:?} is no upstream", entry.url))),
    };
    let address = rest
        .parse()
        .or_else(|_| rest.parse().map(|ip| SocketAddr::new(ip, port)))
        .map_err(|_| ("upstream.url", format!("{rest:?} is no address")))?;
    Ok(UpstreamSettings {
        name: entry.name.clone().unwrap_or_else(|| entry.url.clone()),
        transport,
        addresses: vec![address],
        server_name: None,
        authority: String::new(),
        path: String::new(),
        ca: Vec::new(),
        pins: Vec::new(),
        weight: 1,
    })
}
