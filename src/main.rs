//! The truename program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Answers that stay lie between what every miss takes and gives back. The allocators of libc leave
/// holes there: twice the memory, and twice the time of our own in a miss.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    truename::cli::main()
}
