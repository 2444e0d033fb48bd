//! Allocations, what an address is, and memory of other processes.

use std::ffi::{c_char, c_int, c_void};

use crate::{
    code::{Outcome, fail},
    driver::{Entered, enter},
    ffi::{In, IpcHandle, Out},
    handle::Handle,
    ipc,
    shared::{HostMemory, PeerBlocks},
    state::Kind,
    work::Work,
};

/// `CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS`
const LAZY_PEER_ACCESS: u32 = 1;

fn allocate(bytes: usize, call: &str) -> Outcome<u64> {
    let mut entered = enter()?;
    entered.state.refuse_unsafe(call)?;
    let (context, limit) = (entered.context, entered.driver.settings.memory);
    entered.state.allocate(context, bytes as u64, limit)
}

/// Ends an allocation after all work of the context, as the driver's own functions wait.
fn free(call: &str, address: u64, ends: impl Fn(&Kind) -> bool) -> Outcome {
    let mut entered = enter()?;
    entered.state.refuse_unsafe(call)?;
    if address == 0 {
        return Ok(());
    }
    entered.state.starting_at(call, address, &ends)?;
    let mut entered = entered.finish_all()?;
    entered.state.starting_at(call, address, &ends)?;
    entered.state.release(address)
}

fn allocate_host(bytes: usize, flags: u32, managed: bool, call: &str) -> Outcome<u64> {
    let mut entered = enter()?;
    entered.state.refuse_unsafe(call)?;
    if bytes == 0 {
        return fail!(INVALID_VALUE, "an allocation of 0 bytes");
    }
    let context = entered.context;
    entered.state.allocate_host(context, bytes as u64, managed, flags)
}

/// One value of `cuPointerGetAttribute` (cuda.h, `CUpointer_attribute`), as little-endian bytes.
fn attribute(entered: &Entered, which: u32, address: u64) -> Outcome<Vec<u8>> {
    let Some((base, allocation)) = entered.state.locate(address) else {
        return fail!(INVALID_VALUE, "no allocation holds {address:#x}");
    };
    let host = matches!(allocation.kind, Kind::Host { .. });
    let managed = matches!(allocation.kind, Kind::Host { managed: true, .. });
    let word = |value: u32| Ok(value.to_le_bytes().to_vec());
    let long = |value: u64| Ok(value.to_le_bytes().to_vec());
    match which {
        1 => long(allocation.context as u64),
        2 => word(if host { 1 } else { 2 }),
        3 => long(address),
        4 if host => long(address),
        4 => fail!(INVALID_VALUE, "device memory has no host pointer"),
        6 => word(0),
        7 => long(allocation.number),
        8 => Ok(vec![managed.into()]),
        9 => word(allocation.device as u32),
        10 => Ok(vec![matches!(allocation.kind, Kind::Large { .. } | Kind::Small { .. }).into()]),
        11 => long(base),
        12 => long(allocation.bytes),
        13 => Ok(vec![1]),
        _ => fail!(NOT_SUPPORTED, "attribute {which} of a pointer is not emulated"),
    }
}

