//! The last step of both kernels: from sums to stored elements.

use super::{Dtype, Epilogue};
use crate::{
    ptx::{Asm, F16, F32, Global, Reg, U32},
    span::Real,
};

/// An array whose element type the specification chooses.
#[derive(Clone, Copy)]
pub enum Array<'a> {
    /// Elements of type f16.
    Half(Global<'a, F16>),
    /// Elements of type f32.
    Float(Global<'a, F32>),
}

impl<'a> Array<'a> {
    fn parameter(asm: &'a Asm, name: &str, dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Self::Half(asm.pointer(name)),
            Dtype::F32 => Self::Float(asm.pointer(name)),
        }
    }

    /// Loads `count` elements (1 or 4) from `index` on, as f32.
    fn load(self, index: Reg<'a, U32>, count: usize) -> Vec<Reg<'a, F32>> {
        match self {
            Self::Half(p) => F16::load(p.at(index), count as u32),
            Self::Float(p) => F32::load(p.at(index), count as u32),
        }
    }

    /// Stores 1 or 4 elements from `index` on, rounded to the nearest.
    fn store(self, index: Reg<'a, U32>, values: &[Reg<'a, F32>]) {
        match self {
            Self::Half(p) => F16::store(p.at(index), values),
            Self::Float(p) => F32::store(p.at(index), values),
        }
    }
}

/// The destination of sums: C, through the epilogue.
pub struct Output<'a> {
    asm: &'a Asm,
    epilogue: Epilogue,
    bias: Option<Array<'a>>,
    residual: Option<Array<'a>>,
    c: Array<'a>,
}

impl<'a> Output<'a> {
    /// Declares the parameters after A and B.
    pub fn parameters(asm: &'a Asm, epilogue: Epilogue) -> Self {
        Self {
            asm,
            epilogue,
            bias: epilogue.bias.map(|dtype| Array::parameter(asm, "bias", dtype)),
            residual: epilogue.residual.then(|| Array::parameter(asm, "residual", epilogue.output)),
            c: Array::parameter(asm, "c", epilogue.output),
        }
    }

    /// Finishes and stores 1 or 4 sums of a row; the first is element `index` of C, in column `column`.
    pub fn store(&self, index: Reg<'a, U32>, column: Reg<'a, U32>, sums: &[Reg<'a, F32>]) {
        let mut values = sums.to_vec();
        for (array, at) in [(self.bias, column), (self.residual, index)] {
            if let Some(array) = array {
                let addends = array.load(at, values.len());
                values = values.into_iter().zip(addends).map(|(v, x)| v + x).collect();
            }
        }
        let values: Vec<_> =
            values.into_iter().map(|v| self.epilogue.activation.apply(self.asm, v)).collect();
        self.c.store(index, &values);
    }
}
