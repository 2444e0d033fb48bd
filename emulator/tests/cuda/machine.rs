use super::*;

/// What `machine.cu` computes, in Rust.
fn run(code: &[u8], i: i32, x: i32) -> i32 {
    let (mut a, mut b, mut memory, mut at) = (x, i, 0i32, 0usize);
    for _ in 0..100 {
        let Some(&op) = code.get(at) else { break };
        at += 1;
        match op {
            0 => a = a.wrapping_add(b),
            1 => a = a.wrapping_sub(b),
            2 => a = a.wrapping_mul(3),
            3 => b ^= a,
            4 => a = (a.count_ones() as i32).wrapping_add(memory),
            5 => std::mem::swap(&mut a, &mut b),
            6 => memory = a,
            7 => at += usize::from(a & 1 == 1),
            8 => b = a >> 3,
            9 => at = code.len(),
            10 => a = a.max(b),
            11 => {
                at -= if at > 2 && a & 3 == 0 { 2 } else { 0 };
                a = a.wrapping_add(1);
            }
            _ => a = !a,
        }
    }
    a.wrapping_mul(31).wrapping_add(b)
}

kernel_test!(
    /// Lanes whose programs differ: they part and meet at the table in every way.
    jump_table_in_a_loop, "machine", (x: prop::collection::vec(any::<i32>(), 64), code: prop::collection::vec(0u8..14, 64 * 12)), |device| {
    let (text, from, to) = (device.input(&code), device.input(&x), device.output::<i32>(64));
    device.launch("machine", [2, 1, 1], [32, 1, 1], 0, &args![text, 12i32, from, to]);
    let expected: Vec<i32> = code.chunks(12).zip(&x).zip(0..).map(|((code, &x), i)| run(code, i, x)).collect();
    prop_assert_eq!(device.read::<i32>(to, 64), expected);
});
