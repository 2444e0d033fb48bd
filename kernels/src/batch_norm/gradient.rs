//! The gradients of x and of the residual.

use super::{FAMILY, Mode, check, few, fused, masked, strip::Strips};
use crate::{
    Kernel, Result, Target, Work,
    ptx::{Asm, F32, Global, Launch, Reg},
    span::{Real, load_all, load_each, store_all},
};

/// dx = γ/√(σ² + ε)·(g − dβ/M − x̂·dγ/M) in training, γ/√(σ² + ε)·g in evaluation, over a matrix [rows, cols].
///
/// In training on few rows the terms nearly cancel: for two rows, only ε's share is left. Up to 32 rows dx is therefore
/// computed in f64, from x and dy alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InputGradient {
    /// Number of rows, N·H·W.
    pub rows: u32,
    /// Number of channels C, the size of the last axis.
    pub cols: u32,
    /// Source of the statistics: the batch or the running ones.
    pub mode: Mode,
    /// Whether max(·, 0) followed: g is dy where y > 0.
    pub relu: bool,
    /// Whether g is written as the gradient of a residual. Without a ReLU that gradient is dy itself and need not be
    /// written.
    pub residual: bool,
}

/// The kernel's parameters, in order.
#[derive(Clone, Copy)]
pub(super) struct Parameters<'a, T: Real> {
    pub dy: Global<'a, T>,
    pub x: Option<Global<'a, T>>,
    pub y: Option<Global<'a, T>>,
    pub gamma: Global<'a, F32>,
    pub mean: Option<Global<'a, F32>>,
    pub spread: Global<'a, F32>,
    /// The sums dγ and dβ, each f32 [cols].
    pub sums: Option<[Global<'a, F32>; 2]>,
    pub dx: Global<'a, T>,
    pub dresidual: Option<Global<'a, T>>,
    pub eps: Reg<'a, F32>,
}

impl<'a, T: Real> Parameters<'a, T> {
    fn declare(asm: &'a Asm, spec: InputGradient) -> Self {
        let train = spec.mode == Mode::Train;
        let image = |name, there: bool| there.then(|| asm.pointer::<T>(name));
        Self {
            dy: asm.pointer("dy"),
            x: image("x", train),
            y: image("y", spec.relu),
            gamma: asm.pointer("gamma"),
            mean: train.then(|| asm.pointer("mean")),
            spread: spec.mode.spread(asm),
            sums: train.then(|| ["dgamma", "dbeta"].map(|name| asm.pointer(name))),
            dx: asm.pointer("dx"),
            dresidual: image("dresidual", spec.residual),
            eps: asm.parameter_f32("eps"),
        }
    }
}

impl InputGradient {
    /// Moves three elements per element in training and two in evaluation; one more for y, and one for the residual's
    /// gradient. Bound by memory.
    ///
    /// Parameters, those with a prime in training alone: dy; x′; y with a ReLU; gamma, mean′, and inverse (1/√(σ² + ε))
    /// in training or variance (σ²) in evaluation, dgamma′, dbeta′, all f32 [cols]; dx; dresidual if it is written; eps
    /// (f32, at the launch). dx may be dy.
    ///
    /// # Errors
    /// No rows, no channels, more than 2²⁰ channels, 2³¹ elements or more.
    pub fn kernel<T: Real>(self, target: Target) -> Result<Kernel> {
        let Self { rows, cols, mode, relu, residual } = self;
        check(rows, cols)?;
        let train = mode == Mode::Train;
        let (mode_name, fused) = (mode.name(), fused(relu, residual));
        let name = format!("batch_norm_gradient_{mode_name}{fused}_{}_{rows}x{cols}", T::SPELLED);
        let elements = u64::from(rows) * u64::from(cols);
        let arrays = 2 + [train, relu, residual].into_iter().map(u64::from).sum::<u64>();
        let work = Work {
            bytes: elements * arrays * u64::from(T::BYTES) + (if train { 20 } else { 8 }) * u64::from(cols),
            operations: elements * if train { 6 } else { 1 },
        };
        let launch = Launch::new(FAMILY, name, target);
        let summary = "dx, and the residual's gradient";
        if train && rows <= few::ROWS {
            let launch = few::launch(cols, launch);
            return Ok(Asm::kernel(launch, work, summary, |asm| {
                few::body::<T>(asm, self, Parameters::declare(asm, self))
            }));
        }
        let strips = Strips::new(rows, cols, T::BYTES);
        Ok(Asm::kernel(strips.launch(launch), work, summary, |asm| {
            self.body::<T>(asm, strips, Parameters::declare(asm, self));
        }))
    }

    fn body<'a, T: Real>(self, asm: &'a Asm, strips: Strips, p: Parameters<'a, T>) {
        let width = strips.width;
        strips.each(
            asm,
            |col| {
                let load = |array: Global<'a, F32>| load_all(array.at(col), width);
                let inverse: Vec<_> =
                    load(p.spread).into_iter().map(|spread| self.mode.inverse(spread, p.eps)).collect();
                let scale: Vec<_> = load(p.gamma).into_iter().zip(&inverse).map(|(g, &i)| g * i).collect();
                // Per channel: its mean, dβ/M (subtracted from g), and dγ/M/√(σ² + ε) (times x − μ, subtracted too).
                let away = p.mean.zip(p.sums).map(|(mean, [dgamma, dbeta])| {
                    let share = 1.0 / self.rows as f32;
                    let slopes = load(dgamma).into_iter().zip(inverse).map(|(d, i)| d * i * share);
                    let slopes: Vec<_> = slopes.collect();
                    let shares = load(dbeta).into_iter().map(|d| d * share);
                    load(mean).into_iter().zip(slopes).zip(shares).collect::<Vec<_>>()
                });
                (scale, away)
            },
            |(scale, away), places| {
                let load = |array| load_each::<T>(array, places, width);
                let dys = load(p.dy);
                let [xs, ys] = [p.x, p.y].map(|array| array.map(load).unwrap_or_default());
                for (i, (&at, dy)) in places.iter().zip(dys).enumerate() {
                    let g = ys.get(i).map_or_else(|| dy.clone(), |y| masked(asm, &dy, y));
                    let mut values = g.clone();
                    if let Some((xs, away)) = xs.get(i).zip(away.as_ref()) {
                        for (v, (&x, &((mean, slope), share))) in values.iter_mut().zip(xs.iter().zip(away)) {
                            *v = (mean - x).mad(slope, *v - share);
                        }
                    }
                    let values: Vec<_> = values.into_iter().zip(scale).map(|(v, &s)| v * s).collect();
                    store_all(p.dx.at(at), &values);
                    if let Some(dresidual) = p.dresidual {
                        store_all(dresidual.at(at), &g);
                    }
                }
            },
        );
    }
}
