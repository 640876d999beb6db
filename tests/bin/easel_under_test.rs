//! The server's own program under a name that cargo builds for the tests, so that they can start it, signal it and read
//! its exit code. Nothing else happens here.

use std::process::ExitCode;

fn main() -> ExitCode {
    easel::cli::main()
}
