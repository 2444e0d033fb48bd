//! The bytes of a block's shared memory, and a mark for each byte that was written.

use super::access::{Words, groups, low_bytes};
use super::runs::Run;

/// Bytes for a single host thread. The caller has checked bounds and alignment of runs.
#[derive(Debug)]
pub(super) struct Bytes {
    pub size: usize,
    pub data: Vec<u32>,
    /// One bit per byte.
    pub written: Vec<u64>,
}

impl Bytes {
    /// Memory that is zeroed and unwritten.
    pub fn new(size: usize) -> Self {
        Self { size, data: vec![0; size.div_ceil(4)], written: vec![0; size.div_ceil(64)] }
    }

    /// Resets the memory to zeroed and unwritten.
    pub fn restart(&mut self) {
        self.data.fill(0);
        self.written.fill(0);
    }

    /// The first byte of a run that was never written.
    #[inline]
    pub fn unwritten(&self, run: Run) -> Option<usize> {
        for (group, mask) in groups(run.address, run.lanes * run.bytes) {
            let missing = mask & !self.written[group];
            if missing != 0 {
                return Some(group * 64 + missing.trailing_zeros() as usize);
            }
        }
        None
    }

    #[inline]
    pub fn load(&self, run: Run, out: &mut Words) {
        let lanes = run.lane..run.lane + run.lanes;
        match run.bytes {
            1 | 2 => {
                let mask = low_bytes(run.bytes as u32) as u32;
                for (i, word) in out[0][lanes].iter_mut().enumerate() {
                    let at = run.address + i * run.bytes;
                    *word = self.data[at / 4] >> (at % 4 * 8) & mask;
                }
            }
            4 => out[0][lanes].copy_from_slice(&self.data[run.address / 4..][..run.lanes]),
            _ => {
                let words = run.bytes / 4;
                let data = &self.data[run.address / 4..][..run.lanes * words];
                for (lane, data) in lanes.zip(data.chunks_exact(words)) {
                    for (word, &value) in out.iter_mut().zip(data) {
                        word[lane] = value;
                    }
                }
            }
        }
    }

    /// Stores a run, and marks it as written.
    #[inline]
    pub fn store(&mut self, run: Run, words: &Words) {
        let lanes = run.lane..run.lane + run.lanes;
        match run.bytes {
            1 | 2 => {
                let mask = low_bytes(run.bytes as u32) as u32;
                for (i, value) in words[0][lanes].iter().enumerate() {
                    let at = run.address + i * run.bytes;
                    let (word, shift) = (&mut self.data[at / 4], at % 4 * 8);
                    *word = *word & !(mask << shift) | (value & mask) << shift;
                }
            }
            4 => self.data[run.address / 4..][..run.lanes].copy_from_slice(&words[0][lanes]),
            _ => {
                let count = run.bytes / 4;
                let data = &mut self.data[run.address / 4..][..run.lanes * count];
                for (lane, data) in lanes.zip(data.chunks_exact_mut(count)) {
                    for (value, word) in data.iter_mut().zip(words) {
                        *value = word[lane];
                    }
                }
            }
        }
        for (group, mask) in groups(run.address, run.lanes * run.bytes) {
            self.written[group] |= mask;
        }
    }

    /// A value of 1, 2, 4 or 8 bytes.
    #[inline]
    pub fn get(&self, at: usize, bytes: usize) -> u64 {
        let low = u64::from(self.data[at / 4]);
        match bytes {
            8 => low | u64::from(self.data[at / 4 + 1]) << 32,
            _ => low >> (at % 4 * 8) & low_bytes(bytes as u32),
        }
    }

    /// Sets a value of 1, 2, 4 or 8 bytes, and marks it as written.
    #[inline]
    pub fn set(&mut self, at: usize, bytes: usize, value: u64) {
        let (mask, shift) = (low_bytes(bytes.min(4) as u32) as u32, at % 4 * 8);
        let word = &mut self.data[at / 4];
        *word = *word & !(mask << shift) | (value as u32 & mask) << shift;
        if bytes == 8 {
            self.data[at / 4 + 1] = (value >> 32) as u32;
        }
        self.written[at / 64] |= ((1u64 << bytes) - 1) << (at % 64);
    }
}
