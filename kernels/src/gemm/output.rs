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
        match (self, count) {
            (Self::Half(p), 1) => vec![F16::load_one(p.at(index))],
            (Self::Half(p), _) => {
                let pairs = p.at(index).cast::<crate::ptx::F16x2>().load_vector::<2>();
                pairs.into_iter().flat_map(Reg::to_f32).collect()
            }
            (Self::Float(p), 1) => vec![p.at(index).load()],
            (Self::Float(p), _) => F32::load_vector(p.at(index)),
        }
    }

    /// Writes 1 or 4 elements from `index` on, rounded to the nearest.
    fn store(self, k: &'k Asm, index: Reg<'k, U32>, values: &[Reg<'k, F32>]) {
        match (self, values) {
            (Self::Half(p), [a, b, c, d]) => {
                let pairs = [k.pack_f16x2([*a, *b]), k.pack_f16x2([*c, *d])];
                p.at(index).cast::<crate::ptx::F16x2>().store_vector(pairs);
            }
            (Self::Float(p), [_, _, _, _]) => F32::store_vector(p.at(index), values),
            (Self::Half(p), _) => F16::store_one(p.at(index), values[0]),
            (Self::Float(p), _) => p.at(index).store(values[0]),
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
        self.c.store(self.asm, index, &values);
    }
}
