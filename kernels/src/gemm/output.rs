//! The end of both kernels: from sums to stored elements.

use super::{Dtype, Epilogue};
use crate::{
    ptx::{Asm, F16, F32, Global, Reg, U32},
    span::Real,
};

/// An array whose dtype the specification says.
#[derive(Clone, Copy)]
pub enum Array<'k> {
    /// Of binary16.
    Half(Global<'k, F16>),
    /// Of binary32.
    Float(Global<'k, F32>),
}

impl<'k> Array<'k> {
    fn parameter(k: &'k Asm, name: &str, dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Self::Half(k.pointer(name)),
            Dtype::F32 => Self::Float(k.pointer(name)),
        }
    }

    /// `count` elements (1 or 4) from `index` on, as f32.
    fn load(self, index: Reg<'k, U32>, count: usize) -> Vec<Reg<'k, F32>> {
        match self {
            Self::Half(p) => F16::load(p.at(index), count as u32),
            Self::Float(p) => F32::load(p.at(index), count as u32),
        }
    }

    /// Writes 1 or 4 elements from `index` on, rounded to the nearest.
    fn store(self, index: Reg<'k, U32>, values: &[Reg<'k, F32>]) {
        match self {
            Self::Half(p) => F16::store(p.at(index), values),
            Self::Float(p) => F32::store(p.at(index), values),
        }
    }
}

/// Where sums go: C, through the epilogue.
pub struct Output<'k> {
    asm: &'k Asm,
    epilogue: Epilogue,
    bias: Option<Array<'k>>,
    residual: Option<Array<'k>>,
    c: Array<'k>,
}

impl<'k> Output<'k> {
    /// Takes the launch's arguments after A and B.
    pub fn parameters(k: &'k Asm, epilogue: Epilogue) -> Self {
        Self {
            asm: k,
            epilogue,
            bias: epilogue.bias.map(|dtype| Array::parameter(k, "bias", dtype)),
            residual: epilogue.residual.then(|| Array::parameter(k, "residual", epilogue.output)),
            c: Array::parameter(k, "c", epilogue.output),
        }
    }

    /// Finishes 1 or 4 sums of a row, the first of which is element `index` of C, in column `column`.
    pub fn store(&self, index: Reg<'k, U32>, column: Reg<'k, U32>, sums: &[Reg<'k, F32>]) {
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
