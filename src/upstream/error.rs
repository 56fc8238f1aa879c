//! What went wrong between us and an upstream.

use std::{io, net::SocketAddr, sync::Arc};

use nix::errno::Errno;
use thiserror::Error;

/// Why an exchange gave no response.
#[derive(Clone, Debug, Error)]
#[error("upstream {upstream}: {failure}")]
pub struct ExchangeError {
    upstream: Arc<str>,
    #[source]
    failure: Failure,
}

impl ExchangeError {
    /// What failed at the upstream called so. Made here, and by the scripted upstreams of tests.
    #[must_use]
    pub const fn new(upstream: Arc<str>, failure: Failure) -> Self {
        Self { upstream, failure }
    }

    /// An error of `upstream` for tests of other rooms that need one.
    #[cfg(test)]
    #[must_use]
    pub fn for_test(upstream: &str, silent: bool) -> Self {
        let failure = if silent {
            Failure::Silent
        } else {
            Failure::Lost("test".into())
        };
        Self::new(Arc::from(upstream), failure)
    }

    /// What the failure says about the name that was asked for.
    #[must_use]
    pub const fn class(&self) -> Class {
        self.failure.class()
    }

    /// The name of the upstream whose failure says most; the last one of several.
    #[must_use]
    pub fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    /// What failed.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    /// Where it failed.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.failure.stage()
    }

    /// The stage as a metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        self.stage().label()
    }

    /// Whether asking again soon could help: false only for what a person must put right.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self.failure, Failure::Handshake { .. })
    }

    /// Whether this machine had no way to reach anybody: no route, no address. Told of several
    /// upstreams only when it is so for each of them.
    pub(super) fn is_for_want_of_network(&self) -> bool {
        match &self.failure {
            Failure::Connect { source, .. } | Failure::Send(source) => matches!(
                source.raw_os_error().map(Errno::from_raw),
                Some(
                    Errno::ENETUNREACH
                        | Errno::EHOSTUNREACH
                        | Errno::ENETDOWN
                        | Errno::EADDRNOTAVAIL
                )
            ),
            _ => false,
        }
    }

    /// Whether no upstream showed any sign of life ([`Class::Silent`]).
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        matches!(self.class(), Class::Silent)
    }
}

/// What a failed exchange says about the name that was asked for. Ordered: when several upstreams
/// failed, the one that says most counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nothing: no upstream gave a sign of life. The network or all upstreams are likely down.
    Silent,
    /// Nothing: there was no way to ask, or it broke. The network, a certificate or our own
    /// overload is to blame, and the next try may do better.
    Network,
    /// A live upstream was asked and has no usable answer for this name.
    Answerless,
}

/// The step of an exchange that failed, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Making the connection.
    Connect,
    /// TLS or QUIC, certificates included.
    Handshake,
    /// Handing over the query.
    Send,
    /// Waiting for the response.
    Receive,
    /// Understanding the response.
    Parse,
    /// Comparing the response with the query.
    Mismatch,
}

impl Stage {
    /// The name in logs and metric labels.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Parse => "parse",
            Self::Mismatch => "mismatch",
        }
    }
}

