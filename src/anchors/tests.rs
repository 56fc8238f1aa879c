//! Tests of the whole room: the files we ship, files people write, and years of rollover.

mod bind;
mod files;
mod lab;
mod rollover;
mod signed;
