//! Kernels that move elements, against plain loops on the host: bit for bit.

use ssmv_kernels::{
    Kernel, Target,
    layout::{self, Permute, Repeat, Slice},
};

use crate::{
    elements::{Half, Host, Random, Single, Tolerance, assert_coalesced, compare},
    harness::{Arg, run, targets},
};

/// Runs a kernel that moves bytes from one array to another; what the other holds before, if that is to stay.
fn moved(kernel: &Kernel, from: &[u8], to: Arg) -> Vec<u8> {
    run(kernel, &[Arg::In(from), to]).0.into_iter().next().unwrap()
}

/// Elements of `bytes` bytes at these places; zeros at none.
fn picked(x: &[u8], bytes: usize, places: impl Iterator<Item = Option<usize>>) -> Vec<u8> {
    let zero = vec![0; bytes];
    places.flat_map(|i| i.map_or(&zero[..], |i| &x[i * bytes..(i + 1) * bytes]).to_vec()).collect()
}

/// Where each element of y stands in x.
fn permuted(permute: &Permute) -> Vec<usize> {
    let shape: Vec<_> = permute.shape.iter().map(|&n| n as usize).collect();
    let strides: Vec<usize> = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
    let mut places = vec![0];
    for &axis in &permute.axes {
        let along = |place: usize| (0..shape[axis]).map(move |i| (place, i));
        places = places.into_iter().flat_map(along).map(|(place, i)| place + i * strides[axis]).collect();
    }
    places
}

fn permutation_agrees<H: Host>(permute: &Permute, target: Target) {
    let kernel = permute.kernel::<H::Gpu>(target).unwrap();
    let (places, bytes) = (permuted(permute), H::encode(&[0.0]).len());
    // Any bits at all, NaN's payloads among them.
    let x = Random(places.len() as u64).bytes(places.len() * bytes);
    let y = moved(&kernel, &x, Arg::Out(x.len()));
    assert_eq!(y, picked(&x, bytes, places.into_iter().map(Some)), "{}", kernel.name);
}

#[test]
fn permutations_agree() {
    let fixed: [(&[u32], &[usize]); 9] = [
        (&[], &[]),
        (&[1], &[0]),
        (&[1003], &[0]),
        (&[40, 24], &[1, 0]),
        (&[2, 3, 4, 5, 6, 7], &[5, 4, 3, 2, 1, 0]),
        (&[3, 5, 4, 2, 16], &[0, 3, 1, 2, 4]),
        (&[2, 6, 3, 4], &[0, 2, 3, 1]),
        (&[2, 1, 3, 1, 6], &[3, 2, 0, 1, 4]),
        (&[7, 9, 12], &[1, 0, 2]),
    ];
    let mut cases: Vec<_> =
        fixed.map(|(shape, axes)| Permute { shape: shape.to_vec(), axes: axes.to_vec() }).into();
    let mut random = Random(5);
    for _ in 0..40 {
        let count = 1 + random.below(6);
        let mut axes: Vec<_> = (0..count).collect();
        (1..count).for_each(|i| axes.swap(i, random.below(i + 1)));
        cases.push(Permute { shape: (0..count).map(|_| 1 + random.below(6) as u32).collect(), axes });
    }
    for target in targets() {
        for permute in &cases {
            permutation_agrees::<Half>(permute, target);
            permutation_agrees::<Single>(permute, target);
        }
    }
}

/// Sizes that leave accesses of 16, 8, 4 and 2 bytes, from aligned and from odd starts.
fn slices() -> Vec<Slice> {
    let mut random = Random(6);
    let mut slices = vec![
        Slice { outer: 1, from: 1, start: 0, len: 1, inner: 1 },
        Slice { outer: 3, from: 64, start: 16, len: 32, inner: 1 },
        Slice { outer: 3, from: 64, start: 1, len: 32, inner: 1 },
        Slice { outer: 2, from: 10, start: 9, len: 1, inner: 48 },
        Slice { outer: 1000, from: 4, start: 0, len: 3, inner: 1 },
        Slice { outer: 5, from: 8, start: 2, len: 4, inner: 6 },
        Slice { outer: 2, from: 12, start: 4, len: 8, inner: 4 },
    ];
    for _ in 0..40 {
        let mut size = |most| 1 + random.below(most) as u32;
        let (outer, from, inner) = (size(6), size(12), size(24));
        let start = size(from as usize) - 1;
        slices.push(Slice { outer, from, start, len: size((from - start) as usize), inner });
    }
    slices
}

