//! Matrices [rows, cols] combined with smaller operands: a row added to each row, and, for the derivatives of
//! reductions, a number, a row or a column repeated. The vector is as wide as the rows allow.

use super::Elementwise;
use crate::{
    Kernel, Target,
    ptx::F32,
    span::{Real, access_width},
};

/// y[r, c] = x[r, c] + b[c]. Parameters x, b (both of one type), y. Moves two elements per element, and b.
pub fn bias<T: Real>(rows: u32, cols: u32, target: Target) -> Kernel {
    let (n, width) = (rows * cols, access_width(cols, T::VECTOR));
    Elementwise {
        name: format!("bias_{}_{rows}x{cols}", T::SPELLED),
        summary: "y[r, c] = x[r, c] + b[c]",
        n,
        width,
        target,
        bytes: 2 * T::BYTES,
        operations: 1,
        other_bytes: u64::from(cols) * u64::from(T::BYTES),
    }
    .kernel(|asm| {
        let (x, b, y) = (asm.pointer::<T>("x"), asm.pointer::<T>("b"), asm.pointer::<T>("y"));
        asm.each_span(n, width, |span| {
            let (_, col) = asm.divide(span.first(), cols);
            let bias = T::load(b.at(col), span.width());
            let values: Vec<_> = span.load(x).into_iter().zip(bias).map(|(x, b)| x + b).collect();
            span.store(y, &values);
        });
    })
}

/// The operand that is repeated over a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Along {
    /// One number for the whole matrix.
    All,
    /// One number per row: the derivative of a sum over columns.
    Rows,
    /// One number per column: the derivative of a sum over rows.
    Cols,
}

impl Along {
    /// All values, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::All, Self::Rows, Self::Cols];

    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Rows => "rows",
            Self::Cols => "cols",
        }
    }

    fn len(self, rows: u32, cols: u32) -> u32 {
        match self {
            Self::All => 1,
            Self::Rows => rows,
            Self::Cols => cols,
        }
    }
}

/// y[r, c] = factor·x[0], factor·x[r] or factor·x[c], with x in f32. Parameters x, y, factor (f32, given at the
/// launch). Moves one element per element, and x.
pub fn spread<T: Real>(along: Along, rows: u32, cols: u32, target: Target) -> Kernel {
    let (index, widest) = match along {
        Along::All => ("0", T::VECTOR),
        Along::Rows => ("r", T::VECTOR),
        Along::Cols => ("c", F32::VECTOR),
    };
    let (n, width) = (rows * cols, access_width(cols, widest));
    Elementwise {
        name: format!("spread_{}_{}_{rows}x{cols}", along.name(), T::SPELLED),
        summary: &format!("y[r, c] = factor*x[{index}]"),
        n,
        width,
        target,
        bytes: T::BYTES,
        operations: 1,
        other_bytes: u64::from(along.len(rows, cols)) * 4,
    }
    .kernel(|asm| {
        let (x, y, factor) = (asm.pointer::<F32>("x"), asm.pointer::<T>("y"), asm.parameter_f32("factor"));
        asm.each_span(n, width, |span| {
            let (row, col) = asm.divide(span.first(), cols);
            let values = match along {
                Along::All => vec![x.load(); span.width() as usize],
                Along::Rows => vec![x.at(row).load(); span.width() as usize],
                Along::Cols => F32::load(x.at(col), span.width()),
            };
            let values: Vec<_> = values.into_iter().map(|x| x * factor).collect();
            span.store(y, &values);
        });
    })
}
