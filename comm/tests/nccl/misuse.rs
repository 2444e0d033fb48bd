//! What is refused: memory, ranks and groups that do not fit, libraries and devices that will not do.

use std::path::Path;

use ssmv_autograd::{
    DType,
    cuda::{Backend, Cuda, DeviceMemory, Priority},
};
use ssmv_comm::{
    ReduceOp,
    nccl::{Nccl, Result},
};

use super::{LONG, device, library, on_ranks};

#[test]
fn what_is_wrong_here_is_refused_and_the_communicator_lives() {
    on_ranks(
        2,
        "",
        |_| LONG,
        |communicator| {
            let c = communicator.unwrap();
            let cuda = c.cuda().clone();
            let memory = DeviceMemory::copy_of(&cuda, DType::F32, &[1.0; 8]).unwrap();
            let halves = DeviceMemory::copy_of(&cuda, DType::F16, &[1.0; 8]).unwrap();
            let elsewhere = DeviceMemory::copy_of(&device(), DType::F32, &[1.0; 8]).unwrap();
            let refused = |result: Result<()>, words: &str| {
                let error = result.unwrap_err().to_string();
                assert!(error.contains(words), "{words:?} is not in: {error}");
            };
            refused(c.all_reduce(&memory, 4..9, ReduceOp::Sum), "4..9 of 8");
            refused(c.all_reduce(&halves, 0..8, ReduceOp::Sum), "f16 given where f32");
            refused(c.all_reduce(&elsewhere, 0..8, ReduceOp::Sum), "another device");
            refused(c.all_gather(&memory, 0..7), "7 elements are not a multiple of 2 ranks");
            refused(c.share(0..7).map(drop), "7 elements are not a multiple of 2 ranks");
            refused(c.send(&memory, 0..8, 2), "rank 2 does not exist among 2");
            refused(c.broadcast(&memory, 0..8, 2), "rank 2 does not exist among 2");
            let stream = cuda.driver().create_stream(Priority::Normal).unwrap();
            c.group(stream, |_| Ok(())).unwrap();
            c.all_reduce(&memory, 0..8, ReduceOp::Sum).unwrap();
            assert_eq!(memory.download(0..8).unwrap(), [2.0; 8]);
        },
    );
}

#[test]
fn a_group_that_fails_in_its_middle_ends_the_communicator() {
    on_ranks(
        2,
        "",
        |_| LONG,
        |communicator| {
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
        },
    );
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
