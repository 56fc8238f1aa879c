//! The bounds on the work one validation may cause, and the budget that counts it.
//!
//! Hostile zones make validators work: hundreds of keys with one tag under hundreds of signatures
//! (KeyTrap, CVE-2023-50387), names of a hundred labels hashed thousands of times
//! (CVE-2023-50868). Everything that costs is counted here, failures included; whoever runs out
//! of budget gets a bogus verdict, never a lenient one.

use std::collections::HashMap;

/// Signature checks in one validation, the chain of trust included. A cold chain of four zones
/// costs two for each zone, a wildcard NXDOMAIN with NSEC3 four more, each CNAME link one.
pub const SIGNATURE_CHECKS_MAX: u16 = 32;
/// Failed signature checks in one validation.
pub const SIGNATURE_FAILURES_MAX: u16 = 16;
/// Failed signature checks borne for one RRset before it is given up: a zone in a key rollover
/// has two or three signatures, nobody has nine that fail.
pub const SIGNATURE_FAILURES_PER_RRSET_MAX: u16 = 8;
/// Keys of one zone that share tag and algorithm. Two by accident is rare; the rest is attack.
pub const KEYS_PER_TAG_MAX: usize = 4;
/// Keys of one zone that are kept; the rest does not exist. The largest sets seen have a dozen.
pub const KEYS_PER_ZONE_MAX: usize = 32;
/// DS digests computed for one zone that match no key.
pub const DS_FAILURES_MAX: u16 = 4;
/// DS records of one RRset that are looked at.
pub const DS_PER_ZONE_MAX: usize = 16;
/// NSEC3 iterations above which a proof makes the zone insecure, before anything is hashed
/// (RFC 9276, section 3.2).
pub const NSEC3_ITERATIONS_INSECURE: u16 = 50;
/// NSEC3 iterations above which a proof is bogus.
pub const NSEC3_ITERATIONS_BOGUS: u16 = 500;
/// Octets of salt above which a proof is treated like one of too many iterations: the salt is
/// hashed again in every iteration.
pub const NSEC3_SALT_MAX_OCTETS: usize = 64;
/// SHA-1 rounds spent on the names of one proof: eight names at the most iterations accepted.
/// A zone without extra iterations, as RFC 9276 asks, thus affords names of any depth.
pub const NSEC3_ROUNDS_PER_PROOF_MAX: u32 = 8 * (NSEC3_ITERATIONS_INSECURE as u32 + 1);
/// SHA-1 rounds spent in one validation, for all its proofs.
pub const NSEC3_ROUNDS_MAX: u32 = 4 * NSEC3_ROUNDS_PER_PROOF_MAX;
/// NSEC and NSEC3 RRsets of one section that are looked at. An NXDOMAIN needs three, a chain of
/// aliases through wildcards a few more.
pub const DENIAL_RRSETS_MAX: usize = 16;
/// DS and DNSKEY responses one validation may ask for: a reverse IPv6 name has 34 labels.
pub const SUB_FETCHES_MAX: usize = 64;
/// Questions named in one step. More would make one client query an amplifier.
pub const QUESTIONS_PER_STEP_MAX: usize = 16;
/// Aliases followed in one response; the resolver allows one less over a whole chain.
pub const ALIASES_MAX: usize = 12;
/// Different signer names of one RRset that are followed. One is right; a second is an attack or
/// the other side of a zone cut.
pub const SIGNERS_MAX: usize = 3;
/// How many seconds a signature's window is stretched at both ends for clocks that differ.
pub const SKEW_DEFAULT_S: u32 = 300;

/// What of the bounds is left.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    checks: u16,
    failures: u16,
    rounds: u32,
    /// Hashes that were paid for, by what they were made of: a judgement goes on from the start
    /// with each response that arrives, and must not cost more for coming in small pieces.
    hashes: HashMap<Box<[u8]>, [u8; 20]>,
}

/// The budget is spent; the verdict is bogus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverBudget;

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            checks: SIGNATURE_CHECKS_MAX,
            failures: SIGNATURE_FAILURES_MAX,
            rounds: NSEC3_ROUNDS_MAX,
            hashes: HashMap::new(),
        }
    }

    /// Takes one signature check. Called before the check.
    pub(super) fn check(&mut self) -> Result<(), OverBudget> {
        if self.failures == 0 {
            return Err(OverBudget);
        }
        self.checks = self.checks.checked_sub(1).ok_or(OverBudget)?;
        Ok(())
    }

    /// Counts a check that failed.
    pub(super) fn failed(&mut self) {
        self.failures = self.failures.saturating_sub(1);
    }

    /// Takes `rounds` of SHA-1. Called before the hashing.
    pub(super) fn hash(&mut self, rounds: u32) -> Result<(), OverBudget> {
        self.rounds = self.rounds.checked_sub(rounds).ok_or(OverBudget)?;
        Ok(())
    }

    /// The hash made of `what` before.
    pub(super) fn known_hash(&self, what: &[u8]) -> Option<[u8; 20]> {
        self.hashes.get(what).copied()
    }

    /// Keeps a hash that was paid for; their number is bounded by the rounds.
    pub(super) fn remember_hash(&mut self, what: &[u8], hash: [u8; 20]) {
        self.hashes.insert(Box::from(what), hash);
    }

    /// Signature checks made so far.
    pub(super) fn checks_made(&self) -> u16 {
        SIGNATURE_CHECKS_MAX - self.checks
    }
}
