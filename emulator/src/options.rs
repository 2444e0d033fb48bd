//! How a launch runs.

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

/// What is looked for while a kernel runs. Accesses out of bounds and misaligned ones are errors always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// Reads of memory (global, shared, local) that nothing wrote.
    pub uninitialised_memory: bool,
    /// Reads of registers that nothing wrote.
    pub uninitialised_registers: bool,
    /// Races in shared memory.
    pub races: bool,
    /// Asynchronous copies read before their wait or overwritten while pending.
    pub pending_copies: bool,
    /// Bank conflicts and global sectors, for the report.
    pub traffic: bool,
}

impl Checks {
    /// Everything.
    pub const ALL: Self = Self {
        uninitialised_memory: true,
        uninitialised_registers: true,
        races: true,
        pending_copies: true,
        traffic: true,
    };
    /// Nothing but bounds and alignment.
    pub const NONE: Self = Self {
        uninitialised_memory: false,
        uninitialised_registers: false,
        races: false,
        pending_copies: false,
        traffic: false,
    };
}

/// Whose tensor cores `mma` computes as (their results differ in the last bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TensorCore {
    /// A100 (sm_80).
    Ampere,
    /// H100 and H200 (sm_90).
    #[default]
    Hopper,
}

/// How far the approximate instructions (`ex2.approx` and its kind, `div.full`) are from the exact result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Approximation {
    /// Rounded to nearest, but for one case in thousands: better than any chip.
    #[default]
    Nearest,
    /// As far off as the PTX ISA allows, up or down by the operands' bits. A kernel that passes its tests in this mode
    /// depends on no more than the ISA promises. Special values stay exact.
    Worst,
}

/// How a launch runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What is looked for.
    pub checks: Checks,
    /// The tensor cores' arithmetic.
    pub tensor_core: TensorCore,
    /// The error of approximate instructions.
    pub approximation: Approximation,
    /// Instructions of a warp that the whole launch may take before it ends with an error; no kernel runs for ever.
    pub budget: u64,
    /// Blocks that run at once; 0 for one a core. The results do not depend on it.
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
