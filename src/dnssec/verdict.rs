//! What validation finds, and why, in a form machines map and people read.

use std::fmt;

use crate::wire::{Name, Question};

/// The state of an answer (RFC 4035, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Security {
    /// Every part is signed by a chain that begins at a trust anchor.
    Secure,
    /// A signed proof says that this part of the tree is not signed, or not in a way we support.
    Insecure,
    /// It could not be found out: a fetch failed. Not given to clients.
    Indeterminate,
    /// It should be signed and is not, or not rightly. Not given to clients.
    Bogus,
}

impl Security {
    /// The state's name in logs, metrics and `--json`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Secure => "secure",
            Self::Insecure => "insecure",
            Self::Indeterminate => "indeterminate",
            Self::Bogus => "bogus",
        }
    }
}

/// Why an answer is not secure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    // Insecure.
    /// The parent proves that the zone has no DS.
    UnsignedDelegation,
    /// The proof leaves room for unsigned delegations (RFC 5155, section 6).
    OptOut,
    /// Every DS of the zone names an algorithm we do not have, or may not use.
    UnsupportedAlgorithm,
    /// Every DS of the zone has a digest we do not have, or may not use.
    UnsupportedDigest,
    /// The zone's NSEC3 records take more iterations than we are ready to hash (RFC 9276).
    Nsec3Iterations,
    /// A private zone whose name the public tree proves absent.
    PrivateZone,
    /// The operator switched validation off for this part of the tree (RFC 7646).
    NegativeTrustAnchor,

    // Bogus: signatures.
    /// There is no RRSIG where there must be one.
    SignatureMissing,
    /// The RRSIG's window is past.
    SignatureExpired,
    /// The RRSIG's window has not begun.
    SignatureNotYetValid,
    /// The RRSIG was not made by the key it names over these records.
    SignatureInvalid,
    /// The RRSIG's labels field fits neither the owner nor the signer.
    SignatureLabels,
    /// The RRSIG's signer is not a zone, or not one that can hold the owner.
    SignerNotZone,
    /// No authenticated key has the RRSIG's tag and algorithm.
    SignatureWithoutKey,
    /// The RRSIG's algorithm is not one we have, in a zone that must sign with one we have.
    SignatureUnsupported,

    // Bogus: keys.
    /// A DS exists, and the zone has no DNSKEY that it fits.
    KeyMissing,
    /// The key a DS points at is not meant to sign zones.
    KeyWithoutZoneBit,
    /// A DS came out of a wildcard.
    DsFromWildcard,

    // Bogus: denial.
    /// There is no NSEC or NSEC3 that proves the name or type absent.
    DenialMissing,
    /// The NSEC or NSEC3 records contradict the answer, or come from the wrong side of a cut.
    DenialContradicts,
    /// An answer came out of a wildcard, and nothing proves that the name itself is absent.
    WildcardUnproven,
    /// The NSEC3 records of one proof have different parameters.
    Nsec3Mixed,
    /// The NSEC3 records have so many iterations that they are an attack.
    Nsec3IterationsAbsurd,

    // Bogus: the rest.
    /// More work than one answer is worth; see [`super::limits`].
    OverBudget,
    /// The chain of aliases is too long, or runs in a circle.
    AliasLoop,

    // Indeterminate.
    /// A fetch of the chain got no answer.
    FetchFailed,
    /// The upstream answered a fetch of the chain, or the question, with a failure.
    UpstreamFailure,
    /// No trust anchor is at or above the name.
    NoAnchor,
    /// The type or class is not one that can be validated as an answer.
    NotJudged,
}

impl Why {
    /// The state this makes of an answer.
    #[must_use]
    pub const fn security(self) -> Security {
        match self {
            Self::UnsignedDelegation
            | Self::OptOut
            | Self::UnsupportedAlgorithm
            | Self::UnsupportedDigest
            | Self::Nsec3Iterations
            | Self::PrivateZone
            | Self::NegativeTrustAnchor => Security::Insecure,
            Self::FetchFailed | Self::UpstreamFailure | Self::NoAnchor | Self::NotJudged => {
                Security::Indeterminate
            }
            _ => Security::Bogus,
        }
    }

