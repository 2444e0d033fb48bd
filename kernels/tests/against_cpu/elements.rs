//! Element types on the host, numbers to feed, and how results are compared.

use half::f16;
use ssmv_emulator::Report;
use ssmv_kernels::{ptx, span::Real};

use crate::harness::POISON;

/// An element type as the host sees it: as f32, in which every one of them is exact.
pub trait Host {
    /// The kernels' type.
    type Gpu: Real;
    /// Bits of the significand behind the point.
    const DIGITS: i32;
    /// The exponent of the smallest subnormal.
    const LEAST: i32;
    /// The nearest number of the type.
    fn round(x: f32) -> f32;
    /// The bytes of numbers, rounded.
    fn encode(values: &[f32]) -> Vec<u8>;
    /// The numbers of bytes.
    fn decode(bytes: &[u8]) -> Vec<f32>;
}

/// IEEE binary16.
pub struct Half;

/// IEEE binary32.
pub struct Single;

impl Host for Half {
    type Gpu = ptx::F16;
    const DIGITS: i32 = 10;
    const LEAST: i32 = -24;

    fn round(x: f32) -> f32 {
        f16::from_f32(x).to_f32()
    }

    fn encode(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect()
    }

    fn decode(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect()
    }
}

impl Host for Single {
    type Gpu = ptx::F32;
    const DIGITS: i32 = 23;
    const LEAST: i32 = -149;

    fn round(x: f32) -> f32 {
        x
    }

    fn encode(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    fn decode(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }
}

/// The distance of neighbouring numbers of a type at x.
pub fn ulp<H: Host>(x: f64) -> f64 {
    let exponent = if x == 0.0 || !x.is_finite() { H::LEAST } else { x.abs().log2().floor() as i32 };
    2f64.powi((exponent - H::DIGITS).max(H::LEAST))
}

/// A fixed generator (Steele et al. 2014, SplitMix64).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Numbers of a type between −8 and 8.
    pub fn plain<H: Host>(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| H::round((self.next() >> 40) as f32 / (1u64 << 20) as f32 - 8.0)).collect()
    }

    /// The same with the type's corners strewn in.
    pub fn with_corners<H: Host>(&mut self, n: usize) -> Vec<f32> {
        let mut values = self.plain::<H>(n);
        for x in &mut values {
            if self.below(3) == 0 {
                *x = H::round(CORNERS[self.below(CORNERS.len())]);
            }
        }
        values
    }

    /// Size in bytes, without alignment.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// Zeros, infinities, NaN, subnormals and extremes of both types, and where the functions change their formulae.
const CORNERS: [f32; 28] = [
    0.0,
    -0.0,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    1e-40,
    -1e-40,
    f32::MIN_POSITIVE,
    6e-8,
    -6e-8,
    3e-5,
    1.0,
    -1.0,
    0.1,
    -0.1,
    0.099_9,
    20.0,
    20.1,
    -20.0,
    11.08,
    88.7,
    -88.7,
    -100.0,
    65_504.0,
    -65_504.0,
    65_519.0,
    f32::MAX,
    f32::MIN,
];

/// How far a result may be from the reference.
#[derive(Debug, Clone, Copy)]
pub enum Tolerance {
    /// The same bits; any NaN for NaN.
    Exact,
    /// Half a unit in the last place of the type, for its rounding; besides, so many units of f32, and so much.
    Near { ulps: f64, absolute: f64 },
}

/// Panics with the first number that is not what it should be.
pub fn compare<H: Host>(case: &str, got: &[f32], want: &[f64], tolerance: Tolerance) {
    assert_eq!(got.len(), want.len(), "{case}: length");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let rounded = H::round(want as f32);
        let same = got.to_bits() == rounded.to_bits() || got.is_nan() && want.is_nan();
        let near = match tolerance {
            Tolerance::Exact => false,
            Tolerance::Near { ulps, absolute } => {
                let allowed = ulp::<H>(want) / 2.0 + ulps * ulp::<Single>(want) + absolute;
                got.is_finite() && (f64::from(got) - want).abs() <= allowed
            }
        };
        let relative = (f64::from(got) - want).abs() / want.abs();
        assert!(
            same || near,
            "{case}: element {i} is {got:e}, not {want:e}; off by {relative:.1e} ({tolerance:?})"
        );
    }
}

/// Rows of `cols` numbers in a wider matrix, `pitch` apart; NaN between them.
pub fn spread(values: &[f32], cols: usize, pitch: u32) -> Vec<f32> {
    let gap = vec![f32::NAN; pitch as usize - cols];
    values.chunks(cols).flat_map(|row| row.iter().chain(&gap).copied()).collect()
}

/// Takes the rows out of an output again. Panics where something was written between them.
pub fn gather<H: Host>(case: &str, bytes: &[u8], cols: usize, pitch: u32) -> Vec<f32> {
    let element = H::encode(&[0.0]).len();
    let rows = bytes.chunks(pitch as usize * element);
    let cut = rows.flat_map(|row| {
        let (row, gap) = row.split_at(cols * element);
        assert!(gap.iter().all(|&byte| byte == POISON), "{case}: written between the rows");
        H::decode(row)
    });
    cut.collect()
}

/// Panics unless every access to memory was one piece of whole sectors, and shared memory had no conflicts.
pub fn assert_coalesced(case: &str, report: &Report) {
    assert_eq!(report.bank_conflicts, 0, "{case}: bank conflicts");
    assert_eq!(report.global_sectors, report.global_sectors_ideal, "{case}: sectors beyond the ideal");
    assert!(report.global_sectors > 0, "{case}: no traffic was counted");
}
