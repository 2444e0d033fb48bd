use super::*;
use half::{bf16, f16};

/// Multiples of 1/64 up to 8: products and sums of two are exact in f32, so that one rounding remains.
fn numbers() -> impl Strategy<Value = f32> {
    (-512i16..512).prop_map(|x| f32::from(x) / 64.0)
}

kernel_test!(pairs, "halves", (pairs: some(prop::array::uniform4(numbers()), 200)), |device| {
    let of = |at: usize| -> Vec<f16> { pairs.iter().flat_map(|p| [p[at], p[at + 1]]).map(f16::from_f32).collect() };
    let n = pairs.len();
    let (x, y, out) = (device.input(&of(0)), device.input(&of(2)), device.output::<f16>(n * 14));
    device.launch_1d("half_pairs", n, 64, &args![x, y, out, n as i32]);
    let found = device.read::<f16>(out, n * 14);
    for (i, p) in pairs.iter().enumerate() {
        let mut expected = vec![];
        let both = |f: &dyn Fn(f32, f32, f32) -> f32| [f(p[0], p[2], 0.5), f(p[1], p[3], -0.25)];
        expected.extend(both(&|a, b, _| a + b));
        expected.extend(both(&|a, b, _| a * b));
        expected.extend(both(&|a, b, c| a * b + c));
        expected.extend(both(&|a, b, _| (a - b).max(0.0)));
        expected.extend(both(&|a, _, _| -a.abs()));
        expected.extend(both(&|a, b, _| f32::from(u8::from(a > b))));
        expected.extend([p[0] * 3.0, p[3]]);
        let found: Vec<f32> = found[i * 14..][..14].iter().map(|h| h.to_f32()).collect();
        let expected: Vec<f32> = expected.into_iter().map(|x| f16::from_f32(x).to_f32()).collect();
        prop_assert_eq!(found, expected, "{:?}", p);
    }
});

kernel_test!(functions, "halves", (x: some(numbers(), 200)), |device| {
    let halves: Vec<f16> = x.iter().map(|x| f16::from_f32(*x)).collect();
    let (from, out) = (device.input(&halves), device.output::<f32>(x.len() * 5));
    device.launch_1d("half_functions", x.len(), 64, &args![from, out, x.len() as i32]);
    let found = device.read::<f32>(out, x.len() * 5);
    for (i, x) in x.iter().enumerate() {
        let found = &found[i * 5..][..5];
        prop_assert_eq!(&found[..2], [x * 2.0, x.round_ties_even() + x.abs().trunc()]);
        // Within one place of an f16.
        for (found, exact) in found[2..].iter().zip([x / 3.0, x.exp2(), x.abs().sqrt()]) {
            let place = exact.abs() * 2f32.powi(-10) + 2f32.powi(-24);
            prop_assert!((found - exact).abs() <= place, "{}: {} {}", x, found, exact);
        }
    }
});

kernel_test!(bfloats, "halves", (pairs: some(prop::array::uniform4(whole().prop_map(|x| x / 16.0)), 200)), |device| {
    let of = |at: usize| -> Vec<bf16> { pairs.iter().flat_map(|p| [p[at], p[at + 1]]).map(bf16::from_f32).collect() };
    let n = pairs.len();
    let (x, y, out) = (device.input(&of(0)), device.input(&of(2)), device.output::<bf16>(n * 6));
    device.launch_1d("bfloats", n, 64, &args![x, y, out, n as i32]);
    let found = device.read::<bf16>(out, n * 6);
    for (i, p) in pairs.iter().enumerate() {
        let expected = [p[0] * p[2] + p[0], p[1] * p[3] + p[1], p[0].min(p[2]), p[1].min(p[3]), p[0] + p[3], p[1]];
        let found: Vec<f32> = found[i * 6..][..6].iter().map(|h| h.to_f32()).collect();
        prop_assert_eq!(found, expected.map(|x| bf16::from_f32(x).to_f32()), "{:?}", p);
    }
});
