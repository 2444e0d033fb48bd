//! The local memory of a block's threads: `.local` variables and the stack.
//!
//! Addresses are offsets from the start of the thread's own memory. Words of the 32 lanes are neighbours, as on the
//! device, so that a warp's accesses of one variable touch neighbouring bytes.

use super::access::{Access, LANES, Words, lanes, low_bytes};
use super::faults::{fault, misaligned};
use crate::error::{Error, Fault, FaultKind, Result};
use crate::options::Checks;

/// Most bytes per thread (CUDA C++ Programming Guide, "Technical Specifications").
const MOST: u32 = 512 * 1024;

/// Local memory of one warp after another.
#[derive(Debug)]
pub(crate) struct Local {
    bytes: u32,
    check_written: bool,
    /// Word `w` of lane `l` is at `[w][l]`.
    data: Vec<[u32; LANES]>,
    /// One bit for each byte of a word: whether it was written.
    written: Vec<[u8; LANES]>,
}

impl Local {
    /// The memory of one warp, `bytes` bytes per thread; zeroed and unwritten.
    pub fn new(bytes: u32, checks: Checks) -> Result<Self> {
        if bytes > MOST {
            return Err(Error::Usage(format!("{bytes} bytes of local memory: a thread has at most {MOST}")));
        }
        let words = bytes.div_ceil(4) as usize;
        Ok(Self {
            bytes,
            check_written: checks.uninitialised_memory,
            data: vec![[0; LANES]; words],
            written: vec![[0; LANES]; words],
        })
    }

    /// Size of a thread's memory in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.into()
    }

    /// Resets the memory for another warp: zeroed and unwritten.
    pub fn restart(&mut self) {
        self.data.fill([0; LANES]);
        self.written.fill([0; LANES]);
    }

    /// Marks `bytes` bytes at `address` (a multiple of 4) as never written in these lanes.
    pub fn mark_unwritten(&mut self, mask: u32, address: u64, bytes: u64) {
        if !self.check_written {
            return;
        }
        let words = (address / 4) as usize..(address.saturating_add(bytes).div_ceil(4)) as usize;
        for word in self.written.get_mut(words).unwrap_or_default() {
            for lane in lanes(mask) {
                word[lane] = 0;
            }
        }
    }

    /// Loads from each active lane's own memory; words and faults as those of [`View::load`](super::View::load).
    pub fn load(&self, access: Access<'_>, out: &mut Words) -> Result<(), Fault> {
        for lane in lanes(access.mask) {
            let (word, shift) = self.place(access, lane)?;
            let bits = written_bits(access.bytes, shift);
            for (part, values) in out.iter_mut().enumerate().take(access.bytes.div_ceil(4) as usize) {
                if self.check_written && self.written[word + part][lane] & bits != bits {
                    let address = access.addresses[lane];
                    let message = format!(
                        "{} bytes at local address {address:#x}: some of them were never written",
                        access.bytes
                    );
                    return Err(fault(FaultKind::UninitialisedMemory, lane, address, message));
                }
                values[lane] = self.data[word + part][lane] >> shift & low_bytes(access.bytes.min(4)) as u32;
            }
        }
        Ok(())
    }

    /// Stores to each active lane's own memory; faults as those of [`View::load`](super::View::load).
    pub fn store(&mut self, access: Access<'_>, words: &Words) -> Result<(), Fault> {
        for lane in lanes(access.mask) {
            let (word, shift) = self.place(access, lane)?;
            let bits = written_bits(access.bytes, shift);
            let mask = (low_bytes(access.bytes.min(4)) as u32) << shift;
            for (part, values) in words.iter().enumerate().take(access.bytes.div_ceil(4) as usize) {
                let old = &mut self.data[word + part][lane];
                *old = *old & !mask | values[lane] << shift & mask;
                self.written[word + part][lane] |= bits;
            }
        }
        Ok(())
    }

    /// The word in which a lane's access begins, and the bit offset in it.
    fn place(&self, access: Access<'_>, lane: usize) -> Result<(usize, u32), Fault> {
        let (address, bytes) = (access.addresses[lane], access.bytes);
        if address & u64::from(bytes - 1) != 0 {
            return Err(misaligned(lane, address, bytes));
        }
        if u64::from(self.bytes.saturating_sub(bytes)) < address || self.bytes < bytes {
            let message = format!(
                "{bytes} bytes at local address {address:#x}: the thread has {} bytes of local memory",
                self.bytes
            );
            return Err(fault(FaultKind::OutOfBounds, lane, address, message));
        }
        Ok((address as usize / 4, (address % 4 * 8) as u32))
    }
}

/// The bytes of a 4-byte word that an access covers if it begins `shift` bits into it.
fn written_bits(bytes: u32, shift: u32) -> u8 {
    let count = bytes.min(4);
    (0xf >> (4 - count)) << (shift / 8)
}
