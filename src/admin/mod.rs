//! The control socket: how a person, or a program of theirs, asks a running truename and tells it
//! things. A Unix socket that only truename's user and root may use.
//!
//! One line of JSON asks, one line answers; a connection may ask several times. `version` tells the
//! form of both sides.
//!
//! ```text
//! {"version":1,"command":"status"}
//! {"version":1,"status":{"program":"0.1.0","pid":4711,...}}
//! {"version":1,"command":"flush","name":"example.com"}
//! {"version":1,"flushed":{"name":"example.com.","answers":12}}
//! {"version":1,"command":"reload"}
//! {"version":1,"error":"/etc/truename/truename.toml:3:1: ..."}
//! ```
//!
//! [`bind`] makes the socket, [`serve()`] answers on it, [`ask()`] is the other side. What the answers
//! are is not known here: whoever serves gives a function that makes them, of the plain data in
//! [`Status`] and its parts.

mod ask;
mod message;
mod serve;
mod socket;
mod status;
#[cfg(test)]
mod tests;

pub use ask::{AskError, ask};
pub use message::{Command, Flushed, Outcome, Reloaded, Request, Response, VERSION};
pub use serve::serve;
pub use socket::{Bound, SocketError, bind};
pub use status::{
    Anchor, Cache, Clock, Dnssec, Listener, Queries, Reload, Status, Upstream, Verdicts,
};
