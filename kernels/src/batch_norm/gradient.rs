//! The gradients of x and of the residual.

use super::{Channels, FAMILY, Mode, fused, loads, masked, strip::Strips};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F32, Launch},
    span::{Real, store_all},
};

/// dx = γ/√(σ² + ε)·(g − dβ/M − x̂·dγ/M) in training, γ/√(σ² + ε)·g in evaluation, over a matrix [rows, cols] of fewer than
/// 2³² elements.
///
/// In training with few rows nearly all of it cancels: what is left is right to f32's rounding of γ/√(σ² + ε)·g.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InputGradient {
    /// Rows, N·H·W.
    pub rows: u32,
    /// Channels.
    pub cols: u32,
    /// Whose statistics.
    pub mode: Mode,
    /// Whether max(·, 0) followed: g is dy where y > 0.
    pub relu: bool,
    /// Whether g is written as the gradient of a residual. Without a ReLU that is dy itself, and nothing need be written.
    pub residual: bool,
}

impl InputGradient {
    /// The kernel. Parameters: dy, (x in training,) (y with a ReLU,) (mean in training,) spread (1/√(σ² + ε) in training,
    /// σ² in evaluation), weight, (dweight, dbias in training,) (all f32 [cols]), dx, (dresidual,) eps (f32, at the
    /// launch). dx may be dy.
    /// Moves in training three elements an element, in evaluation two; one more for y, one for the residual's gradient.
    pub fn kernel<T: Real>(self, target: Target) -> Kernel {
        let Self { rows, cols, mode, relu, residual } = self;
        let train = mode == Mode::Train;
        let strips = Strips::new(rows, cols, T::VECTOR);
        let (mode_name, fused) = (mode.name(), fused(relu, residual));
        let name = format!("batch_norm_gradient_{mode_name}{fused}_{}_{rows}x{cols}", T::SPELLED);
        let elements = u64::from(rows) * u64::from(cols);
        let arrays = 2 + [train, relu, residual].into_iter().map(u64::from).sum::<u64>();
        let work = Work {
            bytes: elements * arrays * u64::from(T::BYTES) + (if train { 20 } else { 8 }) * u64::from(cols),
            operations: elements * if train { 6 } else { 1 },
        };
        let launch = strips.launch(Launch::new(FAMILY, name, target));
        Asm::kernel(launch, work, "dx, and the residual's gradient", |k| {
            let image = |name, there: bool| there.then(|| k.pointer::<T>(name));
            let channels = |name, there: bool| there.then(|| k.pointer::<F32>(name));
            let (dy, x, y) = (k.pointer::<T>("dy"), image("x", train), image("y", relu));
            let mean = channels("mean", train);
            let (spread, weight) = (k.pointer::<F32>("spread"), k.pointer::<F32>("weight"));
            let sums = channels("dweight", train).zip(channels("dbias", train));
            let (dx, dresidual) = (k.pointer::<T>("dx"), image("dresidual", residual));
            let (eps, width) = (k.parameter_f32("eps"), strips.width);
            strips.each(
                k,
                |col| {
                    let load = |array| Channels::new(array, col, width).load();
                    let inverse = mode.inverse(Channels::new(spread, col, width), eps);
                    let scale: Vec<_> = load(weight).into_iter().zip(&inverse).map(|(w, &i)| w * i).collect();
                    // Of g's mean and of x − μ: what is taken away.
                    let away = mean.zip(sums).map(|(mean, (dweight, dbias))| {
                        let share = 1.0 / rows as f32;
                        let slopes = load(dweight).into_iter().zip(inverse).map(|(d, i)| d * i * share);
                        let means: Vec<_> = load(dbias).into_iter().map(|d| d * share).collect();
                        load(mean).into_iter().zip(slopes.zip(means)).collect::<Vec<_>>()
                    });
                    (scale, away)
                },
                |(scale, away), places| {
                    let load = |array| loads::<T>(array, places, width);
                    let dys = load(dy);
                    let [xs, ys] = [x, y].map(|array| array.map(load).unwrap_or_default());
                    for (i, (&at, dy)) in places.iter().zip(dys).enumerate() {
                        let g = ys.get(i).map_or_else(|| dy.clone(), |y| masked(k, &dy, y));
                        let mut values = g.clone();
                        if let Some((x, away)) = xs.get(i).zip(away.as_ref()) {
                            for (v, (&x, &(mean, (slope, share)))) in values.iter_mut().zip(x.iter().zip(away)) {
                                *v = (-(x - mean)).mad(slope, *v - share);
                            }
                        }
                        let values: Vec<_> = values.into_iter().zip(scale).map(|(v, &s)| v * s).collect();
                        store_all(dx.at(at), &values);
                        if let Some(dresidual) = dresidual {
                            store_all(dresidual.at(at), &g);
                        }
                    }
                },
            );
        })
    }
}
