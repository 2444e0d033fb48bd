//! Allocations and copies.

use super::*;

#[test]
fn memory_is_freed_once_whole_and_by_its_own_call() {
    let sentences = [
        "no allocation starts there; was it freed before?",
        "it is inside the 1000-byte allocation",
        "which is pinned memory: cuMemFreeHost ends it",
        "which is device memory: cuMemFree ends it",
        "an allocation of 0 bytes",
    ];
    rule("memory::memory_is_freed_once_whole_and_by_its_own_call", &sentences, || {
        start();
        let (freed, inside) = (allocate(4), allocate(1000));
        let mut pinned = 0;
        assert_eq!(cuMemHostAlloc(&mut pinned, 64, 0), SUCCESS);
        assert_eq!((cuMemFree_v2(freed), cuMemFree_v2(freed)), (SUCCESS, INVALID_VALUE));
        assert_eq!(cuMemFree_v2(inside + 256), INVALID_VALUE);
        assert_eq!(cuMemFree_v2(pinned as u64), INVALID_VALUE);
        assert_eq!(cuMemFreeHost(inside as usize), INVALID_VALUE);
        assert_eq!(cuMemAlloc_v2(&mut 0, 0), INVALID_VALUE);
        assert_eq!(
            (cuMemFreeHost(pinned), cuMemFree_v2(inside), cuMemFree_v2(0)),
            (SUCCESS, SUCCESS, SUCCESS)
        );
    });
}

#[test]
fn copies_keep_to_an_allocation_and_to_their_way() {
    let sentences = [
        "8 bytes at",
        "and 4 are left of the 4-byte allocation",
        "is device memory, and host memory is expected",
        "the program has no 4 readable bytes at 0x10",
        "overlap",
    ];
    rule("memory::copies_keep_to_an_allocation_and_to_their_way", &sentences, || {
        start();
        let (short, long) = (allocate(4), allocate(64));
        let bytes = [0u8; 8];
        assert_eq!(cuMemcpyHtoD_v2(short, bytes.as_ptr().cast(), 8), INVALID_VALUE);
        assert_eq!(cuMemcpyHtoD_v2(short, ptr::without_provenance(long as usize), 4), INVALID_VALUE);
        assert_eq!(cuMemcpyHtoD_v2(short, ptr::without_provenance(16), 4), INVALID_VALUE);
        assert_eq!(cuMemcpyDtoDAsync_v2(long, long + 8, 16, 0), INVALID_VALUE);
        assert_eq!(cuMemcpyHtoD_v2(short, ptr::null(), 0), SUCCESS);
    });
}

#[test]
fn a_stream_frees_memory_once_and_after_its_work() {
    let name = "memory::a_stream_frees_memory_once_and_after_its_work";
    rule(name, &["a stream frees it already", "was it freed before?"], || {
        start();
        let (stream, mut address) = (stream(), 0);
        assert_eq!(cuMemAllocAsync(&mut address, 4, stream), SUCCESS);
        assert_eq!(cuMemsetD8Async(address, 1, 4, stream), SUCCESS);
        assert_eq!(
            (cuMemFreeAsync(address, stream), cuMemFreeAsync(address, stream)),
            (SUCCESS, INVALID_VALUE)
        );
        assert_eq!(cuStreamSynchronize(stream), SUCCESS);
        assert_eq!(cuMemFreeAsync(address, stream), INVALID_VALUE);
    });
}

#[test]
fn a_full_device_says_so() {
    let small = [("SSMV_CUDA_MEMORY", "16M")];
    rule_with(
        "memory::a_full_device_says_so",
        &small,
        &["33554432 bytes were asked for, and 4096 of 16777216"],
        || {
            start();
            allocate(4096);
            assert_eq!(cuMemAlloc_v2(&mut 0, 32 << 20), 2);
            // Memory comes back: far more than there is, one after the other.
            for _ in 0..100 {
                let address = allocate(8 << 20);
                assert_eq!(cuMemFree_v2(address), SUCCESS);
            }
        },
    );
}

#[test]
fn kernels_reach_pinned_memory() {
    rule("memory::kernels_reach_pinned_memory", &[], || {
        start();
        let (function, mut pinned) = (add_kernel(), 0);
        assert_eq!(cuMemHostAlloc(&mut pinned, 64, 2), SUCCESS);
        let address = pinned as u64;
        write_number(allocate(4), 1);
        let two = 2u32;
        let on_device = allocate(4);
        assert_eq!(cuMemcpyHtoD_v2(on_device, ptr::from_ref(&two).cast(), 4), SUCCESS);
        assert_eq!(add(function, on_device, address, 5, 1, 0), SUCCESS);
        assert_eq!(cuCtxSynchronize(), SUCCESS);
        // SAFETY: the driver gave 64 bytes there, and its work is done.
        assert_eq!(unsafe { ptr::with_exposed_provenance::<u32>(pinned).read_volatile() }, 7);
    });
}

#[test]
fn memory_that_nothing_wrote_is_not_read() {
    let sentences = ["uninitialised memory", "CUDA_ERROR_LAUNCH_FAILED"];
    rule("memory::memory_that_nothing_wrote_is_not_read", &sentences, || {
        start();
        let (function, x) = (add_kernel(), allocate(4));
        assert_eq!(add(function, x, x, 1, 1, 0), SUCCESS);
        assert_eq!(cuCtxSynchronize(), 719);
    });
}
