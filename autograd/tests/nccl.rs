//! NCCL's calls, against a library that stands in for it (`tests/standin-nccl`): threads as ranks, each with an emulated
//! device of its own.

#[path = "../../tests/standin-nccl/built.rs"]
mod built;

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ssmv_autograd::{
    DType, Error, Result,
    cuda::{
        Backend, Cuda, DeviceMemory, Emulated, EmulatorOptions, Nccl, NcclCommunicator, Reduction, UniqueId,
    },
};

/// Longer than any of these works takes, and shorter than anybody waits.
const LONG: Duration = Duration::from_secs(60);

fn device() -> Cuda {
    let options = EmulatorOptions { memory: 64 << 20, ..Default::default() };
    Cuda::over(Arc::new(Emulated::new(&options))).unwrap()
}

fn library() -> Nccl {
    Nccl::open_at(&built::standin()).unwrap()
}

/// A new id with failures to order, such as `;hang=send:2@1`.
fn unique_id(nccl: &Nccl, orders: &str) -> UniqueId {
    let mut bytes = nccl.unique_id().unwrap().to_bytes();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap();
    bytes[end..end + orders.len()].copy_from_slice(orders.as_bytes());
    UniqueId::from_bytes(bytes)
}

/// Runs `body` on threads as ranks, and gives what each returns.
fn on_ranks<T: Send>(
    size: usize,
    orders: &str,
    timeout: Duration,
    body: impl Fn(Result<NcclCommunicator>) -> T + Sync,
) -> Vec<T> {
    let nccl = library();
    let id = unique_id(&nccl, orders);
    let (nccl, id, body) = (&nccl, &id, &body);
    thread::scope(|scope| {
        let ranks: Vec<_> = (0..size)
            .map(|rank| scope.spawn(move || body(nccl.connect(&device(), rank, size, id, timeout))))
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

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
    on_ranks(size, "", LONG, |communicator| {
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
    });
}

/// Numbers of ranks with numbers of elements.
const SIZES: [(usize, usize); 6] = [(1, 8), (2, 0), (2, 2), (2, 100_000), (4, 4), (4, 40_000)];

#[test]
fn all_reduce_gives_all_ranks_the_sum_and_the_maximum() {
    for (size, len) in SIZES {
        let of = |index: usize| (0..size).map(move |rank| value(rank, index));
        compare(
            (size, len, DType::F32),
            |c, memory| c.all_reduce(memory, 3..len + 3, Reduction::Sum),
            |_, index| Some(of(index).sum()),
        );
        compare(
            (size, len, DType::F32),
            |c, memory| c.all_reduce(memory, 3..len + 3, Reduction::Max),
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
                c.reduce_scatter(memory, 3..len + 3, Reduction::Sum)
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

/// One operation of each kind.
fn operation(name: &str, c: &NcclCommunicator, memory: &DeviceMemory) -> Result<()> {
    match (name, c.rank()) {
        ("allreduce", _) => c.all_reduce(memory, 0..8, Reduction::Sum),
        ("reducescatter", _) => c.reduce_scatter(memory, 0..8, Reduction::Sum),
        ("allgather", _) => c.all_gather(memory, 0..8),
        ("broadcast", _) => c.broadcast(memory, 0..8, 0),
        (_, 0) => c.send(memory, 0..8, 1),
        _ => c.receive(memory, 0..8, 0),
    }
}

/// The second call fails on a rank, in the way that `kind` says: the error there, and that of the other rank.
fn fail(kind: &str, name: &str, rank: usize) -> (Error, Error) {
    let start = Instant::now();
    let order = format!(";{kind}={name}:2@{rank}");
    // Whoever hangs gives up after a moment; the other rank sees that, and would itself wait for long.
    let timeout = if kind == "hang" { Duration::from_millis(200) } else { LONG };
    let mut errors = on_ranks(2, &order, timeout, |communicator| {
        let c = communicator.unwrap();
        let memory = DeviceMemory::copy_of(c.cuda(), DType::F32, &[1.0; 8]).unwrap();
        operation(name, &c, &memory).unwrap();
        // A rank that only sends is done before the other one fails; then the next call of it fails.
        let error =
            operation(name, &c, &memory).and_then(|()| operation("allreduce", &c, &memory)).unwrap_err();
        let later = c.all_reduce(&memory, 0..8, Reduction::Sum).unwrap_err().to_string();
        assert!(later.contains("communicator ended") && later.contains(&error.to_string()), "{later}");
        error
    });
    assert!(start.elapsed() < LONG / 2, "{order}: {:?}", start.elapsed());
    let other = errors.remove(1 - rank);
    (errors.remove(0), other)
}

#[test]
fn failures_and_hangs_end_in_an_error_that_names_the_operation() {
    for (name, rank, words) in [
        ("send", 0, "nccl send to rank 1"),
        ("recv", 1, "nccl receive from rank 0"),
        ("allreduce", 0, "nccl all-reduce (sum)"),
        ("reducescatter", 1, "nccl reduce-scatter (sum)"),
        ("allgather", 0, "nccl all-gather"),
        ("broadcast", 1, "nccl broadcast from rank 0"),
    ] {
        for (kind, code) in [("fail", "ncclSystemError"), ("lose", "ncclRemoteError"), ("hang", "timed out")]
        {
            let (here, there) = fail(kind, name, rank);
            for error in [&here, &there] {
                assert!(matches!(error, Error::Nccl { .. }), "{error}");
                assert!(error.to_string().contains("NCCL_DEBUG=WARN"), "{error}");
            }
            let here = here.to_string();
            assert!(here.starts_with(words) && here.contains(code), "{kind} {name}: {here}");
            if kind != "fail" {
                assert!(here.contains("8 f32"), "{kind} {name}: {here}");
            }
        }
    }
}

#[test]
fn ranks_that_cannot_connect_say_so() {
    for (order, code) in [(";hang=init:1@1", "timed out"), (";fail=init:1@1", "ncclSystemError")] {
        let errors = on_ranks(2, order, Duration::from_millis(300), |communicator| {
            communicator.unwrap_err().to_string()
        });
        for (rank, error) in errors.iter().enumerate() {
            assert!(error.starts_with(&format!("connect rank {rank} of 2")), "{error}");
        }
        assert!(errors[1].contains(code), "{}", errors[1]);
        assert!(errors[0].contains("timed out"), "{}", errors[0]);
    }
}

#[test]
fn another_thread_ends_a_call_that_hangs() {
    on_ranks(2, ";hang=allreduce:1", LONG, |communicator| {
        let c = communicator.unwrap();
        let memory = DeviceMemory::copy_of(c.cuda(), DType::F32, &[1.0; 8]).unwrap();
        let start = Instant::now();
        let error = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(100));
                c.abort();
            });
            c.all_reduce(&memory, 0..8, Reduction::Sum).unwrap_err().to_string()
        });
        assert!(start.elapsed() < LONG / 2);
        assert!(error.contains("all-reduce") && error.contains("this rank aborted it"), "{error}");
    });
}

