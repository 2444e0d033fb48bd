use super::*;

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

kernel_test!(functions, "calls", (x: some(prop::array::uniform8(-100_000i32..100_000), 200)), |device| {
    let n = x.len();
    let from = device.input(&x);
    let (clamped, means, gcds) = (device.output::<i32>(n), device.output::<f32>(n), device.output::<u32>(n));
    device.launch_1d("calls", n, 64, &args![from, clamped, means, gcds, n as i32]);
    let (clamped, means) = (device.read::<i32>(clamped, n), device.read::<f32>(means, n));
    let gcds = device.read::<u32>(gcds, n);
    for (i, row) in x.iter().enumerate() {
        let (low, high) = (*row.iter().min().unwrap(), *row.iter().max().unwrap());
        let expected = if i % 2 == 1 { row[0].clamp(-10, 10) } else { (row[1] * 2).clamp(low, high) };
        prop_assert_eq!(clamped[i], expected, "{}", i);
        prop_assert_eq!(means[i], row.iter().sum::<i32>() as f32 / 8.0);
        prop_assert_eq!(gcds[i], gcd(row[2] as u32 & 0xffff, row[3] as u32 & 0xfff));
    }
});

kernel_test!(padded_structs, "calls", (x: some(prop_oneof![-1e9f64..1e9, -1.0f64..1.0], 200)), |device| {
    let n = x.len();
    let (from, to, exponents) = (device.input(&x), device.output::<f64>(n), device.output::<i32>(n));
    device.launch_1d("padded_structs", n, 64, &args![from, to, exponents, n as i32]);
    prop_assert_eq!(device.read::<f64>(to, n), x.iter().map(|x| 8.0 * x).collect::<Vec<_>>());
    let exponent = |x: &f64| if *x == 0.0 { 0 } else { x.abs().log2().floor() as i32 + 1 };
    prop_assert_eq!(device.read::<i32>(exponents, n), x.iter().map(exponent).collect::<Vec<_>>());
});
