//! One trust anchor's key, as a DS or a DNSKEY record, and the text of both.

use std::fmt;

use data_encoding::{BASE64, HEXUPPER, HEXUPPER_PERMISSIVE};
use thiserror::Error;

use crate::{
    dnssec::{self, Ds, key_tag},
    wire::Name,
};

/// The most octets of a DNSKEY's RDATA: an RSA key of 4096 bits with room to spare.
const DNSKEY_OCTETS_MAX: usize = 1_200;
/// The bit of a key that revokes itself (RFC 5011, section 2.1).
const FLAG_REVOKE: u16 = 0x0080;
const FLAG_ZONE: u16 = 0x0100;
const FLAG_SEP: u16 = 0x0001;

/// What names a trusted key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Its digest; the key itself has not been seen yet.
    Ds(Ds),
    /// The RDATA of its DNSKEY, never with the REVOKE bit.
    Dnskey(Box<[u8]>),
}

/// What is wrong with the text of a record. Whoever wrote the file is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The line does not have the fields of a DS or DNSKEY.
    #[error("no DS or DNSKEY record; write one such as `. IN DS 20326 8 2 E06D44B8...`")]
    NotARecord,
    /// The first field is no name.
    #[error("{0:?} is no zone's name; write the zone first, `.` for the root")]
    Owner(String),
    /// A type that anchors nothing.
    #[error(
        "a record of type {0} is no trust anchor; leave only DS and DNSKEY records in the file"
    )]
    Type(String),
    /// A field that should be a number is not one, or too large.
    #[error("{0:?} is no number for the {1}; write digits, as in `. IN DS 20326 8 2 E06D44B8...`")]
    Number(String, &'static str),
    /// A DS's digest is not hexadecimal, or not as long as its type says.
    #[error("the digest is not {0} octets in hexadecimal; copy the record again")]
    Digest(usize),
    /// The digest type or the algorithm cannot be checked.
    #[error(
        "algorithm {algorithm} with digest type {digest_type} is not supported; write the DS with \
         digest type 2, made from a key of algorithm 8, 10, 13, 14 or 15"
    )]
    UnsupportedDs {
        /// The key's algorithm.
        algorithm: u8,
        /// The digest's type.
        digest_type: u8,
    },
    /// The public key is not base64.
    #[error("the public key is not base64; copy the record again")]
    PublicKey,
    /// A key that says itself that it is revoked.
    #[error("key {0} has the REVOKE flag: its zone withdrew it; leave it out")]
    Revoked(u16),
    /// A key that signs no zone, or of a kind that cannot be checked.
    #[error(
        "key {0} cannot anchor a zone; write a key with flags 257, protocol 3 and algorithm 8, \
         10, 13, 14 or 15"
    )]
    UnusableKey(u16),
    /// A key that another resolver, whose state file this is, does not trust.
    #[error(
        "the comment says that this key is new or revoked; leave the line out, or name a file of \
         anchors and not another resolver's state"
    )]
    Untrusted,
    /// A key without SEP changes without notice.
    #[error(
        "key {0} has no SEP flag (flags 256), so its zone may change it any day; leave it out, or \
         write a DS record if the zone has no other key"
    )]
    NoSep(u16),
}

impl Key {
    /// Reads the fields behind the type: `20326 8 2 E06D...` or `257 3 8 AwEAA...`. `rtype` in any
    /// case; digests and keys may be split by spaces.
    ///
    /// # Errors
    /// What is wrong, and what to write.
    pub(super) fn parse(rtype: &str, fields: &[&str]) -> Result<Self, RecordError> {
        let key = Self::parse_any(rtype, fields)?;
        if let Self::Dnskey(rdata) = &key {
            check_dnskey(rdata)?;
        }
        Ok(key)
    }

    /// The same for a key that need not be fit for an anchor, such as one that was revoked.
    ///
    /// # Errors
    /// What is wrong, and what to write.
    pub(super) fn parse_any(rtype: &str, fields: &[&str]) -> Result<Self, RecordError> {
        if rtype.eq_ignore_ascii_case("DS") {
            parse_ds(fields)
        } else if rtype.eq_ignore_ascii_case("DNSKEY") {
            parse_dnskey(fields)
        } else {
            Err(RecordError::Type(shown(rtype)))
        }
    }

    /// The key's tag (RFC 4034, appendix B), without the REVOKE bit.
    #[must_use]
    pub fn tag(&self) -> u16 {
        match self {
            Self::Ds(ds) => ds.key_tag,
            Self::Dnskey(rdata) => key_tag(rdata),
        }
    }

    /// The key's algorithm.
    #[must_use]
    pub fn algorithm(&self) -> u8 {
        match self {
            Self::Ds(ds) => ds.algorithm,
            Self::Dnskey(rdata) => rdata.get(3).copied().unwrap_or(0),
        }
    }

    /// Whether it names the DNSKEY of `zone` with this RDATA.
    #[must_use]
    pub fn names(&self, zone: &Name, rdata: &[u8]) -> bool {
        match self {
            Self::Ds(ds) => dnssec::ds_fits_key(ds, zone, rdata),
            Self::Dnskey(own) => **own == *rdata,
        }
    }

    /// Whether both name one key of `zone`, as far as that can be told.
    #[must_use]
    pub fn is_same(&self, other: &Self, zone: &Name) -> bool {
        match (self, other) {
            (Self::Dnskey(rdata), key) | (key, Self::Dnskey(rdata)) => key.names(zone, rdata),
            (Self::Ds(one), Self::Ds(two)) => one == two,
        }
    }

