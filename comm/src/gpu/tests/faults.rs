//! Ranks that fail or call another collective, and devices that cannot reach each other.

use std::time::Instant;

use ssmv_autograd::cuda::{Address, Counting, Stream};

use super::*;

/// The methods of a [`DeviceLink`] that call the inner link.
macro_rules! as_the_link {
    () => {
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

        fn receive(&mut self, piece: usize, stream: Stream) -> ssmv_autograd::Result<Address> {
            self.link.receive(piece, stream)
        }

        fn release(&mut self, stream: Stream) -> ssmv_autograd::Result<()> {
            self.link.release(stream)
        }

        fn aborter(&self) -> Aborter {
            self.link.aborter()
        }

        fn close(self: Box<Self>, control: &mut Communicator) -> Result<()> {
            Box::new(self.link).close(control)
        }
    };
}

/// A link that fails before a turn, or whose writes to the right neighbour are lost from a turn on.
struct Failing {
    link: PeerLink,
    at: u32,
    loses: Option<Cuda>,
}

impl DeviceLink for Failing {
    as_the_link!();

    fn outbox(&mut self, piece: usize, stream: Stream) -> ssmv_autograd::Result<Address> {
        let left = self.at.checked_sub(1);
        if self.loses.is_none() && left.is_none() {
            return Err(ssmv_autograd::Error::Misuse {
                operation: "outbox".into(),
                message: "the device fell off the bus".into(),
            });
        }
        self.at = left.unwrap_or(0);
        self.link.outbox(piece, stream)
    }

    fn send(&mut self, piece: usize, bytes: usize, stream: Stream) -> ssmv_autograd::Result<()> {
        if let (Some(cuda), 0) = (&self.loses, self.at) {
            let address = self.link.outbox(piece, stream)?;
            cuda.driver().fill(address, 0, bytes as u64, stream)?;
        }
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
}

/// A link whose rank stops after its first turn, until the others are gone.
struct Stopping {
    link: PeerLink,
    stops: bool,
}

impl DeviceLink for Stopping {
    as_the_link!();