fn slice_agrees<H: Host>(slice: &Slice, target: Target) {
    let bytes = H::encode(&[0.0]).len();
    let [outer, from, start, len, inner] =
        [slice.outer, slice.from, slice.start, slice.len, slice.inner].map(|n| n as usize);
    let in_x = |y: usize| (y / inner / len * from + start + y / inner % len) * inner + y % inner;
    let in_y = |x: usize| {
        let i = (x / inner % from).checked_sub(start).filter(|&i| i < len)?;
        Some((x / inner / from * len + i) * inner + x % inner)
    };
    let (large, small) = (outer * from * inner, outer * len * inner);
    let mut random = Random(large as u64);
    let (x, y) = (random.bytes(large * bytes), random.bytes(small * bytes));

    let kernel = slice.take::<H::Gpu>(target).unwrap();
    let taken = moved(&kernel, &x, Arg::Out(y.len()));
    assert_eq!(taken, picked(&x, bytes, (0..small).map(|i| Some(in_x(i)))), "{}", kernel.name);

    let kernel = slice.pad::<H::Gpu>(target).unwrap();
    let padded = moved(&kernel, &y, Arg::Out(x.len()));
    assert_eq!(padded, picked(&y, bytes, (0..large).map(in_y)), "{}", kernel.name);

    let kernel = slice.place::<H::Gpu>(target).unwrap();
    let placed = moved(&kernel, &y, Arg::InOut(&x));
    // Both arrays one after the other: an element of y where there is one, of x elsewhere.
    let both = [&y[..], &x[..]].concat();
    let want = picked(&both, bytes, (0..large).map(|i| Some(in_y(i).unwrap_or(small + i))));
    assert_eq!(placed, want, "{}", kernel.name);
}

#[test]
fn slices_agree() {
    for target in targets() {
        for slice in slices() {
            slice_agrees::<Half>(&slice, target);
            slice_agrees::<Single>(&slice, target);
        }
    }
}

fn repeat_agrees<H: Host>(repeat: &Repeat, target: Target) {
    let bytes = H::encode(&[0.0]).len();
    let [outer, count, inner] = [repeat.outer, repeat.count, repeat.inner].map(|n| n as usize);
    let mut random = Random((outer * inner) as u64);
    let x = random.bytes(outer * inner * bytes);
    let kernel = repeat.forward::<H::Gpu>(target).unwrap();
    let y = moved(&kernel, &x, Arg::Out(x.len() * count));
    let places = (0..outer * count * inner).map(|i| i / inner / count * inner + i % inner);
    assert_eq!(y, picked(&x, bytes, places.map(Some)), "{}", kernel.name);

    let dy = random.with_corners::<H>(outer * count * inner);
    let kernel = repeat.backward::<H::Gpu>(target).unwrap();
    let dx = H::decode(&moved(&kernel, &H::encode(&dy), Arg::Out(x.len())));
    let sum = |i: usize| {
        let terms = (0..count).map(|copy| dy[(i / inner * count + copy) * inner + i % inner]);
        f64::from(terms.fold(0.0f32, |sum, dy| sum + dy))
    };
    let want: Vec<_> = (0..outer * inner).map(sum).collect();
    compare::<H>(&kernel.name, &dx, &want, Tolerance::Exact);
}

#[test]
fn repeats_agree() {
    let mut random = Random(7);
    let mut cases = vec![[1, 1, 1], [1, 9, 1], [300, 2, 1], [3, 4, 64], [2, 3, 6], [1, 1003, 4], [5, 8, 9]];
    cases.extend((0..20).map(|_| [6, 20, 24].map(|most| 1 + random.below(most) as u32)));
    for target in targets() {
        for &[outer, count, inner] in &cases {
            repeat_agrees::<Half>(&Repeat { outer, count, inner }, target);
            repeat_agrees::<Single>(&Repeat { outer, count, inner }, target);
        }
    }
}

