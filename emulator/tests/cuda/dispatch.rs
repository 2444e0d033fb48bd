use super::*;

kernel_test!(virtual_functions, "dispatch", (x: prop::collection::vec((0i32..100, 1i8..50), 1..64)), |device| {
    let (kinds, sizes): (Vec<i32>, Vec<f32>) = x.iter().map(|&(k, s)| (k, f32::from(s))).unzip();
    let n = x.len();
    let (k, s, out) = (device.input(&kinds), device.input(&sizes), device.output::<f32>(2 * n));
    device.launch("shapes", [1, 1, 1], [n as u32, 1, 1], 0, &args![k, s, out]);
    let expected: Vec<f32> = (0..n).flat_map(|i| {
        let (disc, size) = (kinds[(i + 1) % n] % 2 == 1, sizes[(i + 1) % n]);
        let area = if disc { 3.0 * size * size } else { size * size };
        [area, if disc { area - 2.0 } else { 2.0 * area }]
    }).collect();
    prop_assert_eq!(device.read::<f32>(out, 2 * n), expected);
});

fn step(which: i32, a: i32, b: i32) -> i32 {
    match which & 3 {
        1 => a.wrapping_sub(b),
        2 => a.wrapping_mul(b),
        _ => a.wrapping_add(b),
    }
}

kernel_test!(
    /// The lanes of a warp call different functions, in every order.
    function_pointers, "dispatch", (x: prop::collection::vec(any::<i32>(), 64), length: 1usize..12, seed: any::<u64>()), |device| {
    let program: Vec<i32> = (0..64 * length).map(|i| (seed.rotate_left(i as u32 * 7) % 4) as i32).collect();
    let (code, from, to) = (device.input(&program), device.input(&x), device.output::<i32>(64));
    device.launch("programs", [2, 1, 1], [32, 1, 1], 0, &args![code, length as i32, from, to]);
    let expected: Vec<i32> = (0..64).map(|i| {
        (0..length).fold(x[i], |value, at| step(program[i * length + at], value, (at + i) as i32))
    }).collect();
    prop_assert_eq!(device.read::<i32>(to, 64), expected);
});

kernel_test!(
    /// An address that one kernel leaves in memory is a function to another kernel of the module.
    an_address_from_another_kernel, "dispatch", (which: 0i32..4), |device| {
    let (chosen, y) = (device.output::<u64>(1), device.output::<i32>(32));
    device.launch("choose", [1, 1, 1], [1, 1, 1], 0, &args![chosen, which]);
    device.launch("call_chosen", [1, 1, 1], [32, 1, 1], 0, &args![chosen, y]);
    prop_assert_eq!(device.read::<i32>(y, 32), (0..32).map(|i| step(which, i, 7)).collect::<Vec<_>>());
});
