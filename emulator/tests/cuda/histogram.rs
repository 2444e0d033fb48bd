use super::*;

kernel_test!(counts, "histogram", (x: some(prop_oneof![any::<u8>(), Just(7u8)], 5000), blocks: 1u32..5), |device| {
    let (from, bins) = (device.input(&x), device.input(&[0u32; 256]));
    device.launch("histogram", [blocks, 1, 1], [128, 1, 1], 0, &args![from, bins, x.len() as i32]);
    let mut expected = vec![0u32; 256];
    x.iter().for_each(|x| expected[usize::from(*x)] += 1);
    prop_assert_eq!(device.read::<u32>(bins, 256), expected);
});

kernel_test!(every_operation, "histogram", (x: some(any::<u32>(), 1000)), |device| {
    let out = device.input(&[0, u32::MAX, 0, u32::MAX, 0, 0, i32::MIN as u32, i32::MAX as u32, 0, 0, 5u32]);
    let (from, wide, real) = (device.input(&x), device.input(&[1u64 << 40]), device.input(&[0f32]));
    device.launch_1d("atomics", x.len(), 128, &args![from, out, wide, real, x.len() as i32]);
    let signed = || x.iter().map(|x| *x as i32);
    let expected = [
        x.iter().fold(0, |s: u32, x| s.wrapping_add(*x)),
        *x.iter().min().unwrap(),
        *x.iter().max().unwrap(),
        x.iter().fold(u32::MAX, |s, x| s & x),
        x.iter().fold(0, |s, x| s | x),
        x.iter().fold(0, |s, x| s ^ x),
        signed().max().unwrap() as u32,
        signed().min().unwrap() as u32,
        x.len() as u32,
        7,
        5u32.wrapping_sub(x.len() as u32),
    ];
    prop_assert_eq!(device.read::<u32>(out, 11), expected);
    prop_assert_eq!(device.read::<u64>(wide, 1)[0], (1 << 40) + x.iter().map(|x| u64::from(*x)).sum::<u64>());
    prop_assert_eq!(device.read::<f32>(real, 1)[0], x.iter().map(|x| (x & 15) as f32).sum::<f32>());
});
