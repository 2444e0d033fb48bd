//! A running block's view of global memory: loads, stores and atomics of a whole warp.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::access::{Access, LANES, Words, lane_value, lanes, low_bytes, set_lane_value};
use super::allocation::Allocation;
use super::faults::{fault, misaligned};
use super::global::Memory;
use crate::error::{Fault, FaultKind};
use crate::options::Checks;

/// The live allocations as they were when the launch began, and the one that was used last.
///
/// Cheap to make: one for each block, or each thread that runs blocks. Allocations made later are not seen; what is freed
/// later faults from then on.
pub(crate) struct View<'a> {
    memory: &'a Memory,
    allocations: Arc<[Arc<Allocation>]>,
    last: usize,
    uninitialised: bool,
}

impl Memory {
    /// A view for a block to run on.
    pub(crate) fn view(&self, checks: Checks) -> View<'_> {
        View {
            memory: self,
            allocations: self.allocations(),
            last: 0,
            uninitialised: checks.uninitialised_memory,
        }
    }
}

/// Orders this thread's accesses of global memory before and after, for `membar` and `fence`.
pub(crate) fn fence() {
    std::sync::atomic::fence(SeqCst);
}

impl View<'_> {
    /// Marks these bytes as never written, which one allocation holds.
    pub fn mark_unwritten(&mut self, address: u64, bytes: u64) {
        if bytes > 0
            && let Some(offset) = self.find(address, bytes)
        {
            self.allocations[self.last].mark_unwritten(offset, bytes as usize);
        }
    }

    /// Loads `access.bytes` bytes per lane; fills the words of active lanes that the width covers and leaves all others.
    ///
    /// The fault is the lowest lane's: misaligned, out of bounds, or (where checked) of bytes that were never written. 8 bytes
    /// and fewer are read in one piece, 16 in two.
    #[inline]
    pub fn load(&mut self, access: Access<'_>, out: &mut Words) -> Result<(), Fault> {
        if let Some(offset) = self.whole(access) {
            let allocation = &self.allocations[self.last];
            if !self.uninitialised || allocation.unwritten(offset, LANES * access.bytes as usize).is_none() {
                load_whole(allocation, offset, access.bytes, out);
                return Ok(());
            }
        } else if self.gather(access, out).is_some() {
            return Ok(());
        }
        self.load_lanes(access, out)
    }

    /// Stores `access.bytes` bytes of each active lane and marks them as written. Where lanes overlap, the highest wins.
    ///
    /// Neighbouring bytes that other blocks store at the same time are kept. Faults as those of [`View::load`].
    #[inline]
    pub fn store(&mut self, access: Access<'_>, words: &Words) -> Result<(), Fault> {
        if let Some(offset) = self.whole(access) {
            let allocation = &self.allocations[self.last];
            store_whole(allocation, offset, access.bytes, words);
            allocation.mark(offset, LANES * access.bytes as usize);
            return Ok(());
        }
        self.store_lanes(access, words)
    }

    /// Replaces each active lane's value of 1, 2, 4 or 8 bytes by `new(lane, old)`, lane after lane, each in one step
    /// against all other blocks; `out` takes the old values as a load would.
    ///
    /// `new` may be called more than once for a lane. Faults as those of [`View::load`].
    pub fn atomic(
        &mut self,
        access: Access<'_>,
        out: &mut Words,
        new: impl Fn(usize, u64) -> u64,
    ) -> Result<(), Fault> {
        for lane in lanes(access.mask) {
            let offset = self.locate(access, lane)?;
            self.check_written(access, lane, offset)?;
            let old = self.allocations[self.last].update(offset, access.bytes.min(8), |old| new(lane, old));
            set_lane_value(out, lane, access.bytes, old);
        }
        Ok(())
    }

    /// Marks `access.bytes` bytes of each active lane as never written. Faults as those of [`View::store`].
    pub fn discard(&mut self, access: Access<'_>) -> Result<(), Fault> {
        for lane in lanes(access.mask) {
            let offset = self.locate(access, lane)?;
            self.allocations[self.last].mark_unwritten(offset, access.bytes as usize);
        }
        Ok(())
    }

    /// The offset of a contiguous, aligned access of the whole warp that lies in one allocation, which becomes `last`.
    #[inline]
    fn whole(&mut self, access: Access<'_>) -> Option<usize> {
        let first = access.contiguous()?;
        let aligned = first & u64::from((access.bytes - 1) | 7) == 0;
        if aligned { self.find(first, LANES as u64 * u64::from(access.bytes)) } else { None }
    }

    /// The offset of a range in the allocation that holds it, which becomes `last`.
    #[inline]
    fn find(&mut self, address: u64, bytes: u64) -> Option<usize> {
        let inside = |allocation: &Arc<Allocation>| {
            allocation.offset(address, bytes).filter(|_| !allocation.freed.load(Relaxed))
        };
        if let Some(offset) = self.allocations.get(self.last).and_then(inside) {
            return Some(offset);
        }
        let after = self.allocations.partition_point(|allocation| allocation.base <= address);
        let index = after.checked_sub(1)?;
        let offset = inside(&self.allocations[index])?;
        self.last = index;
        Some(offset)
    }

    /// The offset of one lane's access; its allocation becomes `last`.
    #[inline]
    fn locate(&mut self, access: Access<'_>, lane: usize) -> Result<usize, Fault> {
        let (address, bytes) = (access.addresses[lane], access.bytes);
        if address & u64::from(bytes - 1) != 0 {
            return Err(misaligned(lane, address, bytes));
        }
        self.find(address, bytes.into()).ok_or_else(|| {
            let place = self.memory.whereabouts(address, bytes.into());
            fault(FaultKind::OutOfBounds, lane, address, format!("{bytes} bytes at {address:#x}: {place}"))
        })
    }

    #[inline]
    fn check_written(&self, access: Access<'_>, lane: usize, offset: usize) -> Result<(), Fault> {
        if !self.uninitialised {
            return Ok(());
        }
        let allocation = &self.allocations[self.last];
        let Some(hole) = allocation.unwritten(offset, access.bytes as usize) else { return Ok(()) };
        let (address, Allocation { base, bytes, .. }) = (access.addresses[lane], &**allocation);
        let message = format!(
            "{} bytes at {address:#x}: byte {hole} was never written in the {bytes}-byte allocation at {base:#x}",
            access.bytes
        );
        Err(fault(FaultKind::UninitialisedMemory, lane, address, message))
    }

    fn load_lanes(&mut self, access: Access<'_>, out: &mut Words) -> Result<(), Fault> {
        for lane in lanes(access.mask) {
            let offset = self.locate(access, lane)?;
            self.check_written(access, lane, offset)?;
            let allocation = &self.allocations[self.last];
            load_lane(allocation, offset, access.bytes, lane, out);
        }
        Ok(())
    }

    /// A load with scattered addresses in one allocation; `None` if there might be a fault.
    fn gather(&mut self, access: Access<'_>, out: &mut Words) -> Option<()> {
        if access.mask == 0 {
            return Some(());
        }
        let (first, bytes) = (access.mask.trailing_zeros() as usize, access.bytes);
        self.find(access.addresses[first], bytes.into())?;
        let allocation = &self.allocations[self.last];
        let last = allocation.bytes - u64::from(bytes);
        let mut offsets = [0; LANES];
        let mut wrong = false;
        for (lane, offset) in offsets.iter_mut().enumerate() {
            let address = access.addresses[lane];
            let active = access.mask >> lane & 1 != 0;
            let at = address.wrapping_sub(allocation.base);
            wrong |= active & ((at > last) | (address & u64::from(bytes - 1) != 0));
            *offset = if active & (at <= last) { at as usize } else { 0 };
        }
        if wrong || self.uninitialised && lanes(access.mask).any(|lane| !allocation.has(offsets[lane], bytes))
        {
            return None;
        }
        for lane in lanes(access.mask) {
            load_lane(allocation, offsets[lane], bytes, lane, out);
        }
        Some(())
    }

    fn store_lanes(&mut self, access: Access<'_>, words: &Words) -> Result<(), Fault> {
        // Lanes that fall into one 8-byte word, one after another, change it together: (offset, bytes taken, value).
        let mut pending: Option<(usize, u64, u64)> = None;
        for lane in lanes(access.mask) {
            let before = self.last;
            let place = self.locate(access, lane);
            if let Some((at, mask, value)) = pending
                && (place.as_ref().ok().map(|&offset| offset / 8 * 8) != Some(at) || self.last != before)
            {
                self.allocations[before].merge(at, mask, value);
                pending = None;
            }
            let offset = place?;
            let allocation = &self.allocations[self.last];
            allocation.mark(offset, access.bytes as usize);
            let value = lane_value(words, lane, access.bytes);
            if access.bytes >= 8 {
                allocation.set(offset, 8, value);
                if access.bytes == 16 {
                    let high = u64::from(words[2][lane]) | u64::from(words[3][lane]) << 32;
                    allocation.set(offset + 8, 8, high);
                }
                continue;
            }
            let shift = offset % 8 * 8;
            let mask = low_bytes(access.bytes) << shift;
            let (_, taken, old) = pending.unwrap_or((0, 0, 0));
            pending = Some((offset / 8 * 8, taken | mask, old & !mask | value << shift));
        }
        if let Some((at, mask, value)) = pending {
            self.allocations[self.last].merge(at, mask, value);
        }
        Ok(())
    }
}

