//! MSE, MAE, PSNR and SSIM of a grey frame, as the tables of video prediction print them.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Result};

/// Side of SSIM's window.
const WINDOW: usize = 7;
const K1: f64 = 0.01;
const K2: f64 = 0.03;
/// Maximum PSNR in dB, which an exact frame gets.
pub const MAX_PSNR: f64 = 100.0;

/// The metrics of a frame, or their means over many. If the prediction is undefined, a
/// number is NaN here and null in JSON.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, bytemuck::Pod, bytemuck::Zeroable,
)]
#[repr(C)]
pub struct Score {
    /// Σ (prediction − truth)² over the frame's pixels; the prediction is not clipped.
    #[serde(deserialize_with = "null_is_nan")]
    pub mse: f64,
    /// Σ |prediction − truth| over the frame's pixels; the prediction is not clipped.
    #[serde(deserialize_with = "null_is_nan")]
    pub mae: f64,
    /// −10·log₁₀ of the mean squared error a pixel in dB, the prediction clipped to [0, 1]; at most [`MAX_PSNR`].
    #[serde(deserialize_with = "null_is_nan")]
    pub psnr: f64,
    /// Structural similarity, the prediction clipped to [0, 1]; 1 is equal.
    #[serde(deserialize_with = "null_is_nan")]
    pub ssim: f64,
}

impl Score {
    /// Mean of each metric; NaN without scores.
    pub fn mean(scores: impl IntoIterator<Item = Self>) -> Self {
        let (mut sum, mut count) = (Self::default(), 0.0);
        for score in scores {
            sum.mse += score.mse;
            sum.mae += score.mae;
            sum.psnr += score.psnr;
            sum.ssim += score.ssim;
            count += 1.0;
        }
        Self { mse: sum.mse / count, mae: sum.mae / count, psnr: sum.psnr / count, ssim: sum.ssim / count }
    }
}

/// serde_json writes NaN as null.
pub(super) fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Computes the metrics of frames of one size.
#[derive(Clone, Copy, Debug)]
pub struct Metrics {
    side: usize,
    c1: f64,
    c2: f64,
}

impl Metrics {
    /// For frames of `side`×`side` pixels. The data range of SSIM is `ssim_range`: 1, or 2 as in older tables.
    ///
    /// # Errors
    /// [`Error::Usage`] when a frame is smaller than SSIM's window of 7×7, or the range is not above 0.
    pub fn new(side: usize, ssim_range: f64) -> Result<Self> {
        if side < WINDOW {
            return Err(Error::Usage(format!(
                "frames of {side} pixels are too small for SSIM; the minimum is 7"
            )));
        }
        if !(ssim_range > 0.0 && ssim_range.is_finite()) {
            return Err(Error::Usage(format!("the range of SSIM is {ssim_range}, and must be above 0")));
        }
        Ok(Self { side, c1: (K1 * ssim_range).powi(2), c2: (K2 * ssim_range).powi(2) })
    }

    /// The metrics of one frame; both are [S, S, channels]. Of colours, the mean over the colours.
    pub fn score_colours(&self, prediction: &[f32], truth: &[f32], channels: usize) -> Score {
        if channels == 1 {
            return self.score(prediction, truth);
        }
        let plane =
            |frame: &[f32], c: usize| frame.iter().skip(c).step_by(channels).copied().collect::<Vec<_>>();
        Score::mean((0..channels).map(|c| self.score(&plane(prediction, c), &plane(truth, c))))
    }

    /// The metrics of one frame; both are [S, S].
    pub fn score(&self, prediction: &[f32], truth: &[f32]) -> Score {
        let area = self.side * self.side;
        debug_assert!(prediction.len() == area && truth.len() == area);
        let (mut mse, mut mae, mut clipped_mse) = (0.0, 0.0, 0.0);
        let mut clipped = Vec::with_capacity(area);
        for (&p, &t) in prediction.iter().zip(truth) {
            let t = f64::from(t);
            let error = f64::from(p) - t;
            mse += error * error;
            mae += error.abs();
            let p = f64::from(p.clamp(0.0, 1.0));
            clipped_mse += (p - t) * (p - t);
            clipped.push((p, t));
        }
        // Not `min`, which would turn NaN into the maximum.
        let psnr = -10.0 * (clipped_mse / area as f64).log10();
        let psnr = if psnr > MAX_PSNR { MAX_PSNR } else { psnr };
        Score { mse, mae, psnr, ssim: self.ssim(&clipped) }
    }

