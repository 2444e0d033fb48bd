use super::*;

/// Small, middling, and so large that sinf takes its slow path.
fn numbers() -> impl Strategy<Value = f32> {
    prop_oneof![
        -10.0f32..10.0,
        -1e4f32..1e4,
        (any::<bool>(), 105_615.0f32..1e30).prop_map(|(n, x)| if n { -x } else { x }),
        (1f32..4.0, 20i32..120).prop_map(|(x, e)| x * 2f32.powi(e)),
        prop::sample::select(vec![0.0, -0.0, 1.0, 0.5, 1e-30, f32::INFINITY, f32::NAN, f32::MIN_POSITIVE]),
    ]
}

kernel_test!(
    /// Within the errors that CUDA's guide states for its functions, in places; roots and quotients are exact.
    functions, "functions", (x: some(numbers(), 300)), |device| {
    let (from, out) = (device.input(&x), device.output::<f32>(x.len() * 10));
    device.launch_1d("functions", x.len(), 64, &args![from, out, x.len() as i32]);
    let found = device.read::<f32>(out, x.len() * 10);
    for (i, x) in x.into_iter().enumerate() {
        let (found, wide, size) = (&found[i * 10..][..10], f64::from(x), f64::from(x.abs()));
        for (at, exact, most, name) in [
            (0, f64::from(x * 0.01).exp(), 2.0, "expf"),
            (1, wide.sin(), 2.0, "sinf"),
            (2, wide.cos(), 2.0, "cosf"),
            (3, size.ln(), 2.0, "logf"),
            (4, size.powf(f64::from(0.37f32)), 8.0, "powf"),
            (5, f64::from(x * 0.01).tanh(), 2.0, "tanhf"),
            (9, erf(f64::from(x * 0.1)), 2.5, "erff"),
        ] {
            assert_places(found[at], exact, most, &format!("{name}({x:e})"));
        }
        let expected = [x.abs().sqrt(), 1.0 / x, x / 3.7];
        let same = |(f, e): (&f32, f32)| f.to_bits() == e.to_bits() || (f.is_nan() && e.is_nan());
        let same = found[6..9].iter().zip(expected).all(same);
        prop_assert!(same, "{:e}: {:?} {:?}", x, &found[6..9], expected);
    }
});

/// erf by its series, or where that cancels, one less erfc's continued fraction.
fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let size = x.abs();
    if size < 2.5 {
        let mut term = x;
        let mut sum = x;
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let fraction = (1..200).rev().fold(size, |tail, n| size + f64::from(n) / 2.0 / tail);
    let rest = (-size * size).exp() / (fraction * std::f64::consts::PI.sqrt());
    (1.0 - rest).copysign(x)
}

#[test]
fn the_reference_erf() {
    for (x, expected) in
        [(0.5, 0.520_499_877_813_046_5), (2.0, 0.995_322_265_018_952_7), (3.0, 0.999_977_909_503_001_4)]
    {
        assert!((erf(x) - expected).abs() < 1e-14, "{x}: {}", erf(x));
    }
}

/// f64 → f32 downward and upward.
fn narrow(x: f64, up: bool) -> f32 {
    let near = x as f32;
    match (f64::from(near).partial_cmp(&x), up) {
        (Some(std::cmp::Ordering::Greater), false) => near.next_down(),
        (Some(std::cmp::Ordering::Less), true) => near.next_up(),
        _ => near,
    }
}

/// 17 significant bits, multiples of 2⁻¹⁹ below 2¹²: sums and products are exact in f64, and seldom in f32.
fn coarse() -> impl Strategy<Value = f32> {
    (-32_768i32..32_768, -19i32..-4).prop_map(|(x, e)| (x * 2 + 1) as f32 * 2f32.powi(e))
}

kernel_test!(directed_roundings, "functions", (pairs: some((coarse(), coarse()), 300)), |device| {
    let (x, y): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
    let (xt, yt, out) = (device.input(&x), device.input(&y), device.output::<f32>(x.len() * 12));
    device.launch_1d("rounding", x.len(), 64, &args![xt, yt, out, x.len() as i32]);
    let found = device.read::<f32>(out, x.len() * 12);
    for (i, (x, y)) in pairs.into_iter().enumerate() {
        let (a, b) = (f64::from(x), f64::from(y));
        let expected = [
            narrow(a + b, false),
            narrow(a + b, true),
            narrow(a * b, a * b < 0.0),
            narrow(a * b + 1.0, true),
            narrow(a / b, false),
            narrow(a.abs().sqrt(), true),
            x.floor() + y.ceil(),
            x.round_ties_even() + y.floor(),
            x.clamp(0.0, 1.0),
            x.min(y) - x.max(y),
            x.copysign(y),
            x.to_bits() as i32 as f32 + narrow(f64::from(y.to_bits()), false),
        ];
        prop_assert_eq!(&found[i * 12..][..12], expected, "{:e} {:e}", x, y);
    }
});
