use super::*;

kernel_test!(any_size, "transpose", (rows: 1usize..100, columns: 1usize..100), |device| {
    let x: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
    let (from, to) = (device.input(&x), device.output::<f32>(x.len()));
    let grid = [columns.div_ceil(32) as u32, rows.div_ceil(32) as u32, 1];
    let args = &args![from, to, rows as i32, columns as i32];
    let report = device.launch("transpose", grid, [32, 8, 1], 0, args);
    let expected: Vec<f32> = (0..x.len()).map(|i| x[i % rows * columns + i / rows]).collect();
    prop_assert_eq!(device.read::<f32>(to, x.len()), expected);
    prop_assert_eq!(report.bank_conflicts, 0);
});

/// The padding is what keeps the banks apart, and rows of whole sectors what makes the accesses contiguous.
#[test]
fn no_conflicts_and_contiguous() {
    let device = Device::new("transpose", include_str!("transpose.ptx"));
    let (from, to) = (device.input(&[1f32; 64 * 64]), device.output::<f32>(64 * 64));
    let report = device.launch("transpose", [2, 2, 1], [32, 8, 1], 0, &args![from, to, 64i32, 64i32]);
    assert_eq!((report.bank_conflicts, report.shared_requests), (0, 4 * 8 * 8));
    assert_eq!((report.global_requests, report.global_sectors), (4 * 8 * 8, 4 * 8 * 8 * 4));
    assert_eq!(report.global_sectors, report.global_sectors_ideal);
}
