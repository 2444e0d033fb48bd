//! The events alone order the work of all ranks, for any delay of their streams.

use std::ops::Range;

use ssmv_autograd::cuda::{Priority, Stream};

use super::lazy::World;
use super::*;
use crate::ReduceOp;

/// Queues some collectives on each rank before the device runs any. Returns whether all results are right.
fn in_a_row(ranks: usize, seed: u64, deaf: Range<usize>) -> bool {
    let all_events = deaf.is_empty();
    let world = World::new(seed, deaf);
    let right = on_ranks(ranks, |control| {
        let rank = control.rank();
        let cuda = over(world.device(rank as u8 + 1));
        let stream: Stream = cuda.driver().create_stream(Priority::Normal).unwrap();
        let mut device = ring(&cuda, control);
        let counts = [9000, 10, 20_001];
        let values: Vec<_> = counts.iter().map(|&count| numbers(rank, count)).collect();
        let on_device: Vec<_> = values.iter().map(|values| memory(&cuda, DType::F32, values)).collect();
        let mut right = true;
        let mut want = Vec::new();
        for (memory, values) in on_device.iter().zip(&values) {
            let region = Region { memory, range: 0..values.len(), stream };
            let mut values = values.clone();
            device.all_reduce_sum(control, &region).unwrap();
            control.all_reduce(&mut values, ReduceOp::Sum).unwrap();
            device.broadcast(control, &region, 1).unwrap();
            control.broadcast(&mut values, 1).unwrap();
            device.reduce_scatter_sum(control, &region).unwrap();
            device.all_gather(control, &region).unwrap();
            control.all_reduce(&mut values, ReduceOp::Sum).unwrap();
            want.push(values);
        }
        right &= cuda.driver().synchronize(stream).is_ok();
        for (memory, want) in on_device.iter().zip(&want) {
            right &= all(memory) == bits(want);
        }
        // Shared memory must stay until all ranks have checked their results.
        control.barrier().unwrap();
        if all_events {
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
            assert!(in_a_row(ranks, seed, 0..0), "{ranks} ranks, seed {seed}");
        }
    }
}

#[test]
fn results_are_wrong_where_streams_do_not_wait() {
    let ranks = 3;
    let filled = ranks * OPTIONS.width;
    // The events that slots are filled, then those that they are free.
    for deaf in [0..filled, filled..filled + ranks] {
        assert!((0..4).any(|seed| !in_a_row(ranks, seed, deaf.clone())), "without events {deaf:?}");
    }
}
