//! Every collective on every transport.

use super::*;
use crate::ReduceOp;

/// Elements before and after the range, which no collective touches.
const AROUND: usize = 5;

/// Short counts, odd counts, and counts of many pieces.
fn counts(ranks: usize) -> Vec<usize> {
    vec![0, 1, ranks - 1, ranks, ranks + 1, 1003, 3 * 1024 * ranks + 7]
}

#[test]
fn sums_have_the_bits_of_the_ring_on_the_cpu() {
    for ranks in [2, 3, 4] {
        on_every_transport(ranks, |transport, control, cuda, device| {
            for (count, start) in counts(ranks).into_iter().zip([0, 1, 2, 3, 64, 7, 65]) {
                let rank = control.rank();
                let values = numbers(rank, start + count + AROUND);
                let range = start..start + count;
                let mut want = values.clone();
                control.all_reduce(&mut want[range.clone()], ReduceOp::Sum).unwrap();

                let on_device = memory(cuda, DType::F32, &values);
                let region =
                    Region { memory: &on_device, range: range.clone(), stream: cuda.compute_stream() };
                device.all_reduce_sum(control, &region).unwrap();
                assert!(
                    all(&on_device) == bits(&want),
                    "{transport}: all-reduce of {count} at {rank} of {ranks}"
                );

                let scattered = memory(cuda, DType::F32, &values);
                let region = Region { memory: &scattered, ..region };
                let own = device.reduce_scatter_sum(control, &region).unwrap();
                let mut part = values.clone();
                part[own.clone()].copy_from_slice(&want[own]);
                assert!(
                    all(&scattered) == bits(&part),
                    "{transport}: reduce-scatter of {count} at {rank} of {ranks}"
                );
                device.all_gather(control, &region).unwrap();
                assert!(
                    all(&scattered) == bits(&want),
                    "{transport}: all-gather of {count} at {rank} of {ranks}"
                );
            }
        });
    }
}

#[test]
fn copies_have_the_bits_of_the_ring_on_the_cpu() {
    for ranks in [2, 4] {
        on_every_transport(ranks, |transport, control, cuda, device| {
            for dtype in [DType::F16, DType::F32] {
                for (count, start) in counts(ranks).into_iter().zip([0, 1, 2, 3, 64, 7, 65]) {
                    let rank = control.rank();
                    // Whole numbers, which f16 holds.
                    let of = |rank: usize| -> Vec<f32> {
                        (0..start + count + AROUND).map(|i| ((i * 31 + rank * 577) % 2048) as f32).collect()
                    };
                    let range = start..start + count;
                    let mut want = of(rank);
                    control.all_gather(&mut want[range.clone()]).unwrap();
                    let on_device = memory(cuda, dtype, &of(rank));
                    let region =
                        Region { memory: &on_device, range: range.clone(), stream: cuda.compute_stream() };
                    device.all_gather(control, &region).unwrap();
                    assert!(
                        all(&on_device) == bits(&want),
                        "{transport}: {dtype} all-gather of {count} at {rank}"
                    );
                    for root in 0..ranks {
                        let on_device = memory(cuda, dtype, &of(rank));
                        let mut want = of(rank);
                        want[range.clone()].copy_from_slice(&of(root)[range.clone()]);
                        device
                            .broadcast(control, &Region { memory: &on_device, ..region.clone() }, root)
                            .unwrap();
                        assert!(
                            all(&on_device) == bits(&want),
                            "{transport}: {dtype} broadcast of {count} from {root} at {rank}"
                        );
                    }
                }
            }
        });
    }
}

#[test]
fn what_was_shared_goes_back_to_the_device() {
    on_ranks(3, |control| {
        let cuda = emulated(control.rank() + 1);
        let before = cuda.driver().memory().unwrap();
        for _ in 0..3 {
            ring(&cuda, control).close(control).unwrap();
        }
        assert_eq!(cuda.driver().memory().unwrap().free, before.free);
    });
}
