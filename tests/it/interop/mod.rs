//! Programs that others wrote, in front of truename, behind it, or both: what the RFCs mean to
//! them counts more than what they mean to us.
//!
//! These tests are ignored unless asked for, since they need programs that a machine with only
//! Rust has not: `cargo test --test it -- --ignored --test-threads=1 interop`. A missing program
//! is a failure that says which package has it. `stage` starts the program itself, as built, with
//! the lab behind it; each other file is one kind of program.

mod browsers;
mod curl;
mod dig;
mod dnsperf;
mod kdig;
mod openssl;
mod resolvers;
mod servers;
mod stage;
pub(super) mod tools;
mod validators;
mod verdicts;
mod web;
