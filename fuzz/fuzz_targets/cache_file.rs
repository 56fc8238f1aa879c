#![no_main]

#[path = "../claims.rs"]
mod claims;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| claims::cache_file(octets));
