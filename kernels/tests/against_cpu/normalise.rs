//! What the tests of the normalisations share: numbers around a mean, and errors bounded element by element.

use crate::elements::{Host, Random, Single, ulp};

/// Half of f32's distance from 1 to the next number: how far its rounding is off, relatively.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Numbers from `centre` − `reach` to `centre` + `reach`.
pub fn around<H: Host>(random: &mut Random, n: usize, centre: f32, reach: f32) -> Vec<f32> {
    random.plain::<Single>(n).iter().map(|x| H::round(centre + x / 8.0 * reach)).collect()
}

/// As f64.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| x.into()).collect()
}

/// Panics with the first number that is further from what it should be than half a unit in the last place of its type, for
/// its rounding, and what `allowed` says.
pub fn within<H: Host>(case: &str, got: &[f32], want: &[f64], allowed: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), want.len(), "{case}: length");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let allowed = ulp::<H>(want) / 2.0 + allowed(i);
        let off = (f64::from(got) - want).abs();
        assert!(
            off <= allowed,
            "{case}: element {i} is {got:e}, not {want:e}; off by {off:.1e} of {allowed:.1e}"
        );
    }
}

/// The bits, of which two runs must give the same.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}
