//! Whether NCCL, the library for sums across GPUs, is there.

use std::ffi::c_int;

/// Names that the library goes by.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];

/// NCCL as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nccl {
    /// The name it was found under.
    pub library: &'static str,
    /// Its version; `None` where it does not say.
    pub version: Option<(u32, u32, u32)>,
}

/// Looks for NCCL; `None` where there is none.
pub fn nccl() -> Option<Nccl> {
    NAMES.into_iter().find_map(|name| {
        // SAFETY: opening a library runs its initialisers; the only names tried are NCCL's.
        let library = unsafe { libloading::Library::new(name) }.ok()?;
        // SAFETY: the type is that of `ncclGetVersion` in nccl.h: a pointer to an int in, a result code out.
        let get = unsafe { library.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"ncclGetVersion") };
        let version = get.ok().and_then(|get| {
            let mut number: c_int = 0;
            // SAFETY: writes one integer to a live variable; the library is open.
            (unsafe { get(&mut number) } == 0).then(|| version(number.unsigned_abs()))
        });
        Some(Nccl { library: name, version })
    })
}

/// NCCL's number as people write it (nccl.h, `NCCL_VERSION`): 22703 is 2.27.3; before 2.9 it was 2708 for 2.7.8.
fn version(number: u32) -> (u32, u32, u32) {
    let major = if number < 10_000 { 1000 } else { 10_000 };
    (number / major, number % major / 100, number % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_people_write_them() {
        assert_eq!(version(22_703), (2, 27, 3));
        assert_eq!(version(2708), (2, 7, 8));
    }

    #[test]
    fn a_machine_without_nccl_is_no_failure() {
        if let Some(found) = nccl() {
            assert!(NAMES.contains(&found.library));
        }
    }
}
