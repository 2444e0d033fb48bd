//! Failures and hangs to order, and ranks that die: all end in an error that says what was going on.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ssmv_autograd::{DType, cuda::DeviceMemory};
use ssmv_comm::{
    ReduceOp,
    nccl::{Error, NcclCommunicator, Result, UniqueId},
};

use super::{LONG, device, library, on_ranks};

/// One operation of each kind.
fn operation(name: &str, c: &NcclCommunicator, memory: &DeviceMemory) -> Result<()> {
    match (name, c.rank()) {
        ("allreduce", _) => c.all_reduce(memory, 0..8, ReduceOp::Sum),
        ("reducescatter", _) => c.reduce_scatter(memory, 0..8, ReduceOp::Sum),
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
    // The rank that hangs gives up after a moment; the other rank would wait for long, and finds that one gone.
    let timeout = |of| if kind == "hang" && of == rank { Duration::from_secs(1) } else { LONG };
    let mut errors = on_ranks(2, &order, timeout, |communicator| {
        let c = communicator.unwrap();
        let memory = DeviceMemory::copy_of(c.cuda(), DType::F32, &[1.0; 8]).unwrap();
        operation(name, &c, &memory).unwrap();
        // A rank that only sends is done before the other one fails; then the next call of it fails.
        let error =
            operation(name, &c, &memory).and_then(|()| operation("allreduce", &c, &memory)).unwrap_err();
        let later = c.all_reduce(&memory, 0..8, ReduceOp::Sum).unwrap_err().to_string();
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
            let (here, there) = (here.to_string(), there.to_string());
            assert!(there.contains(&format!("rank {rank} is gone")), "{kind} {name}: {there}");
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
        let errors = on_ranks(
            2,
            order,
            |_| Duration::from_millis(300),
            |communicator| communicator.unwrap_err().to_string(),
        );
        for (rank, error) in errors.iter().enumerate() {
            assert!(error.starts_with(&format!("connect rank {rank} of 2")), "{error}");
        }
        assert!(errors[1].contains(code), "{}", errors[1]);
        assert!(errors[0].contains("timed out"), "{}", errors[0]);
    }
}

#[test]
fn another_thread_ends_a_call_that_hangs() {
    on_ranks(
        2,
        ";hang=allreduce:1",
        |_| LONG,
        |communicator| {
            let c = communicator.unwrap();
            let memory = DeviceMemory::copy_of(c.cuda(), DType::F32, &[1.0; 8]).unwrap();
            let start = Instant::now();
            let error = thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(Duration::from_millis(500));
                    c.abort();
                });
                c.all_reduce(&memory, 0..8, ReduceOp::Sum).unwrap_err().to_string()
            });
            assert!(start.elapsed() < LONG / 2);
            assert!(error.contains("all-reduce") && error.contains("this rank aborted it"), "{error}");
        },
    );
}

#[test]
fn another_thread_watches_over_a_call_that_hangs() {
    on_ranks(
        2,
        ";hang=allgather:1",
        |_| LONG,
        |communicator| {
            let c = communicator.unwrap();
            let memory = DeviceMemory::copy_of(c.cuda(), DType::F16, &[1.0; 8]).unwrap();
            let start = Instant::now();
            let (watched, called) = thread::scope(|scope| {
                let watch = scope.spawn(|| {
                    thread::sleep(Duration::from_millis(500));
                    c.wait(c.cuda().compute_stream(), Duration::from_millis(100)).unwrap_err().to_string()
                });
                let called = c.all_gather(&memory, 0..8).unwrap_err().to_string();
                (watch.join().unwrap(), called)
            });
            assert!(start.elapsed() < LONG / 2);
            assert!(watched.starts_with("wait for nccl all-gather, 8 f16: timed out"), "{watched}");
            assert!(called.contains(&watched), "{called}");
        },
    );
}

#[test]
fn operations_that_do_not_fit_each_other_are_found() {
    let errors = on_ranks(
        2,
        "",
        |_| LONG,
        |communicator| {
            let c = communicator.unwrap();
            let memory = DeviceMemory::copy_of(c.cuda(), DType::F32, &[1.0; 8]).unwrap();
            operation(if c.rank() == 0 { "allreduce" } else { "broadcast" }, &c, &memory)
                .unwrap_err()
                .to_string()
        },
    );
    assert!(errors.iter().any(|error| error.contains("ncclInvalidUsage")), "{errors:?}");
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
            child
                .args(["--exact", "failures::ranks_may_be_processes"])
                .env(ID, id)
                .env("STANDIN_HANG", "allreduce:2");
            (0, Some(child.stdout(Stdio::null()).spawn().unwrap()))
        }
    };
    let c = nccl.connect(&device(), rank, 2, &UniqueId::from_bytes(bytes), LONG).unwrap();
    let memory = DeviceMemory::copy_of(c.cuda(), DType::F32, &[1.0; 8]).unwrap();
    c.all_reduce(&memory, 0..8, ReduceOp::Sum).unwrap();
    assert_eq!(memory.download(0..8).unwrap(), [2.0; 8]);
    let killer = child.map(|mut child| {
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            child.kill().unwrap();
            child.wait().unwrap()
        })
    });
    let error = c.all_reduce(&memory, 0..8, ReduceOp::Sum).unwrap_err().to_string();
    assert!(error.contains("ncclRemoteError") && error.contains("rank 1 is gone"), "{error}");
    assert_eq!(killer.unwrap().join().unwrap().code(), None, "it did not end by itself");
}
