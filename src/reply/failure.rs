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
    /// Upstreams are alive, but none gave a usable answer; the text says what they did.
    Upstream(String),
    /// Something of ours broke; it is counted and logged where it happened.
    Internal,
}

impl Failure {
    /// The rcode the client gets.
    #[must_use]
    pub fn rcode(&self) -> u16 {
        match self {
            Self::NotAllowed => rcode::REFUSED,
            Self::Overloaded(_) | Self::Unreachable | Self::Upstream(_) | Self::Internal => {
                rcode::SERVFAIL
            }
        }
    }

    /// The extended error the client gets when it speaks EDNS.
    #[must_use]
    pub fn extended_error(&self) -> ExtendedError {
        let (code, text) = match self {
            Self::NotAllowed => (18, Cow::Borrowed("this client's network may not ask here")),
            Self::Overloaded(bound) => (0, Cow::Borrowed(*bound)),
            Self::Unreachable => (22, Cow::Borrowed("no upstream resolver answers")),
            Self::Upstream(what) => (23, Cow::Owned(what.clone())),
            Self::Internal => (0, Cow::Borrowed("internal error")),
        };
        ExtendedError { code, text }
    }
}
