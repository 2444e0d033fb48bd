use super::*;

kernel_test!(asynchronous_copies, "pipeline", (blocks: 1usize..4, tiles: 1usize..9, seed: some(whole(), 500)), |device| {
    let x: Vec<f32> = (0..blocks * tiles * 256).map(|i| seed[i * 7 % seed.len()]).collect();
    let (from, to) = (device.input(&x), device.output::<f32>(blocks * 256));
    device.launch("pipeline", [blocks as u32, 1, 1], [256, 1, 1], 0, &args![from, to, tiles as i32]);
    let expected: Vec<f32> = (0..blocks * 256)
        .map(|i| (0..tiles).map(|k| x[(i / 256 * tiles + k) * 256 + i % 256]).sum())
        .collect();
    prop_assert_eq!(device.read::<f32>(to, blocks * 256), expected);
});
