//! That the events alone order the work of all ranks, however late their streams run.

use ssmv_autograd::cuda::Stream;

use super::super::super::Reduction;
use super::lazy::World;
use super::*;

/// Runs some collectives in a row on each rank, and the device only then. Returns whether all results are right.
fn in_a_row(ranks: usize, seed: u64, waits: bool) -> bool {
    let world = World::new(seed, waits);
    let right = on_ranks(ranks, |control| {
        let rank = control.rank();
        let cuda = over(world.device(rank as u8 + 1));
        let stream: Stream = cuda.driver().create_stream().unwrap();
        let mut device = ring(&cuda, control);
        let counts = [9000, 10, 20_001];
        let values: Vec<_> = counts.iter().map(|&count| numbers(rank, count)).collect();
        let on_device: Vec<_> = values.iter().map(|values| memory(&cuda, DType::F32, values)).collect();
        let mut right = true;
        let mut want = Vec::new();
        for (memory, values) in on_device.iter().zip(&values) {
            let place = Place { memory, range: 0..values.len(), stream };
            let mut values = values.clone();
            device.all_reduce_sum(control, &place).unwrap();
            control.all_reduce(&mut values, Reduction::Sum).unwrap();
            device.broadcast(control, &place, 1).unwrap();
            control.broadcast(&mut values, 1).unwrap();
            device.reduce_scatter_sum(control, &place).unwrap();
            device.all_gather(control, &place).unwrap();
            control.all_reduce(&mut values, Reduction::Sum).unwrap();
            want.push(values);
        }
        right &= cuda.driver().synchronize(stream).is_ok();
        for (memory, want) in on_device.iter().zip(&want) {
            right &= all(memory) == bits(want);
        }
        // All ranks come to their checks before what is shared goes away.
        control.barrier().unwrap();
        if waits {
            device.close(control).unwrap();
        }
        right
    });
    right.into_iter().all(|right| right)
}

#[test]
fn results_are_right_in_any_order_that_the_events_allow() {
    for ranks in 2..=4 {
        for seed in 0..4 {
            assert!(in_a_row(ranks, seed, true), "{ranks} ranks, seed {seed}");
        }
    }
}

#[test]
fn results_are_wrong_where_no_stream_waits() {
    assert!(!in_a_row(3, 0, false));
}
