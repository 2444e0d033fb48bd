//! NVIDIA's own NCCL, which `SSMV_NCCL` must name: `SSMV_NCCL="$(bash .ci/nccl)" cargo test -p ssmv-comm --test
//! real_nccl`. `cargo test` alone does not run this target; without the variable it fails. Without a GPU it checks NCCL's
//! errors; with one it uses a communicator of one rank.

use std::{path::PathBuf, sync::Arc, time::Duration};

use ssmv_autograd::{
    DType,
    cuda::{Backend, Cuda, DeviceMemory, Emulated, EmulatorOptions},
};
use ssmv_comm::{
    ReduceOp,
    nccl::{self, Error, Nccl},
};

const TIMEOUT: Duration = Duration::from_secs(60);

fn library() -> Nccl {
    let path = std::env::var_os("SSMV_NCCL").map(PathBuf::from);
    let path = path.expect("SSMV_NCCL must name NVIDIA's libnccl.so.2: SSMV_NCCL=\"$(bash .ci/nccl)\"");
    let library = Nccl::open().unwrap();
    assert_eq!(library.library(), path.to_str().unwrap());
    library
}

#[test]
fn it_says_its_version() {
    let version = library().version().unwrap();
    assert!(((2, 14, 0)..(3, 0, 0)).contains(&version), "{version:?}");
    let found = nccl::find().unwrap();
    assert_eq!((found.library, found.version), ("SSMV_NCCL", Some(version)));
}

#[test]
fn ids_are_unique() {
    let library = library();
    assert_ne!(library.unique_id().unwrap(), library.unique_id().unwrap());
}

#[test]
fn one_rank_connects_on_a_gpu_and_fails_cleanly_without() {
    let library = library();
    let Ok(cuda) = Cuda::open(Backend::Nvidia, 0) else {
        let error = library.try_alone(TIMEOUT).unwrap_err();
        let Error::Nccl { operation, code, meaning, advice } = &error else { panic!("{error}") };
        assert_eq!((operation.as_str(), code.as_str()), ("connect rank 0 of 1", "ncclUnhandledCudaError"));
        assert!(meaning.contains("cuda") && advice.contains("NCCL_DEBUG=WARN"), "{error}");
        return;
    };
    library.try_alone(TIMEOUT).unwrap();
    let rank = library.connect(&cuda, 0, 1, &library.unique_id().unwrap(), TIMEOUT).unwrap();
    let memory = DeviceMemory::copy_of(&cuda, DType::F32, &[1.0, -2.0, 3.0, 4.0]).unwrap();
    rank.all_reduce(&memory, 0..4, ReduceOp::Sum).unwrap();
    rank.reduce_scatter(&memory, 0..4, ReduceOp::Max).unwrap();
    rank.all_gather(&memory, 0..4).unwrap();
    rank.broadcast(&memory, 0..4, 0).unwrap();
    let exchanged = rank.group(cuda.compute_stream(), |group| {
        group.send(&memory, 0..2, 0)?;
        group.receive(&memory, 2..4, 0)
    });
    exchanged.unwrap();
    rank.wait(cuda.compute_stream(), TIMEOUT).unwrap();
    assert_eq!(memory.download(0..4).unwrap(), [1.0, -2.0, 1.0, -2.0]);
    rank.close().unwrap();
}

#[test]
fn it_is_refused_on_the_emulator() {
    let library = library();
    let cuda =
        Cuda::over(Arc::new(Emulated::new(&EmulatorOptions { memory: 1 << 20, ..Default::default() })))
            .unwrap();
    let error = library.connect(&cuda, 0, 1, &library.unique_id().unwrap(), TIMEOUT).unwrap_err().to_string();
    assert!(error.contains("needs a real GPU"), "{error}");
}
