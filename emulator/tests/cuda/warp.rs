use super::*;

/// Whole warps of small numbers.
fn warps() -> impl Strategy<Value = Vec<i32>> {
    (1usize..6, -3i32..4).prop_flat_map(|(warps, low)| prop::collection::vec(low..4, warps * 32))
}

kernel_test!(compaction, "warp", (x: some(prop_oneof![Just(0), any::<i32>()], 1000)), |device| {
    let (from, to, count) = (device.input(&x), device.output::<i32>(x.len()), device.input(&[0u32]));
    device.launch_1d("compact", x.len(), 96, &args![from, to, count, x.len() as i32]);
    let mut expected: Vec<i32> = x.iter().copied().filter(|x| *x != 0).collect();
    prop_assert_eq!(device.read::<u32>(count, 1)[0] as usize, expected.len());
    let mut found = device.read::<i32>(to, expected.len());
    found.sort_unstable();
    expected.sort_unstable();
    prop_assert_eq!(found, expected);
});

kernel_test!(votes, "warp", (x: warps()), |device| {
    let (from, to) = (device.input(&x), device.output::<u32>(x.len() * 5));
    device.launch_1d("votes", x.len(), 32, &args![from, to]);
    let found = device.read::<u32>(to, x.len() * 5);
    for (warp, x) in x.chunks(32).enumerate() {
        let mask = |f: &dyn Fn(i32) -> bool| (0..32).map(|lane| u32::from(f(x[lane])) << lane).sum::<u32>();
        let positive = mask(&|x| x > 0);
        for lane in 0..32 {
            let same = mask(&|other| other == x[lane]);
            let all = if same == u32::MAX { u32::MAX ^ 1 } else { 0 };
            let expected = [positive, (positive != 0).into(), (positive == u32::MAX).into(), same, all];
            prop_assert_eq!(&found[(warp * 32 + lane) * 5..][..5], expected, "warp {} lane {}", warp, lane);
        }
    }
});

kernel_test!(shuffles, "warp", (x: warps()), |device| {
    let (from, to) = (device.input(&x), device.output::<i32>(x.len() * 5));
    device.launch_1d("shuffles", x.len(), 32, &args![from, to]);
    let found = device.read::<i32>(to, x.len() * 5);
    for (warp, x) in x.chunks(32).enumerate() {
        for lane in 0..32 {
            let at = lane % 8;
            let expected = [
                x[lane ^ 5],
                x[(lane + 3) % 32],
                if at >= 2 { x[lane - 2] } else { x[lane] },
                if at + 3 < 8 { x[lane + 3] } else { x[lane] },
                x.iter().sum(),
            ];
            prop_assert_eq!(&found[(warp * 32 + lane) * 5..][..5], expected, "warp {} lane {}", warp, lane);
        }
    }
});
