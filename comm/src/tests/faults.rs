//! Ranks that die, stall or disagree.

use super::super::frame::{Operation, Tag};
use super::super::tcp::TcpLink;
use super::super::{Block, Fault, Link};
use super::*;
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

/// A link whose rank is killed at its `left`-th frame: both connections end without a message.
struct Mortal {
    link: TcpLink,
    streams: [TcpStream; 2],
    frames: usize,
}

impl Link for Mortal {
    fn send(&mut self, tag: Tag, block: Block) -> Result<(), Fault> {
        self.link.send(tag, block)
    }

    fn receive(&mut self, tag: Tag, payload: &mut [u8]) -> Result<u32, Fault> {
        if self.frames == 0 {
            self.streams.iter().for_each(|stream| stream.shutdown(Shutdown::Both).unwrap_or(()));
        }
        self.frames = self.frames.saturating_sub(1);
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

    fn close(&mut self, _: &str) {}
}

#[test]
fn every_survivor_of_a_killed_rank_fails_within_five_seconds() {
    for (ranks, dead, frames) in [(2, 1, 0), (3, 0, 5), (4, 2, 0), (4, 3, 9), (5, 1, 14)] {
        let (listeners, addresses) = listeners(ranks);
        let errors = each(listeners, |rank, listener| {
            let (options, _) = options(Duration::from_secs(60));
            let (left, right) = tcp::pair(rank, &listener, &addresses, options.timeout).unwrap();
            let streams = [left.try_clone().unwrap(), right.try_clone().unwrap()];
            let link = TcpLink::new(rank, ranks, left, right, options).unwrap();
            let link: Box<dyn Link> =
                if rank == dead { Box::new(Mortal { link, streams, frames }) } else { Box::new(link) };
            let mut comm = Communicator::new(rank, ranks, link).unwrap();
            let mut data = vec![1f32; 3_000_000];
            let start = Instant::now();
            let error = comm.all_reduce(&mut data, ReduceOp::Sum).unwrap_err();
            (error, start.elapsed())
        });
        for (rank, (error, took)) in errors.iter().enumerate().filter(|(rank, _)| *rank != dead) {
            assert_names(error, rank, Operation::AllReduceSum, 1);
            assert!(*took < Duration::from_secs(5), "{took:?}: {error}");
            // The right neighbour of the dead rank detects it first, and its message goes round.
            let first = (dead + 1) % ranks;
            let words = format!("rank {first}: all-reduce (sum) 1: rank {dead} closed the connection");
            assert!(error.to_string().contains(&words), "{error}");
            assert_eq!(matches!(error.fault, Fault::Closed { .. }), rank == first, "{error}");
        }
    }
}

#[test]
fn a_rank_that_gives_up_sends_the_reason_to_all_others() {
    let errors = on_ranks(4, |comm| {
        comm.barrier().unwrap();
        if comm.rank() == 1 {
            comm.abandon("shard-003.npy: byte 128: not a number");
        }
        let error = comm.all_reduce(&mut [1f64; 10], ReduceOp::Sum).unwrap_err();
        let again = comm.barrier().unwrap_err();
        assert!(matches!(again.fault, Fault::Earlier(_)), "{again}");
        error
    });
    // Rank 0 has the closed connection too, but waits for the reason.
    for rank in [0, 2, 3] {
        assert_names(&errors[rank], rank, Operation::AllReduceSum, 2);
        let text = errors[rank].to_string();
        assert!(text.contains("rank 1: after collective 1: shard-003.npy: byte 128: not a number"), "{text}");
    }
}

#[test]
fn ranks_in_different_collectives_all_fail() {
    let errors = on_ranks(3, |comm| {
        comm.barrier().unwrap();
        let mut data = [1f32; 8];
        if comm.rank() == 2 { comm.all_gather(&mut data) } else { comm.all_reduce(&mut data, ReduceOp::Sum) }
            .unwrap_err()
    });
    assert!(errors.iter().any(|error| matches!(error.fault, Fault::Mismatch { .. })), "{errors:?}");
    for (rank, error) in errors.iter().enumerate() {
        let operation = if rank == 2 { Operation::AllGather } else { Operation::AllReduceSum };
        assert_names(error, rank, operation, 2);
    }
}

#[test]
fn a_stalled_rank_is_warned_of_at_a_quarter_and_given_up_at_the_timeout() {
    let timeout = Duration::from_millis(800);
    let (ranks, stalled) = (7, 1);
    let (listeners, addresses) = listeners(ranks);
    let results = each(listeners, |rank, listener| {
        let (options, stalls) = options(timeout);
        let mut comm = tcp::join(rank, &listener, &addresses, options).unwrap();
        comm.barrier().unwrap();
        let start = Instant::now();
        if rank == stalled {
            thread::sleep(timeout * 4);
            return None;
        }
        let error = comm.all_reduce(&mut [1f32; 64], ReduceOp::Sum).unwrap_err();
        Some((error, start.elapsed(), stalls.lock().unwrap().clone()))
    });
    for (rank, (error, took, stalls)) in
        results.iter().enumerate().filter_map(|(r, x)| Some((r, x.as_ref()?)))
    {
        assert_names(error, rank, Operation::AllReduceSum, 2);
        assert!(*took >= timeout && *took < timeout * 3, "rank {rank} after {took:?}: {error}");
        let first = stalls.first().unwrap_or_else(|| panic!("rank {rank} did not warn"));
        assert!(first.waited >= timeout / 4 && first.waited < timeout * 3 / 4, "{first}");
        assert_eq!((first.rank, first.timeout), (rank, timeout));
        assert!(error.to_string().contains("rank 1 sends nothing for"), "{error}");
    }
    let of = |rank: usize| results[rank].as_ref().unwrap();
    assert!(matches!(of(2).0.fault, Fault::Timeout { peer: 1, sending: false, .. }), "{}", of(2).0);
    assert_eq!(of(2).2[0].peer, 1);
    // Further along the ring the warnings name the rank that all wait for.
    for rank in [3, 4, 5, 6, 0] {
        assert!(of(rank).2.iter().any(|stall| stall.blamed == Some(1)), "rank {rank}: {:?}", of(rank).2);
    }
}

#[test]
fn a_rank_that_takes_nothing_is_given_up_by_the_one_that_sends() {
    let timeout = Duration::from_millis(600);
    let (listeners, addresses) = listeners(2);
    let results = each(listeners, |rank, listener| {
        let (options, stalls) = options(timeout);
        let mut comm = tcp::join(rank, &listener, &addresses, options).unwrap();
        if rank == 1 {
            thread::sleep(timeout * 3);
            return None;
        }
        // More than the system buffers, so that sending stalls.
        let error = comm.broadcast(&mut vec![0u32; 16 << 20], 0).unwrap_err();
        let stalls = stalls.lock().unwrap().clone();
        Some((error, stalls))
    });
    let (error, stalls) = results[0].as_ref().unwrap();
    assert_names(error, 0, Operation::Broadcast, 1);
    assert!(matches!(error.fault, Fault::Timeout { peer: 1, .. }), "{error}");
    assert!(!stalls.is_empty());
}

#[test]
fn a_slow_rank_delays_and_nothing_else() {
    let timeout = Duration::from_millis(1200);
    let (listeners, addresses) = listeners(3);
    let stalls = each(listeners, |rank, listener| {
        let (options, stalls) = options(timeout);
        let mut comm = tcp::join(rank, &listener, &addresses, options).unwrap();
        for round in 0..2 {
            if rank == 0 {
                thread::sleep(timeout / 2);
            }
            let mut data = [1u32; 7];
            comm.all_reduce(&mut data, ReduceOp::Sum).unwrap();
            assert_eq!(data, [3; 7], "round {round}");
        }
        stalls.lock().unwrap().clone()
    });
    assert!(stalls[1].iter().any(|stall| stall.peer == 0), "the straggler is not named: {stalls:?}");
}

#[test]
fn a_ring_that_cannot_connect_names_the_missing_rank() {
    let (listeners, addresses) = listeners(2);
    let (options, _) = options(Duration::from_millis(300));
    let error = tcp::join(0, &listeners[0], &addresses, options.clone()).unwrap_err();
    assert!(
        error.to_string().contains("rank 0: cannot join the ring of 2: rank 1 does not connect"),
        "{error}"
    );
    let gone = {
        let mut list = addresses.clone();
        list[1] = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        list
    };
    let error = tcp::join(0, &listeners[0], &gone, options.clone()).unwrap_err();
    assert!(error.to_string().contains(&format!("rank 1 at {} does not answer", gone[1])), "{error}");
    let error = tcp::join(2, &listeners[0], &addresses, options).unwrap_err();
    assert!(error.to_string().contains("not one of the ranks"), "{error}");
}

#[test]
fn strangers_are_dropped_while_the_ring_forms() {
    use std::io::Write;
    let (listeners, addresses) = listeners(2);
    let mut strangers: Vec<_> =
        addresses.iter().map(|address| TcpStream::connect(address).unwrap()).collect();
    strangers[0].write_all(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n").unwrap();
    each(listeners, |rank, listener| {
        let (options, _) = options(Duration::from_secs(20));
        tcp::join(rank, &listener, &addresses, options).unwrap().barrier().unwrap();
    });
}

#[test]
fn a_rank_that_is_in_no_collective_sees_its_neighbours_end() {
    for told in [false, true] {
        let (listeners, addresses) = listeners(2);
        let errors = each(listeners, |rank, listener| {
            let (options, _) = options(Duration::from_secs(30));
            let mut ranks = tcp::join(rank, &listener, &addresses, options).unwrap();
            ranks.barrier().unwrap();
            ranks.check().unwrap();
            ranks.barrier().unwrap();
            if rank == 1 {
                if told {
                    ranks.abandon("out of paper");
                }
                return String::new();
            }
            let start = Instant::now();
            loop {
                match ranks.check() {
                    Ok(()) => assert!(start.elapsed() < Duration::from_secs(5), "rank 1 is gone"),
                    Err(error) => return error.to_string(),
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let words = if told { "out of paper" } else { "rank 1 closed the connection" };
        assert!(errors[0].contains(words), "{}", errors[0]);
    }
}
