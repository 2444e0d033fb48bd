//! Functions written so that a loop over a slice vectorises: no calls, no branches.

/// eˣ for f32, within 2 ulp if the result is a normal number, and 0 below: x = n·ln 2 + r with |r| ≤ ln 2 / 2, eʳ as
/// 1 + r + r²·p(r) with p of degree 5, and n added to the exponent (reduction of Cody & Waite 1980; coefficients of the
/// Cephes library).
#[inline(always)]
pub(crate) fn exp_f32(x: f32) -> f32 {
    // Past these bounds f32 overflows to infinity or is a subnormal that is flushed to zero.
    const HIGH: f32 = 88.722_84;
    const LOW: f32 = -87.336_55;
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(LOW, HIGH);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    // n reaches 128 where y < 1, so the scale is applied in two factors that are both finite.
    // The rounded number stands in the low bits of the sum; a conversion would check for NaN and overflow.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let first = f32::from_bits(((half + 127) as u32) << 23);
    let second = f32::from_bits(((n - half + 127) as u32) << 23);
    let y = y * first * second;
    let y = if x > HIGH { f32::INFINITY } else { y };
    let y = if x < LOW { 0.0 } else { y };
    if x.is_nan() { x } else { y }
}

/// ln(1 + x) for f32 in [0, 1], within 2 ulp: 2·artanh(x/(2 + x)), whose series in s = x/(2 + x) ≤ 1/3 needs seven terms.
#[inline(always)]
pub(crate) fn ln_1p_f32(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let z = s * s;
    let mut p = 1.0 / 15.0;
    for k in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        p = p * z + 1.0 / k;
    }
    2.0 * s + 2.0 * s * (z * p)
}

#[cfg(test)]
mod tests {
    use super::{exp_f32, ln_1p_f32};

    #[test]
    fn ln_1p_is_within_two_ulp() {
        for i in 0..=100_000 {
            let x = if i < 1000 { (i as f32 / 10.0 - 100.0).exp() } else { i as f32 / 100_000.0 };
            let (got, want) = (ln_1p_f32(x), f64::from(x).ln_1p());
            let ulp = f64::from(f32::from_bits((want as f32).to_bits() + 1)) - f64::from(want as f32);
            assert!((f64::from(got) - want).abs() <= 2.0 * ulp, "ln_1p({x}) = {got}, want {want}");
        }
        assert!(ln_1p_f32(f32::NAN).is_nan());
    }

    #[test]
    fn exp_is_within_two_ulp() {
        let mut x = -87.3f32;
        while x < 88.72 {
            let (got, want) = (exp_f32(x), f64::from(x).exp());
            let ulp = f64::from(f32::from_bits((want as f32).to_bits() + 1)) - f64::from(want as f32);
            assert!((f64::from(got) - want).abs() <= 2.0 * ulp, "exp({x}) = {got}, want {want}");
            x += 0.003_7;
        }
    }

    #[test]
    fn exp_at_the_ends() {
        assert_eq!(exp_f32(0.0), 1.0);
        assert_eq!(exp_f32(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_f32(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp_f32(1000.0), f32::INFINITY);
        assert_eq!(exp_f32(-1000.0), 0.0);
        assert!(exp_f32(f32::NAN).is_nan());
        assert!(exp_f32(88.72).is_finite());
    }
}
