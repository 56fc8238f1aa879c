//! Root key trust anchor sentinel (RFC 8509): names by which a test page finds out which root keys a
//! resolver trusts.

use crate::wire::{Name, Question, rtype};

use super::{settings::Settings, verdict::Security};

/// Whether a secure answer to `question` must be given as SERVFAIL, because its name's first label
/// asks about a root key and the truth is the other way (RFC 8509, section 3). The caller has made
/// sure that the client did not set CD.
#[must_use]
pub fn sentinel_fails(question: &Question, security: Security, settings: &Settings) -> bool {
    if security != Security::Secure || !matches!(question.qtype, rtype::A | rtype::AAAA) {
        return false;
    }
    let Some((expected, tag)) = question.name.labels().next().and_then(read) else {
        return false;
    };
    let trusted = settings
        .anchors
        .get(&Name::root())
        .is_some_and(|set| set.iter().any(|ds| ds.key_tag == tag));
    trusted != expected
}

/// What a label asserts: whether a key is trusted, and its tag, written with five digits.
fn read(label: &[u8]) -> Option<(bool, u16)> {
    let (expected, digits) = if let Some(digits) = label.strip_prefix(b"root-key-sentinel-is-ta-") {
        (true, digits)
    } else {
        (false, label.strip_prefix(b"root-key-sentinel-not-ta-")?)
    };
    if digits.len() != 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((expected, std::str::from_utf8(digits).ok()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{super::rdata::Ds, *};

    #[test]
    fn rfc_8509_section_3_processing() {
        let settings = Settings::with_root_anchors(vec![Ds {
            key_tag: 20326,
            algorithm: 8,
            digest_type: 2,
            digest: Box::from([0; 32]),
        }]);
        let cases = [
            ("root-key-sentinel-is-ta-20326.example.", false),
            ("root-key-sentinel-not-ta-20326.example.", true),
            ("root-key-sentinel-is-ta-38696.example.", true),
            ("root-key-sentinel-not-ta-38696.example.", false),
            ("ROOT-KEY-SENTINEL-IS-TA-38696.example.", true),
            ("root-key-sentinel-is-ta-326.example.", false),
            ("root-key-sentinel-is-ta-99999.example.", false),
            ("www.root-key-sentinel-is-ta-38696.example.", false),
        ];
        for (name, fails) in cases {
            let mut question = Question {
                name: Name::parse(name).unwrap(),
                qtype: rtype::A,
                qclass: 1,
            };
            let ask = |question: &Question, security| sentinel_fails(question, security, &settings);
            assert_eq!(ask(&question, Security::Secure), fails, "{name}");
            assert!(!ask(&question, Security::Insecure));
            question.qtype = rtype::TXT;
            assert!(!ask(&question, Security::Secure));
        }
    }
}
