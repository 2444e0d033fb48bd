//! The normalised values, and what follows them.

use super::{Channels, FAMILY, Mode, fused, loads, strip::Strips};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F32, Launch},
    span::{Real, store_all},
};

/// y = (x − μ)·γ/√(σ² + ε) + β (+ residual) (then max(·, 0)), over a matrix [rows, cols] of fewer than 2³² elements. A NaN
/// stays one behind the ReLU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Apply {
    /// Rows, N·H·W.
    pub rows: u32,
    /// Channels.
    pub cols: u32,
    /// Whose statistics.
    pub mode: Mode,
    /// Whether max(·, 0) follows.
    pub relu: bool,
    /// Whether a residual of x's shape is added.
    pub residual: bool,
}

impl Apply {
    /// The kernel. Parameters: x, (residual,) mean, spread (1/√(σ² + ε) in training, σ² in evaluation), weight, bias (all
    /// four f32 [cols]), y, eps (f32, at the launch). y may be x or the residual itself.
    /// Moves two elements an element, three with a residual; bound by memory.
    pub fn kernel<T: Real>(self, target: Target) -> Kernel {
        let Self { rows, cols, mode, relu, residual } = self;
        let strips = Strips::new(rows, cols, T::VECTOR);
        let (mode_name, fused) = (mode.name(), fused(relu, residual));
        let name = format!("batch_norm_{mode_name}{fused}_{}_{rows}x{cols}", T::SPELLED);
        let (elements, others) = (u64::from(rows) * u64::from(cols), u64::from(residual));
        let work = Work {
            bytes: elements * (2 + others) * u64::from(T::BYTES) + 16 * u64::from(cols),
            operations: elements * (3 + others),
        };
        let launch = strips.launch(Launch::new(FAMILY, name, target));
        Asm::kernel(launch, work, "y = (x − mean)·weight/√(variance + ε) + bias, and what is fused", |k| {
            let x = k.pointer::<T>("x");
            let added = residual.then(|| k.pointer::<T>("residual"));
            let [mean, spread, weight, bias] =
                ["mean", "spread", "weight", "bias"].map(|name| k.pointer::<F32>(name));
            let (y, eps, width) = (k.pointer::<T>("y"), k.parameter_f32("eps"), strips.width);
            strips.each(
                k,
                |col| {
                    let [mean, spread, weight, bias] =
                        [mean, spread, weight, bias].map(|array| Channels::new(array, col, width));
                    let inverse = mode.inverse(spread, eps);
                    let scale = weight.load().into_iter().zip(inverse).map(|(w, i)| w * i);
                    mean.load().into_iter().zip(scale).zip(bias.load()).collect::<Vec<_>>()
                },
                |channels, places| {
                    let load = |array| loads::<T>(array, places, width);
                    let rows = load(x);
                    let residuals = added.map(load).unwrap_or_default();
                    for (i, (&at, row)) in places.iter().zip(rows).enumerate() {
                        let normal = row.into_iter().zip(channels);
                        let mut values: Vec<_> =
                            normal.map(|(x, &((mean, scale), bias))| (x - mean).mad(scale, bias)).collect();
                        if let Some(residual) = residuals.get(i) {
                            values.iter_mut().zip(residual).for_each(|(v, &r)| *v = *v + r);
                        }
                        if relu {
                            values.iter_mut().for_each(|v| *v = v.max_nan(0.0));
                        }
                        store_all(y.at(at), &values);
                    }
                },
            );
        })
    }
}
