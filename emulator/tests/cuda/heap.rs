use super::*;

kernel_test!(
    /// What a kernel takes from the heap is there for the next one.
    lists, "heap", (x: some(0i32..12, 100)), |device| {
    let n = x.len();
    let (from, lists, to) = (device.input(&x), device.output::<u64>(n), device.output::<i32>(n));
    device.launch_1d("build", n, 32, &args![from, lists, n as i32]);
    device.launch_1d("walk", n, 32, &args![lists, to, n as i32]);
    let sum = |&x: &i32| (1..=x).rev().fold(0i32, |sum, value| sum.wrapping_mul(3).wrapping_add(value));
    prop_assert_eq!(device.read::<i32>(to, n), x.iter().map(sum).collect::<Vec<_>>());
});

#[test]
fn a_heap_that_is_full_gives_null_and_can_be_used_again() {
    let device = Device::new("heap", include_str!("heap.ptx"));
    let count = device.output::<i32>(1);
    for bytes in [1u64 << 20, 100_000, 1 << 20] {
        device.launch("fill", [1; 3], [1; 3], 0, &args![bytes, count]);
        // 8 MiB, in parts with a gap of at least 16 bytes behind each.
        let expected = (8 << 20) / (bytes + 16).next_multiple_of(16);
        assert_eq!(device.read::<i32>(count, 1), [expected as i32], "{bytes}");
    }
}
