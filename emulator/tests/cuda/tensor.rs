use super::*;
use half::{bf16, f16};
use ssmv_emulator::TensorCore;

/// |a|·|b| summed over k, and a·b: for each element of C, in f64.
fn products(a: &[f64], b: &[f64], n: usize, k: usize) -> Vec<(f64, f64)> {
    let rows = a.chunks(k).flat_map(|row| b.chunks(k).map(move |column| (row, column)));
    let dot = |(row, column): (&[f64], &[f64])| {
        row.iter().zip(column).fold((0.0, 0.0), |(size, sum), (a, b)| (size + (a * b).abs(), sum + a * b))
    };
    assert_eq!(b.len(), n * k);
    rows.map(dot).collect()
}

/// Sizes as multiples of the tile, and numbers to fill the matrices with.
fn sizes() -> impl Strategy<Value = (usize, usize, usize)> {
    (1usize..4, 1usize..4, 1usize..5).prop_map(|(m, n, k)| (m * 16, n * 8, k * 16))
}

/// `count` elements, every `step`-th of the seed's, round and round.
fn draw<T: Copy>(seed: &[T], count: usize, step: usize) -> Vec<T> {
    (0..count).map(|i| seed[i * step % seed.len()]).collect()
}

/// Within k·2⁻²³ of Σ|a·b|, several times what the truncations of k/8 groups can lose.
fn assert_close(found: &[f32], expected: &[(f64, f64)], k: usize) {
    for (i, (found, (size, sum))) in found.iter().zip(expected).enumerate() {
        let bound = k as f64 * 2f64.powi(-23) * size;
        assert!((f64::from(*found) - sum).abs() <= bound, "[{i}]: {found} is not {sum} ± {bound}");
    }
}

kernel_test!(f16_fragments, "tensor", (size: sizes(), seed: some(-2.0f32..2.0, 300)), |device| {
    let (m, n, k) = size;
    let seed: Vec<f16> = seed.into_iter().map(f16::from_f32).collect();
    let (a, b) = (draw(&seed, m * k, 7), draw(&seed, n * k, 11));
    let (at, bt, ct) = (device.input(&a), device.input(&b), device.output::<f32>(m * n));
    let args = &args![at, bt, ct, n as i32, k as i32];
    let report = device.launch("tensor_f16", [n as u32 / 8, m as u32 / 16, 1], [32, 1, 1], 0, args);
    prop_assert_eq!(report.tensor_macs, (m * n * k) as u64);
    let [a, b] = [a, b].map(|x| x.iter().map(|x| x.to_f64()).collect::<Vec<_>>());
    assert_close(&device.read::<f32>(ct, m * n), &products(&a, &b, n, k), k);
});

kernel_test!(
    /// Small whole numbers: exact.
    bf16_through_ldmatrix, "tensor", (size: sizes(), seed: some(-9i8..9, 300)), |device| {
    let (m, n, k) = size;
    let seed: Vec<bf16> = seed.into_iter().map(bf16::from).collect();
    let (a, b) = (draw(&seed, m * k, 7), draw(&seed, n * k, 11));
    let (at, bt, ct) = (device.input(&a), device.input(&b), device.output::<f32>(m * n));
    let args = &args![at, bt, ct, n as i32, k as i32];
    device.launch("tensor_bf16_ldmatrix", [n as u32 / 8, m as u32 / 16, 1], [32, 1, 1], 0, args);
    let [a, b] = [a, b].map(|x| x.iter().map(|x| x.to_f64()).collect::<Vec<_>>());
    let expected: Vec<f32> = products(&a, &b, n, k).iter().map(|p| p.1 as f32).collect();
    prop_assert_eq!(device.read::<f32>(ct, m * n), expected);
});

/// 1 and four products of 2⁻²⁵: Hopper's sum keeps them, Ampere's does not.
#[test]
fn the_switch_shows() {
    let mut device = Device::new("tensor", include_str!("tensor.ptx"));
    let (mut a, mut b) = ([f16::ZERO; 16 * 16], [f16::ZERO; 8 * 16]);
    for k in 0..5 {
        a[k] = f16::from_f32(if k == 0 { 1.0 } else { 2f32.powi(-12) });
        b[k] = f16::from_f32(if k == 0 { 1.0 } else { 2f32.powi(-13) });
    }
    let (at, bt, ct) = (device.input(&a), device.input(&b), device.output::<f32>(16 * 8));
    for (core, expected) in [(TensorCore::Ampere, 1.0), (TensorCore::Hopper, 1.0 + 2f32.powi(-23))] {
        device.options.tensor_core = core;
        device.launch("tensor_f16", [1, 1, 1], [32, 1, 1], 0, &args![at, bt, ct, 8i32, 16i32]);
        assert_eq!(device.read::<f32>(ct, 1), [expected], "{core:?}");
    }
}
