use super::*;

/// Sums within each block of 256.
fn scanned(x: &[u64]) -> Vec<u64> {
    let block = |c: &[u64]| {
        c.iter()
            .scan(0u64, |sum, x| {
                *sum = sum.wrapping_add(*x);
                Some(*sum)
            })
            .collect::<Vec<_>>()
    };
    x.chunks(256).flat_map(block).collect()
}

kernel_test!(shared_memory, "scan", (x: some(any::<i32>(), 1500)), |device| {
    let (from, to) = (device.input(&x), device.output::<i32>(x.len()));
    device.launch_1d("scan_shared", x.len(), 256, &args![from, to, x.len() as i32]);
    let expected = scanned(&x.iter().map(|x| *x as u64).collect::<Vec<_>>());
    prop_assert_eq!(device.read::<i32>(to, x.len()), expected.iter().map(|y| *y as i32).collect::<Vec<_>>());
});

kernel_test!(shuffles, "scan", (x: some(any::<u64>(), 1500)), |device| {
    let (from, to) = (device.input(&x), device.output::<u64>(x.len()));
    device.launch_1d("scan_shuffle", x.len(), 256, &args![from, to, x.len() as i32]);
    prop_assert_eq!(device.read::<u64>(to, x.len()), scanned(&x));
});
