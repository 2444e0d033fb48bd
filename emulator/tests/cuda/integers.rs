use super::*;

/// Pairs, the second one never 0 and never −1: quotients exist.
fn pairs() -> impl Strategy<Value = Vec<(i64, i64)>> {
    let number = || {
        prop_oneof![
            any::<i64>(),
            any::<i32>().prop_map(i64::from),
            (any::<i64>(), 0..64).prop_map(|(x, s)| x >> s)
        ]
    };
    some((number(), number().prop_filter("a divisor", |y| *y != 0 && *y != -1)), 200)
}

kernel_test!(wide, "integers", (pairs: pairs()), |device| {
    let (x, y): (Vec<i64>, Vec<i64>) = pairs.iter().copied().unzip();
    let (xt, yt, out) = (device.input(&x), device.input(&y), device.output::<i64>(x.len() * 12));
    device.launch_1d("wide", x.len(), 64, &args![xt, yt, out, x.len() as i32]);
    let found = device.read::<i64>(out, x.len() * 12);
    for (i, (a, b)) in pairs.into_iter().enumerate() {
        let (c, d) = (a as u64, b as u64);
        let expected = [
            a.wrapping_add(b),
            a.wrapping_mul(b),
            a / b,
            a % b,
            (c / d) as i64,
            (c % d) as i64,
            ((i128::from(a) * i128::from(b)) >> 64) as i64,
            ((u128::from(c) * u128::from(d)) >> 64) as i64,
            a << (b & 63),
            a >> (b & 63),
            a.min(b),
            (a & b) ^ !(a | 0xff),
        ];
        prop_assert_eq!(&found[i * 12..][..12], expected, "{} {}", a, b);
    }
});

/// `prmt` with no mode: each nibble of the selector picks a byte of the eight.
fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    (0..4).map(|i| ((bytes >> (8 * (selector >> (4 * i) & 7))) as u32 & 0xff) << (8 * i)).sum()
}

kernel_test!(bits, "integers", (pairs: some((any::<u32>(), any::<u32>()), 200)), |device| {
    let (x, y): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
    let (xt, yt, out) = (device.input(&x), device.input(&y), device.output::<u32>(x.len() * 20));
    device.launch_1d("bits", x.len(), 64, &args![xt, yt, out, x.len() as i32]);
    let found = device.read::<u32>(out, x.len() * 20);
    for (i, (a, b)) in pairs.into_iter().enumerate() {
        let both = u64::from(b) << 32 | u64::from(a);
        let (s, t) = (a as i32, b as i32);
        let (low24, other24) = (s << 8 >> 8, t << 8 >> 8);
        let from = b & 31;
        let top = (from + 9 - 1).min(31);
        let field = (0..32).map(|bit| (a >> (from + bit.min(8)).min(top) & 1) << bit).sum::<u32>();
        let expected = [
            a.count_ones(),
            a.leading_zeros(),
            a.reverse_bits(),
            permute(a, b, 0x5410),
            permute(a, b, b & 0x7777),
            (both << (b & 31) >> 32) as u32,
            (both >> (b & 63).min(32)) as u32,
            if a == 0 { 0 } else { a.trailing_zeros() + 1 },
            ((u64::from(a) * u64::from(b)) >> 32) as u32,
            ((i64::from(s) * i64::from(t)) >> 32) as u32,
            s.abs_diff(t).wrapping_add(5),
            a.abs_diff(b).wrapping_add(5),
            a >> 5 & 0x3ff,
            ((s << 9) >> 20) as u32,
            (u64::from(a) << 32 | u64::from(b)).count_ones() + 100 * (u64::from(a) << (b & 31)).leading_zeros(),
            (a & b) | (!a & 0x0f0f_0f0f),
            low24.wrapping_mul(other24) as u32,
            (b & !(0x7ff << 7)) | (a & 0x7ff) << 7,
            field,
            a.to_le_bytes().iter().zip(b.to_le_bytes()).map(|(a, b)| u32::from(*a) * u32::from(b)).sum::<u32>() + 17,
        ];
        prop_assert_eq!(&found[i * 20..][..20], expected, "{:#x} {:#x}", a, b);
    }
});

kernel_test!(narrow, "integers", (pairs: some((any::<i8>(), any::<u16>()), 200)), |device| {
    let (x, y): (Vec<i8>, Vec<u16>) = pairs.iter().copied().unzip();
    let (xt, yt, out) = (device.input(&x), device.input(&y), device.output::<i16>(x.len() * 6));
    device.launch_1d("narrow", x.len(), 64, &args![xt, yt, out, x.len() as i32]);
    let found = device.read::<i16>(out, x.len() * 6);
    for (i, (a, b)) in pairs.into_iter().enumerate() {
        let (wide_a, wide_b) = (i32::from(a), i32::from(b));
        let byte = i32::from(a as u8);
        let expected = [
            wide_a * 3,
            wide_b >> 3,
            i32::from((wide_a + wide_b) as i8),
            i32::from((wide_a - 1) as u8),
            if a < 0 { -wide_b } else { wide_b / 5 },
            byte * i32::from(b as u8),
        ];
        prop_assert_eq!(&found[i * 6..][..6], expected.map(|v| v as i16), "{} {}", a, b);
    }
});

fn divisor() -> impl Strategy<Value = i32> {
    prop_oneof![2i32..1000, 2..i32::MAX, i32::MIN..-1]
}

kernel_test!(divide, "integers", (pairs: some((any::<i32>(), divisor()), 200)), |device| {
    let (x, y): (Vec<i32>, Vec<i32>) = pairs.iter().copied().unzip();
    let (xt, yt, out) = (device.input(&x), device.input(&y), device.output::<i32>(x.len() * 8));
    device.launch_1d("divide", x.len(), 64, &args![xt, yt, out, x.len() as i32]);
    let found = device.read::<i32>(out, x.len() * 8);
    for (i, (a, b)) in pairs.into_iter().enumerate() {
        let (c, d) = (a as u32, b as u32);
        let expected = [a / b, a % b, (c / d) as i32, (c % d) as i32, a / 10, a % 1000, (c / 641) as i32, a / 16];
        prop_assert_eq!(&found[i * 8..][..8], expected, "{} {}", a, b);
    }
});
