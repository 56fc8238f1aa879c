//! The truename program.
#![forbid(unsafe_code)]

fn main() {}
