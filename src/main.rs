//! The program `spf-milter`.

use std::process::ExitCode;

fn main() -> ExitCode {
    spf_milter::main()
}
