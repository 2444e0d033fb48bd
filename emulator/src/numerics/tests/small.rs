//! tf32 and 8-bit floats against a search for the nearest of all values.

use crate::numerics::small::{Eight, Tensor, TensorRounding};

const FORMATS: [(Eight, f32, f32); 2] =
    [(Eight::E4m3, 448.0, 0.001953125), (Eight::E5m2, 57344.0, 1.525_878_9e-5)];

/// The numbers of a format that are not negative, with their bits.
fn values(format: Eight) -> Vec<(f32, u32)> {
    let (_, _, largest) = format.layout();
    (0..=largest).map(|bits| (f32::from_bits(format.widen(bits)), bits)).collect()
}

#[test]
fn eight_bit_floats_have_the_values_that_their_paper_lists() {
    for (format, most, least) in FORMATS {
        let all = values(format);
        assert_eq!((all[0].0, all[1].0, all[all.len() - 1].0), (0.0, least, most));
        assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
    assert_eq!(f32::from_bits(Eight::E4m3.widen(0x38)), 1.0);
    assert_eq!(f32::from_bits(Eight::E4m3.widen(0x88)), -0.015625);
    assert_eq!(f32::from_bits(Eight::E5m2.widen(0xc1)), -2.5);
    assert!(f32::from_bits(Eight::E4m3.widen(0xff)).is_nan());
    assert_eq!(f32::from_bits(Eight::E5m2.widen(0xfc)), f32::NEG_INFINITY);
    assert!(f32::from_bits(Eight::E5m2.widen(0x7d)).is_nan());
    assert_eq!(Eight::E4m3.widen_pair(0x7f38, false), 0x7fff_3c00);
    assert_eq!(Eight::E5m2.widen_pair(0xbcfc, false), 0xbc00_fc00);
    assert_eq!(Eight::E5m2.widen_pair(0xbc3c, true), 0x0000_3c00);
}

#[test]
fn narrowing_finds_the_nearest() {
    for (format, most, _) in FORMATS {
        let all = values(format);
        // Every value, the middle of every two, and both neighbours of those.
        let mut inputs: Vec<f32> = all.iter().map(|v| v.0).collect();
        inputs.extend(all.windows(2).map(|pair| (pair[0].0 + pair[1].0) / 2.0));
        inputs.extend(inputs.clone().iter().flat_map(|x| [x.next_up(), x.next_down().max(0.0)]));
        inputs.extend([most * 1.01, most * 2.0, f32::MAX, f32::INFINITY, f32::MIN_POSITIVE, 1e-45]);
        for x in inputs {
            let distance = |v: f32| (f64::from(v) - f64::from(x)).abs();
            let nearest = all.iter().map(|v| distance(v.0)).fold(f64::INFINITY, f64::min);
            let found: Vec<u32> = all.iter().filter(|v| distance(v.0) == nearest).map(|v| v.1).collect();
            let expected = match *found.as_slice() {
                [one] => one,
                [a, b] => {
                    if a & 1 == 0 {
                        a
                    } else {
                        b
                    }
                }
                // An infinity is as far from all: the largest.
                _ => format.layout().2,
            };
            assert_eq!(format.narrow(x.to_bits(), false), expected, "{format:?} of {x:e}");
            assert_eq!(format.narrow((-x).to_bits(), false), expected | 0x80, "{format:?} of -{x:e}");
            assert_eq!(format.narrow((-x).to_bits(), true), 0, "{format:?} of -{x:e} with .relu");
        }
        assert_eq!(format.narrow(f32::NAN.to_bits(), true), 0x7f);
        assert_eq!(format.narrow((-f32::NAN).to_bits(), false), 0x7f);
    }
    assert_eq!(Eight::E4m3.narrow_pair(0x3c00_c000, false), 0x38c0);
    assert_eq!(Eight::E5m2.narrow_pair(0x7c00_fc00, false), 0x7bfb);
}

#[test]
fn tf32_rounds_as_it_is_asked() {
    let of = |rounding, x| Tensor { rounding, relu: false, finite: false }.apply(x);
    let (away, even, zero) = (TensorRounding::Away, TensorRounding::Even, TensorRounding::Zero);
    assert_eq!([away, even, zero].map(|r| of(r, 0x3f80_1000)), [0x3f80_2000, 0x3f80_0000, 0x3f80_0000]);
    assert_eq!([away, even, zero].map(|r| of(r, 0xbf80_3000)), [0xbf80_4000, 0xbf80_4000, 0xbf80_2000]);
    assert_eq!([away, even, zero].map(|r| of(r, 0x3f80_1fff)), [0x3f80_2000, 0x3f80_2000, 0x3f80_0000]);
    assert_eq!([away, even, zero].map(|r| of(r, 0x7f7f_ffff)), [0x7f80_0000, 0x7f80_0000, 0x7f7f_e000]);
    assert_eq!(of(zero, 0xffc0_0001), 0x7fff_ffff);
    let finite = Tensor { rounding: away, relu: false, finite: true };
    assert_eq!([0x7f7f_ffff, 0xff80_0000].map(|x| finite.apply(x)), [0x7f7f_e000, 0xff7f_e000]);
    let relu = Tensor { rounding: zero, relu: true, finite: false };
    assert_eq!([0xbf80_0000, 0x7fc0_0000, 0x3f80_0001].map(|x| relu.apply(x)), [0, 0x7fff_ffff, 0x3f80_0000]);
}
