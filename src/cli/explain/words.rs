//! The words people use for DNSSEC numbers, and what to do about each failure.

use std::borrow::Cow;

use crate::{
    anchors::time_text,
    dnssec::{InspectedSignature, Why, Worth},
};

/// The name of a signature algorithm (IANA "DNS Security Algorithm Numbers").
pub(super) fn algorithm(number: u8) -> Cow<'static, str> {
    Cow::Borrowed(match number {
        1 => "RSAMD5",
        3 => "DSA",
        5 => "RSASHA1",
        6 => "DSA-NSEC3-SHA1",
        7 => "RSASHA1-NSEC3-SHA1",
        8 => "RSASHA256",
        10 => "RSASHA512",
        12 => "ECC-GOST",
        13 => "ECDSAP256SHA256",
        14 => "ECDSAP384SHA384",
        15 => "ED25519",
        16 => "ED448",
        17 => "SM2SM3",
        23 => "ECC-GOST12",
        253 => "PRIVATEDNS",
        254 => "PRIVATEOID",
        other => return Cow::Owned(format!("algorithm {other}")),
    })
}

/// The name of a DS digest (IANA "Digest Algorithms").
pub(super) fn digest(number: u8) -> Cow<'static, str> {
    Cow::Borrowed(match number {
        1 => "SHA-1",
        2 => "SHA-256",
        3 => "GOST R 34.11-94",
        4 => "SHA-384",
        5 => "GOST R 34.11-2012",
        6 => "SM3",
        other => return Cow::Owned(format!("digest {other}")),
    })
}

/// The moment a signature's field means: the one nearest to now (RFC 4034, section 3.1.5).
pub(super) fn moment(serial: u32, now_unix_s: u64) -> u64 {
    let now = u32::try_from(now_unix_s & u64::from(u32::MAX)).unwrap_or(0);
    let ahead = serial.wrapping_sub(now).cast_signed();
    now_unix_s.saturating_add_signed(ahead.into())
}

/// A signature's window held against the clock.
pub(super) fn window(signature: &InspectedSignature, now_unix_s: u64) -> String {
    let begin = moment(signature.inception, now_unix_s);
    let end = moment(signature.expiration, now_unix_s);
    let against = if now_unix_s < begin {
        format!("begins in {}", span(begin - now_unix_s))
    } else if now_unix_s > end {
        format!("expired {} ago", span(now_unix_s - end))
    } else {
        format!("expires in {}", span(end - now_unix_s))
    };
    format!("{against} ({} to {})", time_text(begin), time_text(end))
}

/// A length of time in its largest sensible unit.
pub(super) fn span(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / MINUTE),
        7_200..172_800 => format!("{} h", seconds / HOUR),
        _ => format!("{} d", seconds / DAY),
    }
}

/// What a signature is worth.
pub(super) const fn worth(worth: Worth) -> &'static str {
    match worth {
        Worth::Good => "good",
        Worth::Unproved => "not proved, as nothing trusted leads to its key",
        Worth::Bad(why) => why.words(),
    }
}

/// The same for programs.
pub(super) const fn worth_label(worth: Worth) -> &'static str {
    match worth {
        Worth::Good => "good",
        Worth::Unproved => "unproved",
        Worth::Bad(why) => why.label(),
    }
}

