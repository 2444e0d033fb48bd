//! What a capture forbids.

use super::*;

const THREAD_LOCAL: u32 = 1;

/// A captured stream with a piece of work in it, the address that it fills and an address that is free.
fn captured(mode: u32) -> (Handle, u64) {
    start();
    let (stream, address) = (stream(), allocate(64));
    assert_eq!(cuStreamBeginCapture_v2(stream, mode), SUCCESS);
    assert_eq!(cuMemsetD8Async(address, 1, 64, stream), SUCCESS);
    (stream, address)
}

fn ends_with(stream: Handle, code: u32) {
    let mut graph = 7;
    assert_eq!(cuStreamEndCapture(stream, &mut graph), code);
    assert_eq!(graph == 0, code != SUCCESS);
}

#[test]
fn a_capture_runs_when_its_graph_does() {
    rule("capture::a_capture_runs_when_its_graph_does", &[], || {
        let (stream, address) = captured(THREAD_LOCAL);
        let (mut graph, mut exec) = (0, 0);
        assert_eq!(cuStreamEndCapture(stream, &mut graph), SUCCESS);
        assert_eq!(cuGraphInstantiateWithFlags(&mut exec, graph, 0), SUCCESS);
        write_number(address, 9);
        assert_eq!(number_at(address), 9);
        assert_eq!((cuGraphLaunch(exec, stream), cuStreamSynchronize(stream)), (SUCCESS, SUCCESS));
        assert_eq!(number_at(address), 0x0101_0101);
    });
}

#[test]
fn unsafe_calls_of_the_capturing_thread_invalidate() {
    let sentences = [
        "cuMemAlloc is not allowed while a stream is captured",
        "cuMemFree is not allowed",
        "cuModuleLoad is not allowed",
        "cuEventQuery is not allowed",
        "cuMemHostAlloc is not allowed",
        "the capture is invalid: cuMemAlloc was called",
    ];
    rule("capture::unsafe_calls_of_the_capturing_thread_invalidate", &sentences, || {
        type Call = fn(u64, Handle) -> u32;
        let calls: [Call; 5] = [
            |_, _| cuMemAlloc_v2(&mut 0, 4),
            |address, _| cuMemFree_v2(address),
            |_, _| load(ADD, &mut 0),
            |_, event| cuEventQuery(event),
            |_, _| cuMemHostAlloc(&mut 0, 64, 0),
        ];
        start();
        let event = event();
        for call in calls {
            let (stream, address) = captured(THREAD_LOCAL);
            assert_eq!(call(address, event), CAPTURE_UNSUPPORTED);
            assert_eq!(cuMemsetD8Async(address, 1, 64, stream), CAPTURE_INVALIDATED);
            ends_with(stream, CAPTURE_INVALIDATED);
            assert_eq!(cuMemsetD8Async(address, 1, 64, stream), SUCCESS);
        }
    });
}

#[test]
fn other_threads_may_but_not_under_the_global_mode() {
    rule("capture::other_threads_may_but_not_under_the_global_mode", &[], || {
        for (mode, code, end) in
            [(THREAD_LOCAL, SUCCESS, SUCCESS), (0, CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED)]
        {
            let (stream, _) = captured(mode);
            let context = primary();
            std::thread::spawn(move || {
                assert_eq!(cuCtxSetCurrent(context), SUCCESS);
                assert_eq!(cuMemAlloc_v2(&mut 0, 4), code);
            })
            .join()
            .unwrap();
            ends_with(stream, end);
        }
    });
}

#[test]
fn waiting_for_what_is_captured_invalidates_from_any_thread() {
    let sentences = [
        "cuCtxSynchronize is not allowed",
        "cuStreamSynchronize is not allowed",
        "cuStreamQuery is not allowed",
    ];
    rule("capture::waiting_for_what_is_captured_invalidates_from_any_thread", &sentences, || {
        let waits: [fn(Handle) -> u32; 3] = [|_| cuCtxSynchronize(), cuStreamSynchronize, cuStreamQuery];
        for wait in waits {
            // Even where the mode forbids nothing.
            let (stream, _) = captured(2);
            let context = primary();
            std::thread::spawn(move || {
                assert_eq!(cuCtxSetCurrent(context), SUCCESS);
                assert_eq!(wait(stream), CAPTURE_UNSUPPORTED);
            })
            .join()
            .unwrap();
            ends_with(stream, CAPTURE_INVALIDATED);
        }
    });
}

