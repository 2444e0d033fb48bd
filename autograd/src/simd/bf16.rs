//! Products of bfloat16 pairs with f32 sums: AVX-512's `vdpbf16ps`, on x86-64.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::tile::{Operand, Panel};

/// Whether this processor has the instruction.
pub(crate) fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        // The other kernels' registers must be as wide.
        super::native_lanes::<f32>() == 16
            && has!("avx512f")
            && has!("avx512bw")
            && has!("avx512vl")
            && has!("avx512dq")
            && has!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// f32 rounded to bfloat16, to the nearest with ties to even, as bits. Subnormal values stay; a NaN stays one.
#[inline(always)]
pub(crate) fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded }
}

/// Two bfloat16 numbers, the first in the low half: a word of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Pair(u32);

// SAFETY: a u32 and nothing else; every bit pattern is one.
unsafe impl bytemuck::Zeroable for Pair {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Pair {}

impl Operand for Pair {
    type Part = u16;
    type Sum = f32;
    const PARTS: usize = 2;

    #[inline(always)]
    fn word([first, second]: [f32; 2]) -> Self {
        Self(u32::from(round(first)) | u32::from(round(second)) << 16)
    }
    fn borrow(_: &[f32]) -> Option<&[u16]> {
        None
    }
    fn convert(elements: &[f32], parts: &mut [u16]) {
        crate::wide!(for (part, &x) in parts.iter_mut().zip(elements) {
            *part = round(x);
        });
    }
    fn dispatch(panel: Panel<Self>) {
        assert!(available(), "bf16 products on a processor that has none");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions.
        unsafe {
            run(panel);
        }
        #[cfg(not(target_arch = "x86_64"))]
        drop(panel);
    }
}

/// The panel by tiles that fit 32 registers of 512 bits.
///
/// # Safety
/// The processor has the instructions ([`available`]).
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")]
unsafe fn run(panel: Panel<Pair>) {
    match panel.width / 16 {
        1 => panel.tiles::<_, 14, 1>(Avx512),
        2 => panel.tiles::<_, 12, 2>(Avx512),
        3 => panel.tiles::<_, 8, 3>(Avx512),
        vectors => unreachable!("a panel of {vectors} registers"),
    }
}

/// Registers of 16 pairs or 16 sums. Made only inside [`run`].
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Avx512;

#[cfg(target_arch = "x86_64")]
impl super::tile::Registers for Avx512 {
    type W = Pair;
    type Words = __m512i;
    type Sums = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: only `run` makes these registers, where the instructions are.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const Pair) -> __m512i {
        // SAFETY: as the trait's.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn broadcast(self, from: *const u16) -> __m512i {
        // SAFETY: as the trait's; two parts are one word.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512i, b: __m512i, sum: __m512) -> __m512 {
        // SAFETY: as in `zero`; both types are 64 bytes of which every pattern is valid.
        unsafe {
            let [a, b] = [a, b].map(|words| std::mem::transmute::<__m512i, __m512bh>(words));
            _mm512_dpbf16_ps(sum, a, b)
        }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `zero`.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn load_sums(self, from: *const f32) -> __m512 {
        // SAFETY: as the trait's.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, sums: __m512, to: *mut f32) {
        // SAFETY: as the trait's.
        unsafe { _mm512_storeu_ps(to, sums) }
    }
}

/// So many steps of `SUMS` independent products from registers, to measure their rate.
///
/// # Safety
/// The processor has the instruction ([`available`]).
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn chain<const SUMS: usize>(steps: usize) {
    use std::hint::black_box;

    // SAFETY: both are 64 bytes without padding, and every bit pattern is one of each.
    let [a, b] = [0x3e80_3e80, 0x3e00_3e00]
        .map(|bits| unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(black_box(bits))) });
    let mut sums = [_mm512_setzero_ps(); SUMS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, a, b);
        }
    }
    black_box(sums);
}

#[cfg(test)]
mod tests {
    use super::round;

    #[test]
    fn rounding_is_to_the_nearest_even() {
        let of = |x: f32| f32::from_bits(u32::from(round(x)) << 16);
        assert_eq!([of(1.0), of(-0.0), of(f32::INFINITY)], [1.0, 0.0, f32::INFINITY]);
        assert!(of(f32::NAN).is_nan() && of(f32::from_bits(0x7f80_0001)).is_nan());
        for i in 0..100_000u32 {
            let x = f32::from_bits(0x3f80_0000 + i.wrapping_mul(2_654_435_761) % 0x0080_0000);
            assert_eq!(of(x), half::bf16::from_f32(x).to_f32(), "{x}");
        }
        // Halfway: to the even neighbour.
        assert_eq!(of(1.0 + 2f32.powi(-8)), 1.0);
        assert_eq!(of(1.0 + 3.0 * 2f32.powi(-8)), 1.0 + 2f32.powi(-6));
        assert!(of(f32::MAX).is_infinite());
    }
}
