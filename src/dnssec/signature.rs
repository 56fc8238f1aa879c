//! One RRset against its RRSIGs and the keys of one zone (RFC 4035, section 5.3).

use crate::wire::Name;

use super::{
    canonical,
    crypto::Algorithm,
    keys::ZoneKeys,
    limits,
    limits::Budget,
    rdata::Rrsig,
    rrset::RrSet,
    verdict::{Reason, Why},
};

/// Room for what most signatures sign.
const SIGNED_OCTETS_USUAL: usize = 512;

/// When a validation happens, and with which tolerance.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    /// Seconds since 1970, modulo 2^32 as RRSIGs have them.
    pub(super) unix_s: u32,
    /// Seconds by which windows are stretched at both ends.
    pub(super) skew_s: u32,
    /// Whether SHA-1 is good enough.
    pub(super) sha1: bool,
}

/// What a good signature says beyond "these are the zone's records".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validated {
    /// The most the records' TTL may be: the original TTL and the signature's remaining life, in
    /// seconds (RFC 4035, section 5.3.3).
    pub(super) ttl_cap_s: u32,
    /// The original TTL alone, in seconds.
    pub(super) original_ttl_s: u32,
    /// The signature's remaining life alone, in seconds.
    pub(super) remaining_s: u32,
    /// The closest encloser when the records came out of a wildcard: `*.` below it is their true
    /// owner, and that nothing closer exists must be proved apart.
    pub(super) wildcard: Option<Name>,
}

/// Checks `set` with the keys of `zone`. The signer of a usable RRSIG is exactly that zone.
///
/// # Errors
/// The reason why no signature is good: that of the signature that came furthest.
pub(super) fn verify(
    set: &RrSet,
    zone: &ZoneKeys,
    when: When,
    budget: &mut Budget,
) -> Result<Validated, Reason> {
    let mut best: Option<Reason> = None;
    let mut note = |why: Why, tag: u16| {
        if best.as_ref().is_none_or(|best| rank(why) > rank(best.why)) {
            best = Some(Reason::new(why, &set.owner, set.rtype).with_tag(tag));
        }
    };
    let mut failures = 0;
    let mut message = Vec::with_capacity(SIGNED_OCTETS_USUAL);
    for signature in &set.signatures {
        if let Err(why) = fits(signature, set, zone, when) {
            note(why, signature.key_tag);
            continue;
        }
        let mut candidates = 0;
        for key in zone.candidates(signature.key_tag, signature.algorithm) {
            candidates += 1;
            let Some(public) = &key.public else {
                note(Why::SignatureUnsupported, signature.key_tag);
                continue;
            };
            if failures > limits::SIGNATURE_FAILURES_PER_RRSET_MAX || budget.check().is_err() {
                note(Why::OverBudget, signature.key_tag);
                return Err(best.unwrap_or_else(|| missing(set)));
            }
            let owner = signed_owner(signature, set);
            message.clear();
            signature.signed_head(&mut message);
            canonical::signed_records(set, &owner, signature.original_ttl_s, &mut message);
            if public.verifies(&message, &signature.signature) {
                return Ok(validated(signature, set, when));
            }
            budget.failed();
            failures += 1;
            note(Why::SignatureInvalid, signature.key_tag);
        }
        if candidates == 0 {
            note(Why::SignatureWithoutKey, signature.key_tag);
        }
    }
    Err(best.unwrap_or_else(|| missing(set)))
}

fn missing(set: &RrSet) -> Reason {
    Reason::new(Why::SignatureMissing, &set.owner, set.rtype)
}

/// How far a signature came before it failed; the one that came furthest is the one to report.
fn rank(why: Why) -> u8 {
    match why {
        Why::SignerNotZone => 1,
        Why::SignatureUnsupported => 2,
        Why::SignatureLabels => 3,
        Why::SignatureWithoutKey => 4,
        Why::SignatureNotYetValid => 5,
        Why::SignatureExpired => 6,
        Why::SignatureInvalid => 7,
        Why::OverBudget => 8,
        _ => 0,
    }
}

/// The checks of RFC 4035, section 5.3.1, that need no key.
fn fits(signature: &Rrsig, set: &RrSet, zone: &ZoneKeys, when: When) -> Result<(), Why> {
    if signature.signer != zone.zone || !set.owner.is_within(&zone.zone) {
        return Err(Why::SignerNotZone);
    }
    let labels = usize::from(signature.labels);
    // Fewer labels than the signer would be a wildcard above the zone that signs it.
    if labels > set.owner_labels() || labels < zone.zone.label_count() {
        return Err(Why::SignatureLabels);
    }
    if Algorithm::supported(signature.algorithm, when.sha1).is_none() {
        return Err(Why::SignatureUnsupported);
    }
    if serial_less(when.unix_s.wrapping_add(when.skew_s), signature.inception) {
        return Err(Why::SignatureNotYetValid);
    }
    if serial_less(signature.expiration, when.unix_s.wrapping_sub(when.skew_s)) {
        return Err(Why::SignatureExpired);
    }
    // A window that ends before it begins admits no moment (RFC 4034, section 3.1.5).
    if serial_less(signature.expiration, signature.inception) {
        return Err(Why::SignatureExpired);
    }
    Ok(())
}

/// `a < b` in serial number arithmetic (RFC 1982, section 3.2).
fn serial_less(a: u32, b: u32) -> bool {
    let ahead = b.wrapping_sub(a);
    ahead != 0 && ahead < 0x8000_0000
}

/// The owner the signer put under the signature: the wildcard, where there was one.
fn signed_owner(signature: &Rrsig, set: &RrSet) -> Name {
    let labels = usize::from(signature.labels);
    if labels < set.owner_labels() {
        // Shorter than the owner by at least one octet of label, so it always fits.
        set.owner
            .suffix(labels)
            .child(b"*")
            .unwrap_or_else(|_| set.owner.clone())
    } else {
        set.owner.clone()
    }
}

fn validated(signature: &Rrsig, set: &RrSet, when: When) -> Validated {
    let labels = usize::from(signature.labels);
    let remaining_s = if serial_less(when.unix_s, signature.expiration) {
        signature.expiration.wrapping_sub(when.unix_s)
    } else {
        0
    };
    Validated {
        ttl_cap_s: signature.original_ttl_s.min(remaining_s),
        original_ttl_s: signature.original_ttl_s,
        remaining_s,
        wildcard: (labels < set.owner_labels()).then(|| set.owner.suffix(labels)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_wrap() {
        assert!(serial_less(1, 2));
        assert!(!serial_less(2, 2));
        assert!(!serial_less(2, 1));
        assert!(serial_less(u32::MAX, 0));
        assert!(serial_less(u32::MAX - 10, 100));
        assert!(!serial_less(100, u32::MAX - 10));
    }
}
