//! Values as people write them: durations, sizes, addresses. Each reader returns the value or a
//! sentence that ends in what to write instead.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Units of time and their milliseconds, largest first.
const TIME_UNITS: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Units of memory and their octets, largest first.
const SIZE_UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Reads `30s`, `5m`, `1d`, `250ms`: one whole number and one unit out of ms, s, m, h, d, w.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let factor = TIME_UNITS.iter().find(|(name, _)| *name == unit);
    match (number.parse::<u64>(), factor) {
        (Ok(number), Some((_, factor))) => number
            .checked_mul(*factor)
            .map(Duration::from_millis)
            .ok_or_else(|| format!("{text:?} is longer than any duration truename keeps")),
        (Ok(number), None) => {
            let unit = match unit.trim().to_ascii_lowercase().as_str() {
                word if word.starts_with("mil") || word.starts_with("ms") => "ms",
                word if word.starts_with('m') => "m",
                word if word.starts_with('h') => "h",
                word if word.starts_with('d') => "d",
                word if word.starts_with('w') => "w",
                _ => "s",
            };
            Err(not_a("duration", text, &format!("{number}{unit}")))
        }
        (Err(_), _) => Err(not_a("duration", text, "30s")),
    }
}

/// Reads `32MiB`, `512KiB`, `1GiB`, or a number of octets.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "" | "B" => Some(1),
        unit => SIZE_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor),
    };
    match (number.parse::<u64>(), factor) {
        (Ok(number), Some(factor)) => number
            .checked_mul(factor)
            .ok_or_else(|| format!("{text:?} is more than any machine has")),
        (Ok(number), None) => {
            let unit = match unit.trim().to_ascii_lowercase().as_bytes().first() {
                Some(b'k') => "KiB",
                Some(b'g') => "GiB",
                _ => "MiB",
            };
            Err(not_a("size", text, &format!("{number}{unit}")))
        }
        (Err(_), _) => Err(not_a("size", text, "32MiB")),
    }
}

/// Reads an address with its port, `127.0.0.1:53` or `[::1]:53`; `port` is the one to suggest.
pub(super) fn socket_address(text: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(address) = text
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
    {
        let instead = SocketAddr::new(address, port);
        return Err(format!("{text:?} has no port; write \"{instead}\""));
    }
    let (host, given) = text.rsplit_once(':').unwrap_or((text, ""));
    let port = given.parse().unwrap_or(port);
    if matches!(host, "" | "*") {
        return Err(format!(
            "{text:?} has no address; write \"127.0.0.1:{port}\" for this machine, or \
             \"0.0.0.0:{port}\" and \"[::]:{port}\" for all networks"
        ));
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        if address.is_ipv6() && !given.is_empty() {
            let instead = SocketAddr::new(address, port);
            return Err(format!(
                "{text:?} does not show where the port begins; write \"{instead}\""
            ));
        }
        return Err(format!(
            "{text:?} has no port between 0 and 65535; write \"{}\"",
            SocketAddr::new(address, port)
        ));
    }
    Err(format!(
        "{text:?} is not an address and port; write numbers, such as \"127.0.0.1:{port}\""
    ))
}

/// Writes a duration in the largest unit that divides it.
pub(super) fn duration_text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    TIME_UNITS
        .iter()
        .skip(1) // nobody reads "52w" as a year
        .find(|(_, factor)| milliseconds.is_multiple_of(u128::from(*factor)))
        .map_or_else(String::new, |(unit, factor)| {
            format!("{}{unit}", milliseconds / u128::from(*factor))
        })
}

/// Writes a size in the largest unit that divides it.
pub(super) fn size_text(octets: u64) -> String {
    SIZE_UNITS
        .iter()
        .find(|(_, factor)| octets > 0 && octets.is_multiple_of(*factor))
        .map_or_else(
            || octets.to_string(),
            |(unit, factor)| format!("{}{unit}", octets / factor),
        )
}

/// The leading digits, and what follows them.
fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|octet: char| !octet.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn not_a(kind: &str, text: &str, instead: &str) -> String {
    format!("{text:?} is not a {kind}; write it as \"{instead}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("250ms", 250),
            ("4s", 4_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1w", 604_800_000),
        ] {
            let duration = duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(milliseconds), "{text}");
        }
    }

    #[test]
    fn durations_come_back() {
        for text in ["0s", "250ms", "4s", "90s", "5m", "1h", "1d", "14d"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn a_wrong_duration_gets_the_right_one() {
        for (text, instead) in [
            ("30", "30s"),
            ("30 sec", "30s"),
            ("5 minutes", "5m"),
            ("100 msec", "100ms"),
            ("20 millis", "20ms"),
            ("2 hours", "2h"),
            ("1 day", "1d"),
            ("soon", "30s"),
            ("-5s", "30s"),
            ("", "30s"),
        ] {
            assert_eq!(
                duration(text).unwrap_err(),
                format!("{text:?} is not a duration; write it as \"{instead}\"")
            );
        }
        assert!(duration("99999999999999999d").is_err());
        assert!(duration("99999999999999999999999s").is_err());
    }

    #[test]
    fn sizes_are_read_and_come_back() {
        for (text, octets) in [
            ("0", 0),
            ("1000", 1000),
            ("512KiB", 512 << 10),
            ("32MiB", 32 << 20),
            ("3GiB", 3 << 30),
        ] {
            assert_eq!(size(text), Ok(octets));
            assert_eq!(size_text(octets), text);
        }
        assert_eq!(size("5B"), Ok(5));
    }

    #[test]
    fn a_wrong_size_gets_the_right_one() {
        for (text, instead) in [
            ("32 megs", "32MiB"),
            ("32MB", "32MiB"),
            ("64k", "64KiB"),
            ("1 gig", "1GiB"),
            ("big", "32MiB"),
        ] {
            assert_eq!(
                size(text).unwrap_err(),
                format!("{text:?} is not a size; write it as \"{instead}\"")
            );
        }
        assert!(size("99999999999GiB").is_err());
    }

    #[test]
    fn an_address_without_port_gets_one() {
        assert!(socket_address("127.0.0.1:53", 53).is_ok());
        assert!(socket_address("[::1]:0", 53).is_ok());
        for (text, part) in [
            ("127.0.0.1", "has no port; write \"127.0.0.1:53\""),
            ("::1", "has no port; write \"[::1]:53\""),
            ("[::1]", "has no port; write \"[::1]:53\""),
            (":5353", "has no address; write \"127.0.0.1:5353\""),
            ("*:53", "has no address"),
            ("127.0.0.1:dns", "has no port between 0 and 65535"),
            ("127.0.0.1:70000", "has no port between 0 and 65535"),
            ("localhost:53", "write numbers, such as \"127.0.0.1:53\""),
            ("eth0", "write numbers, such as \"127.0.0.1:53\""),
        ] {
            let message = socket_address(text, 53).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }
}
