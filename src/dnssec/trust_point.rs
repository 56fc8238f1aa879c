//! Keys at a zone with a trust anchor, as the keeper of anchors needs them (RFC 5011): which keys
//! a response proves the zone to have, and which of them revoke themselves.

use crate::wire::{Name, Response, rtype};

use super::{
    AnchorSet, Settings, crypto,
    keys::{self, Authenticated},
    limits::Budget,
    rdata::{Dnskey, Ds, FLAG_REVOKE, FLAG_ZONE, key_tag},
    rrset::Sections,
    signature::{self, When},
    verdict::{Reason, Why},
};

/// The flag of a key that is meant to be a trust anchor (RFC 4034, section 2.1.1).
pub(super) const FLAG_SEP: u16 = 0x0001;
/// The digest of the DS records made here: SHA-256.
const DIGEST_TYPE: u8 = 2;

/// One key of a proved set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenKey {
    /// The DNSKEY's RDATA, flags as seen.
    pub rdata: Box<[u8]>,
    /// Whether its flags, protocol and algorithm allow it to become a trust anchor: ZONE and SEP,
    /// not REVOKE, protocol 3, and signatures that can be checked here.
    pub eligible: bool,
    /// Whether it has the REVOKE bit and signed the set: it is revoked (RFC 5011, section 2.1).
    pub revoked: bool,
}

/// What one DNSKEY response proves about a zone. Only [`prove_keys`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvedKeys {
    zone: Name,
    by_anchor: bool,
    keys: Vec<SeenKey>,
    original_ttl_s: u32,
    expires_in_s: u32,
}

impl ProvedKeys {
    /// The zone.
    #[must_use]
    pub const fn zone(&self) -> &Name {
        &self.zone
    }

    /// Whether a trust anchor signed the set. If not, only the revocations in it count: each of
    /// them is proved by the key that is revoked.
    #[must_use]
    pub const fn by_anchor(&self) -> bool {
        self.by_anchor
    }

    /// The keys in the set, at most [`super::limits::KEYS_PER_ZONE_MAX`].
    #[must_use]
    pub fn keys(&self) -> &[SeenKey] {
        &self.keys
    }

    /// The set's TTL as its signer set it, in seconds; 0 if no anchor signed it.
    #[must_use]
    pub const fn original_ttl_s(&self) -> u32 {
        self.original_ttl_s
    }

    /// For how many seconds the signature still holds; 0 if no anchor signed the set.
    #[must_use]
    pub const fn expires_in_s(&self) -> u32 {
        self.expires_in_s
    }

    /// A proof out of thin air, for tests of what follows from one.
    #[cfg(test)]
    pub(crate) const fn assumed(
        zone: Name,
        by_anchor: bool,
        keys: Vec<SeenKey>,
        original_ttl_s: u32,
        expires_in_s: u32,
    ) -> Self {
        Self {
            zone,
            by_anchor,
            keys,
            original_ttl_s,
            expires_in_s,
        }
    }
}

