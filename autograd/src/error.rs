//! Errors are values: they name the operator, the shapes and the argument.

use std::path::PathBuf;

/// Errors of operators and devices: invalid input, and failures of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Shapes or attributes that do not fit.
    #[error("{op}: {message}")]
    Shape {
        /// Name of the operator that failed.
        op: &'static str,
        /// The shapes, the argument and what was expected.
        message: String,
    },
    /// Operands of different dtypes, or a buffer read as another dtype.
    #[error("{op}: {found} given where {expected} is expected")]
    Dtype {
        /// Name of the operator that failed.
        op: &'static str,
        /// The dtype that was given.
        found: &'static str,
        /// The dtype that fits.
        expected: &'static str,
    },
    /// A gradient that cannot be computed.
    #[error("backward: {0}")]
    Backward(String),
    /// A write to parameters that a graph still reads.
    #[error("{0}")]
    Busy(String),
    /// A file of tensors that cannot be read or written.
    #[error("{}: {message}", path.display())]
    File {
        /// The file at fault.
        path: PathBuf,
        /// The problem with the file, and advice.
        message: String,
    },
    /// An error of the caller's own code that this library called.
    #[error("{0}")]
    Elsewhere(String),
    /// A device that does not exist, or that this program cannot use.
    #[error("{0}")]
    NoDevice(String),
    /// A call of the CUDA driver that failed.
    #[error("{operation}: {code} ({meaning}); {advice}")]
    Driver {
        /// The failed request: the call, the kernel, the sizes.
        operation: String,
        /// The driver's name for the error, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
        code: String,
        /// The driver's message for it.
        meaning: String,
        /// Advice for the user, in one sentence.
        advice: &'static str,
    },
    /// PTX that the driver (or the emulator) refuses.
    #[error("{kernel}: the PTX is refused: {code}; {advice}\n{log}")]
    Ptx {
        /// Name of the kernel.
        kernel: String,
        /// The driver's name for the error.
        code: String,
        /// Advice for the user, in one sentence.
        advice: &'static str,
        /// The log of the driver's compiler, with lines of the text.
        log: String,
    },
    /// Device memory is exhausted.
    #[error("{device}: out of memory: {asked} bytes asked for, {free} of {total} free{pool}; {advice}")]
    OutOfMemory {
        /// Name of the device.
        device: String,
        /// Size of the request in bytes.
        asked: u64,
        /// Free memory of the device in bytes.
        free: u64,
        /// Total memory of the device in bytes.
        total: u64,
        /// Contents of the pool as text; empty if the driver was asked directly.
        pool: String,
        /// Advice for the user, in one sentence.
        advice: String,
    },
    /// Wrong use of a device: stale handles, arguments that do not fit, ranges outside of allocations.
    #[error("{operation}: {message}")]
    Misuse {
        /// Name of the refused operation.
        operation: String,
        /// The reason for the refusal.
        message: String,
    },
    /// An operator's output that is not finite, if that check is on.
    #[error(
        "{op} {shape}: {count} outputs are not finite, the first is {value} at element {first}; lower the learning rate, \
         set --clip-norm, or look at what the operator is given"
    )]
    NotFinite {
        /// Name of the operator that failed.
        op: &'static str,
        /// Shape of the operator's output.
        shape: String,
        /// How many of its elements are not finite.
        count: usize,
        /// Index of the first of them.
        first: usize,
        /// Value of the first element that is not finite.
        value: String,
    },
    /// Sizes for which no kernel exists.
    #[cfg(feature = "cuda")]
    #[error("{0}; take a smaller batch, or --device cpu")]
    Specification(#[from] ssmv_kernels::Error),
    /// A kernel that the emulator stopped: the fault with its PTX line, block, thread and address.
    #[error("{0}")]
    Kernel(String),
}

impl Error {
    /// An [`Error::File`] that names `path`.
    pub fn file(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::File { path: path.into(), message: message.into() }
    }

    /// An [`Error::Shape`] of operator `op`.
    pub fn shape(op: &'static str, message: impl Into<String>) -> Self {
        Self::Shape { op, message: message.into() }
    }

    /// A driver's [`Error::OutOfMemory`].
    #[cfg(feature = "cuda")]
    pub(crate) fn out_of_memory(device: &str, asked: u64, free: u64, total: u64) -> Self {
        let (device, advice) = (device.to_owned(), "take a smaller batch".to_owned());
        Self::OutOfMemory { device, asked, free, total, pool: String::new(), advice }
    }

    /// An [`Error::Misuse`] of `operation`.
    pub fn misuse(operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Misuse { operation: operation.into(), message: message.into() }
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
