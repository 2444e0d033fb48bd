//! Streams, events, and captured work.

use ssmv_autograd::cuda::{Argument, Backend, Driver, LaunchConfig, Priority, Stream};

use crate::{bytes, floats, on_every_driver, refused, saxpy};

#[test]
fn only_a_gpus_streams_have_handles_of_their_own() {
    on_every_driver(|driver, stream| {
        let native = driver.native_stream(stream).unwrap();
        assert_eq!(native.is_some_and(|native| native != 0), driver.backend() == Backend::Nvidia);
    });
}

#[test]
fn a_stream_has_the_priority_that_was_asked_for() {
    on_every_driver(|driver, stream| {
        assert_eq!(driver.priority(stream).unwrap(), Priority::Normal);
        let high = driver.create_stream(Priority::High).unwrap();
        assert_eq!(driver.priority(high).unwrap(), Priority::High);
        driver.destroy_stream(high).unwrap();
        refused(driver.priority(high), &["stream", "destroyed"]);
    });
}

#[test]
fn an_event_that_only_orders_measures_no_time() {
    on_every_driver(|driver, stream| {
        let (timed, plain) = (driver.create_event(true).unwrap(), driver.create_event(false).unwrap());
        let shared = driver.create_shared_event().unwrap();
        for event in [timed, plain, shared] {
            driver.record(event, stream).unwrap();
            driver.synchronize_event(event).unwrap();
        }
        assert!(driver.elapsed_ms(timed, timed).unwrap() >= 0.0);
        for event in [plain, shared] {
            refused(driver.elapsed_ms(timed, event), &["measures no time"]);
            refused(driver.elapsed_ms(event, timed), &["measures no time"]);
        }
        [timed, plain, shared].iter().for_each(|event| driver.destroy_event(*event).unwrap());
    });
}

#[test]
fn events_order_streams_and_measure() {
    on_every_driver(|driver, stream| {
        let other = driver.create_stream(Priority::Normal).unwrap();
        let (start, end) = (driver.create_event(true).unwrap(), driver.create_event(true).unwrap());
        refused(driver.wait(other, start), &["never recorded"]);
        refused(driver.synchronize_event(start), &["never recorded"]);
        refused(driver.query_event(start), &["never recorded"]);
        refused(driver.elapsed_ms(start, end), &["never recorded"]);
        let memory = driver.allocate(1 << 20).unwrap();
        driver.record(start, stream).unwrap();
        refused(driver.elapsed_ms(start, end), &["never recorded"]);
        driver.fill(memory, 7, 1 << 20, stream).unwrap();
        driver.record(end, stream).unwrap();
        driver.wait(other, end).unwrap();
        driver.fill(memory, 8, 1 << 19, other).unwrap();
        let mut back = vec![0; 1 << 20];
        driver.download(&mut back, memory, other).unwrap();
        assert!(back[..1 << 19].iter().all(|&b| b == 8) && back[1 << 19..].iter().all(|&b| b == 7));
        driver.synchronize_event(end).unwrap();
        assert!(driver.query_event(end).unwrap());
        assert!((0.0..60_000.0).contains(&driver.elapsed_ms(start, end).unwrap()));
        driver.destroy_event(start).unwrap();
        refused(driver.record(start, stream), &["event", "destroyed"]);
        refused(driver.destroy_event(start), &["event", "destroyed"]);
        driver.destroy_event(end).unwrap();
        driver.destroy_stream(other).unwrap();
        refused(driver.synchronize(other), &["stream", "destroyed"]);
        refused(driver.fill(memory, 0, 1, other), &["stream"]);
        refused(driver.destroy_stream(other), &["stream"]);
        driver.free(memory).unwrap();
    });
}