    fn outbox(&mut self, piece: usize, stream: Stream) -> ssmv_autograd::Result<Address> {
        self.link.outbox(piece, stream)
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
        if self.stops && turn.tag.index == 1 {
            loop {
                control.check()?;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.link.turn(control, turn, incoming, stream)
    }
}

#[test]
fn lost_writes_are_found_on_all_ranks_and_another_transport_works() {
    // From the first message on, and only later.
    for at in [0, 9] {
        on_ranks(3, |control| {
            let cuda = emulated(control.rank() + 1);
            let before = cuda.driver().memory().unwrap().free;
            let link = PeerLink::connect(&cuda, control, OPTIONS).unwrap();
            let loses = Some(cuda.clone()).filter(|_| control.rank() == 1);
            let at = if control.rank() == 1 { at } else { u32::MAX };
            let ring = DeviceRing::new(&cuda, Failing { link, at, loses }).unwrap();
            let tried = super::super::tried(Box::new(ring), &cuda, control, OPTIONS.timeout);
            let error = tried.err().expect("wrong sums are found");
            assert!(matches!(error, Error::Wrong(_)), "{error}");
            cuda.trim().unwrap();
            assert_eq!(cuda.driver().memory().unwrap().free, before, "what was shared is given back");
            let staged = Staged::new(&cuda, 1024).unwrap();
            let mut staged = super::super::tried(Box::new(staged), &cuda, control, OPTIONS.timeout).unwrap();
            let values = memory(&cuda, DType::F32, &[1.0, 2.0]);
            let region = Region { memory: &values, range: 0..2, stream: cuda.compute_stream() };
            staged.all_reduce_sum(control, &region).unwrap();
            assert_eq!(values.download(0..2).unwrap(), [3.0, 6.0]);
        });
    }
}

#[test]
fn a_collective_takes_one_turn_of_the_control_ring() {
    on_ranks(3, |control| {
        let cuda = emulated(control.rank() + 1);
        let mut device = ring(&cuda, control);
        let values = memory(&cuda, DType::F32, &numbers(0, 20_000));
        let region = Region { memory: &values, range: 0..20_000, stream: cuda.compute_stream() };
        let before = control.sequence();
        device.all_reduce_sum(control, &region).unwrap();
        device.broadcast(control, &region, 1).unwrap();
        assert_eq!(control.sequence() - before, 2);
        device.close(control).unwrap();
    });
}

#[test]
fn a_rank_that_stops_in_a_collective_is_given_up_and_named() {
    let options = PeerOptions { timeout: Duration::from_millis(400), ..OPTIONS };
    let errors = on_ranks(3, |control| {
        let cuda = emulated(control.rank() + 1);
        let rank = control.rank();
        let link = PeerLink::connect(&cuda, control, options).unwrap();
        let mut ring = DeviceRing::new(&cuda, Stopping { link, stops: rank == 1 }).unwrap();
        let values = memory(&cuda, DType::F32, &numbers(0, 20_000));
        let region = Region { memory: &values, range: 0..20_000, stream: cuda.compute_stream() };
        ring.all_reduce_sum(control, &region).unwrap_err().to_string()
    });
    // Its right neighbour times out first, and the others get its error.
    for error in [&errors[0], &errors[2]] {
        assert!(
            error.contains("rank 2: all-reduce (sum) over device memory: rank 1 sends nothing for 0."),
            "{error}"
        );
    }
}

#[test]
fn another_thread_ends_a_wait_for_a_neighbour() {
    on_ranks(2, |control| {
        let cuda = emulated(control.rank() + 1);
        let rank = control.rank();
        let link = PeerLink::connect(&cuda, control, OPTIONS).unwrap();
        let mut ring = DeviceRing::new(&cuda, Stopping { link, stops: rank == 1 }).unwrap();
        let values = memory(&cuda, DType::F32, &numbers(0, 20_000));
        let region = Region { memory: &values, range: 0..20_000, stream: cuda.compute_stream() };
        let (abort, started) = (ring.aborter(), Instant::now());
        let error = std::thread::scope(|scope| {
            if rank == 0 {
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(100));
                    abort();
                });
            }
            ring.all_reduce_sum(control, &region).unwrap_err().to_string()
        });
        assert!(rank == 1 || error.contains("aborted by this rank"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    });
}

#[test]
fn a_device_that_fails_in_a_collective_stops_all_ranks_with_its_error() {
    for at in [0, 1, 4, 17] {
        let started = Instant::now();
        let errors = on_ranks(4, |control| {
            let cuda = emulated(control.rank() + 1);
            let link = PeerLink::connect(&cuda, control, OPTIONS).unwrap();
            let at = if control.rank() == 2 { at } else { u32::MAX };
            let mut ring = DeviceRing::new(&cuda, Failing { link, at, loses: None }).unwrap();
            let values = memory(&cuda, DType::F32, &numbers(0, 20_000));
            let region = Region { memory: &values, range: 0..20_000, stream: cuda.compute_stream() };
            let error = ring.all_reduce_sum(control, &region).unwrap_err();
            // Later collectives fail too.
            assert!(ring.all_reduce_sum(control, &region).is_err());
            error.to_string()
        });
        for error in errors {
            assert!(
                error.contains("rank 2: all-reduce (sum) over device memory: ")
                    && error.contains("off the bus"),
                "{error}"
            );
        }
        assert!(started.elapsed().as_secs() < 10, "no rank waits for the timeout");
    }
}

#[test]
fn ranks_in_different_collectives_get_an_error() {
    let errors = on_ranks(2, |control| {
        let cuda = emulated(control.rank() + 1);
        let mut device = ring(&cuda, control);
        let values = memory(&cuda, DType::F32, &numbers(0, 100));
        let count = 90 + control.rank();
        let region = Region { memory: &values, range: 0..count, stream: cuda.compute_stream() };
        device.all_reduce_sum(control, &region).unwrap_err().to_string()
    });
    for error in errors {
        assert!(error.contains("of 90 f32") && error.contains("of 91 f32"), "{error}");
    }
}

#[test]
fn invalid_arguments_are_refused_on_all_ranks() {
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
        // Rank 1 has a device that cannot share memory.
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
fn a_single_rank_has_no_neighbour() {
    let error = PeerLink::connect(&emulated(0), &mut Communicator::alone(), OPTIONS).unwrap_err();
    assert!(error.to_string().contains("two ranks"), "{error}");
}
