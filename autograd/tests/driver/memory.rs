//! Memory and copies.

use ssmv_autograd::{
    Error,
    cuda::{Address, Priority},
};

use crate::{emulated, on_every_driver, refused};

#[test]
fn bytes_go_there_and_back() {
    on_every_driver(|driver, stream| {
        let data: Vec<u8> = (0..1000u32).map(|i| (i * 37) as u8).collect();
        let (a, b) = (driver.allocate(1000).unwrap(), driver.allocate(1000).unwrap());
        assert!(a.0.is_multiple_of(256) && b.0.is_multiple_of(256));
        driver.upload(a, &data, stream).unwrap();
        driver.copy(b, a, 1000, stream).unwrap();
        driver.fill(b.offset(10), 0xAB, 5, stream).unwrap();
        let mut back = vec![0; 1000];
        driver.download(&mut back, b, stream).unwrap();
        let mut expected = data.clone();
        expected[10..15].fill(0xAB);
        assert_eq!(back, expected);
        driver.free(a).unwrap();
        driver.free(b).unwrap();
    });
}

#[test]
fn pinned_memory_waits_for_its_copies() {
    on_every_driver(|driver, stream| {
        let other = driver.create_stream(Priority::Normal).unwrap();
        let pinned = driver.allocate_pinned(4096).unwrap();
        let device = driver.allocate(4096).unwrap();
        for round in 0..4u8 {
            driver
                .with_pinned(pinned, &mut |bytes| {
                    assert!(round != 0 || bytes.iter().all(|&b| b == 0), "new memory is zero");
                    bytes.fill(round + 1);
                })
                .unwrap();
            driver.upload_pinned(device, pinned, 4096, stream).unwrap();
            driver.fill(device, 0xEE, 16, stream).unwrap();
            let event = driver.create_event(false).unwrap();
            driver.record(event, stream).unwrap();
            driver.wait(other, event).unwrap();
            driver.download_pinned(pinned, device, 32, other).unwrap();
            driver
                .with_pinned(pinned, &mut |bytes| {
                    assert_eq!(bytes.len(), 4096);
                    assert_eq!(bytes[..16], [0xEE; 16]);
                    assert!(bytes[16..].iter().all(|&b| b == round + 1));
                })
                .unwrap();
            driver.destroy_event(event).unwrap();
        }
        refused(driver.upload_pinned(device, pinned, 4097, stream), &["4097 bytes"]);
        driver.free_pinned(pinned).unwrap();
        refused(driver.free_pinned(pinned), &["pinned memory", "destroyed"]);
        refused(driver.with_pinned(pinned, &mut |_| ()), &["pinned memory"]);
        driver.free(device).unwrap();
        driver.destroy_stream(other).unwrap();
    });
}

#[test]
fn copies_of_no_bytes_do_nothing_wherever_they_lie_within_an_allocation() {
    on_every_driver(|driver, stream| {
        let (device, pinned) = (driver.allocate(64).unwrap(), driver.allocate_pinned(64).unwrap());
        driver.fill(device, 7, 64, stream).unwrap();
        for at in [device, device.offset(64)] {
            driver.upload(at, &[], stream).unwrap();
            driver.download(&mut [], at, stream).unwrap();
            driver.upload_pinned(at, pinned, 0, stream).unwrap();
            driver.download_pinned(pinned, at, 0, stream).unwrap();
            driver.copy(at, device, 0, stream).unwrap();
            driver.fill(at, 0, 0, stream).unwrap();
            driver.poison(at, 0, stream).unwrap();
        }
        let mut back = [0; 64];
        driver.download(&mut back, device, stream).unwrap();
        assert_eq!(back, [7; 64]);
        refused(driver.fill(device.offset(65), 0, 0, stream), &["fill"]);
        // No bytes come to no bytes: a buffer of none has an address too.
        let none = driver.allocate(0).unwrap();
        driver.upload(none, &[], stream).unwrap();
        driver.free(none).unwrap();
        driver.free_pinned(pinned).unwrap();
        driver.free(device).unwrap();
    });
}

#[test]
fn ranges_outside_of_what_lives_are_refused() {
    on_every_driver(|driver, stream| {
        let a = driver.allocate(100).unwrap();
        driver.fill(a, 0, 100, stream).unwrap();
        let mut host = [0; 101];
        refused(driver.upload(a, &host, stream), &["copy from the host", "101 bytes"]);
        refused(driver.download(&mut host, a, stream), &["copy to the host"]);
        refused(driver.copy(a, a.offset(1), 100, stream), &["copy within the device"]);
        refused(driver.fill(a.offset(99), 0, 2, stream), &["fill", "2 bytes"]);
        refused(driver.fill(a, 0, u64::MAX, stream), &["fill"]);
        refused(driver.fill(Address(8), 0, 1, stream), &["fill"]);
        driver.free(a).unwrap();
        refused(driver.free(a), &["freed already"]);
        refused(driver.free(a.offset(1)), &["free"]);
        refused(driver.fill(a, 0, 1, stream), &["alive"]);
        refused(driver.poison(a, 1, stream), &["alive"]);
        let mut host = [0; 1];
        refused(driver.download(&mut host, a, stream), &["alive"]);
    });
}

#[test]
fn what_does_not_fit_says_how_much_is_free() {
    on_every_driver(|driver, _| {
        let asked = driver.device().memory + (1 << 30);
        let error = driver.allocate(asked).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { asked: a, .. } if a == asked), "{error}");
        refused(
            driver.allocate(asked),
            &[&driver.device().name, "out of memory", &asked.to_string(), "free"],
        );
    });
    let driver = emulated();
    let free = driver.memory().unwrap().free;
    let half = driver.allocate(free / 2).unwrap();
    refused(driver.allocate(free / 2 + 1), &["out of memory", &format!("{} of {free} free", free / 2)]);
    driver.free(half).unwrap();
    assert_eq!(driver.memory().unwrap().free, free);
}
