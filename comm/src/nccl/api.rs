//! The library's functions, with their types as nccl.h has them; all are in NCCL 2.14.

use std::{
    ffi::{OsStr, c_char, c_int, c_uint, c_void},
    mem::ManuallyDrop,
};

use libloading::Library;

use super::Result;
use super::error;

/// `ncclResult_t`.
pub(super) type Code = c_int;
pub(super) const SUCCESS: Code = 0;
pub(super) const IN_PROGRESS: Code = 7;

/// `ncclUniqueId`, which calls take by value.
#[repr(C)]
pub(super) struct RawId(pub [u8; 128]);

/// What `ncclComm_t` points to.
#[repr(C)]
pub(super) struct RawComm([u8; 0]);

/// `ncclConfig_t` as far as NCCL 2.14 had it; later ones take what is missing for their defaults, by its size and version.
#[repr(C)]
pub(super) struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
    /// The first field of later versions, "undefined".
    next: c_int,
}

impl Config {
    pub const NON_BLOCKING: Self =
        Self { size: size_of::<Self>(), magic: 0xcafe_beef, version: 21_400, blocking: 0, next: c_int::MIN };
}

/// How the stand-in for NCCL reads the emulator's memory: context, stream, address, to, bytes; 0 where it went well.
pub(super) type Read = unsafe extern "C" fn(*const c_void, u64, u64, *mut u8, usize) -> c_int;
/// How it writes it: context, stream, address, from, bytes.
pub(super) type Write = unsafe extern "C" fn(*const c_void, u64, u64, *const u8, usize) -> c_int;
/// Lends a communicator of the stand-in a way to memory.
pub(super) type LendMemory = unsafe extern "C" fn(*mut RawComm, Read, Write, *const c_void) -> Code;

/// Declares [`Api`] and looks all of it up.
macro_rules! functions {
    ($($field:ident = $symbol:ident($($argument:ty),*) -> $result:ty;)*) => {
        /// The functions of one library, which is open.
        pub(super) struct Api {
            /// The name that it was opened by.
            pub library: String,
            $(pub $field: unsafe extern "C" fn($($argument),*) -> $result,)*
            /// What only the stand-in has.
            pub lend_memory: Option<LendMemory>,
        }

        impl Api {
            /// Looks all functions up.
            pub fn of(library: ManuallyDrop<Library>, name: &OsStr) -> Result<Self> {
                let name = name.to_string_lossy().into_owned();
                $(
                    // SAFETY: the type is that of the function in nccl.h.
                    let found = unsafe { library.get(stringify!($symbol).as_bytes()) };
                    let $field: unsafe extern "C" fn($($argument),*) -> $result =
                        *found.map_err(|_| error::no_function(&name, stringify!($symbol)))?;
                )*
                // SAFETY: the type is that of the function in the stand-in; NCCL has none of this name.
                let lend_memory = unsafe { library.get::<LendMemory>(b"ssmv_standin_memory") };
                let lend_memory = lend_memory.ok().map(|function| *function);
                Ok(Self { library: name, $($field,)* lend_memory })
            }
        }
    };
}

functions! {
    version = ncclGetVersion(*mut c_int) -> Code;
    unique_id = ncclGetUniqueId(*mut RawId) -> Code;
    connect = ncclCommInitRankConfig(*mut *mut RawComm, c_int, RawId, c_int, *const Config) -> Code;
    finalize = ncclCommFinalize(*mut RawComm) -> Code;
    destroy = ncclCommDestroy(*mut RawComm) -> Code;
    abort = ncclCommAbort(*mut RawComm) -> Code;
    async_error = ncclCommGetAsyncError(*mut RawComm, *mut Code) -> Code;
    error_string = ncclGetErrorString(Code) -> *const c_char;
    last_error = ncclGetLastError(*mut RawComm) -> *const c_char;
    group_start = ncclGroupStart() -> Code;
    group_end = ncclGroupEnd() -> Code;
    send = ncclSend(*const c_void, usize, c_int, c_int, *mut RawComm, *mut c_void) -> Code;
    recv = ncclRecv(*mut c_void, usize, c_int, c_int, *mut RawComm, *mut c_void) -> Code;
    all_reduce =
        ncclAllReduce(*const c_void, *mut c_void, usize, c_int, c_int, *mut RawComm, *mut c_void) -> Code;
    reduce_scatter =
        ncclReduceScatter(*const c_void, *mut c_void, usize, c_int, c_int, *mut RawComm, *mut c_void) -> Code;
    all_gather =
        ncclAllGather(*const c_void, *mut c_void, usize, c_int, *mut RawComm, *mut c_void) -> Code;
    broadcast =
        ncclBroadcast(*const c_void, *mut c_void, usize, c_int, c_int, *mut RawComm, *mut c_void) -> Code;
}

/// Opens a library, for good: NCCL's threads may outlive its user. The error is the system's message, which names it.
pub(super) fn open(name: &OsStr) -> Result<ManuallyDrop<Library>, String> {
    // SAFETY: opening a library runs its initialisers; the names are NCCL's, or the user says that it is NCCL.
    let library = unsafe { Library::new(name) };
    library.map(ManuallyDrop::new).map_err(|error| match std::error::Error::source(&error) {
        Some(words) => format!("{}: {words}", name.display()),
        None => format!("{}: {error}", name.display()),
    })
}

/// The version of the library of a name; `None` where it does not say.
pub(super) fn version_of(name: &OsStr) -> Result<Option<(u32, u32, u32)>, String> {
    let library = open(name)?;
    // SAFETY: the type is that of `ncclGetVersion` in nccl.h: a pointer to an int in, a result code out.
    let get = unsafe { library.get::<unsafe extern "C" fn(*mut c_int) -> Code>(b"ncclGetVersion") };
    Ok(get.ok().and_then(|get| {
        let mut number: c_int = 0;
        // SAFETY: writes one integer to a live variable; the library is open.
        (unsafe { get(&mut number) } == SUCCESS).then(|| version(number.unsigned_abs()))
    }))
}

/// NCCL's number as people write it (nccl.h, `NCCL_VERSION`): 22703 is 2.27.3; before 2.9 it was 2708 for 2.7.8.
pub(super) fn version(number: u32) -> (u32, u32, u32) {
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
    fn the_configuration_has_the_layout_of_the_header() {
        assert_eq!(size_of::<Config>(), 24);
        assert_eq!(std::mem::offset_of!(Config, blocking), 16);
    }
}
