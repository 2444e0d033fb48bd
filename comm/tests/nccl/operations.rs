//! Every operation against what the host computes.

use ssmv_autograd::{DType, cuda::DeviceMemory};
use ssmv_comm::{
    ReduceOp,
    nccl::{NcclCommunicator, Result},
};

use super::{LONG, on_ranks};

/// What element `index` of a rank's memory is: whole numbers, which add up exactly.
fn value(rank: usize, index: usize) -> f32 {
    ((rank * 31 + index * 7) % 101) as f32 - 50.0
}

fn values(rank: usize, len: usize) -> Vec<f32> {
    (0..len).map(|index| value(rank, index)).collect()
}

/// Runs `operation` over the elements from 3 on of memory of `len + 5`, and compares: `expected` says what element `index`
/// of those becomes on a rank, where that is specified.
fn compare(
    (size, len, dtype): (usize, usize, DType),
    operation: impl Fn(&NcclCommunicator, &DeviceMemory) -> Result<()> + Sync,
    expected: impl Fn(usize, usize) -> Option<f32> + Sync,
) {
    on_ranks(
        size,
        "",
        |_| LONG,
        |communicator| {
            let communicator = communicator.unwrap();
            let (rank, cuda) = (communicator.rank(), communicator.cuda().clone());
            assert_eq!(communicator.size(), size);
            let before = values(rank, len + 5);
            let memory = DeviceMemory::copy_of(&cuda, dtype, &before).unwrap();
            operation(&communicator, &memory).unwrap();
            communicator.wait(cuda.compute_stream(), LONG).unwrap();
            communicator.check().unwrap();
            for (index, after) in memory.download(0..len + 5).unwrap().into_iter().enumerate() {
                let inside = (3..len + 3).contains(&index);
                let expected = if inside { expected(rank, index) } else { Some(before[index]) };
                let expected = expected.unwrap_or(after);
                assert_eq!(after, expected, "{size} ranks, {len} {dtype:?}: rank {rank}, element {index}");
            }
            communicator.close().unwrap();
        },
    );
}

/// Numbers of ranks with numbers of elements.
const SIZES: [(usize, usize); 6] = [(1, 8), (2, 0), (2, 2), (2, 100_000), (4, 4), (4, 40_000)];

#[test]
fn all_reduce_gives_all_ranks_the_sum_and_the_maximum() {
    for (size, len) in SIZES {
        let of = |index: usize| (0..size).map(move |rank| value(rank, index));
        compare(
            (size, len, DType::F32),
            |c, memory| c.all_reduce(memory, 3..len + 3, ReduceOp::Sum),
            |_, index| Some(of(index).sum()),
        );
        compare(
            (size, len, DType::F32),
            |c, memory| c.all_reduce(memory, 3..len + 3, ReduceOp::Max),
            |_, index| of(index).reduce(f32::max),
        );
    }
}

#[test]
fn reduce_scatter_gives_each_rank_its_share() {
    for (size, len) in SIZES {
        compare(
            (size, len, DType::F32),
            |c, memory| {
                assert_eq!(c.share(3..len + 3)?, 3 + c.rank() * len / size..3 + (c.rank() + 1) * len / size);
                c.reduce_scatter(memory, 3..len + 3, ReduceOp::Sum)
            },
            |rank, index| {
                let mine = (index - 3) / (len / size) == rank;
                mine.then(|| (0..size).map(|rank| value(rank, index)).sum())
            },
        );
    }
}

#[test]
fn all_gather_gives_all_ranks_all_shares() {
    for ((size, len), dtype) in SIZES.into_iter().flat_map(|size| [(size, DType::F32), (size, DType::F16)]) {
        compare(
            (size, len, dtype),
            |c, memory| c.all_gather(memory, 3..len + 3),
            |_, index| Some(value((index - 3) / (len / size), index)),
        );
    }
}

#[test]
fn broadcast_gives_all_ranks_what_the_root_has() {
    for (size, len) in SIZES {
        for root in [0, size - 1] {
            compare(
                (size, len, DType::F16),
                |c, memory| c.broadcast(memory, 3..len + 3, root),
                |_, index| Some(value(root, index)),
            );
        }
    }
}

#[test]
fn ranks_send_and_receive_around_a_ring() {
    for (size, half) in [(1, 6), (2, 50_000), (4, 10_000)] {
        // The second half comes from the left neighbour, while the first goes to the right.
        compare(
            (size, 2 * half, DType::F32),
            |c, memory| {
                let (right, left) = ((c.rank() + 1) % size, (c.rank() + size - 1) % size);
                c.group(c.cuda().compute_stream(), |group| {
                    group.send(memory, 3..half + 3, right)?;
                    group.receive(memory, half + 3..2 * half + 3, left)
                })
            },
            |rank, index| match index - 3 {
                first if first < half => Some(value(rank, index)),
                _ => Some(value((rank + size - 1) % size, index - half)),
            },
        );
    }
}

#[test]
fn a_rank_sends_and_another_receives() {
    compare(
        (2, 1000, DType::F16),
        |c, memory| match c.rank() {
            0 => c.send(memory, 3..1003, 1),
            _ => c.receive(memory, 3..1003, 0),
        },
        |_, index| Some(value(0, index)),
    );
}
