use super::*;

/// What `switches` does to x[i], y[i] and y[i + n].
fn switches(x: i32, y: &mut i32, other: &mut i32) {
    let (mut v, mut r) = (x, 1i32);
    for _ in 0..3 {
        match v % 16 {
            0 => r += v * 3,
            1 => r = r.count_ones() as i32 ^ v,
            2 => r = v / (r | 1),
            3 => *other = r,
            4 => r = (r << 3) + 1000,
            5 => r += 1000,
            6 => r %= 13,
            7 => {
                while r > 100 {
                    r /= 3;
                }
            }
            8 => r = r.leading_zeros() as i32,
            9 => *other += r >> 2,
            10 => r = !v,
            11 => r ^= *y + 1,
            12 => return,
            _ => r = 42,
        }
        v = v / 2 + 5;
    }
    *y = r;
}

kernel_test!(switch, "control", (x: some(-100_000i32..100_000, 500)), |device| {
    let n = x.len();
    let mut expected: Vec<i32> = (0..2 * n as i32).map(|i| i * 3 - 7).collect();
    let (from, to) = (device.input(&x), device.input(&expected));
    device.launch_1d("switches", n, 64, &args![from, to, n as i32]);
    let (y, other) = expected.split_at_mut(n);
    for i in 0..n {
        switches(x[i], &mut y[i], &mut other[i]);
    }
    prop_assert_eq!(device.read::<i32>(to, 2 * n), expected);
});

kernel_test!(indexed_branch, "control", (x: some(any::<i32>(), 500)), |device| {
    let (from, to) = (device.input(&x), device.output::<i32>(x.len()));
    device.launch_1d("jump_table", x.len(), 64, &args![from, to, x.len() as i32]);
    let expected: Vec<i32> = x.iter().enumerate().map(|(i, x)| match i % 4 {
        0 => x.wrapping_mul(3),
        1 => x.wrapping_sub(7),
        2 => x.wrapping_mul(*x),
        _ => -1,
    }).collect();
    prop_assert_eq!(device.read::<i32>(to, x.len()), expected);
});

kernel_test!(collatz, "control", (x: some(0u32..100_000, 300)), |device| {
    let (from, to) = (device.input(&x), device.output::<u32>(x.len()));
    device.launch("collatz", [2, 1, 1], [64, 1, 1], 0, &args![from, to, x.len() as i32]);
    let steps = |x: &u32| {
        let next = |v: u64| if v % 2 == 1 { 3 * v + 1 } else { v / 2 };
        std::iter::successors(Some(u64::from(*x)), |v| (*v > 1).then(|| next(*v))).count() as u32 - 1
    };
    prop_assert_eq!(device.read::<u32>(to, x.len()), x.iter().map(steps).collect::<Vec<_>>());
});

kernel_test!(break_and_continue, "control", (x: some(0u32..300, 100)), |device| {
    let (from, to) = (device.input(&x), device.output::<u32>(x.len()));
    device.launch_1d("primes", x.len(), 64, &args![from, to, x.len() as i32]);
    let below = |x: &u32| (2..*x).filter(|p| (2..*p).all(|d| p % d != 0)).count() as u32;
    prop_assert_eq!(device.read::<u32>(to, x.len()), x.iter().map(below).collect::<Vec<_>>());
});
