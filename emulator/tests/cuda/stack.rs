use super::*;

fn horner(n: i32, by: i32) -> i32 {
    let digit = |i: i32| i.wrapping_mul(i).wrapping_add(by);
    (0..n).rev().fold(0i32, |sum, i| sum.wrapping_mul(by).wrapping_add(digit(i)))
}

kernel_test!(
    /// Each lane takes a size of its own from the stack, many times over.
    alloca_and_statics, "stack", (n: prop::collection::vec(0i32..64, 1..64)), |device| {
    let (sizes, y) = (device.input(&n), device.output::<i32>(n.len()));
    device.launch("digits", [1, 1, 1], [n.len() as u32, 1, 1], 0, &args![sizes, y]);
    let weights = [[[1, 2], [3, 0], [0, 0]], [[4, 5], [6, 7], [8, 9]]];
    let factors = [[3, 0], [5, 7]];
    let expected: Vec<i32> = n.iter().enumerate().map(|(i, &size)| {
        let sum = (0..200).fold(0, |sum, round| sum ^ horner((size + round) & 63, round + 2));
        let odd = (size & 1) as usize;
        let word = i32::from([b"abc".as_slice(), b"de", b"fghi"][i % 3][1]);
        sum.wrapping_add([1, 2, 0, 0][(size & 3) as usize] + weights[odd][i % 3][i >> 1 & 1] + word + factors[odd][i & 1])
    }).collect();
    prop_assert_eq!(device.read::<i32>(y, n.len()), expected);
});