    /// SSIM (Wang et al. 2004) as `skimage.metrics.structural_similarity` computes it by default: a uniform window of
    /// 7×7, sample (co)variances (÷ 48), the mean over all windows that lie within the frame of
    ///
    /// (2·μx·μy + C1)·(2·σxy + C2) / ((μx² + μy² + C1)·(σx² + σy² + C2)),  C = (K·range)², K1 = 0.01, K2 = 0.03.
    ///
    /// Sums of x, y, x² + y² and xy move down the columns and along the rows: 4 additions a pixel and direction.
    fn ssim(&self, frame: &[(f64, f64)]) -> f64 {
        let (side, n) = (self.side, (WINDOW * WINDOW) as f64);
        let sample = n / (n - 1.0);
        let mut columns = vec![[0.0; 4]; side];
        let mut total = 0.0;
        for (y, row) in frame.chunks_exact(side).enumerate() {
            for (sums, &pixel) in columns.iter_mut().zip(row) {
                add(sums, products(pixel), 1.0);
            }
            if y >= WINDOW {
                for (sums, &pixel) in columns.iter_mut().zip(&frame[(y - WINDOW) * side..]) {
                    add(sums, products(pixel), -1.0);
                }
            }
            if y + 1 < WINDOW {
                continue;
            }
            let mut window = [0.0; 4];
            for x in 0..side {
                add(&mut window, columns[x], 1.0);
                if x >= WINDOW {
                    add(&mut window, columns[x - WINDOW], -1.0);
                }
                if x + 1 >= WINDOW {
                    let [mx, my, squares, xy] = window.map(|sum| sum / n);
                    let covariance = sample * (xy - mx * my);
                    let variances = sample * (squares - mx * mx - my * my);
                    total += (2.0 * mx * my + self.c1) * (2.0 * covariance + self.c2)
                        / ((mx * mx + my * my + self.c1) * (variances + self.c2));
                }
            }
        }
        let windows = (side + 1 - WINDOW) as f64;
        total / (windows * windows)
    }
}

fn products((x, y): (f64, f64)) -> [f64; 4] {
    [x, y, x * x + y * y, x * y]
}

fn add(sums: &mut [f64; 4], values: [f64; 4], sign: f64) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += sign * value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ((a·x + b·y + (xy mod 7)) mod 17) / 16.
    fn pattern(side: usize, a: usize, b: usize) -> Vec<f64> {
        let at = |i| (i % side, i / side);
        (0..side * side).map(at).map(|(x, y)| ((a * x + b * y + x * y % 7) % 17) as f64 / 16.0).collect()
    }

    fn pair(side: usize) -> (Vec<f32>, Vec<f32>) {
        let (truth, other) = (pattern(side, 3, 5), pattern(side, 2, 7));
        let mixed = truth.iter().zip(other).map(|(t, o)| (0.8 * t + 0.25 * o - 0.02) as f32);
        (mixed.collect(), truth.iter().map(|&t| t as f32).collect())
    }

    fn near(a: f64, b: f64, what: &str) {
        assert!((a - b).abs() <= 2e-6 * b.abs(), "{what}: {a} where {b} was expected");
    }

    /// Reference values of scikit-image 0.26.0 (and NumPy for MSE and MAE) in float64.
    #[test]
    fn agrees_with_scikit_image() {
        let black = [3.65418666159367e-06, 3.49391215599168e-06, 3.993152216258383e-06];
        let black_psnr = [4.523265233615152, 4.379770525311487, 4.668910038182532];
        for (i, (side, ssim, ssim_2, psnr, mse, mae)) in [
            (7, 0.9432157642879454, 0.94414245321085, 20.43179302855135, 0.44402578125, 3.77625),
            (12, 0.947928271425319, 0.9487828173052271, 20.602991955642583, 1.2548304687499998, 10.93875),
            (33, 0.9429358257460156, 0.9438815129473003, 20.34076669180461, 10.074137109375, 86.040625),
        ]
        .into_iter()
        .enumerate()
        {
            let (prediction, truth) = pair(side);
            let metrics = Metrics::new(side, 1.0).unwrap();
            let score = metrics.score(&prediction, &truth);
            near(score.ssim, ssim, "SSIM");
            near(score.psnr, psnr, "PSNR");
            near(score.mse, mse, "MSE");
            near(score.mae, mae, "MAE");
            near(Metrics::new(side, 2.0).unwrap().score(&prediction, &truth).ssim, ssim_2, "SSIM, range 2");
            let dark = metrics.score(&vec![0.0; side * side], &truth);
            near(dark.ssim, black[i], "SSIM of black");
            near(dark.psnr, black_psnr[i], "PSNR of black");
        }
    }

    #[test]
    fn edges() {
        let metrics = Metrics::new(8, 1.0).unwrap();
        let truth = vec![0.5; 64];
        let same = metrics.score(&truth, &truth);
        assert_eq!((same.mse, same.mae, same.psnr), (0.0, 0.0, MAX_PSNR));
        near(same.ssim, 1.0, "SSIM of equal frames");
        // Out of range: clipped for PSNR and SSIM only.
        let white = metrics.score(&[1.5; 64], &[1.0; 64]);
        assert_eq!((white.mse, white.mae, white.psnr), (16.0, 32.0, MAX_PSNR));
        let undefined = metrics.score(&[f32::NAN; 64], &truth);
        assert!([undefined.mse, undefined.mae, undefined.psnr, undefined.ssim].iter().all(|v| v.is_nan()));
        let json = serde_json::to_string(&undefined).unwrap();
        assert!(serde_json::from_str::<Score>(&json).unwrap().psnr.is_nan(), "{json}");
        assert!(Score::mean([]).mse.is_nan());
        assert!(Metrics::new(6, 1.0).is_err() && Metrics::new(8, 0.0).is_err());
    }
}
