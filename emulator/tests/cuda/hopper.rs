use super::*;

kernel_test!(stencil, "hopper", (x: some(whole(), 500), warps: 1u32..5), |device| {
    let (n, threads) = (x.len(), warps * 32);
    let (from, to) = (device.input(&x), device.output::<f32>(n));
    let grid = [(n as u32).div_ceil(threads), 1, 1];
    device.launch("stencil", grid, [threads, 1, 1], (threads + 2) * 4, &args![from, to, n as i32]);
    let at = |i: usize| 0.25 * x[i.saturating_sub(1)] + 0.5 * x[i] + 0.25 * x[(i + 1).min(n - 1)];
    prop_assert_eq!(device.read::<f32>(to, n), (0..n).map(at).collect::<Vec<_>>());
});

kernel_test!(warp_reductions, "hopper", (warps: 1usize..9, seed: some(any::<i32>(), 256)), |device| {
    let x: Vec<i32> = (0..warps * 32).map(|i| seed[i % seed.len()]).collect();
    let from = device.input(&x);
    let (least, most, all) = (device.output::<i32>(warps), device.output::<i32>(warps), device.output::<u32>(warps));
    device.launch_1d("redux", x.len(), 32, &args![from, least, most, all]);
    for (i, x) in x.chunks(32).enumerate() {
        prop_assert_eq!(device.read::<i32>(least, warps)[i], *x.iter().min().unwrap());
        prop_assert_eq!(device.read::<i32>(most, warps)[i], *x.iter().max().unwrap());
        prop_assert_eq!(device.read::<u32>(all, warps)[i], x.iter().fold(0, |s, x| s | *x as u32));
    }
});