/// Loads the words of one lane.
#[inline]
fn load_lane(allocation: &Allocation, offset: usize, bytes: u32, lane: usize, out: &mut Words) {
    set_lane_value(out, lane, bytes, allocation.get(offset, bytes.min(8)));
    if bytes == 16 {
        let high = allocation.get(offset + 8, 8);
        (out[2][lane], out[3][lane]) = (high as u32, (high >> 32) as u32);
    }
}

/// A contiguous load of the whole warp that starts at a multiple of 8.
#[inline]
fn load_whole(allocation: &Allocation, offset: usize, bytes: u32, out: &mut Words) {
    let words = allocation.words(offset);
    let each = words.iter().map(|word| word.load(Relaxed));
    match bytes {
        1 => {
            for (eight, word) in out[0].as_chunks_mut::<8>().0.iter_mut().zip(each) {
                *eight = word.to_le_bytes().map(u32::from);
            }
        }
        2 => {
            for (four, word) in out[0].as_chunks_mut::<4>().0.iter_mut().zip(each) {
                *four = std::array::from_fn(|i| (word >> (16 * i)) as u32 & 0xffff);
            }
        }
        4 => {
            for (two, word) in out[0].as_chunks_mut::<2>().0.iter_mut().zip(each) {
                *two = [word as u32, (word >> 32) as u32];
            }
        }
        _ => {
            let parts = bytes as usize / 8;
            for part in 0..parts {
                for (lane, word) in words.iter().skip(part).step_by(parts).take(LANES).enumerate() {
                    let word = word.load(Relaxed);
                    (out[2 * part][lane], out[2 * part + 1][lane]) = (word as u32, (word >> 32) as u32);
                }
            }
        }
    }
}

