//! The library: finding and opening it, its functions, and calls that need no communicator.

use std::{
    error::Error as _,
    ffi::{OsStr, OsString, c_char, c_int, c_void},
    fmt,
    mem::ManuallyDrop,
    path::Path,
    ptr,
    sync::Arc,
    time::Duration,
};

use cudarc::nccl::sys::{cudaStream_t, ncclComm_t, ncclConfig_t, ncclDataType_t, ncclRedOp_t, ncclUniqueId};
use libloading::Library;
use ssmv_autograd::cuda::{Backend, Cuda};

use super::{
    Error, NcclCommunicator, Result, error,
    handle::{self, Handle},
};

/// File names of NCCL's library.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
/// The variable with another file name.
const VARIABLE: &str = "SSMV_NCCL";

/// `ncclResult_t`, as a number: a later NCCL may return codes that cudarc's enumeration does not have.
pub(super) type Code = c_int;

/// Declares [`Api`] and looks its functions up.
macro_rules! functions {
    ($($field:ident = $symbol:ident($($argument:ty),*) -> $result:ty;)*) => {
        /// The functions of an open library. cudarc's own would panic without a library, and open it by fixed names.
        pub(super) struct Api {
            /// The file name by which it was opened.
            pub library: String,
            $(pub $field: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl Api {
            fn of(library: ManuallyDrop<Library>, name: &OsStr) -> Result<Self> {
                let name = name.to_string_lossy().into_owned();
                $(
                    // SAFETY: the type is that of the function in nccl.h.
                    let found = unsafe { library.get(stringify!($symbol).as_bytes()) };
                    let $field: unsafe extern "C" fn($($argument),*) -> $result =
                        *found.map_err(|_| error::no_function(&name, stringify!($symbol)))?;
                )*
                Ok(Self { library: name, $($field,)* })
            }
        }
    };
}

// All are in NCCL 2.14.
functions! {
    version = ncclGetVersion(*mut c_int) -> Code;
    unique_id = ncclGetUniqueId(*mut ncclUniqueId) -> Code;
    connect = ncclCommInitRankConfig(*mut ncclComm_t, c_int, ncclUniqueId, c_int, *const ncclConfig_t) -> Code;
    finalize = ncclCommFinalize(ncclComm_t) -> Code;
    destroy = ncclCommDestroy(ncclComm_t) -> Code;
    abort = ncclCommAbort(ncclComm_t) -> Code;
    async_error = ncclCommGetAsyncError(ncclComm_t, *mut Code) -> Code;
    error_string = ncclGetErrorString(Code) -> *const c_char;
    last_error = ncclGetLastError(ncclComm_t) -> *const c_char;
    group_start = ncclGroupStart() -> Code;
    group_end = ncclGroupEnd() -> Code;
    send = ncclSend(*const c_void, usize, ncclDataType_t, c_int, ncclComm_t, cudaStream_t) -> Code;
    recv = ncclRecv(*mut c_void, usize, ncclDataType_t, c_int, ncclComm_t, cudaStream_t) -> Code;
    all_reduce = ncclAllReduce(
        *const c_void, *mut c_void, usize, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t
    ) -> Code;
    reduce_scatter = ncclReduceScatter(
        *const c_void, *mut c_void, usize, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t
    ) -> Code;
    all_gather =
        ncclAllGather(*const c_void, *mut c_void, usize, ncclDataType_t, ncclComm_t, cudaStream_t) -> Code;
    broadcast =
        ncclBroadcast(*const c_void, *mut c_void, usize, ncclDataType_t, c_int, ncclComm_t, cudaStream_t) -> Code;
}

/// Opens a library for good: NCCL's threads may outlive its user. The error is the system's message with the file name.
fn open(name: &OsStr) -> Result<ManuallyDrop<Library>, String> {
    // SAFETY: opening a library runs its initialisers; the names are NCCL's, or the user says that it is NCCL.
    let library = unsafe { Library::new(name) };
    library.map(ManuallyDrop::new).map_err(|error| match error.source() {
        Some(reason) => format!("{}: {reason}", name.display()),
        None => format!("{}: {error}", name.display()),
    })
}

/// The file name in the variable.
fn named() -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty())
}

/// NCCL's version number in three parts (nccl.h, `NCCL_VERSION`): 22703 is 2.27.3; before 2.9, 2708 is 2.7.8.
fn version_parts(number: u32) -> (u32, u32, u32) {
    let major = if number < 10_000 { 1000 } else { 10_000 };
    (number / major, number % major / 100, number % 100)
}

/// The result of a search for NCCL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NcclFound {
    /// Its file name, or the variable that has it.
    pub library: &'static str,
    /// Its version; `None` if the library does not report one.
    pub version: Option<(u32, u32, u32)>,
}

/// Looks for NCCL on this machine.
pub fn find() -> Option<NcclFound> {
    match named() {
        Some(path) => find_in(&[(VARIABLE, path)]),
        None => find_in(&NAMES.map(|name| (name, name.into()))),
    }
}