    /// The extended DNS error (RFC 8914, section 4; 27 is RFC 9276), `None` where there is
    /// nothing a client needs to know.
    #[must_use]
    pub const fn extended_error(self) -> Option<u16> {
        Some(match self {
            Self::UnsignedDelegation
            | Self::OptOut
            | Self::PrivateZone
            | Self::NegativeTrustAnchor => return None,
            Self::UnsupportedAlgorithm | Self::SignatureUnsupported => 1,
            Self::UnsupportedDigest => 2,
            Self::NoAnchor | Self::NotJudged => 5,
            Self::SignatureInvalid
            | Self::SignatureLabels
            | Self::SignerNotZone
            | Self::DsFromWildcard
            | Self::DenialContradicts
            | Self::Nsec3Mixed
            | Self::OverBudget
            | Self::AliasLoop => 6,
            Self::SignatureExpired => 7,
            Self::SignatureNotYetValid => 8,
            Self::KeyMissing | Self::SignatureWithoutKey => 9,
            Self::SignatureMissing => 10,
            Self::KeyWithoutZoneBit => 11,
            Self::DenialMissing | Self::WildcardUnproven => 12,
            Self::UpstreamFailure => 22,
            Self::FetchFailed => 23,
            Self::Nsec3Iterations | Self::Nsec3IterationsAbsurd => 27,
        })
    }

    /// A short name for logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnsignedDelegation => "unsigned_delegation",
            Self::OptOut => "opt_out",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::UnsupportedDigest => "unsupported_digest",
            Self::Nsec3Iterations => "nsec3_iterations",
            Self::PrivateZone => "private_zone",
            Self::NegativeTrustAnchor => "negative_trust_anchor",
            Self::SignatureMissing => "signature_missing",
            Self::SignatureExpired => "signature_expired",
            Self::SignatureNotYetValid => "signature_not_yet_valid",
            Self::SignatureInvalid => "signature_invalid",
            Self::SignatureLabels => "signature_labels",
            Self::SignerNotZone => "signer_not_zone",
            Self::SignatureWithoutKey => "signature_without_key",
            Self::SignatureUnsupported => "signature_unsupported",
            Self::KeyMissing => "key_missing",
            Self::KeyWithoutZoneBit => "key_without_zone_bit",
            Self::DsFromWildcard => "ds_from_wildcard",
            Self::DenialMissing => "denial_missing",
            Self::DenialContradicts => "denial_contradicts",
            Self::WildcardUnproven => "wildcard_unproven",
            Self::Nsec3Mixed => "nsec3_mixed",
            Self::Nsec3IterationsAbsurd => "nsec3_iterations_absurd",
            Self::OverBudget => "over_budget",
            Self::AliasLoop => "alias_loop",
            Self::FetchFailed => "fetch_failed",
            Self::UpstreamFailure => "upstream_failure",
            Self::NoAnchor => "no_anchor",
            Self::NotJudged => "not_judged",
        }
    }

    /// What it means, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::UnsignedDelegation => "the zone is not signed: its parent proves it has no DS",
            Self::OptOut => "the proof leaves room for unsigned delegations (opt-out)",
            Self::UnsupportedAlgorithm => "the zone has only algorithms that are not supported",
            Self::UnsupportedDigest => "the zone has only DS digests that are not supported",
            Self::Nsec3Iterations => "the zone uses more NSEC3 iterations than are supported",
            Self::PrivateZone => "the zone is private: the public tree has no such name",
            Self::NegativeTrustAnchor => "validation is switched off here by the configuration",
            Self::SignatureMissing => "the signature is missing",
            Self::SignatureExpired => "the signature has expired",
            Self::SignatureNotYetValid => "the signature is not yet valid",
            Self::SignatureInvalid => "the signature does not fit the data",
            Self::SignatureLabels => "the signature's label count is wrong",
            Self::SignerNotZone => "the signature's signer is not the zone of the data",
            Self::SignatureWithoutKey => "the zone has no key with the signature's tag",
            Self::SignatureUnsupported => "there are only signatures of unsupported algorithms",
            Self::KeyMissing => "no key of the zone fits the DS at its parent",
            Self::KeyWithoutZoneBit => "the key that the DS points at may not sign zones",
            Self::DsFromWildcard => "a DS record came out of a wildcard",
            Self::DenialMissing => "the proof that it does not exist is missing",
            Self::DenialContradicts => "the proof of absence contradicts itself or the answer",
            Self::WildcardUnproven => "an answer from a wildcard lacks its proof",
            Self::Nsec3Mixed => "the NSEC3 records of the proof do not belong together",
            Self::Nsec3IterationsAbsurd => "the zone uses an absurd number of NSEC3 iterations",
            Self::OverBudget => "validating takes more work than is allowed",
            Self::AliasLoop => "the chain of aliases is too long or circular",
            Self::FetchFailed => "a record of the chain of trust could not be fetched",
            Self::UpstreamFailure => "an upstream failed to answer",
            Self::NoAnchor => "there is no trust anchor for this name",
            Self::NotJudged => "answers of this type cannot be validated",
        }
    }
}

