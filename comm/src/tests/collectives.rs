//! Every collective against a serial reference, to the bit.

use super::super::frame::Tag;
use super::super::tcp::TcpLink;
use super::super::{Block, Fault, Link};
use super::*;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A buffer per rank, drawn from `seed`.
fn draw<T>(ranks: usize, count: usize, seed: u64, one: impl Fn(&mut ChaCha8Rng) -> T) -> Vec<Vec<T>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..ranks).map(|_| (0..count).map(|_| one(&mut rng)).collect()).collect()
}

/// A number of any magnitude, so that another order of summation shows.
fn wide(rng: &mut ChaCha8Rng) -> f32 {
    let (mantissa, exponent) = (rng.random_range(-1.0..1.0f32), rng.random_range(-12..12));
    mantissa * 2f32.powi(exponent)
}

#[track_caller]
fn check_all<T: Element + Sync + std::fmt::Debug>(inputs: &[Vec<T>], reduction: ReduceOp) {
    let (ranks, count) = (inputs.len(), inputs[0].len());
    let expected = reference(inputs, reduction);
    on_ranks(ranks, |comm| {
        let rank = comm.rank();
        let mut data = inputs[rank].clone();
        comm.all_reduce(&mut data, reduction).unwrap();
        assert!(bits(&data) == bits(&expected), "all-reduce of {count} at rank {rank} of {ranks}");

        let mut data = inputs[rank].clone();
        let own = comm.reduce_scatter(&mut data, reduction).unwrap();
        let mut scattered = inputs[rank].clone();
        scattered[own.clone()].copy_from_slice(&expected[own]);
        assert!(bits(&data) == bits(&scattered), "reduce-scatter of {count} at rank {rank} of {ranks}");
        comm.all_gather(&mut data).unwrap();
        assert!(bits(&data) == bits(&expected), "all-gather of {count} at rank {rank} of {ranks}");

        for root in 0..ranks {
            let mut data = inputs[rank].clone();
            comm.broadcast(&mut data, root).unwrap();
            assert!(
                bits(&data) == bits(&inputs[root]),
                "broadcast of {count} from {root} at {rank} of {ranks}"
            );
        }
        assert_eq!(comm.sequence(), 3 + ranks as u64);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn collectives_have_the_bits_of_the_documented_order(
        ranks in 1..=5usize,
        count in prop_oneof![0..40usize, 0..5_000usize, 30_000..200_000usize],
        seed: u64,
    ) {
        check_all(&draw(ranks, count, seed, wide), ReduceOp::Sum);
    }

    #[test]
    fn every_type_and_reduction(ranks in 1..=5usize, count in 0..300usize, seed: u64) {
        for reduction in [ReduceOp::Sum, ReduceOp::Max] {
            check_all(&draw(ranks, count, seed, |rng| f64::from(wide(rng))), reduction);
            check_all(&draw(ranks, count, seed, |rng| rng.random::<u32>()), reduction);
        }
        check_all(&draw(ranks, count, seed, wide), ReduceOp::Max);
    }
}

#[test]
fn buffers_of_several_waves_that_do_not_divide() {
    for ranks in [2, 3, 5] {
        check_all(&draw(ranks, 6_000_003, 7, wide), ReduceOp::Sum);
    }
}

#[test]
fn corner_counts() {
    for ranks in 1..=5 {
        for count in [0, 1, ranks - 1, ranks, ranks + 1, 8192 * ranks, 8192 * ranks + 1] {
            check_all(&draw(ranks, count, 3, wide), ReduceOp::Sum);
        }
    }
}

#[test]
fn max_lets_nan_and_plus_zero_win_wherever_they_are() {
    let signalling = f32::from_bits(0xff80_0001);
    for ranks in 2..=4 {
        for holder in 0..ranks {
            let results = on_ranks(ranks, |comm| {
                let plain = [-1.0, -0.0, f32::NEG_INFINITY, 5.0, f32::MIN, 2.0];
                let corner = [signalling, 0.0, f32::INFINITY, -f32::NAN, 1.0, -f32::INFINITY];
                let mut data = if comm.rank() == holder { corner } else { plain };
                comm.all_reduce(&mut data, ReduceOp::Max).unwrap();
                data.map(f32::to_bits)
            });
            let expected = [f32::NAN, 0.0, f32::INFINITY, f32::NAN, 1.0, 2.0].map(f32::to_bits);
            for result in results {
                assert_eq!(result, expected, "corners at rank {holder} of {ranks}");
            }
        }
    }
}

#[test]
fn a_nan_in_a_sum_has_the_same_bits_everywhere() {
    let results = on_ranks(4, |comm| {
        let mut data = vec![f32::from_bits(0x7fc0_0000 + comm.rank() as u32); 9];
        comm.all_reduce(&mut data, ReduceOp::Sum).unwrap();
        data.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    });
    assert!(f32::from_bits(results[0][0]).is_nan());
    assert!(results.iter().all(|result| *result == results[0]), "{results:x?}");
}

#[test]
fn no_rank_leaves_a_barrier_before_the_last_has_entered() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for ranks in 1..=5 {
        let entered = AtomicUsize::new(0);
        on_ranks(ranks, |comm| {
            for round in 1..=3 {
                thread::sleep(Duration::from_millis(if comm.rank() == round % ranks { 20 } else { 0 }));
                entered.fetch_add(1, Ordering::SeqCst);
                comm.barrier().unwrap();
                assert!(entered.load(Ordering::SeqCst) >= ranks * round, "round {round} of {ranks}");
                comm.barrier().unwrap();
            }
        });
    }
}

#[test]
fn a_shift_gives_the_left_neighbours_buffer() {
    for ranks in 1..=4 {
        for count in [0, 1, 7, 500_001] {
            on_ranks(ranks, |comm| {
                let of = |rank: usize| (0..count).map(|i| (i * ranks + rank) as u32).collect::<Vec<_>>();
                let mut data = of(comm.rank());
                comm.shift(&mut data).unwrap();
                assert_eq!(
                    data,
                    of((comm.rank() + ranks - 1) % ranks),
                    "{count} at {} of {ranks}",
                    comm.rank()
                );
            });
        }
    }
}

#[test]
fn a_root_that_is_not_a_rank_is_refused() {
    for error in on_ranks(2, |comm| comm.broadcast(&mut [0u32], 2).unwrap_err()) {
        assert!(error.to_string().contains("rank 2 cannot be the root among 2"), "{error}");
    }
    let error = Communicator::alone().broadcast(&mut [0u32], 1).unwrap_err();
    assert!(error.to_string().contains("rank 1 cannot be the root among 1"), "{error}");
}

/// Counts the most frames that a rank sent before it received as many.
struct Counting {
    link: TcpLink,
    ahead: i64,
    most: Arc<Mutex<i64>>,
}

impl Link for Counting {
    fn send(&mut self, tag: Tag, block: Block) -> Result<(), Fault> {
        self.ahead += 1;
        let mut most = self.most.lock().unwrap();
        *most = self.ahead.max(*most);
        self.link.send(tag, block)
    }

    fn receive(&mut self, tag: Tag, payload: &mut [u8]) -> Result<u32, Fault> {
        self.ahead -= 1;
        self.link.receive(tag, payload)
    }

    fn check(&mut self) -> Result<(), Fault> {
        self.link.check()
    }

    fn block(&mut self, bytes: usize) -> Block {
        self.link.block(bytes)
    }

    fn recycle(&mut self, block: Block) {
        self.link.recycle(block);
    }

    fn close(&mut self, why: &str) {
        self.link.close(why);
    }
}

#[test]
fn no_rank_runs_ahead_however_large_the_buffer() {
    let ranks = 3;
    let (listeners, addresses) = listeners(ranks);
    let most = Arc::new(Mutex::new(0));
    each(listeners, |rank, listener| {
        let (options, _) = options(Duration::from_secs(20));
        let (left, right) = tcp::pair(rank, &listener, &addresses, options.timeout).unwrap();
        let link = TcpLink::new(rank, ranks, left, right, options).unwrap();
        let link = Counting { link, ahead: 0, most: Arc::clone(&most) };
        let mut comm = Communicator::new(rank, ranks, Box::new(link)).unwrap();
        let mut data = vec![1f32; 4_000_000];
        comm.all_reduce(&mut data, ReduceOp::Sum).unwrap();
        // Only the root could run ahead.
        comm.broadcast(&mut data, 1).unwrap();
        assert!(data.iter().all(|x| *x == 3.0));
    });
    let most = *most.lock().unwrap();
    assert!((2..=8).contains(&most), "{most} frames of at least 31 were in flight");
}