/// One failure, by stage. The upstream or the network is at fault unless a variant says otherwise.
#[derive(Clone, Debug, Error)]
pub enum Failure {
    /// Nobody could say where the upstream is.
    #[error("the addresses of {host} cannot be found: {reason}")]
    LookUp {
        /// Its host name.
        host: String,
        /// What came of asking.
        reason: Arc<str>,
    },
    /// No connection could be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// What the operating system says.
        source: Arc<io::Error>,
    },
    /// Connection and handshake did not end in time.
    #[error("no connection to {address} in time")]
    ConnectTimeout {
        /// Where to.
        address: SocketAddr,
    },
    /// TLS or QUIC failed. Often the configuration is at fault: a wrong name, a missing `ca`.
    #[error("no secure connection to {address}: {}", printable(reason))]
    Handshake {
        /// Where to.
        address: SocketAddr,
        /// Why, in plain words.
        reason: String,
    },
    /// Too many queries wait already; we refuse to queue more.
    #[error("too many queries wait for this upstream")]
    Busy,
    /// The query could not be handed to the network.
    #[error("cannot send: {0}")]
    Send(Arc<io::Error>),
    /// The connection or the stream ended before the response came.
    #[error("connection lost: {}", printable(.0))]
    Lost(String),
    /// HTTP answered with something else than 200.
    #[error(
        "HTTP status {code} instead of 200{}",
        if matches!(.0, 400..500) { "; is the path of the url right?" } else { "" },
        code = .0
    )]
    Status(u16),
    /// HTTP answered with another kind of content: a captive portal, or a wrong path.
    #[error(
        "content type {0:?} instead of application/dns-message; is there a portal to log in to?"
    )]
    ContentType(String),
    /// The response is longer than a DNS message can be.
    #[error("response longer than 65535 octets")]
    TooLong,
    /// The deadline passed while the upstream was alive.
    #[error("no answer in time")]
    Timeout,
    /// Nothing at all came back.
    #[error("nothing came back")]
    Silent,
    /// The response has no DNS header.
    #[error("response is not a DNS message")]
    Parse,
    /// The response is for another question, or not a response.
    #[error("response does not belong to the query")]
    Mismatch,
}

impl Failure {
    /// Where this failed.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self {
            Self::LookUp { .. } | Self::Connect { .. } | Self::ConnectTimeout { .. } => {
                Stage::Connect
            }
            Self::Handshake { .. } => Stage::Handshake,
            Self::Busy | Self::Send(_) => Stage::Send,
            Self::Lost(_)
            | Self::Status(_)
            | Self::ContentType(_)
            | Self::TooLong
            | Self::Timeout
            | Self::Silent => Stage::Receive,
            Self::Parse => Stage::Parse,
            Self::Mismatch => Stage::Mismatch,
        }
    }

    /// What this says about the name that was asked for.
    const fn class(&self) -> Class {
        match self {
            Self::Silent => Class::Silent,
            Self::LookUp { .. }
            | Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::Handshake { .. }
            | Self::Busy
            | Self::Send(_)
            | Self::Lost(_) => Class::Network,
            Self::Status(_)
            | Self::ContentType(_)
            | Self::TooLong
            | Self::Timeout
            | Self::Parse
            | Self::Mismatch => Class::Answerless,
        }
    }

    /// Whether the connection is to blame, so that a fresh one may do better.
    pub(super) const fn is_of_connection(&self) -> bool {
        matches!(self, Self::Send(_) | Self::Lost(_))
    }

    /// Whether this alone says that the upstream is down. Our own full queue or want of file
    /// descriptors does not; neither does what may be of the name that was asked for.
    pub(super) fn is_of_upstream(&self) -> bool {
        match self {
            Self::Busy => false,
            Self::Connect { source, .. } | Self::Send(source) => !is_own_want(source),
            _ => self.class() != Class::Answerless,
        }
    }
}

/// A text that may come from the other side, or from whoever stands between, without what would steer a
/// terminal or begin a line of the log.
fn printable(text: &str) -> String {
    let replace = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    text.chars().map(replace).collect()
}

/// Whether this process or this machine ran out of something, which no upstream can help.
fn is_own_want(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_side_says_steers_no_terminal() {
        let said = "\u{1b}[2Jbye\nWARN all is well\u{9b}";
        let address = SocketAddr::from(([127, 0, 0, 1], 853));
        let reason = said.to_owned();
        for failure in [
            Failure::Lost(said.to_owned()),
            Failure::Handshake { address, reason },
        ] {
            let text = failure.to_string();
            assert!(text.contains("bye WARN"), "{text:?}");
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
}
