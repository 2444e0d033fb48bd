//! Start, contexts, modules and launches.

use super::*;

#[test]
fn cu_init_comes_first() {
    rule(
        "driver::cu_init_comes_first",
        &["cuMemAlloc_v2: CUDA_ERROR_NOT_INITIALIZED: cuInit was not called"],
        || {
            assert_eq!(cuMemAlloc_v2(&mut 0, 4), 3);
        },
    );
}

#[test]
fn a_context_is_current_on_one_thread() {
    let sentence = "no context is current on this thread: call cuCtxSetCurrent first";
    rule("driver::a_context_is_current_on_one_thread", &[sentence], || {
        start();
        allocate(4);
        std::thread::spawn(|| assert_eq!(cuMemAlloc_v2(&mut 0, 4), INVALID_CONTEXT)).join().unwrap();
    });
}

#[test]
fn text_ends_with_a_zero_byte() {
    rule("driver::text_ends_with_a_zero_byte", &["does the text end with a zero byte?"], || {
        start();
        let bytes = [ADD.trim().as_bytes(), &[0xfe, 0x81, 0]].concat();
        assert_eq!(cuModuleLoadData(&mut 0, bytes.as_ptr().cast()), 218);
    });
}

#[test]
fn text_must_suit_driver_and_device() {
    let sentences = [
        "the PTX is version 8.8, and a driver of CUDA 12.8 takes 8.7 at most",
        "the PTX is for sm_100, and the device is sm_90",
        "line 13; error   : non-ASCII character",
        "line 10; error   : ",
        "the module has no kernel sub; it has: add",
    ];
    rule("driver::text_must_suit_driver_and_device", &sentences, || {
        start();
        assert_eq!(load(&ADD.replace("7.0", "8.8"), &mut 0), 222);
        assert_eq!(load(&ADD.replace("sm_80", "sm_100"), &mut 0), 218);
        assert_eq!(load(&ADD.replace("    mov.u32 %i", "// √\n    mov.u32 %i"), &mut 0), 218);
        assert_eq!(load(&ADD.replace("ld.param.u64 %x", "ld.parm.u64 %x"), &mut 0), 218);
        let (mut module, mut function) = (0, 0);
        assert_eq!(load(ADD, &mut module), SUCCESS);
        assert_eq!(cuModuleGetFunction(&mut function, module, c"sub".as_ptr()), 500);
    });
}

#[test]
fn an_older_driver_takes_older_text() {
    let sentence = "the PTX is version 8.0, and a driver of CUDA 11.8 takes 7.8 at most";
    let older = [("SSMV_CUDA_VERSION", "11.8")];
    rule_with("driver::an_older_driver_takes_older_text", &older, &[sentence], || {
        start();
        assert_eq!(load(ADD, &mut 0), SUCCESS);
        assert_eq!(load(&ADD.replace("7.0", "8.0"), &mut 0), 222);
    });
}

#[test]
fn much_shared_memory_needs_the_attribute() {
    let sentence = "add: 65536 bytes of dynamic shared memory, and 49152 are allowed: cuFuncSetAttribute";
    rule("driver::much_shared_memory_needs_the_attribute", &[sentence], || {
        start();
        let (function, x) = (add_kernel(), allocate(4));
        write_number(x, 1);
        assert_eq!(launch(function, x, x, 1, 1, 64 << 10, 0), INVALID_VALUE);
        assert_eq!(cuFuncSetAttribute(function, 8, 64 << 10), SUCCESS);
        assert_eq!(cuFuncSetAttribute(function, 8, 1 << 20), INVALID_VALUE);
        assert_eq!(launch(function, x, x, 1, 1, 64 << 10, 0), SUCCESS);
        assert_eq!(number_at(x), 2);
    });
}

#[test]
fn a_fault_stays() {
    let sentences =
        ["CUDA_ERROR_ILLEGAL_ADDRESS: launch of add", "add:17: block (0, 0, 0), thread (1, 0, 0)"];
    rule("driver::a_fault_stays", &sentences, || {
        start();
        let (function, x) = (add_kernel(), allocate(4));
        write_number(x, 1);
        assert_eq!(add(function, x, x, 1, 2, 0), SUCCESS);
        assert_eq!(cuCtxSynchronize(), ILLEGAL_ADDRESS);
        assert_eq!(cuMemAlloc_v2(&mut 0, 4), ILLEGAL_ADDRESS);
        assert_eq!(add(function, x, x, 1, 1, 0), ILLEGAL_ADDRESS);
    });
}

#[test]
fn handles_are_checked() {
    let sentences = ["the stream ", " was destroyed", "is not a stream", "the event is null"];
    rule("driver::handles_are_checked", &sentences, || {
        start();
        let (stream, event) = (stream(), event());
        assert_eq!(cuStreamDestroy_v2(stream), SUCCESS);
        assert_eq!(cuStreamSynchronize(stream), INVALID_HANDLE);
        assert_eq!(cuStreamSynchronize(event), INVALID_HANDLE);
        assert_eq!(cuEventQuery(0), INVALID_HANDLE);
    });
}

unsafe extern "C" fn calls_the_driver(code: *mut c_void) {
    let found = cuCtxGetDevice(&mut 0);
    // SAFETY: the test passes a number that outlives the stream's work.
    unsafe { *code.cast::<u32>() = found };
}

#[test]
fn a_host_function_may_not_call_the_driver() {
    let sentence = "a function that a stream calls may not call the driver";
    rule("driver::a_host_function_may_not_call_the_driver", &[sentence], || {
        start();
        let mut code = 0u32;
        assert_eq!(cuLaunchHostFunc(0, Some(calls_the_driver), ptr::from_mut(&mut code).cast()), SUCCESS);
        assert_eq!(cuCtxSynchronize(), SUCCESS);
        assert_eq!(std::hint::black_box(code), 800);
    });
}

#[test]
fn a_context_reports_what_was_not_given_back() {
    let sentences = [
        "leak: the context ends with 1 streams; 1 events; 1 modules; 2 allocations of device memory, 12 bytes",
        "1 allocations of pinned memory, 64 bytes",
    ];
    rule("driver::a_context_reports_what_was_not_given_back", &sentences, || {
        start();
        add_kernel();
        let kept = (allocate(4), allocate(8), stream(), event());
        assert_eq!(cuMemHostAlloc(&mut 0, 64, 0), SUCCESS);
        let freed = allocate(16);
        assert_eq!(cuMemFree_v2(freed), SUCCESS);
        assert_eq!(cuDevicePrimaryCtxRelease_v2(0), SUCCESS);
        assert_eq!(cuMemFree_v2(kept.0), 709);
    });
}

#[test]
fn an_orderly_end_reports_nothing() {
    let name = "driver::an_orderly_end_reports_nothing";
    rule(name, &[], || {
        start();
        let (address, stream) = (allocate(4), stream());
        assert_eq!((cuMemFree_v2(address), cuStreamDestroy_v2(stream)), (SUCCESS, SUCCESS));
        assert_eq!(cuDevicePrimaryCtxRelease_v2(0), SUCCESS);
    });
    if std::env::var_os("SSMV_RULE").is_none() {
        let text = said(&child(name).output().unwrap());
        assert!(!text.contains("libcuda emulator"), "{text}");
    }
}
