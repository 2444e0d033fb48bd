use super::*;

/// Whole numbers: their sums are exact in any order.
fn whole_floats() -> impl Strategy<Value = Vec<f32>> {
    some((-1000i16..1000).prop_map(f32::from), 3000)
}

kernel_test!(shared_memory, "reduce", (x: whole_floats(), log_threads: 5u32..9), |device| {
    let (n, threads) = (x.len(), 1u32 << log_threads);
    let blocks = (n as u32).div_ceil(2 * threads);
    let (from, partial) = (device.input(&x), device.output::<f32>(blocks as usize));
    let args = &args![from, partial, n as i32];
    let report = device.launch("reduce_shared", [blocks, 1, 1], [threads, 1, 1], threads * 4, args);
    let found = device.read::<f32>(partial, blocks as usize);
    let expected: Vec<f32> = x.chunks(2 * threads as usize).map(|c| c.iter().sum()).collect();
    prop_assert_eq!(found, expected);
    // One barrier after the load, one a halving, counted once a warp.
    prop_assert_eq!(report.barriers, u64::from(blocks * (threads / 32) * (1 + log_threads)));
    prop_assert_eq!(report.bank_conflicts, 0);
});

kernel_test!(shuffles, "reduce", (x: whole_floats(), blocks: 1u32..5, warps: 1u32..9), |device| {
    let n = x.len();
    let (from, partial) = (device.input(&x), device.output::<f32>(blocks as usize));
    device.launch("reduce_shuffle", [blocks, 1, 1], [warps * 32, 1, 1], 0, &args![from, partial, n as i32]);
    let mut expected = vec![0.0; blocks as usize];
    for (i, x) in x.iter().enumerate() {
        expected[i / (warps as usize * 32) % blocks as usize] += x;
    }
    prop_assert_eq!(device.read::<f32>(partial, blocks as usize), expected);
});

kernel_test!(
    /// Twice: `atomicInc` must have brought the counter back to 0.
    last_block, "reduce", (x: some(any::<i32>(), 3000), blocks: 1u32..9), |device| {
    let n = x.len();
    let (from, partial, total) = (device.input(&x), device.output::<i32>(blocks as usize), device.output::<i32>(1));
    for _ in 0..2 {
        let args = &args![from, partial, total, n as i32];
        device.launch("reduce_last_block", [blocks, 1, 1], [256, 1, 1], 0, args);
        let expected = x.iter().fold(0i32, |sum, x| sum.wrapping_add(*x));
        prop_assert_eq!(device.read::<i32>(total, 1)[0], expected);
    }
});
