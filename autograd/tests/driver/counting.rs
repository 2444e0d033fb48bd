//! The driver that counts: it refuses what the others refuse, and runs nothing.

use ssmv_autograd::cuda::{Address, Backend, Counting, Cuda, DeviceInfo, Driver, LaunchConfig, Priority};

use super::{refused, saxpy};

fn counting(memory: u64) -> Counting {
    Counting::new(DeviceInfo { memory, ..Counting::describe() })
}

#[test]
fn memory_is_counted_up_to_the_limit() {
    let driver = counting(16 << 20);
    let stream = driver.create_stream(Priority::Normal).unwrap();
    let block = driver.allocate(5 << 20).unwrap();
    assert!(block.0.is_multiple_of(256) && driver.counts().used == 6 << 20);
    refused(driver.allocate(11 << 20), &["out of memory", "10485760 of 16777216 free", "smaller batch"]);
    driver.fill(block, 0, 5 << 20, stream).unwrap();
    refused(driver.fill(block, 0, (5 << 20) + 1, stream), &["alive"]);
    driver.free(block).unwrap();
    refused(driver.copy(block, block, 1, stream), &["alive"]);
    assert_eq!((driver.counts().used, driver.counts().peak), (0, 6 << 20));
}

#[test]
fn launches_are_checked_and_counted_and_so_are_a_graphs() {
    let driver = counting(1 << 20);
    let stream = driver.create_stream(Priority::Normal).unwrap();
    let function = saxpy(&driver);
    let config = LaunchConfig { grid: [1, 1, 1], block: [128, 1, 1], shared: 0 };
    let arguments = [Address(256).into(), Address(512).into(), 1.0f32.into(), 4u32.into()];
    driver.launch(function, &config, &arguments, stream).unwrap();
    refused(driver.launch(function, &config, &arguments[1..], stream), &["3 arguments"]);
    driver.begin_capture(stream).unwrap();
    driver.launch(function, &config, &arguments, stream).unwrap();
    refused(driver.allocate(1), &["captures a stream"]);
    let graph = driver.end_capture(stream).unwrap();
    driver.launch_graph(graph, stream).unwrap();
    driver.launch_graph(graph, stream).unwrap();
    assert_eq!((driver.counts().launches, driver.counts().modules), (3, 1));
}

#[test]
fn what_is_read_is_zero() {
    let cuda = Cuda::open(Backend::Counting, 0).unwrap();
    let buffer = cuda.copy_of(&[1.0f32; 4]).unwrap();
    assert_eq!(buffer.download().unwrap(), [0.0; 4]);
}
