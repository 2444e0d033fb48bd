//! For tests, which take this file in with `#[path]`: builds the stand-in, which needs nothing but the standard library,
//! and says where it is.

use std::{path::PathBuf, process::Command, sync::OnceLock};

/// The stand-in's library. It is built into a folder of its own, so that no other build is waited for.
pub fn standin() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("standin-nccl");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "standin-nccl", "--target-dir"]).arg(&folder);
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(status.as_ref().is_ok_and(|status| status.success()), "{cargo:?}: {status:?}");
        folder.join("debug").join("libstandin_nccl.so")
    };
    BUILT.get_or_init(build).clone()
}
