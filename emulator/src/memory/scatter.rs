//! Accesses with scattered addresses: all lanes are checked together, for the common case without a fault.
//!
//! If there might be a fault, the caller checks the runs one by one.

use super::access::{Access, LANES, Words};
use super::bytes::Bytes;

/// The active lanes of an access of shared memory, all aligned and inside.
#[derive(Debug)]
pub(super) struct Scatter {
    count: usize,
    lanes: [u8; LANES],
    addresses: [u32; LANES],
    /// Number of bytes per lane.
    pub bytes: usize,
}

impl Scatter {
    /// `None` if a lane is misaligned or not inside `size` bytes.
    #[inline]
    pub fn new(access: Access<'_>, size: usize) -> Option<Self> {
        let bytes = access.bytes as usize;
        let last = size.checked_sub(bytes)? as u64;
        let mut scatter = Self { count: 0, lanes: [0; LANES], addresses: [0; LANES], bytes };
        let mut wrong = false;
        for (lane, &address) in access.addresses.iter().enumerate() {
            let active = access.mask >> lane & 1;
            wrong |= active != 0 && (address > last || address & (bytes as u64 - 1) != 0);
            // The next active lane overwrites the place of one that is not.
            scatter.lanes[scatter.count % LANES] = lane as u8;
            scatter.addresses[scatter.count % LANES] = address as u32;
            scatter.count += active as usize;
        }
        (!wrong).then_some(scatter)
    }

    /// The active lanes' addresses.
    #[inline]
    pub fn addresses(&self) -> &[u32] {
        &self.addresses[..self.count]
    }

    /// Lanes with their addresses.
    #[inline]
    pub fn lanes(&self) -> impl Iterator<Item = (usize, usize)> {
        let lanes = self.lanes[..self.count].iter().map(|&lane| usize::from(lane) % LANES);
        lanes.zip(self.addresses().iter().map(|&address| address as usize))
    }

    /// Whether two lanes have one address.
    pub fn overlap(&self) -> bool {
        // A set of hashes excludes it in most cases.
        let mut seen = [0u64; 32];
        let mut doubt = false;
        for &address in self.addresses() {
            let place = (address >> self.bytes.trailing_zeros()) as usize;
            let (word, bit) = (&mut seen[place / 64 % 32], 1 << (place % 64));
            doubt |= *word & bit != 0;
            *word |= bit;
        }
        let addresses = self.addresses();
        doubt && (1..addresses.len()).any(|lane| addresses[..lane].contains(&addresses[lane]))
    }

    /// Whether a bit is set for any byte of any lane, in a bitmap with one bit per byte.
    #[inline]
    pub fn any(&self, bits: impl Fn(usize) -> u64) -> bool {
        // Aligned accesses of up to 16 bytes stay within 64.
        let mask = (1u64 << self.bytes) - 1;
        let found =
            self.addresses().iter().fold(0, |found, &at| found | bits(at as usize / 64) >> (at % 64) & mask);
        found != 0
    }
}

impl Bytes {
    /// Loads the bytes of each lane.
    #[inline]
    pub fn gather(&self, scatter: &Scatter, out: &mut Words) {
        match scatter.bytes {
            1 | 2 => {
                let mask = u32::MAX >> (32 - 8 * scatter.bytes);
                for (lane, at) in scatter.lanes() {
                    out[0][lane] = self.data[at / 4] >> (at % 4 * 8) & mask;
                }
            }
            4 => self.gather_words::<1>(scatter, out),
            8 => self.gather_words::<2>(scatter, out),
            _ => self.gather_words::<4>(scatter, out),
        }
    }

    /// Stores each lane's bytes and marks them as written; where lanes overlap, the highest lane's value is stored.
    #[inline]
    pub fn scatter(&mut self, scatter: &Scatter, words: &Words) {
        match scatter.bytes {
            1 | 2 => {
                let mask = u32::MAX >> (32 - 8 * scatter.bytes);
                for (lane, at) in scatter.lanes() {
                    let (word, shift) = (&mut self.data[at / 4], at % 4 * 8);
                    *word = *word & !(mask << shift) | (words[0][lane] & mask) << shift;
                }
            }
            4 => self.scatter_words::<1>(scatter, words),
            8 => self.scatter_words::<2>(scatter, words),
            _ => self.scatter_words::<4>(scatter, words),
        }
        let mask = (1u64 << scatter.bytes) - 1;
        for &at in scatter.addresses() {
            self.written[at as usize / 64] |= mask << (at % 64);
        }
    }

    /// Whether any byte of any lane was never written.
    #[inline]
    pub fn any_unwritten(&self, scatter: &Scatter) -> bool {
        scatter.any(|group| !self.written[group])
    }

    fn gather_words<const N: usize>(&self, scatter: &Scatter, out: &mut Words) {
        for (lane, at) in scatter.lanes() {
            for (word, &value) in out.iter_mut().zip(&self.data.as_chunks::<N>().0[at / (4 * N)]) {
                word[lane] = value;
            }
        }
    }

    fn scatter_words<const N: usize>(&mut self, scatter: &Scatter, words: &Words) {
        for (lane, at) in scatter.lanes() {
            for (value, word) in self.data.as_chunks_mut::<N>().0[at / (4 * N)].iter_mut().zip(words) {
                *value = word[lane];
            }
        }
    }
}
