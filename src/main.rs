//! The truename program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    truename::cli::main()
}