/// The first of the libraries that opens; each has the name to report and its path.
fn find_in(candidates: &[(&'static str, OsString)]) -> Option<NcclFound> {
    let found = |(library, path): &(&'static str, OsString)| {
        let opened = open(path).ok()?;
        // SAFETY: the type is that of `ncclGetVersion` in nccl.h: a pointer to an int in, a result code out.
        let get = unsafe { opened.get::<unsafe extern "C" fn(*mut c_int) -> Code>(b"ncclGetVersion") };
        let mut number: c_int = 0;
        // SAFETY: writes one integer to a live variable; the library is open.
        let version = get.ok().filter(|get| unsafe { get(&mut number) } == handle::SUCCESS);
        Some(NcclFound { library, version: version.map(|_| version_parts(number.unsigned_abs())) })
    };
    candidates.iter().find_map(found)
}

/// Identifies a communicator: rank 0 makes it and sends it to the other ranks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UniqueId([u8; UniqueId::BYTES]);

impl UniqueId {
    /// Size of an id in bytes.
    pub const BYTES: usize = size_of::<ncclUniqueId>();

    /// The bytes of the id, to send to another rank.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }

    /// The id with bytes that another rank sent.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn raw(self) -> ncclUniqueId {
        ncclUniqueId { internal: bytemuck::cast(self.0) }
    }
}

impl fmt::Debug for UniqueId {
    /// Hides the bytes: with them a stranger could connect.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UniqueId")
    }
}

/// The open library. A clone shares it. It stays open until the process ends.
#[derive(Clone)]
pub struct Nccl(Arc<Api>);

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nccl({})", self.library())
    }
}

impl Nccl {
    /// Opens the library that `SSMV_NCCL` names, or else `libnccl.so.2` or `libnccl.so` where the system finds them.
    ///
    /// # Errors
    /// [`Error::Nccl`] with the files that were tried, if there is no NCCL or it is older than 2.14.
    pub fn open() -> Result<Self> {
        match named() {
            Some(path) => Self::open_any(&[&path]),
            None => Self::open_any(&NAMES.map(OsStr::new)),
        }
    }

    /// Opens the library of one file name.
    ///
    /// # Errors
    /// As [`Nccl::open`].
    pub fn open_at(path: &Path) -> Result<Self> {
        Self::open_any(&[path.as_os_str()])
    }

    fn open_any(names: &[&OsStr]) -> Result<Self> {
        let mut tried = Vec::new();
        for name in names {
            match open(name) {
                Ok(library) => return Ok(Self(Arc::new(Api::of(library, name)?))),
                Err(why) => tried.push(why),
            }
        }
        Err(error::not_found(&tried.join("; ")))
    }

    /// The file name by which it was opened.
    pub fn library(&self) -> &str {
        &self.0.library
    }

    /// The version, such as (2, 27, 3).
    ///
    /// # Errors
    /// [`Error::Nccl`] if the library does not report one.
    pub fn version(&self) -> Result<(u32, u32, u32)> {
        let mut number: c_int = 0;
        // SAFETY: writes one integer to a live variable.
        let code = unsafe { (self.0.version)(&mut number) };
        handle::check(&self.0, ptr::null_mut(), &"nccl version", code)?;
        Ok(version_parts(number.unsigned_abs()))
    }

    /// Makes the id of a new communicator, on rank 0. From then on NCCL listens for the other ranks.
    ///
    /// # Errors
    /// [`Error::Nccl`], for example without a network interface.
    pub fn unique_id(&self) -> Result<UniqueId> {
        let mut id = ncclUniqueId { internal: [0; UniqueId::BYTES] };
        // SAFETY: writes 128 bytes to a live variable.
        let code = unsafe { (self.0.unique_id)(&mut id) };
        handle::check(&self.0, ptr::null_mut(), &"nccl unique id", code)?;
        Ok(UniqueId(bytemuck::cast(id.internal)))
    }

    /// Connects this rank with the `size - 1` others, which call this at the same time. `timeout` limits this and every later
    /// call that has no timeout of its own.
    ///
    /// # Errors
    /// [`Error::Nccl`] with NCCL's message, at the timeout, or for a device that NCCL cannot use.
    pub fn connect(
        &self,
        cuda: &Cuda,
        rank: usize,
        size: usize,
        id: &UniqueId,
        timeout: Duration,
    ) -> Result<NcclCommunicator> {
        let what = || format!("connect rank {rank} of {size}");
        if rank >= size || i32::try_from(size).is_err() {
            return Err(Error::misuse(what(), "ranks count from 0 and are fewer than 2^31"));
        }
        let device = match cuda.driver().backend() {
            Backend::Nvidia => return NcclCommunicator::connect(&self.0, cuda, (rank, size), *id, timeout),
            Backend::Emulated => "NCCL needs a real GPU, and the device is the emulator",
            Backend::Counting => "NCCL needs a real GPU, and on this device nothing runs",
        };
        Err(error::error(what(), "wrong device", device, "use --comm ring, or --device cuda"))
    }

    /// Makes a communicator of one rank and ends it, to find out whether NCCL works on this machine.
    ///
    /// # Errors
    /// [`Error::Nccl`] with NCCL's message, for example without a GPU.
    pub fn try_alone(&self, timeout: Duration) -> Result<()> {
        let handle = Handle::connect(&self.0, (0, 1), self.unique_id()?)?;
        let what = &"connect rank 0 of 1";
        match handle::wait_until(timeout, || handle.is_done(what))? {
            true => handle.destroy(what),
            false => Err(error::timed_out(what, timeout)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_numbers_have_three_parts() {
        assert_eq!(version_parts(22_703), (2, 27, 3));
        assert_eq!(version_parts(2708), (2, 7, 8));
    }

    #[test]
    fn an_id_is_not_shown() {
        assert_eq!(format!("{:?}", UniqueId::from_bytes([7; 128])), "UniqueId");
    }

    #[test]
    fn the_first_library_that_opens_is_found() {
        let [nowhere, other] = [("nowhere", "/nowhere/libnccl.so.2"), ("other", "libc.so.6")]
            .map(|(name, path)| (name, OsString::from(path)));
        assert_eq!(find_in(std::slice::from_ref(&nowhere)), None);
        // A library that is not NCCL does not report a version.
        assert_eq!(find_in(&[nowhere, other]), Some(NcclFound { library: "other", version: None }));
    }
}
