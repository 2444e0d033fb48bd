//! Copies and fills.

use crate::{
    code::{Outcome, fail},
    driver::{Entered, enter},
    ffi::{In, Memcpy2d, Memcpy3d},
    handle::Handle,
    work::{Copy, Fill, Side, Work},
};

/// The direction of a copy.
#[derive(Clone, Copy)]
enum Direction {
    ToDevice,
    ToHost,
    Within,
    /// The addresses decide (unified addressing).
    Unified,
}

/// `CU_MEMORYTYPE_*`
const HOST: u32 = 1;
const DEVICE: u32 = 2;
const UNIFIED: u32 = 4;

/// A copy of bytes in a row.
fn flat(
    entered: &Entered,
    call: &'static str,
    direction: Direction,
    to: u64,
    from: u64,
    bytes: usize,
) -> Outcome<Copy> {
    let (state, context, length) = (&entered.state, entered.context, bytes as u64);
    let (to, from) = match direction {
        Direction::ToDevice => (
            state.device_side(call, context, to, length)?,
            state.host_side(call, from as usize, length, true)?,
        ),
        Direction::ToHost => (
            state.host_side(call, to as usize, length, false)?,
            state.device_side(call, context, from, length)?,
        ),
        Direction::Within => {
            // A copy onto itself changes nothing, and programs do it.
            if to != from && to.abs_diff(from) < length {
                return fail!(INVALID_VALUE, "{call}: {bytes} bytes from {from:#x} to {to:#x} overlap");
            }
            (state.device_side(call, context, to, length)?, state.device_side(call, context, from, length)?)
        }
        Direction::Unified => (
            state.any_side(call, context, to, length, false)?,
            state.any_side(call, context, from, length, true)?,
        ),
    };
    Ok(Copy { call, to, to_pitch: [0; 2], from, from_pitch: [0; 2], extent: [length, 1, 1] })
}

/// Queues a copy; waits for it where the call does not end in `Async`.
fn copy(
    call: &'static str,
    direction: Direction,
    to: u64,
    from: u64,
    bytes: usize,
    stream: Option<Handle>,
) -> Outcome {
    let mut entered = enter()?;
    let target = entered.stream(stream.unwrap_or(0))?;
    if stream.is_none() {
        entered.state.refuse_unsafe(call)?;
    }
    if bytes == 0 {
        return Ok(());
    }
    let work = Work::Copy(flat(&entered, call, direction, to, from, bytes)?);
    let id = entered.state.submit(target, work)?;
    if stream.is_none() { entered.finish(id) } else { Ok(()) }
}

/// The copy that a structure describes.
pub(super) fn box_copy(entered: &Entered, call: &'static str, p: &Memcpy3d) -> Outcome<Copy> {
    let extent = [p.width as u64, p.height as u64, p.depth as u64];
    let [width, height, depth] = extent;
    let pitches = |pitch: usize, rows: usize| {
        let row = if pitch == 0 { width } else { pitch as u64 };
        [row, row.saturating_mul(if rows == 0 { height } else { rows as u64 })]
    };
    let (to_pitch, from_pitch) = (pitches(p.dst_pitch, p.dst_height), pitches(p.src_pitch, p.src_height));
    if height > 1 && to_pitch[0].min(from_pitch[0]) < width {
        return fail!(INVALID_VALUE, "{call}: a pitch is less than the {width} bytes of a row");
    }
    let big = [width, height, depth, to_pitch[0], from_pitch[0]].into_iter().any(|size| size >= 1 << 40);
    if big || height.saturating_mul(depth) >= 1 << 40 {
        return fail!(INVALID_VALUE, "{call}: a copy of {width} x {height} x {depth} bytes");
    }
    let mut copy =
        Copy { call, to: Side::Host(0, None), to_pitch, from: Side::Host(0, None), from_pitch, extent };
    let [to_bytes, from_bytes] = copy.reach();
    let start =
        |x: usize, y: usize, z: usize, [row, plane]: [u64; 2]| x as u64 + y as u64 * row + z as u64 * plane;
    let to = start(p.dst_x, p.dst_y, p.dst_z, to_pitch);
    let from = start(p.src_x, p.src_y, p.src_z, from_pitch);
    let side = |kind: u32, host: usize, device: u64, offset: u64, bytes: u64, source: bool| match kind {
        HOST => entered.state.host_side(call, host + offset as usize, bytes, source),
        DEVICE => entered.state.device_side(call, entered.context, device + offset, bytes),
        UNIFIED => entered.state.any_side(call, entered.context, device + offset, bytes, source),
        _ => fail!(NOT_SUPPORTED, "{call}: arrays are not emulated"),
    };
    copy.to = side(p.dst_type, p.dst_host, p.dst_device, to, to_bytes, false)?;
    copy.from = side(p.src_type, p.src_host, p.src_device, from, from_bytes, true)?;
    Ok(copy)
}

