//! Queued work runs late, and in any order that streams and events allow.

use std::collections::BTreeSet;

use super::*;

/// Nothing runs by itself.
const LATE: (&str, &str) = ("SSMV_CUDA_LATE", "60000");

#[test]
fn a_copy_reads_the_host_when_it_runs() {
    let sentence = "changed, or was given back, between the call and the copy";
    rule_with("order::a_copy_reads_the_host_when_it_runs", &[LATE], &[sentence], || {
        start();
        let (address, stream) = (allocate(4), stream());
        let mut source = Box::new(1u32);
        assert_eq!(cuMemcpyHtoDAsync_v2(address, ptr::from_ref(&*source).cast(), 4, stream), SUCCESS);
        **std::hint::black_box(&mut source) = 9;
        assert_eq!(cuStreamSynchronize(stream), SUCCESS);
        assert_eq!(number_at(address), 9);
    });
}

#[test]
fn results_are_there_after_the_wait_only() {
    rule_with("order::results_are_there_after_the_wait_only", &[LATE], &[], || {
        start();
        let (address, stream, event) = (allocate(4), stream(), event());
        write_number(address, 5);
        let mut result = 0u32;
        assert_eq!(cuMemcpyDtoHAsync_v2(ptr::from_mut(&mut result).cast(), address, 4, stream), SUCCESS);
        assert_eq!(cuEventRecord(event, stream), SUCCESS);
        assert_eq!(*std::hint::black_box(&result), 0);
        assert_eq!(cuEventSynchronize(event), SUCCESS);
        assert_eq!(*std::hint::black_box(&result), 5);
    });
}

#[test]
fn asking_again_and_again_ends() {
    rule_with("order::asking_again_and_again_ends", &[LATE], &[], || {
        start();
        let (address, stream, event) = (allocate(4), stream(), event());
        assert_eq!(cuEventQuery(event), SUCCESS);
        (0..20).for_each(|_| assert_eq!(cuMemsetD8Async(address, 1, 4, stream), SUCCESS));
        assert_eq!(cuEventRecord(event, stream), SUCCESS);
        let asked = (0..10_000).take_while(|_| cuEventQuery(event) == NOT_READY).count();
        assert!(asked < 10_000);
        assert_eq!(cuStreamQuery(stream), SUCCESS);
    });
}

/// What two streams that fill the same bytes leave behind; ordered by an event or not.
fn racing(name: &'static str, ordered: bool, seed: usize) -> u32 {
    let running = std::env::var("SSMV_RULE").is_ok_and(|running| running == name);
    if running {
        start();
        let (address, first, second, event) = (allocate(4), stream(), stream(), event());
        assert_eq!(cuMemsetD8Async(address, 1, 4, first), SUCCESS);
        assert_eq!(cuEventRecord(event, first), SUCCESS);
        if ordered {
            assert_eq!(cuStreamWaitEvent(second, event, 0), SUCCESS);
        }
        assert_eq!(cuMemsetD8Async(address, 2, 4, second), SUCCESS);
        assert_eq!(cuCtxSynchronize(), SUCCESS);
        println!("left {}", number_at(address) & 0xff);
        std::process::exit(0);
    }
    let output = child(name).envs([LATE, ("SSMV_CUDA_SEED", &seed.to_string())]).output().unwrap();
    let text = said(&output);
    let left = text.lines().find_map(|line| line.split("left ").nth(1)).unwrap_or_else(|| panic!("{text}"));
    left.trim().parse().unwrap()
}

#[test]
fn streams_without_an_event_race() {
    let name = "order::streams_without_an_event_race";
    let left: BTreeSet<u32> = (1..=12).map(|seed| racing(name, false, seed)).collect();
    assert_eq!(left, BTreeSet::from([1, 2]));
}

#[test]
fn an_event_orders_streams() {
    let name = "order::an_event_orders_streams";
    let left: BTreeSet<u32> = (1..=12).map(|seed| racing(name, true, seed)).collect();
    assert_eq!(left, BTreeSet::from([2]));
}

#[test]
fn events_without_timing_measure_nothing() {
    let sentence = "an event with CU_EVENT_DISABLE_TIMING measures no time";
    rule("order::events_without_timing_measure_nothing", &[sentence], || {
        start();
        let (untimed, mut timed) = (event(), 0);
        assert_eq!(cuEventCreate(&mut timed, 0), SUCCESS);
        for event in [timed, untimed] {
            assert_eq!((cuEventRecord(event, 0), cuEventSynchronize(event)), (SUCCESS, SUCCESS));
        }
        assert_eq!(cuEventElapsedTime(&mut 0.0, timed, untimed), INVALID_HANDLE);
        assert_eq!(cuEventElapsedTime(&mut 0.0, timed, timed), SUCCESS);
    });
}
