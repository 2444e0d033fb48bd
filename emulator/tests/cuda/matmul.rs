use super::*;

kernel_test!(
    /// The same fused multiply-adds in the same order: bit for bit.
    any_size, "matmul", (m: 1usize..40, n: 1usize..40, k: 1usize..50, seed: some(-2.0f32..2.0, 200)), |device| {
    let draw = |count: usize, step: usize| -> Vec<f32> { (0..count).map(|i| seed[i * step % seed.len()]).collect() };
    let (a, b) = (draw(m * k, 7), draw(k * n, 11));
    let (at, bt, ct) = (device.input(&a), device.input(&b), device.output::<f32>(m * n));
    let grid = [n.div_ceil(16) as u32, m.div_ceil(16) as u32, 1];
    device.launch("matmul", grid, [16, 16, 1], 0, &args![at, bt, ct, m as i32, n as i32, k as i32]);
    let expected: Vec<f32> = (0..m * n)
        .map(|i| (0..k).fold(0.0f32, |sum, l| a[i / n * k + l].mul_add(b[l * n + i % n], sum)))
        .collect();
    prop_assert_eq!(device.read::<f32>(ct, m * n), expected);
});
