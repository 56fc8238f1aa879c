//! truename: a DNS proxy that only gives out true names.
//!
//! The modules below stand in reading order. Imports run one way, from the later floors to the
//! earlier ones; `tests/it/house.rs` checks it. ARCHITECTURE.md walks one query through the house.
//!
//! | floor | rooms | know |
//! |---|---|---|
//! | 0 | [`clock`], [`durable`], [`entropy`], [`metrics`], [`wire`] | the clock, files replaced whole, the random source, counters, DNS octets |
//! | 1 | [`handler`], [`access`], [`cache`], [`dnssec`], [`anchors`], [`reply`], [`certificates`], [`names`] | one concern each, no sockets, no tasks |
//! | 2 | [`net`] | sockets, TLS, QUIC, framing: the ceremony both sides share |
//! | 3 | [`listener`], [`upstream`] | clients; upstream resolvers |
//! | 4 | [`resolver`] | the order of steps for one query |
//! | 5 | [`config`], [`admin`] | file text to checked settings; the control socket |
//! | 6 | [`app`], [`cli`] | everything |

pub mod clock;
pub mod durable;
pub mod entropy;
pub mod metrics;
pub mod wire;

pub mod access;
pub mod anchors;
pub mod cache;
pub mod certificates;
pub mod dnssec;
pub mod handler;
pub mod names;
pub mod reply;

pub mod net;

pub mod listener;
pub mod upstream;

pub mod resolver;

pub mod admin;
pub mod config;

pub mod app;
pub mod cli;