    /// The DS to validate with.
    #[must_use]
    pub fn ds(&self, zone: &Name) -> Option<Ds> {
        match self {
            Self::Ds(ds) => Some(ds.clone()),
            Self::Dnskey(rdata) => dnssec::ds_of_key(zone, rdata),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ds(ds) => write!(
                f,
                "DS {} {} {} {}",
                ds.key_tag,
                ds.algorithm,
                ds.digest_type,
                HEXUPPER.encode(&ds.digest)
            ),
            Self::Dnskey(rdata) => {
                let (head, public_key) = rdata.split_at_checked(4).unwrap_or((&[], &[]));
                let [flags_high, flags_low, protocol, algorithm] =
                    head.try_into().unwrap_or_default();
                let flags = u16::from_be_bytes([flags_high, flags_low]);
                let public_key = BASE64.encode(public_key);
                write!(f, "DNSKEY {flags} {protocol} {algorithm} {public_key}")
            }
        }
    }
}

/// A DNSKEY's RDATA with the REVOKE bit cleared: what it was before.
pub(super) fn unrevoked(rdata: &[u8]) -> Box<[u8]> {
    let mut cleared: Box<[u8]> = Box::from(rdata);
    if let Some(low) = cleared.get_mut(1) {
        *low &= !FLAG_REVOKE.to_be_bytes()[1];
    }
    cleared
}

/// The RDATA of a DNSKEY from its fields; `None` when the key is too long.
pub(super) fn dnskey(
    flags: u16,
    protocol: u8,
    algorithm: u8,
    public_key: &[u8],
) -> Option<Box<[u8]>> {
    let mut rdata = flags.to_be_bytes().to_vec();
    rdata.extend_from_slice(&[protocol, algorithm]);
    rdata.extend_from_slice(public_key);
    (rdata.len() <= DNSKEY_OCTETS_MAX).then(|| rdata.into_boxed_slice())
}

/// A DS from its fields, checked.
pub(super) fn ds(
    key_tag: u16,
    algorithm: u8,
    digest_type: u8,
    digest: &str,
) -> Result<Ds, RecordError> {
    let unsupported = RecordError::UnsupportedDs {
        algorithm,
        digest_type,
    };
    let octets = match digest_type {
        2 => 32,
        4 => 48,
        _ => return Err(unsupported),
    };
    let digest = HEXUPPER_PERMISSIVE
        .decode(digest.as_bytes())
        .ok()
        .filter(|digest| digest.len() == octets)
        .ok_or(RecordError::Digest(octets))?;
    let ds = Ds {
        key_tag,
        algorithm,
        digest_type,
        digest: digest.into_boxed_slice(),
    };
    // An anchor that cannot be checked would make its zone insecure, which nobody wants who
    // writes an anchor. SHA-1 is not good enough for one, whatever is allowed further down.
    if dnssec::ds_usable(&ds, false) {
        Ok(ds)
    } else {
        Err(unsupported)
    }
}

fn parse_ds(fields: &[&str]) -> Result<Key, RecordError> {
    let [tag, algorithm, digest_type, digest @ ..] = fields else {
        return Err(RecordError::NotARecord);
    };
    ds(
        number(tag, "key tag")?,
        number(algorithm, "algorithm")?,
        number(digest_type, "digest type")?,
        &digest.concat(),
    )
    .map(Key::Ds)
}

fn parse_dnskey(fields: &[&str]) -> Result<Key, RecordError> {
    let [flags, protocol, algorithm, public_key @ ..] = fields else {
        return Err(RecordError::NotARecord);
    };
    let flags = number(flags, "flags")?;
    let protocol = number(protocol, "protocol")?;
    let algorithm = number(algorithm, "algorithm")?;
    let public_key = BASE64
        .decode(public_key.concat().as_bytes())
        .map_err(|_| RecordError::PublicKey)?;
    dnskey(flags, protocol, algorithm, &public_key)
        .map(Key::Dnskey)
        .ok_or(RecordError::PublicKey)
}

/// Whether a DNSKEY can be written down as an anchor.
fn check_dnskey(rdata: &[u8]) -> Result<(), RecordError> {
    let tag = key_tag(rdata);
    let flags = rdata
        .first_chunk()
        .map_or(0, |flags| u16::from_be_bytes(*flags));
    if flags & FLAG_REVOKE != 0 {
        Err(RecordError::Revoked(tag))
    } else if !dnssec::key_usable(rdata, false) {
        Err(RecordError::UnusableKey(tag))
    } else if flags & (FLAG_ZONE | FLAG_SEP) == FLAG_ZONE {
        Err(RecordError::NoSep(tag))
    } else {
        Ok(())
    }
}

pub(super) fn number<T: std::str::FromStr>(
    text: &str,
    what: &'static str,
) -> Result<T, RecordError> {
    // `+8` is a number to Rust, and to nobody who writes records.
    if text.bytes().all(|octet| octet.is_ascii_digit())
        && let Ok(number) = text.parse()
    {
        return Ok(number);
    }
    Err(RecordError::Number(shown(text), what))
}

/// The beginning of a word from a file, fit for a message.
pub(super) fn shown(word: &str) -> String {
    word.chars().take(40).collect()
}
