//! What processes of one machine share. Emulated devices of one process stand for them; a GPU's own part is tested alone,
//! since a process cannot open what is its own.

use ssmv_autograd::cuda::{
    Address, Counting, Driver, Emulated, EmulatorOptions, EventHandle, HANDLE_BYTES, LaunchConfig,
    MemoryHandle, Priority,
};

use crate::{MEMORY, bytes, floats, on_every_driver, refused, saxpy};

fn device(ordinal: u8) -> Emulated {
    Emulated::new(&EmulatorOptions { memory: MEMORY, ordinal, ..Default::default() })
}

#[test]
fn a_kernel_writes_another_devices_memory() {
    let (owner, other) = (device(1), device(2));
    let (stream, theirs) =
        (owner.create_stream(Priority::Normal).unwrap(), other.create_stream(Priority::Normal).unwrap());
    let memory = owner.allocate(400).unwrap();
    owner.upload(memory, &bytes(&[1.0; 100]), stream).unwrap();
    let handle = owner.export_memory(memory).unwrap();
    let here = other.open_memory(&handle, 400).unwrap();
    let x = other.allocate(400).unwrap();
    other.upload(x, &bytes(&[2.0; 100]), theirs).unwrap();
    let function = saxpy(&other);
    let config = LaunchConfig { grid: [1, 1, 1], block: [128, 1, 1], shared: 0 };
    other.launch(function, &config, &[x.into(), here.into(), 3.0f32.into(), 100u32.into()], theirs).unwrap();
    other.copy(here.offset(8), x, 4, theirs).unwrap();
    let mut back = vec![0; 400];
    owner.download(&mut back, memory, stream).unwrap();
    let mut want = vec![7.0; 100];
    want[2] = 2.0;
    assert_eq!(floats(&back), want);

    refused(other.free(here), &["another process's", "close"]);
    refused(other.export_memory(here), &["another process's"]);
    refused(owner.free(memory), &["has it open"]);
    other.close_memory(here).unwrap();
    refused(other.close_memory(here), &["nothing is opened"]);
    refused(other.fill(here, 0, 1, theirs), &["alive"]);
    owner.free(memory).unwrap();
}

#[test]
fn several_ranks_on_one_emulated_device_open_what_is_its_own() {
    let device = device(0);
    let memory = device.allocate(64).unwrap();
    let handle = device.export_memory(memory).unwrap();
    assert_eq!(device.open_memory(&handle, 64).unwrap(), memory);
    refused(device.free(memory), &["has it open"]);
    device.close_memory(memory).unwrap();
    device.free(memory).unwrap();
}

#[test]
fn handles_that_lead_nowhere_are_refused() {
    let (owner, other) = (device(1), device(2));
    let memory = owner.allocate(64).unwrap();
    let handle = owner.export_memory(memory).unwrap();
    refused(other.open_memory(&handle, 65), &["64 bytes, not 65"]);
    refused(other.open_memory(&MemoryHandle([7; HANDLE_BYTES]), 64), &["no allocation"]);
    refused(other.open_event(&EventHandle([7; HANDLE_BYTES])), &["no event"]);
    let event = owner.create_shared_event().unwrap();
    let event = owner.export_event(event).unwrap();
    drop(owner);
    refused(other.open_memory(&handle, 64), &["process"]);
    refused(other.open_event(&event), &["no event"]);
    // Two devices of one number have the same addresses.
    let (owner, other) = (device(3), device(3));
    let handle = owner.export_memory(owner.allocate(64).unwrap()).unwrap();
    other.allocate(64).unwrap();
    refused(other.open_memory(&handle, 64), &["different numbers"]);
}

#[test]
fn an_event_is_waited_for_by_whoever_opened_it() {
    let (owner, other) = (device(1), device(2));
    let (stream, theirs) =
        (owner.create_stream(Priority::Normal).unwrap(), other.create_stream(Priority::Normal).unwrap());
    let event = owner.create_shared_event().unwrap();
    let there = other.open_event(&owner.export_event(event).unwrap()).unwrap();
    refused(other.wait(theirs, there), &["never recorded"]);
    owner.record(event, stream).unwrap();
    other.wait(theirs, there).unwrap();
    other.destroy_event(there).unwrap();
    owner.synchronize_event(event).unwrap();
}

#[test]
fn a_process_exports_what_is_its_own() {
    on_every_driver(|driver, stream| {
        refused(driver.export_memory(Address(256)), &["no allocation"]);
        let memory = driver.allocate(2 << 20).unwrap();
        assert_ne!(driver.export_memory(memory).unwrap().0, [0; HANDLE_BYTES]);
        refused(driver.export_memory(memory.offset(256)), &["no allocation"]);
        assert!(driver.close_memory(memory).is_err());
        driver.free(memory).unwrap();
        let event = driver.create_shared_event().unwrap();
        assert_ne!(driver.export_event(event).unwrap().0, [0; HANDLE_BYTES]);
        driver.record(event, stream).unwrap();
        driver.wait(stream, event).unwrap();
        driver.destroy_event(event).unwrap();
    });
}

#[test]
fn a_driver_that_counts_shares_nothing() {
    let driver = Counting::new(Counting::describe());
    let memory = driver.allocate(64).unwrap();
    refused(driver.export_memory(memory), &["nothing to share"]);
    refused(driver.create_shared_event(), &["nothing to share"]);
}