#[test]
fn the_thread_that_began_must_end() {
    let sentence = "the thread that began the capture must end it";
    rule("capture::the_thread_that_began_must_end", &[sentence], || {
        let (stream, _) = captured(THREAD_LOCAL);
        let context = primary();
        std::thread::spawn(move || {
            assert_eq!(cuCtxSetCurrent(context), SUCCESS);
            ends_with_code(stream, 908);
            ends_with_code(stream, CAPTURE_INVALIDATED);
        })
        .join()
        .unwrap();
        ends_with(stream, CAPTURE_INVALIDATED);
    });
}

fn ends_with_code(stream: Handle, code: u32) {
    assert_eq!(cuStreamEndCapture(stream, &mut 0), code);
}

#[test]
fn the_legacy_stream_stays_outside() {
    let sentence = "the legacy stream would wait for a stream that is captured";
    rule("capture::the_legacy_stream_stays_outside", &[sentence], || {
        start();
        let (address, mut blocking) = (allocate(4), 0);
        assert_eq!(cuStreamBeginCapture_v2(0, THREAD_LOCAL), CAPTURE_UNSUPPORTED);
        assert_eq!(cuStreamCreate(&mut blocking, 0), SUCCESS);
        assert_eq!(cuStreamBeginCapture_v2(blocking, THREAD_LOCAL), SUCCESS);
        assert_eq!(cuMemsetD8Async(address, 1, 4, 0), 906);
        ends_with(blocking, CAPTURE_INVALIDATED);
    });
}

#[test]
fn streams_join_and_come_back() {
    let sentences = [
        "another stream joined the capture and was not joined back: the capture's stream must wait for an event behind a fill",
        "a captured stream would wait for work that is not captured",
        "a stream of one capture would wait for an event of another",
        "where it happens only when the graph runs",
        "the capture began in another stream: end it there",
    ];
    rule("capture::streams_join_and_come_back", &sentences, || {
        let (first, address) = captured(THREAD_LOCAL);
        let (second, fork, join) = (stream(), event(), event());
        let fork_it = || {
            assert_eq!(cuEventRecord(fork, first), SUCCESS);
            assert_eq!(cuStreamWaitEvent(second, fork, 0), SUCCESS);
            assert_eq!(cuMemsetD8Async(address, 2, 4, second), SUCCESS);
        };
        fork_it();
        ends_with(first, 904);

        assert_eq!(cuStreamBeginCapture_v2(first, THREAD_LOCAL), SUCCESS);
        fork_it();
        assert_eq!(cuEventRecord(join, second), SUCCESS);
        assert_eq!(cuStreamWaitEvent(first, join, 0), SUCCESS);
        assert_eq!(cuEventQuery(join), 907);
        ends_with(first, SUCCESS);

        assert_eq!(cuStreamBeginCapture_v2(first, THREAD_LOCAL), SUCCESS);
        fork_it();
        assert_eq!(cuStreamEndCapture(second, &mut 0), 903);
        ends_with(first, CAPTURE_INVALIDATED);

        let outside = event();
        assert_eq!(cuEventRecord(outside, second), SUCCESS);
        assert_eq!(cuStreamBeginCapture_v2(first, THREAD_LOCAL), SUCCESS);
        assert_eq!(cuStreamWaitEvent(first, outside, 0), 905);
        ends_with(first, CAPTURE_INVALIDATED);

        for stream in [first, second] {
            assert_eq!(cuStreamBeginCapture_v2(stream, THREAD_LOCAL), SUCCESS);
        }
        assert_eq!(cuEventRecord(fork, first), SUCCESS);
        assert_eq!(cuStreamWaitEvent(second, fork, 0), 902);
        ends_with(first, CAPTURE_INVALIDATED);
        ends_with(second, CAPTURE_INVALIDATED);
    });
}