#[test]
fn aligned_sizes_move_whole_sectors() {
    type Element = <Half as Host>::Gpu;
    let permute = Permute { shape: vec![4, 6, 8, 64], axes: vec![2, 0, 1, 3] };
    let slice = Slice { outer: 16, from: 256, start: 64, len: 128, inner: 1 };
    let repeat = Repeat { outer: 8, count: 4, inner: 128 };
    let (large, small) = (12_288, 2048);
    let kernels = [
        (permute.kernel::<Element>(Target::Sm80), large, large),
        (slice.take::<Element>(Target::Sm80), 4096, small),
        (slice.pad::<Element>(Target::Sm80), small, 4096),
        (slice.place::<Element>(Target::Sm80), small, 4096),
        (repeat.forward::<Element>(Target::Sm80), 1024, 4096),
        (repeat.backward::<Element>(Target::Sm80), 4096, 1024),
    ];
    for (kernel, from, to) in kernels {
        let kernel = kernel.unwrap();
        let (from, to) = (vec![0; 2 * from], vec![0; 2 * to]);
        let (_, report) = run(&kernel, &[Arg::In(&from), Arg::InOut(&to)]);
        assert_coalesced(&kernel.name, &report);
    }
}

#[test]
fn layouts_that_cannot_be_are_errors() {
    type Element = <Half as Host>::Gpu;
    let permute = |shape: &[u32], axes: &[usize]| {
        vec![Permute { shape: shape.to_vec(), axes: axes.to_vec() }.kernel::<Element>(Target::Sm80)]
    };
    let slice = |spec: Slice| {
        [
            spec.take::<Element>(Target::Sm80),
            spec.pad::<Element>(Target::Sm80),
            spec.place::<Element>(Target::Sm80),
        ]
        .into()
    };
    let repeat = |outer, count, inner| {
        let spec = Repeat { outer, count, inner };
        vec![spec.forward::<Element>(Target::Sm80), spec.backward::<Element>(Target::Sm80)]
    };
    let base = Slice { outer: 2, from: 8, start: 2, len: 4, inner: 3 };
    let cases: [(Vec<_>, &str); 13] = [
        (permute(&[2, 3], &[0, 0]), "[0, 0] is not an order of the axes of [2, 3]"),
        (permute(&[2, 3], &[0]), "is not an order"),
        (permute(&[2, 3], &[1, 2]), "is not an order"),
        (permute(&[1; 7], &[0, 1, 2, 3, 4, 5, 6]), "of up to 6"),
        (permute(&[2, 0], &[1, 0]), "no elements"),
        (permute(&[1 << 16, 1 << 15], &[1, 0]), "2³¹ elements or more"),
        (slice(Slice { start: 5, ..base }), "4 from 5 on are not inside an axis of 8"),
        (slice(Slice { start: u32::MAX, ..base }), "not inside"),
        (slice(Slice { len: 0, ..base }), "no elements"),
        (slice(Slice { outer: 1 << 30, ..base }), "2³¹ elements or more"),
        (slice(Slice { from: u32::MAX, ..base }), "2³¹ elements or more"),
        (repeat(2, 0, 3), "no elements"),
        (repeat(1 << 20, 1 << 10, 2), "2³¹ elements or more"),
    ];
    for (kernels, message) in cases {
        for kernel in kernels {
            let error = kernel.unwrap_err();
            assert_eq!(error.family, "layout");
            assert!(error.message.contains(message), "`{error}` does not say `{message}`");
        }
    }
}

#[test]
fn no_specification_of_the_catalogue_is_refused() {
    for target in Target::ALL {
        // In two element types: five permutations, three kernels of five slices, two of three repeats.
        assert_eq!(layout::catalogue(target).len(), 2 * (5 + 3 * 5 + 2 * 3));
    }
}
