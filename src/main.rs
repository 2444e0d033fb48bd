//! The `ssmv-raw` program.

fn main() -> std::process::ExitCode {
    ssmv_raw::cli::main()
}