/// Copies y₀ to y and adds a·x to it twice.
fn step(driver: &dyn Driver, stream: Stream, buffers: [ssmv_autograd::cuda::Address; 3], n: u32) {
    let [x, y, y0] = buffers;
    let function = saxpy(driver);
    let config = LaunchConfig { grid: [n.div_ceil(128), 1, 1], block: [128, 1, 1], shared: 0 };
    let arguments: [Argument; 4] = [x.into(), y.into(), 0.3f32.into(), n.into()];
    let run = || {
        driver.fill(y, 0xFF, 4 * u64::from(n), stream)?;
        driver.copy(y, y0, 4 * u64::from(n), stream)?;
        driver.launch(function, &config, &arguments, stream)?;
        driver.launch(function, &config, &arguments, stream)
    };
    let read = || {
        let mut back = vec![0; 4 * n as usize];
        driver.download(&mut back, y, stream).unwrap();
        back
    };

    run().unwrap();
    let direct = read();
    driver.fill(y, 0, 4 * u64::from(n), stream).unwrap();
    driver.begin_capture(stream).unwrap();
    run().unwrap();
    let graph = driver.end_capture(stream).unwrap();
    assert!(read().iter().all(|&b| b == 0), "captured work does not run");
    for _ in 0..3 {
        driver.launch_graph(graph, stream).unwrap();
        assert_eq!(read(), direct, "the same bits");
    }
    // The graph reads what is there when it runs.
    driver.upload(y0, &bytes(&vec![0.0; n as usize]), stream).unwrap();
    driver.launch_graph(graph, stream).unwrap();
    assert_eq!(floats(&read())[2], 0.3f32.mul_add(2.0, 0.3 * 2.0));
    driver.destroy_graph(graph).unwrap();
    refused(driver.launch_graph(graph, stream), &["graph", "destroyed"]);
    refused(driver.destroy_graph(graph), &["graph", "destroyed"]);
}

#[test]
fn a_captured_step_gives_the_same_bits() {
    on_every_driver(|driver, stream| {
        let n = 1000u32;
        let buffers = [(); 3].map(|()| driver.allocate(4 * u64::from(n)).unwrap());
        let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
        driver.upload(buffers[0], &bytes(&values), stream).unwrap();
        driver.upload(buffers[2], &bytes(&values), stream).unwrap();
        step(driver, stream, buffers, n);
        buffers.iter().for_each(|&buffer| driver.free(buffer).unwrap());
    });
}

#[test]
fn what_cannot_be_captured_is_refused_in_words() {
    on_every_driver(|driver, stream| {
        let other = driver.create_stream(Priority::Normal).unwrap();
        let memory = driver.allocate(64).unwrap();
        let pinned = driver.allocate_pinned(64).unwrap();
        let event = driver.create_event(false).unwrap();
        driver.record(event, stream).unwrap();
        refused(driver.end_capture(stream), &["not captured"]);
        driver.begin_capture(stream).unwrap();
        refused(driver.begin_capture(stream), &["captured already"]);
        refused(driver.allocate(64), &["allocate device memory", "before its capture"]);
        refused(driver.free(memory), &["free device memory"]);
        refused(driver.allocate_pinned(64), &["pinned memory"]);
        refused(driver.upload(memory, &[0; 64], stream), &["copy from the host"]);
        refused(driver.download(&mut [0; 64], memory, stream), &["copy to the host"]);
        refused(driver.upload_pinned(memory, pinned, 64, stream), &["copy from the host", "captured"]);
        refused(driver.download_pinned(pinned, memory, 64, stream), &["copy to the host", "captured"]);
        refused(driver.synchronize(stream), &["wait for a stream"]);
        refused(driver.synchronize(other), &["wait for a stream"]);
        refused(driver.query_event(event), &["an event", "before its capture"]);
        refused(driver.record(event, stream), &["record an event", "captured"]);
        refused(driver.wait(stream, event), &["wait for an event", "captured"]);
        refused(driver.load(&crate::kernel("saxpy", crate::SAXPY)), &["load a module"]);
        refused(driver.destroy_stream(stream), &["destroy a stream", "captured"]);
        // Another thread is free to work, but not to end the capture.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                refused(driver.end_capture(stream), &["another thread"]);
                driver.upload(memory, &[3; 64], other).unwrap();
            });
        });
        driver.fill(memory, 9, 64, stream).unwrap();
        let graph = driver.end_capture(stream).unwrap();
        let read = || {
            let mut back = [0; 64];
            driver.download(&mut back, memory, stream).unwrap();
            back
        };
        assert_eq!(read(), [3; 64]);
        driver.launch_graph(graph, stream).unwrap();
        assert_eq!(read(), [9; 64]);
        driver.destroy_graph(graph).unwrap();
        driver.free_pinned(pinned).unwrap();
        driver.free(memory).unwrap();
        driver.destroy_event(event).unwrap();
        driver.destroy_stream(other).unwrap();
    });
}
