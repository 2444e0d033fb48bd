use super::*;

kernel_test!(
    /// Bit for bit but for `exp` (within 2 places) and `rsqrt.approx` (within 2⁻⁴⁸ of its sum).
    doubles, "doubles", (pairs: some((-600.0f64..600.0, -90.0f64..90.0), 300)), |device| {
    let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (xt, yt, out) = (device.input(&x), device.input(&y), device.output::<f64>(x.len() * 9));
    device.launch_1d("doubles", x.len(), 64, &args![xt, yt, out, x.len() as i32]);
    let found = device.read::<f64>(out, x.len() * 9);
    for (i, (a, b)) in pairs.into_iter().enumerate() {
        let found = &found[i * 9..][..9];
        // The error of a + b says whether the two roundings differ, and then they are neighbours.
        let sum = a + b;
        let part = sum - a;
        let error = (a - (sum - part)) + (b - part);
        let between = match error {
            0.0 => 0.0,
            _ if error > 0.0 => sum.next_up() - sum,
            _ => sum - sum.next_down(),
        };
        let expected = [
            a.mul_add(b, 1.0) - a * b,
            a / b,
            a.abs().sqrt(),
            a.min(b) + 2.0 * a.max(b),
            (a * 1000.0) as i64 as f64 + f64::from(b as f32),
            between,
            a.floor() + 10.0 * b.ceil() + 100.0 * a.round_ties_even() + 1000.0 * b.trunc(),
        ];
        prop_assert_eq!(&found[..7], expected, "{:e} {:e}", a, b);
        let exact = (-a.abs()).exp();
        prop_assert!((found[7] - exact).abs() <= 2.0 * (exact.next_up() - exact), "exp: {:e} {:e}", found[7], exact);
        let exact = 1.0 / b + 1.0 / (a.abs() + 1.0).sqrt();
        let bound = 2f64.powi(-48) * (1.0 + (1.0 / b).abs());
        prop_assert!((found[8] - exact).abs() <= bound, "{:e} {:e}", found[8], exact);
    }
});
