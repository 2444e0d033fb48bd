//! Ranks that fail, that are elsewhere, and devices that do not reach each other.

use std::time::Instant;

use ssmv_autograd::cuda::{Address, Counting, Stream};

use super::*;

/// A link that fails before a turn.
struct Failing {
    link: PeerLink,
    at: u32,
}

impl DeviceLink for Failing {
    fn rank(&self) -> usize {
        self.link.rank()
    }

    fn ranks(&self) -> usize {
        self.link.ranks()
    }

    fn width(&self) -> usize {
        self.link.width()
    }

    fn most(&self) -> usize {
        self.link.most()
    }

    fn place(&mut self, piece: usize, stream: Stream) -> ssmv_autograd::Result<Address> {
        self.at = self.at.checked_sub(1).ok_or_else(|| ssmv_autograd::Error::Misuse {
            operation: "place".into(),
            message: "the device fell off the bus".into(),
        })?;
        self.link.place(piece, stream)
    }

    fn send(&mut self, piece: usize, bytes: usize, stream: Stream) -> ssmv_autograd::Result<()> {
        self.link.send(piece, bytes, stream)
    }

    fn turn(
        &mut self,
        control: &mut Communicator,
        turn: Turn,
        incoming: &[usize],
        stream: Stream,
    ) -> Result<()> {
        self.link.turn(control, turn, incoming, stream)
    }

    fn receive(&mut self, piece: usize, stream: Stream) -> ssmv_autograd::Result<Address> {
        self.link.receive(piece, stream)
    }

    fn release(&mut self, stream: Stream) -> ssmv_autograd::Result<()> {
        self.link.release(stream)
    }

    fn close(self: Box<Self>, control: &mut Communicator) -> Result<()> {
        Box::new(self.link).close(control)
    }
}

#[test]
fn a_device_that_fails_in_the_middle_stops_all_ranks_with_its_words() {
    for at in [0, 1, 4, 17] {
        let started = Instant::now();
        let errors = on_ranks(4, |control| {
            let cuda = emulated(control.rank() + 1);
            let link = PeerLink::connect(&cuda, control, OPTIONS).unwrap();
            let at = if control.rank() == 2 { at } else { u32::MAX };
            let mut ring = DeviceRing::new(&cuda, Failing { link, at }).unwrap();
            let values = memory(&cuda, DType::F32, &numbers(0, 20_000));
            let region = Region { memory: &values, range: 0..20_000, stream: cuda.compute_stream() };
            let error = ring.all_reduce_sum(control, &region).unwrap_err();
            // And it stays so.
            assert!(ring.all_reduce_sum(control, &region).is_err());
            error.to_string()
        });
        for error in errors {
            assert!(
                error.contains("rank 2: all-reduce over device memory: ") && error.contains("off the bus"),
                "{error}"
            );
        }
        assert!(started.elapsed().as_secs() < 10, "nobody waits for a timeout");
    }
}

#[test]
fn ranks_that_are_not_in_the_same_collective_find_out() {
    let errors = on_ranks(2, |control| {
        let cuda = emulated(control.rank() + 1);
        let mut device = ring(&cuda, control);
        let values = memory(&cuda, DType::F32, &numbers(0, 100));
        let count = 90 + control.rank();
        let region = Region { memory: &values, range: 0..count, stream: cuda.compute_stream() };
        device.all_reduce_sum(control, &region).unwrap_err().to_string()
    });
    for error in errors {
        assert!(error.contains("of 90 elements") && error.contains("of 91 elements"), "{error}");
    }
}

#[test]
fn arguments_that_cannot_be_are_refused_on_all_ranks() {
    type Call = fn(&mut dyn DeviceCollectives, &mut Communicator, &Region) -> Result<()>;
    let calls: [(DType, usize, Call, &str); 3] = [
        (
            DType::F32,
            101,
            |device, control, region| device.all_reduce_sum(control, region),
            "0..101 of a memory of 100",
        ),
        (
            DType::F16,
            100,
            |device, control, region| device.all_reduce_sum(control, region),
            "sums are of f32",
        ),
        (
            DType::F32,
            100,
            |device, control, region| device.broadcast(control, region, 2),
            "rank 2 cannot be the root",
        ),
    ];
    for (dtype, end, call, words) in calls {
        for staged in [false, true] {
            on_ranks(2, |control| {
                let cuda = emulated(control.rank() + 1);
                let mut device: Box<dyn DeviceCollectives> =
                    if staged { Box::new(Staged::new(&cuda, 1024).unwrap()) } else { ring(&cuda, control) };
                let values = memory(&cuda, dtype, &[1.0; 100]);
                let region = Region { memory: &values, range: 0..end, stream: cuda.compute_stream() };
                let error = call(&mut *device, control, &region).unwrap_err().to_string();
                assert!(error.contains(words), "{error}");
            });
        }
    }
}

#[test]
fn devices_that_do_not_reach_each_other_say_so_on_all_ranks_and_the_ring_goes_on() {
    let devices: [fn(usize) -> Cuda; 2] = [
        // Rank 1 has a device that shares nothing.
        |rank| if rank == 1 { over(Counting::new(Counting::describe())) } else { emulated(rank + 1) },
        // Devices of the same number have the same addresses.
        |_| emulated(1),
    ];
    for device in devices {
        on_ranks(3, |control| {
            let cuda = device(control.rank());
            let before = cuda.driver().memory().unwrap();
            let error = PeerLink::connect(&cuda, control, OPTIONS).unwrap_err();
            assert!(matches!(error, Error::Unreachable(_)), "{error}");
            assert_eq!(cuda.driver().memory().unwrap(), before);
            control.barrier().unwrap();
        });
    }
}

#[test]
fn a_single_rank_has_nobody_to_link_with() {
    let error = PeerLink::connect(&emulated(0), &mut Communicator::alone(), OPTIONS).unwrap_err();
    assert!(error.to_string().contains("two ranks"), "{error}");
}
