//! C = f(op(A)·op(B) + bias + residual) for f16 with f32 sums, of any size and in all four transposes.

mod kernel;
mod output;
mod plan;
mod split;

pub(crate) use output::Output;
pub use plan::Gemm;
pub(crate) use split::reduce_kernel;

use crate::{
    Kernel, Target,
    pointwise::unary::{RELU, SIGMOID, SILU, SOFTPLUS},
    ptx::{Asm, F32, Reg},
    tile::Major,
};

/// Element type of a bias, a residual or an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE binary16, 2 bytes.
    F16,
    /// IEEE binary32, 4 bytes.
    F32,
}

impl Dtype {
    /// Size of an element in bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }
}

/// The activation function of an epilogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// f(x) = x.
    Identity,
    /// max(x, 0).
    Relu,
    /// x·σ(x).
    Silu,
    /// σ(x).
    Sigmoid,
    /// ln(1 + eˣ).
    Softplus,
}

impl Activation {
    fn name(self) -> &'static str {
        match self {
            Self::Identity => "",
            Self::Relu => "_relu",
            Self::Silu => "_silu",
            Self::Sigmoid => "_sigmoid",
            Self::Softplus => "_softplus",
        }
    }

    fn apply<'a>(self, asm: &'a Asm, x: Reg<'a, F32>) -> Reg<'a, F32> {
        match self {
            Self::Identity => x,
            Self::Relu => (RELU.value)(asm, x),
            Self::Silu => (SILU.value)(asm, x),
            Self::Sigmoid => (SIGMOID.value)(asm, x),
            Self::Softplus => (SOFTPLUS.value)(asm, x),
        }
    }
}

/// Operations on a sum before it is stored: y = f(sum + bias + residual), in f32, rounded once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epilogue {
    /// Element type of a bias of n elements, one per column; `None` without bias.
    pub bias: Option<Dtype>,
    /// Whether a residual of m × n elements, of the output's type, is added. It may be the output itself, to
    /// accumulate.
    pub residual: bool,
    /// The activation function f.
    pub activation: Activation,
    /// Element type of the result.
    pub output: Dtype,
}

impl Epilogue {
    /// Stores the plain sum.
    pub const fn plain(output: Dtype) -> Self {
        Self { bias: None, residual: false, activation: Activation::Identity, output }
    }
}

/// Kernels of the model's sizes, and one of each difficult case.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    use Dtype::{F16, F32};
    let gemm = |[m, n, k]: [u32; 3], [a, b]: [Major; 2], epilogue| Gemm { m, n, k, a, b, epilogue };
    let (plain, nt) = (Epilogue::plain(F16), [Major::K, Major::K]);
    let linear = Epilogue { bias: Some(F16), activation: Activation::Silu, ..plain };
    let grad = Epilogue { residual: true, ..Epilogue::plain(F32) };
    let specs = [
        gemm([4096, 4096, 4096], nt, plain),
        gemm([4096, 4096, 4096], [Major::K, Major::Outer], plain),
        gemm([160, 1024, 16384], nt, linear),
        gemm([160, 16384, 1024], nt, plain),
        gemm([160, 16384, 1024], [Major::K, Major::Outer], plain),
        gemm([1024, 16384, 160], [Major::Outer, Major::Outer], grad),
        gemm([160, 4096, 1024], nt, plain),
        gemm([160, 1024, 2048], nt, plain),
        gemm([33, 67, 131], nt, linear),
        gemm([1024, 1024, 1023], nt, plain),
        gemm([34, 66, 130], [Major::Outer, Major::Outer], plain),
        gemm([36, 68, 132], [Major::Outer, Major::K], grad),
    ];
    specs.iter().flat_map(|spec| spec.plan(target)).flat_map(|plan| plan.kernels).collect()
}
