//! The binary; everything is in the library, so that tests can start the same program.

use std::process::ExitCode;

fn main() -> ExitCode {
    easel::cli::main()
}
