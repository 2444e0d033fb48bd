//! Devices: how many, what they are.

use std::ffi::{c_char, c_int};

use crate::{
    code::{Outcome, fail},
    context,
    driver::{device, driver},
    ffi::{In, Out, Uuid, string, write_text},
    settings::Settings,
};

fn name(settings: &Settings) -> &'static str {
    match settings.capability {
        (9, 0) => "Emulated H100",
        (8, 0) => "Emulated A100",
        _ => "Emulated GPU",
    }
}

/// The bus address of a device.
fn bus(ordinal: usize) -> String {
    format!("0000:{:02X}:00.0", ordinal + 1)
}

/// The 16 bytes that name a device.
fn unique_id(ordinal: usize) -> Uuid {
    let mut bytes = *b"ssmv emulated  0";
    bytes[15] += ordinal as u8;
    bytes
}

/// A device's attribute (cuda.h, `CUdevice_attribute`), with an H100's or A100's sizes.
fn attribute(number: u32, ordinal: usize, settings: &Settings) -> Outcome<c_int> {
    let hopper = settings.capability >= (9, 0);
    let either = |a: c_int, b: c_int| if hopper { a } else { b };
    let (major, minor) = settings.capability;
    Ok(match number {
        1..=3 => [1024, 1024, 1024][number as usize - 1],
        4 => 64,
        5 => i32::MAX,
        6 | 7 => 65535,
        8 => 48 << 10,
        9 => 64 << 10,
        10 => 32,
        11 => i32::MAX,
        12 | 82 => 64 << 10,
        13 => either(1_980_000, 1_410_000),
        14 => 512,
        15 => 1,
        16 => either(132, 108),
        17 | 18 | 20 => 0,
        19 => 1,
        30 => 512,
        31 => 1,
        32 => 1,
        33 => ordinal as c_int + 1,
        34 | 35 => 0,
        36 => either(2_619_000, 1_215_000),
        37 => 5120,
        38 => either(50 << 20, 40 << 20),
        39 => 2048,
        40 => 3,
        41 => 1,
        50 => 0,
        51 => 32,
        75 => major as c_int,
        76 => minor as c_int,
        78..=80 => 1,
        81 => either(228 << 10, 164 << 10),
        83 => 1,
        85 => ordinal as c_int,
        87 => 2,
        90 | 91 => 1,
        95 => 1,
        97 => either(227 << 10, 163 << 10),
        99 => 1,
        106 => 32,
        111 => 1 << 10,
        115 => 1,
        125 => 1,
        // What the emulator lacks, textures and clusters among it, is 0.
        0 | 163.. => return fail!(INVALID_VALUE, "{number} is not a device attribute"),
        _ => 0,
    })
}

