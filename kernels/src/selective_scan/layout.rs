//! Division of the scan: channels and states over threads, steps over chunks, parts over the workspace.

use super::SelectiveScan;
use crate::span::Real;

/// Number of warps per block.
pub(super) const WARPS: u32 = 4;

/// Number of threads per block.
pub(super) const BLOCK: u32 = 32 * WARPS;

/// Size of a sector, the unit of memory transfers, in bytes.
const SECTOR: u32 = 32;

/// Channels and states per thread, and lanes that share a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Channels per thread, contiguous.
    pub channels: u32,
    /// States per thread in each of its channels: a power of two.
    pub states: u32,
    /// Lanes that share these channels, a power of two; states beyond N are zeros.
    pub lanes: u32,
}

impl Layout {
    /// Four states per lane, or as many as are needed to give each channel at least one lane; two channels if one would
    /// make the warp's accesses narrower than a sector.
    pub fn new<T: Real>(spec: &SelectiveScan) -> Self {
        let states = spec.states.div_ceil(32).max(4).min(spec.states).next_power_of_two();
        let lanes = spec.states.div_ceil(states).next_power_of_two();
        let narrow = 32 / lanes * T::BYTES < SECTOR;
        let even = spec.channels.is_multiple_of(2) && spec.z_row.is_multiple_of(2);
        Self { channels: if narrow && even { 2 } else { 1 }, states, lanes }
    }

    /// Number of channels per warp.
    pub fn warp_channels(self) -> u32 {
        32 / self.lanes * self.channels
    }

    /// Number of channels per block.
    pub fn block_channels(self) -> u32 {
        WARPS * self.warp_channels()
    }

    /// Blocks that cover all channels of a sequence.
    pub fn blocks(self, channels: u32) -> u32 {
        channels.div_ceil(self.block_channels())
    }

    /// States per thread, over all its channels.
    pub fn held(self) -> u32 {
        self.channels * self.states
    }
}

/// A sequence cut into chunks of unrolled steps: all but the last have `steps`, the last has `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunks {
    /// Number of chunks per sequence.
    pub count: u32,
    /// Steps of each chunk except the last one.
    pub steps: u32,
    /// Steps of the last chunk.
    pub last: u32,
}

impl Chunks {
    /// Chunks of at most `most` steps, of similar length and made of whole groups of `group` where possible.
    pub fn new(length: u32, most: u32, group: u32) -> Self {
        let even = length.div_ceil(length.div_ceil(most));
        let grouped = even.next_multiple_of(group);
        let steps = if grouped <= most { grouped.min(length) } else { even };
        let count = length.div_ceil(steps);
        Self { count, steps, last: length - (count - 1) * steps }
    }

    /// Chunks of the forward pass: short enough for a small text, long enough for loads to run ahead.
    pub fn forward(length: u32, layout: Layout) -> Self {
        Self::new(length, 24 / layout.channels, layout.lanes)
    }

    /// Chunks of the backward pass, which holds all states of a chunk in registers: 96 states if that covers the whole
    /// sequence, of at most 16 steps (with 20, `ptxas` spills), otherwise 64, since the carried values take registers
    /// too.
    pub fn backward(length: u32, layout: Layout) -> Self {
        let most = |registers: u32, steps: u32| (registers / layout.held()).min(steps);
        let whole = length <= most(96, 16);
        Self::new(length, if whole { most(96, 16) } else { most(64, 24) }, layout.lanes)
    }
}

/// Offsets of the workspace's parts, in f32 elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Workspace {
    /// Number of chunks of the backward pass.
    pub chunks: Chunks,
    /// Number of blocks of channels.
    pub blocks: u32,
    /// Sums over a block's channels: [B, blocks, L, 2N], for each step its dB and then its dC.
    pub bc: u64,
    /// Sums over a sequence, of dA: [B, D, N].
    pub a: u64,
    /// Sums over a sequence, of dD: [B, D].
    pub d: u64,
    /// Sums over a sequence, of dbias: [B, D].
    pub bias: u64,
    /// The states at the beginning of each chunk except the first: [B, chunks − 1, D, N].
    pub starts: u64,
    end: u64,
}

impl Workspace {
    /// The workspace of a scan whose sizes are checked, except for the workspace's own size.
    pub fn new(spec: &SelectiveScan, layout: Layout) -> Self {
        let chunks = Chunks::backward(spec.length, layout);
        let blocks = layout.blocks(spec.channels);
        let [batch, length, channels, states] =
            [spec.batch, spec.length, spec.channels, spec.states].map(u64::from);
        let mut end = 0u64;
        // Each part begins at a sector.
        let mut part = |sizes: [u64; 3]| {
            let begin = end;
            let elements = sizes.into_iter().fold(batch, u64::saturating_mul);
            end = end.saturating_add(elements.saturating_add(7) / 8 * 8);
            begin
        };
        let bc = part([blocks.into(), length, 2 * states]);
        let a = part([channels, states, 1]);
        let d = part([channels, u64::from(spec.skip), 1]);
        let bias = part([channels, u64::from(spec.dt_bias), 1]);
        let starts = part([u64::from(chunks.count - 1), channels, states]);
        Self { chunks, blocks, bc, a, d, bias, starts, end }
    }

    /// Total number of elements.
    pub fn elements(self) -> u64 {
        self.end
    }
}
