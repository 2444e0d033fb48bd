//! A rank's step in a ring, against the host's f32 to the bit: any count, arrays that begin anywhere.

use ssmv_kernels::{
    Kernel,
    ptx::{F16, F32},
    reduce_copy::ReduceCopy,
};

use crate::{
    elements::{Host, Random, Single, assert_coalesced},
    harness::{Arg, POISON, run, targets},
};

const COUNTS: [usize; 10] = [0, 1, 2, 3, 4, 5, 7, 1003, 4096, 65_537];

/// Bytes of an array of `count` elements of `bytes`, and of what lies around it.
fn placed(elements: &[u8], offset: usize) -> Vec<u8> {
    let mut all = vec![POISON; offset + elements.len() + 16];
    all[offset..offset + elements.len()].copy_from_slice(elements);
    all
}

/// Runs the step on arrays that begin `offsets` bytes after a multiple of 16, and checks each byte of what it wrote.
fn check(
    step: ReduceCopy,
    kernel: &Kernel,
    [came, own, want]: [&[u8]; 3],
    count: usize,
    offsets: [usize; 3],
) {
    let kernel = Kernel { grid: [ReduceCopy::blocks::<F32>(count as u32), 1, 1], ..kernel.clone() };
    let inputs = [placed(came, offsets[0]), placed(own, offsets[1])];
    let next = placed(&vec![POISON; want.len()], offsets[2]);
    let mut args = vec![
        Arg::InFrom(&inputs[0], offsets[0]),
        Arg::InOutFrom(&inputs[1], offsets[1]),
        Arg::InOutFrom(&next, offsets[2]),
        Arg::U32(count as u32),
    ];
    if !step.forwards() {
        args.remove(2);
    }
    let (outputs, report) = run(&kernel, &args);
    let kept = if step == ReduceCopy::SumForward { own } else { want };
    let context = format!("{} of {count} at {offsets:?}", kernel.name);
    assert!(outputs[0] == placed(kept, offsets[1]), "{context}: own");
    if step.forwards() {
        assert!(outputs[1] == placed(want, offsets[2]), "{context}: next");
    }
    if count == 4096 && offsets == [0; 3] {
        assert_coalesced(&kernel.name, &report);
    }
}

/// Where the three arrays begin, in elements.
const PLACES: [[usize; 3]; 7] = [[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3], [0, 0, 1], [1, 0, 1], [3, 2, 1]];

#[test]
fn sums_have_the_bits_of_the_host() {
    for target in targets() {
        for step in [ReduceCopy::Sum, ReduceCopy::SumForward, ReduceCopy::SumBoth] {
            let kernel = step.kernel::<F32>(target);
            for count in COUNTS {
                let mut random = Random(count as u64);
                let [came, own] = [0, 1].map(|_| random.plain::<Single>(count));
                let want: Vec<f32> = came.iter().zip(&own).map(|(came, own)| came + own).collect();
                let [came, own, want] = [&came, &own, &want].map(|values| Single::encode(values));
                for places in PLACES {
                    check(step, &kernel, [&came, &own, &want], count, places.map(|place| 4 * place));
                }
            }
        }
    }
}

#[test]
fn copies_keep_every_bit() {
    for target in targets() {
        for (kernel, bytes) in
            [(ReduceCopy::Copy.kernel::<F32>(target), 4), (ReduceCopy::Copy.kernel::<F16>(target), 2)]
        {
            for count in COUNTS {
                let came: Vec<u8> = (0..count * bytes).map(|i| (i * 7 + i / 251) as u8).collect();
                let own = vec![0x11; count * bytes];
                for places in PLACES {
                    let offsets = places.map(|place| bytes * place);
                    check(ReduceCopy::Copy, &kernel, [&came, &own, &came], count, offsets);
                }
            }
        }
    }
}
