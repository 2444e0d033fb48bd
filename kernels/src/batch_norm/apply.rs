//! The normalised values, with residual and ReLU fused in.

use super::{FAMILY, Mode, check, fused, strip::Strips};
use crate::{
    Kernel, Result, Target, Work,
    ptx::{Asm, F32, Launch},
    span::{Real, load_all, load_each, store_all},
};

/// y = (x − μ)·γ/√(σ² + ε) + β (+ residual) (then max(·, 0)), over a matrix [rows, cols].
///
/// The ReLU keeps NaN and turns −0 into 0. Results beyond f16's 65,504 become infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Apply {
    /// Number of rows, N·H·W.
    pub rows: u32,
    /// Number of channels C, the size of the last axis.
    pub cols: u32,
    /// Source of the statistics: the batch or the running ones.
    pub mode: Mode,
    /// Whether max(·, 0) follows.
    pub relu: bool,
    /// Whether a residual of x's shape is added.
    pub residual: bool,
}

impl Apply {
    /// Moves two elements per element, three with a residual; bound by memory.
    ///
    /// Parameters: x; gamma, beta, mean, and inverse (1/√(σ² + ε)) in training or variance (σ²) in evaluation, all f32
    /// [cols]; with a residual that; y; eps (f32, at the launch). y may be x or the residual itself.
    ///
    /// # Errors
    /// No rows, no channels, more than 2²⁰ channels, 2³¹ elements or more.
    pub fn kernel<T: Real>(self, target: Target) -> Result<Kernel> {
        let Self { rows, cols, mode, relu, residual } = self;
        check(rows, cols)?;
        let strips = Strips::new(rows, cols, T::BYTES);
        let (mode_name, fused) = (mode.name(), fused(relu, residual));
        let name = format!("batch_norm_{mode_name}{fused}_{}_{rows}x{cols}", T::SPELLED);
        let (elements, others) = (u64::from(rows) * u64::from(cols), u64::from(residual));
        let work = Work {
            bytes: elements * (2 + others) * u64::from(T::BYTES) + 16 * u64::from(cols),
            operations: elements * (3 + others),
        };
        let launch = strips.launch(Launch::new(FAMILY, name, target));
        let summary = "y = (x - mean)*gamma/sqrt(variance + eps) + beta, and what is fused";
        Ok(Asm::kernel(launch, work, summary, |asm| self.body::<T>(asm, strips)))
    }

    fn body<T: Real>(self, asm: &Asm, strips: Strips) {
        let x = asm.pointer::<T>("x");
        let [gamma, beta, mean] = ["gamma", "beta", "mean"].map(|name| asm.pointer::<F32>(name));
        let spread = self.mode.spread(asm);
        let added = self.residual.then(|| asm.pointer::<T>("residual"));
        let (y, eps, width) = (asm.pointer::<T>("y"), asm.parameter_f32("eps"), strips.width);
        strips.each(
            asm,
            |col| {
                let [gamma, beta, mean, spread] =
                    [gamma, beta, mean, spread].map(|array| load_all(array.at(col), width));
                let inverse = spread.into_iter().map(|spread| self.mode.inverse(spread, eps));
                let scale: Vec<_> = gamma.into_iter().zip(inverse).map(|(g, i)| g * i).collect();
                mean.into_iter().zip(scale).zip(beta).collect::<Vec<_>>()
            },
            |channels, places| {
                let xs = load_each(x, places, width);
                let residuals = added.map(|array| load_each(array, places, width)).unwrap_or_default();
                for (i, (&at, xs)) in places.iter().zip(xs).enumerate() {
                    let each = xs.into_iter().zip(channels);
                    let mut values: Vec<_> =
                        each.map(|(x, &((mean, scale), beta))| (x - mean).mad(scale, beta)).collect();
                    if let Some(residual) = residuals.get(i) {
                        values.iter_mut().zip(residual).for_each(|(v, &r)| *v = *v + r);
                    }
                    if self.relu {
                        values.iter_mut().for_each(|v| *v = v.max_nan(0.0));
                    }
                    store_all(y.at(at), &values);
                }
            },
        );
    }
}
