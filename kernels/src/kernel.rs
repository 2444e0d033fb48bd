//! A generated kernel: its text and its launch configuration.

use std::fmt;

/// The instruction set of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A100 and all later devices.
    Sm80,
    /// H100 and H200, with the instructions that only they have (wgmma, TMA).
    Sm90a,
}

impl Target {
    /// All values, in the order of their declaration.
    pub const ALL: [Self; 2] = [Self::Sm80, Self::Sm90a];

    /// The name for `.target` and `ptxas -arch`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sm80 => "sm_80",
            Self::Sm90a => "sm_90a",
        }
    }

    /// Whether a device of this compute capability runs the text: for sm_80 also later devices, for sm_90a no other.
    pub fn runs_on(self, major: u32, minor: u32) -> bool {
        match self {
            Self::Sm80 => (major, minor) >= (8, 0),
            Self::Sm90a => (major, minor) == (9, 0),
        }
    }

    /// The PTX version of the text.
    pub fn version(self) -> &'static str {
        match self {
            Self::Sm80 => "7.0",
            Self::Sm90a => "8.0",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|t| t.name() == word)
            .ok_or_else(|| format!("`{word}` is not one of sm_80, sm_90a"))
    }
}

/// The least memory traffic and arithmetic of a kernel: the numerator of its roofline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Device memory traffic in bytes, with each input read once and each output written once.
    pub bytes: u64,
    /// Floating-point operations; a multiply-accumulate counts two.
    pub operations: u64,
}

/// A parameter of a kernel, in the order of the launch's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Name in the PTX text.
    pub name: String,
    /// PTX type, such as `u64`.
    pub ty: &'static str,
    /// Size in bytes, without alignment.
    pub bytes: usize,
}

/// A kernel for one specification: a module of PTX text with one entry point, and its launch configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Name of the entry point; kernels of different text have different names.
    pub name: String,
    /// Name of the family, the start of `name`.
    pub family: &'static str,
    /// Instruction set of the text.
    pub target: Target,
    /// PTX text of the module, in ASCII.
    pub ptx: String,
    /// Blocks of the grid along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory per block in bytes.
    pub shared: u32,
    /// Static shared memory per block in bytes.
    pub static_shared: u32,
    /// Parameters, in the order of the launch's arguments.
    pub parameters: Vec<Parameter>,
    /// Its least memory traffic and arithmetic.
    pub work: Work,
}

impl Kernel {
    /// A kernel of hand-written text, in one block of one thread and without parameters: change these fields as the
    /// text needs.
    pub fn by_hand(name: impl Into<String>, target: Target, ptx: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            family: "by hand",
            target,
            ptx: ptx.into(),
            grid: [1; 3],
            block: [1; 3],
            shared: 0,
            static_shared: 0,
            parameters: Vec::new(),
            work: Work::default(),
        }
    }

    /// Number of threads of a block.
    pub fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    /// Number of blocks of the grid.
    pub fn blocks(&self) -> u64 {
        self.grid.iter().map(|&n| u64::from(n)).product()
    }
}

/// Kernels that are launched in order, with the same arguments unless the function that built them says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The kernels, in launch order.
    pub kernels: Vec<Kernel>,
    /// Size of the workspace in bytes; 0 if it is unused. Its contents do not matter between launches.
    pub workspace_bytes: u64,
}

impl From<Kernel> for Plan {
    fn from(kernel: Kernel) -> Self {
        Self { kernels: vec![kernel], workspace_bytes: 0 }
    }
}