/// Why an answer is not secure, and at which record it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What is the matter.
    pub why: Why,
    /// The owner of the RRset at which it shows.
    pub owner: Name,
    /// The type of that RRset.
    pub rtype: u16,
    /// The tag of the key or signature concerned, if there is one.
    pub key_tag: Option<u16>,
    /// The question whose response shows it: asking that again may repair a bogus verdict.
    pub source: Option<Question>,
}

impl Reason {
    pub(super) fn new(why: Why, owner: &Name, rtype: u16) -> Self {
        Self {
            why,
            owner: owner.clone(),
            rtype,
            key_tag: None,
            source: None,
        }
    }

    pub(super) fn with_tag(mut self, key_tag: u16) -> Self {
        self.key_tag = Some(key_tag);
        self
    }

    pub(super) fn with_source(mut self, source: &Question) -> Self {
        self.source.get_or_insert_with(|| source.clone());
        self
    }
}

impl fmt::Display for Reason {
    /// One line for people, as the text of an extended error: `example.com. DNSKEY (key tag
    /// 12345): the signature has expired`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.owner, TypeName(self.rtype))?;
        if let Some(tag) = self.key_tag {
            write!(f, " (key tag {tag})")?;
        }
        write!(f, ": {}", self.why.words())
    }
}

/// A type in presentation form: the mnemonics a reason is likely to name, `TYPE123` for the rest.
struct TypeName(u16);

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::wire::rtype;
        let text = match self.0 {
            rtype::A => "A",
            rtype::NS => "NS",
            rtype::CNAME => "CNAME",
            rtype::SOA => "SOA",
            rtype::PTR => "PTR",
            rtype::MX => "MX",
            rtype::TXT => "TXT",
            rtype::AAAA => "AAAA",
            rtype::SRV => "SRV",
            rtype::DNAME => "DNAME",
            rtype::DS => "DS",
            rtype::RRSIG => "RRSIG",
            rtype::NSEC => "NSEC",
            rtype::DNSKEY => "DNSKEY",
            rtype::NSEC3 => "NSEC3",
            rtype::SVCB => "SVCB",
            rtype::HTTPS => "HTTPS",
            other => return write!(f, "TYPE{other}"),
        };
        f.write_str(text)
    }
}

/// What validation finds about a whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every link of the answer is secure.
    Secure,
    /// No link is worse than insecure; the reason is that of the first insecure one.
    Insecure(Reason),
    /// Some link could not be judged, and none is bogus.
    Indeterminate(Reason),
    /// Some link is bogus.
    Bogus(Reason),
}

impl Verdict {
    pub(super) fn from_reason(reason: Reason) -> Self {
        match reason.why.security() {
            Security::Secure | Security::Insecure => Self::Insecure(reason),
            Security::Indeterminate => Self::Indeterminate(reason),
            Security::Bogus => Self::Bogus(reason),
        }
    }

    /// The state without its reason.
    #[must_use]
    pub const fn security(&self) -> Security {
        match self {
            Self::Secure => Security::Secure,
            Self::Insecure(_) => Security::Insecure,
            Self::Indeterminate(_) => Security::Indeterminate,
            Self::Bogus(_) => Security::Bogus,
        }
    }

    /// Why it is not secure; `None` when it is.
    #[must_use]
    pub const fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Secure => None,
            Self::Insecure(reason) | Self::Indeterminate(reason) | Self::Bogus(reason) => {
                Some(reason)
            }
        }
    }

    /// Whether the data may be given to clients.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        matches!(self, Self::Secure | Self::Insecure(_))
    }

    /// The weaker of both; the first one's reason wins among equals.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if other.security() > self.security() {
            other
        } else {
            self
        }
    }
}
