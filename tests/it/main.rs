//! The integration tests: one binary, so that it links once.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that panics has failed, which is its way to say so"
)]

#[path = "../lab/mod.rs"]
mod lab;

mod attacks;
mod house;
mod interop;
mod life;
mod process;
mod readme;
mod scenarios;
mod seeds;
mod special_use;
mod support;
mod transports;
mod upstream_faults;
mod validation;