api! {
    cuDeviceGet since 2000 (device_out: Out<c_int>, ordinal: c_int) {
        device(ordinal)?;
        device_out.set(ordinal)
    }

    cuDeviceGetCount since 2000 (count: Out<c_int>) { count.set(driver()?.settings.devices as c_int) }

    cuDeviceGetName since 2000 (text: Out<c_char>, capacity: c_int, number: c_int) {
        let (driver, _) = device(number)?;
        write_text("the device's name", text, usize::try_from(capacity).unwrap_or(0), name(&driver.settings))
    }

    cuDeviceGetUuid since 9020 (uuid: Out<Uuid>, number: c_int) {
        uuid.set(unique_id(device(number)?.1))
    }

    cuDeviceGetUuid_v2 since 11040 (uuid: Out<Uuid>, number: c_int) {
        uuid.set(unique_id(device(number)?.1))
    }

    cuDeviceTotalMem_v2 since 3020 (bytes: Out<usize>, number: c_int) {
        let (driver, _) = device(number)?;
        bytes.set(driver.settings.memory as usize)
    }

    cuDeviceGetAttribute since 2000 (value: Out<c_int>, which: u32, number: c_int) {
        let (driver, ordinal) = device(number)?;
        value.set(attribute(which, ordinal, &driver.settings)?)
    }

    cuDeviceComputeCapability since 2000 (major: Out<c_int>, minor: Out<c_int>, number: c_int) {
        let (driver, _) = device(number)?;
        major.set(driver.settings.capability.0 as c_int)?;
        minor.set(driver.settings.capability.1 as c_int)
    }

    cuDeviceGetPCIBusId since 4010 (text: Out<c_char>, capacity: c_int, number: c_int) {
        let (_, ordinal) = device(number)?;
        write_text("the bus address", text, usize::try_from(capacity).unwrap_or(0), &bus(ordinal))
    }

    cuDeviceGetByPCIBusId since 4010 (device_out: Out<c_int>, text: In<c_char>) {
        let asked = string("the bus address", text)?;
        let devices = driver()?.settings.devices;
        match (0..devices).find(|&ordinal| bus(ordinal).eq_ignore_ascii_case(&asked)) {
            Some(ordinal) => device_out.set(ordinal as c_int),
            None => fail!(INVALID_DEVICE, "no device is at {asked}"),
        }
    }

    cuDeviceCanAccessPeer since 4000 (can: Out<c_int>, number: c_int, peer: c_int) {
        let ((_, ordinal), (_, peer)) = (device(number)?, device(peer)?);
        can.set((ordinal != peer).into())
    }

    cuDeviceGetP2PAttribute since 8000 (value: Out<c_int>, which: u32, number: c_int, peer: c_int) {
        let ((_, ordinal), (_, peer)) = (device(number)?, device(peer)?);
        match which {
            _ if ordinal == peer => fail!(INVALID_DEVICE, "a device is not its own peer"),
            // Rank, access, atomics; arrays are not supported.
            1 => value.set(0),
            2 | 3 => value.set(1),
            4 => value.set(0),
            _ => fail!(INVALID_VALUE, "{which} is not an attribute of a pair of devices"),
        }
    }

    cuDevicePrimaryCtxRetain since 7000 (context_out: Out<usize>, number: c_int) {
        let (driver, ordinal) = device(number)?;
        let state = &mut *driver.lock();
        let flags = state.devices[ordinal].primary_flags;
        let handle = match state.devices[ordinal].primary {
            Some(handle) => handle,
            None => {
                let handle = context::create(state, ordinal, flags, Some(0));
                state.devices[ordinal].primary = Some(handle);
                handle
            }
        };
        let retained = &mut state.contexts.get_mut(handle)?.retained;
        *retained = retained.map(|count| count + 1);
        context_out.set(handle)
    }

    cuDevicePrimaryCtxRelease_v2 since 11000 (number: c_int) {
        let (driver, ordinal) = device(number)?;
        let mut state = driver.lock();
        let Some(handle) = state.devices[ordinal].primary else {
            return fail!(INVALID_CONTEXT, "the primary context of device {ordinal} is not retained");
        };
        let context = state.contexts.get_mut(handle)?;
        context.retained = context.retained.map(|count| count - 1);
        let last = context.retained == Some(0);
        drop(state);
        if last { super::context::destroy(driver, handle) } else { Ok(()) }
    }

    cuDevicePrimaryCtxReset_v2 since 11000 (number: c_int) {
        let (driver, ordinal) = device(number)?;
        let primary = driver.lock().devices[ordinal].primary;
        primary.map_or(Ok(()), |handle| super::context::destroy(driver, handle))
    }

    cuDevicePrimaryCtxGetState since 7000 (number: c_int, flags: Out<u32>, active: Out<c_int>) {
        let (driver, ordinal) = device(number)?;
        let state = driver.lock();
        flags.set_if_asked(state.devices[ordinal].primary_flags)?;
        active.set_if_asked(state.devices[ordinal].primary.is_some().into())
    }

    cuDevicePrimaryCtxSetFlags_v2 since 11000 (number: c_int, flags: u32) {
        let (driver, ordinal) = device(number)?;
        driver.lock().devices[ordinal].primary_flags = flags;
        Ok(())
    }
}
