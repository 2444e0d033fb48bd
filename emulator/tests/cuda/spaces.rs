use super::*;

fn rows() -> impl Strategy<Value = Vec<[i32; 8]>> {
    some(prop::array::uniform8(any::<i32>()), 200)
}

kernel_test!(local_arrays, "spaces", (x: rows(), keys: some(0i32..100, 50)), |device| {
    let n = x.len();
    let keys: Vec<i32> = (0..n).map(|i| keys[i % keys.len()]).collect();
    let (from, key, to) = (device.input(&x), device.input(&keys), device.output::<i32>(n));
    device.launch_1d("sort_local", n, 64, &args![from, to, key, n as i32]);
    let expected: Vec<i32> = x.iter().zip(&keys).map(|(row, key)| {
        let mut row = *row;
        row.sort_unstable();
        row[*key as usize % 8]
    }).collect();
    prop_assert_eq!(device.read::<i32>(to, n), expected);
});

kernel_test!(constant_tables, "spaces", (pairs: some((0i32..1000, whole()), 200)), |device| {
    let (index, x): (Vec<i32>, Vec<f32>) = pairs.iter().copied().unzip();
    let (it, xt, to) = (device.input(&index), device.input(&x), device.output::<f32>(x.len()));
    device.launch_1d("constants", x.len(), 64, &args![it, xt, to, x.len() as i32]);
    let weights = [1.0, -2.0, 3.0, -4.0, 5.0, -6.0, 7.0, -8.0, 0.5, -0.25, 2.0, 4.0, 8.0, 16.0, 32.0, -64.0f32];
    let expected: Vec<f32> = pairs.iter().map(|(at, x)| {
        let at = *at as usize;
        let sum: f32 = (0..4).map(|j| weights[(at + j) % 16] * x).sum();
        sum + [10.0, 20.0, 30.0, 40.0][at % 4] + f32::from(b"ptxas"[at % 5])
    }).collect();
    prop_assert_eq!(device.read::<f32>(to, x.len()), expected);
});

/// `Affine<5>` as C++ lays it out.
#[repr(C)]
#[derive(Clone, Copy)]
struct Affine {
    scale: [f32; 5],
    shift: [i16; 5],
    on: u8,
}

impl Affine {
    /// Its 32 bytes; the last one is padding.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = bytemuck::bytes_of(&self.scale).to_vec();
        bytes.extend(bytemuck::bytes_of(&self.shift));
        bytes.extend([self.on, 0]);
        assert_eq!(bytes.len(), size_of::<Self>());
        bytes
    }
}

kernel_test!(struct_by_value, "spaces", (x: some(whole(), 200), on: any::<bool>()), |device| {
    let f = Affine { scale: [1.0, -2.0, 0.5, 4.0, 8.0], shift: [1, -1, 300, -300, 0], on: on.into() };
    let (from, to) = (device.input(&x), device.output::<f32>(x.len()));
    let mut args = args![from, to];
    args.push_bytes(&f.bytes());
    device.launch_1d("affine", x.len(), 64, &args.with(x.len() as i32));
    let affine = |(i, x): (usize, &f32)| if on { f.scale[i % 5] * x + f32::from(f.shift[i % 5]) } else { *x };
    prop_assert_eq!(device.read::<f32>(to, x.len()), x.iter().enumerate().map(affine).collect::<Vec<_>>());
});

kernel_test!(vector_accesses, "spaces", (x: some(prop::array::uniform4(-1e3f32..1e3), 200)), |device| {
    let (from, to) = (device.input(&x), device.output::<[f32; 4]>(x.len()));
    let report = device.launch_1d("vectors", x.len(), 64, &args![from, to, x.len() as i32]);
    let expected: Vec<[f32; 4]> = x.iter().map(|[x, y, z, w]| [x + w, y + z, z + y, w + x]).collect();
    prop_assert_eq!(device.read::<[f32; 4]>(to, x.len()), expected);
    prop_assert_eq!(report.global_sectors, report.global_sectors_ideal);
});

kernel_test!(generic_pointers, "spaces", (x: prop::array::uniform4(whole()), warps: 1u32..4), |device| {
    let n = warps as usize * 32;
    let (from, to) = (device.input(&x), device.output::<f32>(n));
    device.launch("generic", [1, 1, 1], [warps * 32, 1, 1], 0, &args![from, to]);
    let sum: f32 = x.iter().sum();
    let expected: Vec<f32> = (0..n).map(|t| match t % 3 {
        0 => sum,
        1 => 2.0 * sum,
        _ => sum + 4.0 * t as f32,
    }).collect();
    prop_assert_eq!(device.read::<f32>(to, n), expected);
});
