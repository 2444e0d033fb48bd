//! For tests, which include this file with `#[path]`: the test double for NCCL and the emulated libcuda. Cargo builds both
//! beside the tests, as they are dev-dependencies.

use std::path::PathBuf;

fn beside_this_program(file: &str) -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    let library = program.with_file_name(file);
    assert!(library.is_file(), "{} is a dev-dependency, so cargo builds it", library.display());
    library
}

/// The test double for NCCL.
pub fn standin() -> PathBuf {
    beside_this_program("libstandin_nccl.so")
}

/// `libcuda.so.1` over the emulator.
pub fn emulated_driver() -> PathBuf {
    beside_this_program("libssmv_cuda.so")
}