#[test]
fn another_thread_watches_over_a_call_that_hangs() {
    on_ranks(2, ";hang=allgather:1", LONG, |communicator| {
        let c = communicator.unwrap();
        let memory = DeviceMemory::copy_of(c.cuda(), DType::F16, &[1.0; 8]).unwrap();
        let start = Instant::now();
        let (watched, called) = thread::scope(|scope| {
            let watch = scope.spawn(|| {
                thread::sleep(Duration::from_millis(100));
                c.wait(c.cuda().compute_stream(), Duration::from_millis(100)).unwrap_err().to_string()
            });
            let called = c.all_gather(&memory, 0..8).unwrap_err().to_string();
            (watch.join().unwrap(), called)
        });
        assert!(start.elapsed() < LONG / 2);
        assert!(watched.starts_with("wait for nccl all-gather, 8 f16: timed out"), "{watched}");
        assert!(called.contains(&watched), "{called}");
    });
}

#[test]
fn operations_that_do_not_fit_each_other_are_found() {
    let errors = on_ranks(2, "", LONG, |communicator| {
        let c = communicator.unwrap();
        let memory = DeviceMemory::copy_of(c.cuda(), DType::F32, &[1.0; 8]).unwrap();
        operation(if c.rank() == 0 { "allreduce" } else { "broadcast" }, &c, &memory).unwrap_err().to_string()
    });
    assert!(errors.iter().any(|error| error.contains("ncclInvalidUsage")), "{errors:?}");
}

