//! The state of a running truename on one screen.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use crate::admin::{Anchor, Cache, Queries, Status, Upstream};

/// Writes the state for people.
pub(super) fn write(out: &mut dyn Write, status: &Status) -> io::Result<()> {
    writeln!(
        out,
        "truename {}, process {}, up {}",
        status.program,
        status.pid,
        span(status.uptime_s)
    )?;
    let file = status.config.as_deref().unwrap_or("built in");
    writeln!(out, "configuration  {file}")?;
    if let Some(reload) = &status.last_reload {
        let outcome = if reload.succeeded {
            "read again"
        } else {
            "not taken"
        };
        // A broken file has several mistakes; the others are in the log.
        let text = reload.text.lines().next().unwrap_or_default();
        writeln!(out, "  {outcome} {} ago: {text}", span(reload.ago_s))?;
    }

    writeln!(out, "\nlisteners")?;
    for listener in &status.listeners {
        write!(
            out,
            "  {:<5} {}",
            listener.transport,
            listener.addresses.join(" ")
        )?;
        match listener.connections {
            Some(1) => writeln!(out, "  1 connection")?,
            Some(count) => writeln!(out, "  {count} connections")?,
            None => writeln!(out)?,
        }
    }

    writeln!(out, "\nupstreams")?;
    let width = status.upstreams.iter().map(|one| one.name.chars().count());
    let width = width.max().unwrap_or(0);
    for one in &status.upstreams {
        writeln!(out, "  {}", upstream(one, width))?;
    }

    writeln!(out, "\nDNSSEC         {}", dnssec(status))?;
    let verdicts = &status.dnssec.verdicts;
    writeln!(
        out,
        "verdicts       {} secure, {} insecure, {} bogus, {} indeterminate",
        verdicts.secure, verdicts.insecure, verdicts.bogus, verdicts.indeterminate
    )?;
    writeln!(out, "cache          {}", cache(&status.cache))?;
    writeln!(out, "queries        {}", queries(&status.queries))
}

fn upstream(one: &Upstream, width: usize) -> String {
    let mut line = format!(
        "{:<width$}  {:<5} {:<10}",
        one.name, one.transport, one.state
    );
    let rtt = one
        .rtt_ms
        .map_or("-".to_owned(), |rtt| format!("{rtt:.1} ms"));
    // Writing to a String cannot fail.
    let _ = write!(
        line,
        " {rtt:>9}  {:>3.0} % lost  {} exchanges, {} failed",
        one.loss * 100.0,
        one.exchanges,
        one.failures
    );
    if let Some(error) = &one.last_error {
        let _ = write!(line, "; last: {error}");
    }
    line
}

fn dnssec(status: &Status) -> String {
    if !status.dnssec.validating {
        return "not validating".to_owned();
    }
    let anchors = status.dnssec.anchors.iter();
    let anchors: Vec<String> = anchors.map(anchor).collect();
    format!(
        "validating, anchors {}, clock {}",
        anchors.join(" "),
        status.clock.state
    )
}

/// `20326`, or `20326 (revoked)`, or with its zone when that is not the root.
fn anchor(anchor: &Anchor) -> String {
    let mut text = String::new();
    if anchor.zone != "." {
        text.push_str(&anchor.zone);
        text.push('/');
    }
    text.push_str(&anchor.key_tag.to_string());
    if anchor.state != "valid" {
        text.push_str(&format!(" ({})", anchor.state));
    }
    text
}

fn cache(cache: &Cache) -> String {
    let rate = cache.hit_rate.map_or("no queries yet".to_owned(), |rate| {
        format!("{:.1} % of queries were hits", rate * 100.0)
    });
    format!(
        "{} answers, {} of {}; {rate}, {} answers were stale",
        cache.answers,
        size(cache.octets),
        size(cache.limit_octets),
        cache.stale
    )
}

fn queries(queries: &Queries) -> String {
    let Queries {
        udp,
        tcp,
        dot,
        doh,
        doh3,
        doq,
        failures,
        too_often,
    } = queries;
    format!(
        "udp {udp}, tcp {tcp}, dot {dot}, doh {doh}, doh3 {doh3}, doq {doq}; {failures} failed, \
         {too_often} over access.rate_limit"
    )
}

/// Octets as people read them: `1.5 MiB`.
fn size(octets: u64) -> String {
    let mut unit = "octets";
    // Tenths, so that no floating point is needed.
    let mut tenths = octets.saturating_mul(10);
    for larger in ["KiB", "MiB", "GiB"] {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1_024;
        unit = larger;
    }
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        tenth => format!("{}.{tenth} {unit}", tenths / 10),
    }
}

