//! What both ends of DNS over HTTPS agree on (RFC 8484).

use data_encoding::BASE64URL_NOPAD;

use crate::wire::MESSAGE_MAX_OCTETS;

/// The media type of DNS messages in HTTP (RFC 8484, section 6).
pub const MEDIA_TYPE: &str = "application/dns-message";

/// Whether a Content-Type or Accept value means [`MEDIA_TYPE`]: letter case and parameters do not
/// matter (RFC 9110, section 8.3.1).
#[must_use]
pub fn is_media_type(value: &str) -> bool {
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(MEDIA_TYPE)
}

/// The message of the variable `dns` of a GET request: base64url without padding (RFC 8484,
/// section 6). `None` when the text is not that, or longer than a message can be.
#[must_use]
pub fn decode_dns_variable(text: &str) -> Option<Vec<u8>> {
    // Some clients pad although the RFC forbids it; what they mean is not in doubt.
    let text = text.trim_end_matches('=').as_bytes();
    let octets = BASE64URL_NOPAD.decode_len(text.len()).ok()?;
    if octets > MESSAGE_MAX_OCTETS {
        return None;
    }
    BASE64URL_NOPAD.decode(text).ok()
}

/// The value of the variable `dns` that carries `message` in a GET request.
#[must_use]
pub fn encode_dns_variable(message: &[u8]) -> String {
    BASE64URL_NOPAD.encode(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_is_known_in_every_spelling() {
        for value in [
            "application/dns-message",
            "Application/DNS-Message",
            "application/dns-message; charset=utf-8",
            " application/dns-message ;q=1",
        ] {
            assert!(is_media_type(value), "{value}");
        }
        for value in [
            "",
            "text/html",
            "application/dns-message2",
            "application/dns-json",
        ] {
            assert!(!is_media_type(value), "{value}");
        }
    }

    #[test]
    fn the_variable_survives_the_round_trip() {
        let message: Vec<u8> = (0..=255).collect();
        let text = encode_dns_variable(&message);
        assert!(!text.contains(['+', '/', '=']));
        assert_eq!(decode_dns_variable(&text), Some(message));
        assert_eq!(decode_dns_variable("AA=="), Some(vec![0]));
        for bad in ["A", "A+A/", "A A", "ä"] {
            assert_eq!(decode_dns_variable(bad), None, "{bad}");
        }
        assert_eq!(decode_dns_variable(&"A".repeat(90_000)), None);
    }
}