/// Takes the DNSKEY set of `zone` out of a response and proves it by `anchors`, or, failing that,
/// the revocations in it by themselves. Of `settings`, SHA-1 and the clock's tolerance count.
///
/// # Errors
/// Why nothing is proved.
pub fn prove_keys(
    zone: &Name,
    response: &Response,
    anchors: &AnchorSet,
    settings: &Settings,
    unix_s: u64,
) -> Result<ProvedKeys, Reason> {
    let when = When {
        // RRSIGs count seconds modulo 2^32 (RFC 4034, section 3.1.5).
        unix_s: u32::try_from(unix_s & u64::from(u32::MAX)).unwrap_or(0),
        skew_s: settings.skew_s,
        sha1: settings.sha1,
    };
    let sections = Sections::new(response);
    let Some(set) = sections.answer(zone, rtype::DNSKEY) else {
        return Err(Reason::new(Why::KeyMissing, zone, rtype::DNSKEY));
    };
    let mut budget = Budget::new();
    let revoked: Vec<Box<[u8]>> = keys::revoked_keys(zone, set, when.sha1)
        .filter(|(_, alone)| signature::verify(set, alone, when, &mut budget).is_ok())
        .map(|(rdata, _)| rdata)
        .collect();
    // What the revocations cost must not keep the anchors from being checked.
    let mut budget = Budget::new();
    let proved = match keys::authenticate(zone, set, anchors, when, &mut budget) {
        Authenticated::Keys(keys, _) => signature::verify(set, &keys, when, &mut budget),
        Authenticated::Unusable(why) => Err(Reason::new(why, zone, rtype::DNSKEY)),
        Authenticated::Failed(reason) => Err(reason),
    };
    let (original_ttl_s, expires_in_s) = match &proved {
        Ok(validated) => (validated.original_ttl_s, validated.remaining_s),
        Err(reason) if revoked.is_empty() => return Err(reason.clone()),
        Err(_) => (0, 0),
    };
    let keys = set
        .canonical_rdata()
        .iter()
        .filter(|rdata| Dnskey::parse(rdata).is_some())
        .take(super::limits::KEYS_PER_ZONE_MAX)
        .map(|rdata| SeenKey {
            rdata: Box::from(rdata.as_slice()),
            eligible: is_eligible(rdata),
            revoked: revoked.iter().any(|one| **one == **rdata),
        })
        .collect();
    Ok(ProvedKeys {
        zone: zone.clone(),
        by_anchor: proved.is_ok(),
        keys,
        original_ttl_s,
        expires_in_s,
    })
}

/// Whether a key may become a trust anchor: ZONE and SEP, not REVOKE, protocol 3, and an
/// algorithm and size that can be checked without SHA-1: the switch for SHA-1 may go off again, and
/// a zone whose only anchors are then unsupported would be insecure.
fn is_eligible(rdata: &[u8]) -> bool {
    Dnskey::parse(rdata).is_some_and(|key| {
        let wanted = FLAG_ZONE | FLAG_SEP;
        key.flags & (wanted | FLAG_REVOKE) == wanted
            && key.protocol == 3
            && keys::is_checkable(&key, false)
    })
}

/// Whether a DNSKEY can be a trust anchor if somebody says so; like an announced key, but SEP is
/// not demanded.
#[must_use]
pub fn key_usable(rdata: &[u8], sha1: bool) -> bool {
    Dnskey::parse(rdata).is_some_and(|key| {
        key.flags & (FLAG_ZONE | FLAG_REVOKE) == FLAG_ZONE
            && key.protocol == 3
            && keys::is_checkable(&key, sha1)
    })
}

/// Whether algorithm and digest of a DS are supported.
#[must_use]
pub fn ds_usable(ds: &Ds, sha1: bool) -> bool {
    crypto::Algorithm::supported(ds.algorithm, sha1).is_some()
        && crypto::digest_supported(ds.digest_type, sha1)
}

/// The DS with SHA-256 for a DNSKEY of `zone` (RFC 4034, section 5.1.4); `None` when the RDATA is
/// cut short.
#[must_use]
pub fn ds_of_key(zone: &Name, rdata: &[u8]) -> Option<Ds> {
    let key = Dnskey::parse(rdata)?;
    let digest = crypto::ds_digest(DIGEST_TYPE, false, zone.as_wire(), rdata)?;
    Some(Ds {
        key_tag: key_tag(rdata),
        algorithm: key.algorithm,
        digest_type: DIGEST_TYPE,
        digest: Box::from(digest.as_ref()),
    })
}

/// Whether `ds` was made from this DNSKEY of `zone`. SHA-1 counts, as the question is only which
/// key is meant.
#[must_use]
pub fn ds_fits_key(ds: &Ds, zone: &Name, rdata: &[u8]) -> bool {
    ds.key_tag == key_tag(rdata)
        && Dnskey::parse(rdata).is_some_and(|key| key.algorithm == ds.algorithm)
        && crypto::ds_digest(ds.digest_type, true, zone.as_wire(), rdata)
            .is_some_and(|digest| digest.as_ref() == &*ds.digest)
}
