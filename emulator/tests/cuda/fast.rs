use super::*;

kernel_test!(
    /// Within the errors that CUDA's guide states for its intrinsics: most are in places and grow with the argument's
    /// rounding, sines are absolute.
    approximations, "fast", (x: some(prop_oneof![-3.0f32..3.0, -30.0f32..30.0], 300)), |device| {
    let (from, out) = (device.input(&x), device.output::<f32>(x.len() * 8));
    device.launch_1d("fast", x.len(), 64, &args![from, out, x.len() as i32]);
    let found = device.read::<f32>(out, x.len() * 8);
    for (i, x) in x.into_iter().enumerate() {
        let (found, v) = (&found[i * 8..][..8], f64::from(x));
        let size = v.abs();
        for (at, exact, bound, name) in [
            (0, v.exp(), v.exp() * (3.0 + 1.2 * size) * 2f64.powi(-23), "expf"),
            (1, v.sin(), 2f64.powi(-20), "sinf"),
            (2, v.cos(), 2f64.powi(-20), "cosf"),
            (3, size.ln(), size.ln().abs() * 2f64.powi(-21) + 2f64.powi(-21), "logf"),
            (4, size.powf(1.5), size.powf(1.5) * 2f64.powi(-18), "powf"),
            (5, v.tanh(), v.tanh().abs() * 2f64.powi(-10), "tanhf"),
            (6, 1.0 / (size + 1.0).sqrt(), 2f64.powi(-22), "rsqrtf"),
            (7, v / (1.0 + (-v).exp()), size * 2f64.powi(-18), "silu"),
        ] {
            let found = f64::from(found[at]);
            prop_assert!((found - exact).abs() <= bound, "{}({:e}) = {:e}, not {:e}", name, x, found, exact);
        }
    }
});