fn boxed(call: &'static str, parameters: &Memcpy3d, stream: Option<Handle>) -> Outcome {
    let mut entered = enter()?;
    let target = entered.stream(stream.unwrap_or(0))?;
    if stream.is_none() {
        entered.state.refuse_unsafe(call)?;
    }
    let work = Work::Copy(box_copy(&entered, call, parameters)?);
    let id = entered.state.submit(target, work)?;
    if stream.is_none() { entered.finish(id) } else { Ok(()) }
}

/// A fill of `extent`: elements of a row, rows, bytes from row to row.
pub(super) fn fill_of(
    entered: &Entered,
    address: u64,
    value: u32,
    element: u32,
    extent: [usize; 3],
) -> Outcome<Fill> {
    let call = "cuMemset";
    let extent = extent.map(|size| size as u64);
    let [width, height, pitch] = extent;
    if !matches!(element, 1 | 2 | 4) || !address.is_multiple_of(u64::from(element)) {
        return fail!(INVALID_VALUE, "{call}: elements of {element} bytes at {address:#x}");
    }
    let row = width.saturating_mul(element.into());
    if height > 1 && pitch < row {
        return fail!(INVALID_VALUE, "{call}: a pitch of {pitch} bytes for rows of {row}");
    }
    let reach = pitch.saturating_mul(height.saturating_sub(1)).saturating_add(row);
    match entered.state.device_side(call, entered.context, address, reach)? {
        Side::Device(memory, address) => Ok(Fill { memory, address, value, element, extent }),
        Side::Host(..) => fail!(INVALID_VALUE, "{call}: {address:#x} is host memory"),
    }
}

fn fill(address: u64, value: u32, element: u32, extent: [usize; 3], stream: Option<Handle>) -> Outcome {
    let mut entered = enter()?;
    let target = entered.stream(stream.unwrap_or(0))?;
    if extent[0] == 0 || extent[1] == 0 {
        return Ok(());
    }
    let work = Work::Fill(fill_of(&entered, address, value, element, extent)?);
    // A fill of device memory returns before it is done, whatever the call is named.
    entered.state.submit(target, work).map(drop)
}

