//! The configuration of a launch, and the options of its emulation.

/// The launch configuration of a kernel, as in `kernel<<<grid, block, shared>>>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaunchConfig {
    /// Number of blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block in bytes.
    pub shared: u32,
}

/// The checks of a launch. Out-of-bounds and misaligned accesses are always errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// Reads of global, shared or local memory that was never written.
    pub uninitialised_memory: bool,
    /// Reads of registers that the thread has not written.
    pub uninitialised_registers: bool,
    /// Races between threads of a block in shared memory.
    pub races: bool,
    /// Data of `cp.async` that is read before its wait, or overwritten while the copy is pending.
    pub pending_copies: bool,
    /// Counts of bank conflicts and global sectors, for the [`Report`](crate::Report).
    pub traffic: bool,
}

impl Checks {
    /// All checks and counts.
    pub const ALL: Self = Self {
        uninitialised_memory: true,
        uninitialised_registers: true,
        races: true,
        pending_copies: true,
        traffic: true,
    };
    /// Only bounds and alignment: the fastest.
    pub const NONE: Self = Self {
        uninitialised_memory: false,
        uninitialised_registers: false,
        races: false,
        pending_copies: false,
        traffic: false,
    };
}

/// The GPU whose tensor-core arithmetic `mma` uses: results differ in the last bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TensorCore {
    /// The tensor cores of the A100 (sm_80).
    Ampere,
    /// The H100 and H200 (sm_90).
    #[default]
    Hopper,
}

/// The error of approximate instructions (`ex2.approx` and similar, `div.full`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Approximation {
    /// The nearest result, except for one case in thousands: better than any chip.
    #[default]
    Nearest,
    /// The largest error that the PTX ISA allows; the bits of the operands select its direction. A kernel that passes its
    /// tests in this mode depends only on guarantees of the ISA. Special values stay exact.
    Worst,
}

/// The options of a launch.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The checks to make.
    pub checks: Checks,
    /// The arithmetic of the tensor cores.
    pub tensor_core: TensorCore,
    /// The error of approximate instructions.
    pub approximation: Approximation,
    /// Warp instructions that the whole launch may execute; more are an error, so that endless loops end.
    pub budget: u64,
    /// Number of blocks that run at once; 0 for one per core. Results do not depend on it.
    pub threads: usize,
}

impl Default for Options {
    /// All checks, Hopper, approximations to nearest, 2³⁶ instructions, all cores.
    fn default() -> Self {
        Self {
            checks: Checks::ALL,
            tensor_core: TensorCore::default(),
            approximation: Approximation::default(),
            budget: 1 << 36,
            threads: 0,
        }
    }
}
