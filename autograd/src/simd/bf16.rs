//! Products of bfloat16 pairs with f32 sums: AVX-512's `vdpbf16ps`, on x86-64.

/// Whether this processor has the instruction.
pub(crate) fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16") && std::arch::is_x86_feature_detected!("avx512bw")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// So many steps of `SUMS` independent products from registers, to measure their rate.
///
/// # Safety
/// The processor has the instruction ([`available`]).
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn chain<const SUMS: usize>(steps: usize) {
    use std::{arch::x86_64::*, hint::black_box};

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
