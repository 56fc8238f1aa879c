//! What can go wrong with a query, and how the client is told: the one table from failures to
//! rcodes and extended errors (RFC 8914).

use std::borrow::Cow;

use crate::wire::rcode;

/// An extended DNS error: a code of RFC 8914 and a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    /// The INFO-CODE.
    pub code: u16,
    /// The EXTRA-TEXT; may be empty.
    pub text: Cow<'static, str>,
}

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client's network is not among those that may ask.
    NotAllowed,
    /// More is going on than the bounds allow; the text names the bound.
    Overloaded(&'static str),
    /// No upstream gave any sign of life in time.
    Unreachable,
    /// Upstreams could not be asked; the text says what the network, or our own limits, did.
    Network(String),
    /// Upstreams are alive, but none gave a usable answer; the text says what they did.
    Upstream(String),
    /// A signature, a key or a proof is missing or wrong: what upstream said may be forged. The
    /// error names the failing record.
    Bogus(ExtendedError),
    /// Whether the answer is true could not be found out.
    Indeterminate(ExtendedError),
    /// This machine's clock cannot be right, so nothing can be validated; the text says what it
    /// shows and what to do. The machine is at fault.
    Clock(String),
    /// The name asks which root keys are trusted here, and this is how "not so" is said (RFC 8509).
    Sentinel,
    /// Something of ours broke; it is counted and logged where it happened.
    Internal,
}

impl Failure {
    /// Whether an answer from before may stand in for the one that could not be had (RFC 8767,
    /// section 4). Not when what was had is bogus: nobody shall keep old data alive by forging new.
    #[must_use]
    pub fn spares_old_answer(&self) -> bool {
        match self {
            Self::Overloaded(_)
            | Self::Unreachable
            | Self::Network(_)
            | Self::Upstream(_)
            | Self::Indeterminate(_)
            | Self::Internal => true,
            Self::NotAllowed | Self::Bogus(_) | Self::Clock(_) | Self::Sentinel => false,
        }
    }

    /// The rcode the client gets.
    #[must_use]
    pub fn rcode(&self) -> u16 {
        match self {
            Self::NotAllowed => rcode::REFUSED,
            _ => rcode::SERVFAIL,
        }
    }

    /// The extended error the client gets when it speaks EDNS.
    #[must_use]
    pub fn extended_error(&self) -> ExtendedError {
        let (code, text) = match self {
            Self::NotAllowed => (18, Cow::Borrowed("this client's network may not ask here")),
            Self::Overloaded(bound) => (0, Cow::Borrowed(*bound)),
            Self::Unreachable => (22, Cow::Borrowed("no upstream resolver answers")),
            Self::Network(what) | Self::Upstream(what) => (23, Cow::Owned(what.clone())),
            Self::Clock(what) => (5, Cow::Owned(what.clone())),
            Self::Bogus(error) | Self::Indeterminate(error) => return error.clone(),
            Self::Sentinel => (0, Cow::Borrowed("root key sentinel (RFC 8509)")),
            Self::Internal => (0, Cow::Borrowed("internal error")),
        };
        ExtendedError { code, text }
    }
}
