//! The `ssmv-raw` program.

fn main() {}