api! {
    cuMemcpy since 4000 (to: u64, from: u64, bytes: usize) { copy("cuMemcpy", Direction::Unified, to, from, bytes, None) }

    cuMemcpyAsync since 4000 (to: u64, from: u64, bytes: usize, stream: Handle) {
        copy("cuMemcpyAsync", Direction::Unified, to, from, bytes, Some(stream))
    }

    cuMemcpyHtoD_v2 since 3020 (to: u64, from: usize, bytes: usize) {
        copy("cuMemcpyHtoD", Direction::ToDevice, to, from as u64, bytes, None)
    }

    cuMemcpyHtoDAsync_v2 since 3020 (to: u64, from: usize, bytes: usize, stream: Handle) {
        copy("cuMemcpyHtoDAsync", Direction::ToDevice, to, from as u64, bytes, Some(stream))
    }

    cuMemcpyDtoH_v2 since 3020 (to: usize, from: u64, bytes: usize) {
        copy("cuMemcpyDtoH", Direction::ToHost, to as u64, from, bytes, None)
    }

    cuMemcpyDtoHAsync_v2 since 3020 (to: usize, from: u64, bytes: usize, stream: Handle) {
        copy("cuMemcpyDtoHAsync", Direction::ToHost, to as u64, from, bytes, Some(stream))
    }

    cuMemcpyDtoD_v2 since 3020 (to: u64, from: u64, bytes: usize) {
        // Within a device the call returns before the copy is done.
        copy("cuMemcpyDtoD", Direction::Within, to, from, bytes, Some(0))
    }

    cuMemcpyDtoDAsync_v2 since 3020 (to: u64, from: u64, bytes: usize, stream: Handle) {
        copy("cuMemcpyDtoDAsync", Direction::Within, to, from, bytes, Some(stream))
    }

    cuMemcpyPeer since 4000 (to: u64, _to_context: Handle, from: u64, _from_context: Handle, bytes: usize) {
        copy("cuMemcpyPeer", Direction::Within, to, from, bytes, Some(0))
    }

    cuMemcpyPeerAsync since 4000 (
        to: u64, _to_context: Handle, from: u64, _from_context: Handle, bytes: usize, stream: Handle,
    ) {
        copy("cuMemcpyPeerAsync", Direction::Within, to, from, bytes, Some(stream))
    }

    cuMemcpy2D_v2 since 3020 (parameters: In<Memcpy2d>) { boxed("cuMemcpy2D", &parameters.get()?.into(), None) }

    cuMemcpy2DUnaligned_v2 since 3020 (parameters: In<Memcpy2d>) {
        boxed("cuMemcpy2DUnaligned", &parameters.get()?.into(), None)
    }

    cuMemcpy2DAsync_v2 since 3020 (parameters: In<Memcpy2d>, stream: Handle) {
        boxed("cuMemcpy2DAsync", &parameters.get()?.into(), Some(stream))
    }

    cuMemcpy3D_v2 since 3020 (parameters: In<Memcpy3d>) { boxed("cuMemcpy3D", &parameters.get()?, None) }

    cuMemcpy3DAsync_v2 since 3020 (parameters: In<Memcpy3d>, stream: Handle) {
        boxed("cuMemcpy3DAsync", &parameters.get()?, Some(stream))
    }

    cuMemsetD8_v2 since 3020 (address: u64, value: u8, count: usize) {
        fill(address, value.into(), 1, [count, 1, 0], None)
    }

    cuMemsetD16_v2 since 3020 (address: u64, value: u16, count: usize) {
        fill(address, value.into(), 2, [count, 1, 0], None)
    }

    cuMemsetD32_v2 since 3020 (address: u64, value: u32, count: usize) { fill(address, value, 4, [count, 1, 0], None) }

    cuMemsetD8Async since 3020 (address: u64, value: u8, count: usize, stream: Handle) {
        fill(address, value.into(), 1, [count, 1, 0], Some(stream))
    }

    cuMemsetD16Async since 3020 (address: u64, value: u16, count: usize, stream: Handle) {
        fill(address, value.into(), 2, [count, 1, 0], Some(stream))
    }

    cuMemsetD32Async since 3020 (address: u64, value: u32, count: usize, stream: Handle) {
        fill(address, value, 4, [count, 1, 0], Some(stream))
    }

    cuMemsetD2D8_v2 since 3020 (address: u64, pitch: usize, value: u8, width: usize, height: usize) {
        fill(address, value.into(), 1, [width, height, pitch], None)
    }

    cuMemsetD2D16_v2 since 3020 (address: u64, pitch: usize, value: u16, width: usize, height: usize) {
        fill(address, value.into(), 2, [width, height, pitch], None)
    }

    cuMemsetD2D32_v2 since 3020 (address: u64, pitch: usize, value: u32, width: usize, height: usize) {
        fill(address, value, 4, [width, height, pitch], None)
    }
}