#[test]
fn what_is_wrong_here_is_refused_and_the_communicator_lives() {
    on_ranks(2, "", LONG, |communicator| {
        let c = communicator.unwrap();
        let cuda = c.cuda().clone();
        let memory = DeviceMemory::copy_of(&cuda, DType::F32, &[1.0; 8]).unwrap();
        let halves = DeviceMemory::copy_of(&cuda, DType::F16, &[1.0; 8]).unwrap();
        let elsewhere = DeviceMemory::copy_of(&device(), DType::F32, &[1.0; 8]).unwrap();
        let refused = |result: Result<()>, words: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(words), "{words:?} is not in: {error}");
        };
        refused(c.all_reduce(&memory, 4..9, Reduction::Sum), "4..9 of 8");
        refused(c.all_reduce(&halves, 0..8, Reduction::Sum), "f16 given where f32");
        refused(c.all_reduce(&elsewhere, 0..8, Reduction::Sum), "another device");
        refused(c.all_gather(&memory, 0..7), "7 elements are not a multiple of 2 ranks");
        refused(c.share(0..7).map(drop), "7 elements are not a multiple of 2 ranks");
        refused(c.send(&memory, 0..8, 2), "no rank 2 among 2");
        refused(c.broadcast(&memory, 0..8, 2), "no rank 2 among 2");
        let stream = cuda.driver().create_stream().unwrap();
        cuda.driver().begin_capture(stream).unwrap();
        refused(
            c.group(stream, |group| group.all_reduce(&memory, 0..8, Reduction::Sum)),
            "captures a stream",
        );
        cuda.driver().end_capture(stream).unwrap();
        c.group(stream, |_| Ok(())).unwrap();
        c.all_reduce(&memory, 0..8, Reduction::Sum).unwrap();
        assert_eq!(memory.download(0..8).unwrap(), [2.0; 8]);
    });
}

#[test]
fn a_group_that_fails_in_its_middle_ends_the_communicator() {
    on_ranks(2, "", LONG, |communicator| {
        let c = communicator.unwrap();
        let memory = DeviceMemory::copy_of(c.cuda(), DType::F32, &[1.0; 8]).unwrap();
        let stream = c.cuda().compute_stream();
        let result = c.group(stream, |group| {
            group.send(&memory, 0..4, 1 - c.rank())?;
            group.receive(&memory, 4..9, 1 - c.rank())
        });
        assert!(result.unwrap_err().to_string().contains("4..9 of 8"));
        let later = c.check().unwrap_err().to_string();
        assert!(later.contains("communicator ended") && later.contains("4..9 of 8"), "{later}");
    });
}

/// This process is rank 0; rank 1 is the same test in another process, which is killed in the middle of a call.
#[test]
fn ranks_may_be_processes() {
    const ID: &str = "SSMV_TEST_NCCL_ID";
    let (nccl, mut bytes) = (library(), [0; UniqueId::BYTES]);
    let (rank, child) = match std::env::var(ID) {
        Ok(id) => {
            bytes[..id.len()].copy_from_slice(id.as_bytes());
            (1, None)
        }
        Err(_) => {
            bytes = nccl.unique_id().unwrap().to_bytes();
            let id = String::from_utf8(bytes.into_iter().take_while(|&byte| byte != 0).collect()).unwrap();
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "ranks_may_be_processes"]).env(ID, id).env("STANDIN_HANG", "allreduce:2");
            (0, Some(child.stdout(Stdio::null()).spawn().unwrap()))
        }
    };
    let c = nccl.connect(&device(), rank, 2, &UniqueId::from_bytes(bytes), LONG).unwrap();
    let memory = DeviceMemory::copy_of(c.cuda(), DType::F32, &[1.0; 8]).unwrap();
    c.all_reduce(&memory, 0..8, Reduction::Sum).unwrap();
    assert_eq!(memory.download(0..8).unwrap(), [2.0; 8]);
    let killer = child.map(|mut child| {
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            child.kill().unwrap();
            child.wait().unwrap()
        })
    });
    let error = c.all_reduce(&memory, 0..8, Reduction::Sum).unwrap_err().to_string();
    assert!(error.contains("ncclRemoteError") && error.contains("rank 1 is gone"), "{error}");
    assert_eq!(killer.unwrap().join().unwrap().code(), None, "it did not end by itself");
}

#[test]
fn libraries_that_will_not_do_are_named() {
    let error = Nccl::open_at(Path::new("/nowhere/libnccl.so.2")).unwrap_err().to_string();
    for words in ["not found", "/nowhere/libnccl.so.2", "No such file", "SSMV_NCCL"] {
        assert!(error.contains(words), "{words:?} is not in: {error}");
    }
    let error = Nccl::open_at(Path::new("libc.so.6")).unwrap_err().to_string();
    for words in ["wrong library", "libc.so.6 has no function ncclGetVersion", "SSMV_NCCL"] {
        assert!(error.contains(words), "{words:?} is not in: {error}");
    }
    let nccl = library();
    assert_eq!(nccl.version().unwrap(), (2, 14, 0));
    nccl.try_alone(LONG).unwrap();
    let counting = Cuda::open(Backend::Counting, 0).unwrap();
    let id = nccl.unique_id().unwrap();
    let error = nccl.connect(&counting, 0, 1, &id, LONG).unwrap_err().to_string();
    assert!(error.contains("nothing runs"), "{error}");
    let error = nccl.connect(&device(), 1, 1, &id, LONG).unwrap_err().to_string();
    assert!(error.contains("connect rank 1 of 1"), "{error}");
}
