//! The program `spf-milter`.

fn main() {}