/// A time in its two largest units: `2 d 3 h`.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    if days > 0 {
        format!("{days} d {} h", hours % 24)
    } else if hours > 0 {
        format!("{hours} h {} min", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else {
        format!("{seconds} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Clock, Dnssec, Listener, Reload, Verdicts};

    fn status() -> Status {
        Status {
            program: "0.1.0".to_owned(),
            pid: 4711,
            uptime_s: 93_784,
            config: Some("/etc/truename/truename.toml".to_owned()),
            last_reload: Some(Reload {
                ago_s: 125,
                succeeded: false,
                text: "truename.toml:3:1: first\ntruename.toml:9:1: second".to_owned(),
            }),
            listeners: vec![
                Listener {
                    transport: "udp".to_owned(),
                    addresses: vec!["127.0.0.1:53".to_owned(), "[::1]:53".to_owned()],
                    connections: None,
                },
                Listener {
                    transport: "dot".to_owned(),
                    addresses: vec!["127.0.0.1:853".to_owned()],
                    connections: Some(1),
                },
            ],
            upstreams: vec![
                Upstream {
                    name: "quad9".to_owned(),
                    transport: "doh".to_owned(),
                    state: "up".to_owned(),
                    rtt_ms: Some(12.34),
                    loss: 0.0,
                    exchanges: 100,
                    failures: 0,
                    last_error: None,
                },
                Upstream {
                    name: "cloudflare".to_owned(),
                    transport: "doh".to_owned(),
                    state: "down".to_owned(),
                    rtt_ms: None,
                    loss: 1.0,
                    exchanges: 3,
                    failures: 3,
                    last_error: Some("connection refused".to_owned()),
                },
            ],
            dnssec: Dnssec {
                validating: true,
                anchors: vec![
                    Anchor {
                        zone: ".".to_owned(),
                        key_tag: 20_326,
                        state: "revoked".to_owned(),
                        trusted: false,
                    },
                    Anchor {
                        zone: ".".to_owned(),
                        key_tag: 38_696,
                        state: "valid".to_owned(),
                        trusted: true,
                    },
                ],
                verdicts: Verdicts {
                    secure: 5,
                    ..Verdicts::default()
                },
            },
            clock: Clock {
                state: "synced".to_owned(),
                for_s: 3,
                shows: "2026-11-20T08:30:00Z".to_owned(),
            },
            cache: Cache {
                answers: 42,
                octets: 1_572_864,
                limit_octets: 33_554_432,
                hits: 9,
                stale: 1,
                hit_rate: Some(0.9),
            },
            queries: Queries {
                udp: 10,
                ..Queries::default()
            },
        }
    }

    #[test]
    fn one_screen_says_it_all() {
        let mut out = Vec::new();
        write(&mut out, &status()).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = "\
truename 0.1.0, process 4711, up 1 d 2 h
configuration  /etc/truename/truename.toml
  not taken 2 min 5 s ago: truename.toml:3:1: first

listeners
  udp   127.0.0.1:53 [::1]:53
  dot   127.0.0.1:853  1 connection

upstreams
  quad9       doh   up           12.3 ms    0 % lost  100 exchanges, 0 failed
  cloudflare  doh   down               -  100 % lost  3 exchanges, 3 failed; last: connection refused

DNSSEC         validating, anchors 20326 (revoked) 38696, clock synced
verdicts       5 secure, 0 insecure, 0 bogus, 0 indeterminate
cache          42 answers, 1.5 MiB of 32 MiB; 90.0 % of queries were hits, 1 answers were stale
queries        udp 10, tcp 0, dot 0, doh 0, doh3 0, doq 0; 0 failed, 0 over access.rate_limit
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_unknown_is_not_made_up() {
        let mut status = status();
        status.config = None;
        status.last_reload = None;
        status.dnssec.validating = false;
        status.cache.hit_rate = None;
        let mut out = Vec::new();
        write(&mut out, &status).unwrap();
        let text = String::from_utf8(out).unwrap();
        for part in [
            "configuration  built in",
            "not validating",
            "no queries yet",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn sizes_and_times_have_their_unit() {
        assert_eq!(size(1_023), "1023 octets");
        assert_eq!(size(1_024), "1 KiB");
        assert_eq!(size(1_536 * 1_024), "1.5 MiB");
        assert_eq!(
            [span(59), span(60), span(3_600)],
            ["59 s", "1 min 0 s", "1 h 0 min"]
        );
    }
}
