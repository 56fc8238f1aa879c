//! The root key sentinel: whether this resolver trusts a certain root key, asked by a name
//! (RFC 8509).

use crate::{
    dnssec::{AnchorSet, Security},
    wire::{Name, rtype},
};

/// What a sentinel query gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sentinel {
    /// The answer as it is; no sentinel was asked, or it says yes.
    Pass,
    /// SERVFAIL: the sentinel says no.
    ServFail,
}

/// Judges one answer (RFC 8509, section 3). `qname` is the name of the client's query, not that
/// of an alias's target; `cd` is the query's CD bit; `root` are the root's trusted anchors.
#[must_use]
pub fn judge(qname: &Name, qtype: u16, cd: bool, verdict: Security, root: &AnchorSet) -> Sentinel {
    if cd || !matches!(qtype, rtype::A | rtype::AAAA) || verdict != Security::Secure {
        return Sentinel::Pass;
    }
    let Some((question, tag)) = qname.labels().next().and_then(label) else {
        return Sentinel::Pass;
    };
    let trusted = root.iter().any(|anchor| anchor.key_tag == tag);
    let yes = match question {
        Question::IsTrusted => trusted,
        Question::IsNotTrusted => !trusted,
    };
    if yes {
        Sentinel::Pass
    } else {
        Sentinel::ServFail
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    IsTrusted,
    IsNotTrusted,
}

/// Reads the label: the tag has five digits, with zeros in front.
fn label(label: &[u8]) -> Option<(Question, u16)> {
    let label = label.to_ascii_lowercase();
    let (question, digits) = if let Some(digits) = label.strip_prefix(b"root-key-sentinel-is-ta-") {
        (Question::IsTrusted, digits)
    } else {
        let digits = label.strip_prefix(b"root-key-sentinel-not-ta-")?;
        (Question::IsNotTrusted, digits)
    };
    if digits.len() != 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let tag = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((question, tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::anchors::{CLOCK_FLOOR_UNIX_S, Keeper, Source, built_in};

    fn root(tags: &[u16]) -> AnchorSet {
        let mut keeper = Keeper::new(CLOCK_FLOOR_UNIX_S);
        keeper.seed(&built_in(), Source::BuiltIn, CLOCK_FLOOR_UNIX_S);
        let mut set = keeper.anchors().remove(&Name::root()).unwrap();
        set.retain(|anchor| tags.contains(&anchor.key_tag));
        set
    }

    fn ask(label: &str, tags: &[u16]) -> Sentinel {
        let qname = Name::parse(&format!("{label}.example.")).unwrap();
        judge(&qname, rtype::A, false, Security::Secure, &root(tags))
    }

    #[test]
    fn table_of_rfc_8509() {
        use Sentinel::{Pass, ServFail};
        // Which root keys a resolver trusts, and what it says of the new one.
        let cases = [
            ("Vnew", &[20326, 38696][..], Pass, ServFail),
            ("Vnew", &[38696], Pass, ServFail),
            ("Vold", &[20326], ServFail, Pass),
        ];
        for (who, tags, is_ta, not_ta) in cases {
            assert_eq!(ask("root-key-sentinel-is-ta-38696", tags), is_ta, "{who}");
            assert_eq!(ask("root-key-sentinel-not-ta-38696", tags), not_ta, "{who}");
        }
        // nonV: nothing is ever secure, and everything passes.
        let qname = Name::parse("root-key-sentinel-is-ta-11111.example.").unwrap();
        for verdict in [Security::Insecure, Security::Bogus, Security::Indeterminate] {
            let all = root(&[20326, 38696]);
            assert_eq!(judge(&qname, rtype::A, false, verdict, &all), Pass);
        }
    }

    #[test]
    fn only_sentinel_questions_are_judged() {
        let both = root(&[20326, 38696]);
        let refused = Name::parse("Root-Key-Sentinel-IS-TA-00001.example").unwrap();
        for qtype in [rtype::A, rtype::AAAA] {
            assert_eq!(
                judge(&refused, qtype, false, Security::Secure, &both),
                Sentinel::ServFail
            );
            assert_eq!(
                judge(&refused, qtype, true, Security::Secure, &both),
                Sentinel::Pass,
                "CD"
            );
        }
        assert_eq!(
            judge(&refused, rtype::TXT, false, Security::Secure, &both),
            Sentinel::Pass
        );
        for name in [
            "root-key-sentinel-is-ta-1",
            "root-key-sentinel-is-ta-000001",
            "root-key-sentinel-is-ta-99999",
            "root-key-sentinel-is-ta-+0001",
            "root-key-sentinel-is-ta-",
            "x.root-key-sentinel-is-ta-00001",
            "is-ta-00001",
        ] {
            assert_eq!(ask(name, &[20326, 38696]), Sentinel::Pass, "{name}");
        }
        let root_name = Name::root();
        assert_eq!(
            judge(&root_name, rtype::A, false, Security::Secure, &both),
            Sentinel::Pass
        );
    }

    #[test]
    fn a_revoked_tag_is_not_trusted() {
        assert_eq!(
            ask("root-key-sentinel-not-ta-20326", &[38696]),
            Sentinel::Pass
        );
        assert_eq!(
            ask("root-key-sentinel-is-ta-20326", &[38696]),
            Sentinel::ServFail
        );
    }
}