/// Whose fault it most likely is, and what the person who asks can do.
pub(super) const fn advice(why: Why) -> &'static str {
    match why {
        Why::UnsignedDelegation | Why::OptOut => {
            "This is normal for a zone whose owner has not set up DNSSEC: the answer may be right, \
             but nothing proves it."
        }
        Why::UnsupportedAlgorithm | Why::UnsupportedDigest => {
            "The zone's owner signs in a way that validators no longer, or not yet, accept; they \
             should move to algorithm 13 and SHA-256. Until then the zone counts as unsigned. Where \
             SHA-1 is all there is, `dnssec.sha1 = true` accepts it."
        }
        Why::Nsec3Iterations => {
            "The zone's owner should set the NSEC3 iterations to 0 (RFC 9276); until then its \
             denials count as unsigned."
        }
        Why::PrivateZone => "The configuration routes this zone to servers of its own.",
        Why::NegativeTrustAnchor => {
            "Remove the name from `dnssec.negative_trust_anchors` once its zone is repaired."
        }
        Why::SignatureMissing => {
            "Either something between truename and the zone strips signatures, often a router or an \
             old resolver, or the zone's owner published records without signing them. Try another \
             upstream with --server; if it says the same, the owner has to sign the zone."
        }
        Why::SignatureExpired => {
            "The zone's owner forgot to sign again in time, or this machine's clock is ahead. Compare \
             the clock with the time above; if it is right, only the owner can repair this."
        }
        Why::SignatureNotYetValid => {
            "This machine's clock is most likely behind: compare it with the time above and set it. \
             If it is right, the signer's clock is wrong, and only the zone's owner can repair this."
        }
        Why::SignatureInvalid => {
            "The records are not those that were signed: somebody on the way changed them, or the \
             zone's owner changed them without signing again. Try another upstream with --server; \
             if it says the same, only the owner can repair this. Do not use the answer."
        }
        Why::SignatureLabels | Why::SignerNotZone => {
            "The zone was signed with broken or misconfigured software, or the signature was moved \
             here from elsewhere. Only the zone's owner can repair this."
        }
        Why::SignatureWithoutKey => {
            "The zone's owner replaced a key and took the old one away too early, or signed with a \
             key that was never published. Only the owner can repair this; if the key was \
             replaced just now, it may pass when old records expire."
        }
        Why::SignatureUnsupported => {
            "The zone promises an algorithm that can be checked, and these records have no \
             signature by it. Only the zone's owner can repair this."
        }
        Why::KeyMissing => {
            "The parent zone vouches for a key that the zone does not have, or that no longer counts: \
             its owner changed keys or the DNS provider without telling the registrar. The owner \
             has to correct or remove the DS at the registrar."
        }
        Why::KeyWithoutZoneBit => {
            "The zone's owner published a key without the flag for signing zones; the DS has to point \
             at a zone key."
        }
        Why::DsFromWildcard => {
            "A delegation cannot be made by a wildcard; the owner of the parent zone has to write \
             the DS record down, or an upstream invents it."
        }
        Why::DenialMissing | Why::WildcardUnproven => {
            "Either an upstream leaves the NSEC or NSEC3 records out, which old resolvers and some \
             routers do, or the zone's server does. Try another upstream with --server; if it says \
             the same, only the zone's owner can repair this."
        }
        Why::DenialContradicts | Why::Nsec3Mixed => {
            "The records that should prove the absence prove something else: the zone is signed \
             wrongly, or somebody on the way replaced the proof. Try another upstream with \
             --server; if it says the same, only the zone's owner can repair this."
        }
        Why::Nsec3IterationsAbsurd => {
            "The zone's owner has to set the NSEC3 iterations to 0 (RFC 9276); no validator counts \
             that far."
        }
        Why::OverBudget => {
            "The zone has far more keys, signatures or proofs than any honest one; it may be made to \
             keep validators busy. Only its owner can change that."
        }
        Why::AliasLoop => "The zone's owner has to untangle the CNAME or DNAME records.",
        Why::FetchFailed => {
            "No upstream answered for this record. Check the network and the upstreams \
             (`truename check`), and try again."
        }
        Why::UpstreamFailure => {
            "The upstream itself failed; the servers of the zone may be down. Try again later, or \
             another upstream with --server."
        }
        Why::NoAnchor => "Give a trust anchor for the root in `dnssec.trust_anchors`.",
        Why::NotJudged => "Ask for a type of which there are records, such as A or TXT.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Name;

    const NOW: u64 = 1_795_132_800;

    fn window_of(inception: u64, expiration: u64) -> String {
        let signature = InspectedSignature {
            signer: Name::root(),
            key_tag: 1,
            algorithm: 13,
            inception: u32::try_from(inception & 0xffff_ffff).unwrap(),
            expiration: u32::try_from(expiration & 0xffff_ffff).unwrap(),
            worth: Worth::Good,
            wildcard: None,
        };
        window(&signature, NOW)
    }

    #[test]
    fn windows_are_told_against_the_clock() {
        const DAY: u64 = 86_400;
        assert_eq!(
            window_of(NOW - DAY, NOW + 3 * DAY),
            "expires in 3 d (2026-11-19T00:00:00Z to 2026-11-23T00:00:00Z)"
        );
        assert!(window_of(NOW - 9 * DAY, NOW - 7_200).starts_with("expired 2 h ago"));
        assert!(window_of(NOW + 600, NOW + DAY).starts_with("begins in 10 min"));
        assert!(window_of(NOW - 1, NOW + 119).starts_with("expires in 119 s"));
    }

    #[test]
    fn signature_times_go_on_after_their_fields_wrap() {
        let late = (1 << 32) + 1_000;
        assert_eq!(moment(u32::MAX - 10, late), (1 << 32) - 11);
        assert_eq!(moment(2_000, late), late + 1_000);
    }

    #[test]
    fn numbers_without_a_name_are_told_as_numbers() {
        assert_eq!(algorithm(13), "ECDSAP256SHA256");
        assert_eq!(algorithm(99), "algorithm 99");
        assert_eq!(digest(2), "SHA-256");
        assert_eq!(digest(9), "digest 9");
    }
}
