//! The running mean of the parameters.

/// The parameters' share in their running mean at update `t`, counted from 1: 1 − min(`decay`, (1 + t)/(10 + t)).
///
/// With a constant decay δ the mean would be near the first parameters for about 1/(1 − δ) updates; this one follows the
/// last tenth of a short training (the warm-up of TensorFlow's `ExponentialMovingAverage` with `num_updates`).
pub fn ema_share(decay: f64, t: u64) -> f64 {
    let t = t as f64;
    1.0 - decay.min((t + 1.0) / (t + 10.0))
}

/// average ← average + share·(parameter − average), each operation rounded to f32: an exponential moving average (Polyak &
/// Juditsky 1992). Both have the same length.
pub fn average(parameters: &[f32], average: &mut [f32], share: f64) {
    let share = share as f32;
    average.iter_mut().zip(parameters).for_each(|(a, &p)| *a += share * (p - *a));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_falls_from_the_first_update_to_what_the_decay_leaves() {
        let shares: Vec<f64> = (1..20_000).map(|t| ema_share(0.999, t)).collect();
        assert_eq!(shares[0], 1.0 - 2.0 / 11.0);
        assert!(shares.windows(2).all(|pair| pair[1] <= pair[0]));
        assert_eq!(shares.last(), Some(&(1.0 - 0.999)));
        assert_eq!(ema_share(0.0, 7), 1.0);
    }

    #[test]
    fn a_short_training_leaves_little_of_the_first_parameters() {
        // From 0 the mean of parameters that are 1 from then on is 1 less what the first still have.
        let mut mean = [0.0];
        (1..=100).for_each(|t| average(&[1.0], &mut mean, ema_share(0.9999, t)));
        assert!(mean[0] > 0.999_999, "{}", mean[0]);
    }
}