/// A contiguous store of the whole warp that starts at a multiple of 8.
#[inline]
fn store_whole(allocation: &Allocation, offset: usize, bytes: u32, values: &Words) {
    let words = allocation.words(offset);
    match bytes {
        1 => {
            for (eight, word) in values[0].as_chunks::<8>().0.iter().zip(words) {
                word.store(u64::from_le_bytes(eight.map(|value| value as u8)), Relaxed);
            }
        }
        2 => {
            for (four, word) in values[0].as_chunks::<4>().0.iter().zip(words) {
                let value = four.iter().rev().fold(0, |word, &half| word << 16 | u64::from(half & 0xffff));
                word.store(value, Relaxed);
            }
        }
        4 => {
            for (two, word) in values[0].as_chunks::<2>().0.iter().zip(words) {
                word.store(u64::from(two[0]) | u64::from(two[1]) << 32, Relaxed);
            }
        }
        _ => {
            let parts = bytes as usize / 8;
            for part in 0..parts {
                for (lane, word) in words.iter().skip(part).step_by(parts).take(LANES).enumerate() {
                    let (low, high) = (values[2 * part][lane], values[2 * part + 1][lane]);
                    word.store(u64::from(low) | u64::from(high) << 32, Relaxed);
                }
            }
        }
    }
}