api! {
    cuMemAlloc_v2 since 3020 (address: Out<u64>, bytes: usize) { address.set(allocate(bytes, "cuMemAlloc")?) }

    cuMemAllocPitch_v2 since 3020 (address: Out<u64>, pitch: Out<usize>, width: usize, height: usize, element: u32) {
        if !matches!(element, 4 | 8 | 16) {
            return fail!(INVALID_VALUE, "elements of {element} bytes: 4, 8 or 16 are possible");
        }
        let row = width.next_multiple_of(512);
        let bytes = row.saturating_mul(height);
        address.set(allocate(bytes, "cuMemAllocPitch")?)?;
        pitch.set(row)
    }

    cuMemFree_v2 since 3020 (address: u64) {
        free("cuMemFree", address, |kind| {
            matches!(kind, Kind::Large { .. } | Kind::Small { .. } | Kind::Host { managed: true, .. })
        })
    }

    cuMemAllocAsync since 11020 (address: Out<u64>, bytes: usize, stream: Handle) {
        let mut entered = enter()?;
        let stream = entered.stream(stream)?;
        if entered.state.streams.get(stream)?.capture.is_some() {
            return fail!(NOT_SUPPORTED, "allocations in a graph are not emulated");
        }
        let (context, limit) = (entered.context, entered.driver.settings.memory);
        address.set(entered.state.allocate(context, bytes as u64, limit)?)
    }

    cuMemFreeAsync since 11020 (address: u64, stream: Handle) {
        let mut entered = enter()?;
        let stream = entered.stream(stream)?;
        if entered.state.streams.get(stream)?.capture.is_some() {
            return fail!(NOT_SUPPORTED, "the end of an allocation in a graph is not emulated");
        }
        let ends = |kind: &Kind| matches!(kind, Kind::Large { .. } | Kind::Small { .. });
        entered.state.starting_at("cuMemFreeAsync", address, ends)?;
        if let Some(allocation) = entered.state.allocations.get_mut(&address)
            && std::mem::replace(&mut allocation.freed_in_stream, true)
        {
            return fail!(INVALID_VALUE, "cuMemFreeAsync of {address:#x}: a stream frees it already");
        }
        entered.state.submit(stream, Work::Free(address)).map(drop)
    }

    cuMemHostAlloc since 2020 (pointer: Out<usize>, bytes: usize, flags: u32) {
        pointer.set(allocate_host(bytes, flags, false, "cuMemHostAlloc")? as usize)
    }

    cuMemAllocHost_v2 since 3020 (pointer: Out<usize>, bytes: usize) {
        pointer.set(allocate_host(bytes, 0, false, "cuMemAllocHost")? as usize)
    }

    cuMemAllocManaged since 6000 (address: Out<u64>, bytes: usize, flags: u32) {
        if !matches!(flags, 1 | 2) {
            return fail!(INVALID_VALUE, "flags {flags}: CU_MEM_ATTACH_GLOBAL or CU_MEM_ATTACH_HOST is expected");
        }
        address.set(allocate_host(bytes, flags, true, "cuMemAllocManaged")?)
    }

    cuMemFreeHost since 2000 (pointer: usize) {
        free("cuMemFreeHost", pointer as u64, |kind| match kind {
            Kind::Host { memory, managed, .. } => !managed && !memory.is_registered(),
            _ => false,
        })
    }

    cuMemHostRegister_v2 since 6050 (pointer: usize, bytes: usize, flags: u32) {
        let mut entered = enter()?;
        entered.state.refuse_unsafe("cuMemHostRegister")?;
        if pointer == 0 || bytes == 0 || !pointer.is_multiple_of(16) {
            return fail!(INVALID_VALUE, "{bytes} bytes at {pointer:#x}: at least a byte, at a multiple of 16, is expected");
        }
        let mut last = [0];
        crate::host::read("cuMemHostRegister", pointer + bytes - 1, &mut last)?;
        let end = pointer as u64 + bytes as u64;
        if entered.state.allocations.range(..end).next_back().is_some_and(|(at, known)| at + known.bytes > pointer as u64) {
            return fail!(HOST_MEMORY_ALREADY_REGISTERED, "some of the {bytes} bytes at {pointer:#x} are pinned already");
        }
        // SAFETY: the address is a multiple of 16, and the rest of its last words is on the same page; the program keeps
        // the memory until cuMemHostUnregister, as the function demands.
        let memory = unsafe { HostMemory::register(pointer, bytes) };
        let context = entered.context;
        entered.state.insert_host(context, memory, false, flags).map(drop)
    }

    cuMemHostUnregister since 4000 (pointer: usize) {
        free("cuMemHostUnregister", pointer as u64, |kind| {
            matches!(kind, Kind::Host { memory, .. } if memory.is_registered())
        })
    }

    cuMemHostGetDevicePointer_v2 since 3020 (address: Out<u64>, pointer: usize, flags: u32) {
        let entered = enter()?;
        if flags != 0 {
            return fail!(INVALID_VALUE, "flags {flags}: 0 is expected");
        }
        match entered.state.locate(pointer as u64) {
            Some((_, allocation)) if matches!(allocation.kind, Kind::Host { .. }) => address.set(pointer as u64),
            _ => fail!(INVALID_VALUE, "{pointer:#x} is not pinned memory"),
        }
    }

    cuMemHostGetFlags since 2030 (flags: Out<u32>, pointer: usize) {
        let entered = enter()?;
        match entered.state.locate(pointer as u64) {
            Some((_, allocation)) => match allocation.kind {
                Kind::Host { flags: known, .. } => flags.set(known),
                _ => fail!(INVALID_VALUE, "{pointer:#x} is not pinned memory"),
            },
            None => fail!(INVALID_VALUE, "{pointer:#x} is not pinned memory"),
        }
    }

    cuMemGetInfo_v2 since 3020 (free: Out<usize>, total: Out<usize>) {
        let entered = enter()?;
        let memory = entered.driver.settings.memory;
        let used = entered.state.devices[entered.device()?].used;
        free.set((memory - used) as usize)?;
        total.set(memory as usize)
    }

    cuMemGetAddressRange_v2 since 3020 (base_out: Out<u64>, bytes: Out<usize>, address: u64) {
        let entered = enter()?;
        match entered.state.locate(address) {
            Some((base, allocation)) => {
                base_out.set_if_asked(base)?;
                bytes.set_if_asked(allocation.bytes as usize)
            }
            None => fail!(NOT_FOUND, "no allocation holds {address:#x}"),
        }
    }

    cuPointerGetAttribute since 4000 (data: Out<c_char>, which: u32, address: u64) {
        let entered = enter()?;
        let value = attribute(&entered, which, address)?;
        value.iter().enumerate().try_for_each(|(i, &byte)| data.at(i).set(byte as c_char))
    }

    cuPointerGetAttributes since 7000 (count: u32, which: In<u32>, data: In<Out<c_char>>, address: u64) {
        let entered = enter()?;
        let (which, data) = (which.array(count as usize)?, data.array(count as usize)?);
        for (which, data) in which.into_iter().zip(data) {
            // What is unknown is 0, without an error.
            let value = attribute(&entered, which, address).unwrap_or(vec![0; 4]);
            value.iter().enumerate().try_for_each(|(i, &byte)| data.at(i).set(byte as c_char))?;
        }
        Ok(())
    }

    cuPointerSetAttribute since 6000 (_value: In<c_void>, which: u32, address: u64) {
        let entered = enter()?;
        match which {
            6 if entered.state.locate(address).is_some() => Ok(()),
            _ => fail!(INVALID_VALUE, "attribute {which} of {address:#x} cannot be set"),
        }
    }

    cuMemPrefetchAsync since 8000 (address: u64, _bytes: usize, _device: c_int, stream: Handle) {
        let mut entered = enter()?;
        let stream = entered.stream(stream)?;
        match entered.state.locate(address) {
            Some((_, allocation)) if matches!(allocation.kind, Kind::Host { managed: true, .. }) => {
                entered.state.submit(stream, Work::Nothing).map(drop)
            }
            _ => fail!(INVALID_VALUE, "{address:#x} is not managed memory"),
        }
    }

    cuIpcGetMemHandle since 4010 (handle: Out<IpcHandle>, address: u64) {
        let entered = enter()?;
        handle.set(IpcHandle(ipc::memory_handle(&entered.state, address)?))
    }

    cuIpcOpenMemHandle_v2 since 11000 (address: Out<u64>, handle: IpcHandle, flags: u32) {
        let mut entered = enter()?;
        entered.state.refuse_unsafe("cuIpcOpenMemHandle")?;
        if flags != LAZY_PEER_ACCESS {
            return fail!(INVALID_VALUE, "flags {flags}: CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS is expected");
        }
        let (file, offset, bytes) = ipc::read_memory(&handle.0)?;
        let context = entered.context;
        for (&known, allocation) in &mut entered.state.allocations {
            if let Kind::Opened { handle: same, times, .. } = &mut allocation.kind
                && *same == handle.0
            {
                if allocation.context != context {
                    return fail!(INVALID_CONTEXT, "another context of this process has the memory open already");
                }
                *times += 1;
                return address.set(known);
            }
        }
        let blocks = PeerBlocks::open(file, offset, bytes)?;
        address.set(entered.state.open_peer(context, blocks, bytes, handle.0)?)
    }

    cuIpcCloseMemHandle since 4010 (address: u64) {
        let mut entered = enter()?;
        entered.state.refuse_unsafe("cuIpcCloseMemHandle")?;
        let ends = |kind: &Kind| matches!(kind, Kind::Opened { .. });
        entered.state.starting_at("cuIpcCloseMemHandle", address, ends)?;
        let mut entered = entered.finish_all()?;
        if let Some(allocation) = entered.state.allocations.get_mut(&address)
            && let Kind::Opened { times, .. } = &mut allocation.kind
            && *times > 1
        {
            *times -= 1;
            return Ok(());
        }
        entered.state.release(address)
    }
}
