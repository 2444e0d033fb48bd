//! Operations across the threads of a warp or a block. All lanes of a warp must take part.

use super::{Asm, B32, F32, F64, Operand, Pred, Reg, S32, Type, U32};

const ALL_LANES: &str = "0xFFFFFFFF";

/// 32-bit types that a shuffle can move.
pub trait Shuffle: Type {}
impl Shuffle for B32 {}
impl Shuffle for F32 {}
impl Shuffle for S32 {}
impl Shuffle for U32 {}
impl Shuffle for super::F16x2 {}

impl<'a, T: Shuffle> Reg<'a, T> {
    fn shuffle(self, mode: &str, lane: String, clamp: u32) -> Self {
        let operands = [self.name(), lane, format!("0x{clamp:X}"), ALL_LANES.into()];
        self.asm.make(&format!("shfl.sync.{mode}.b32"), &operands)
    }

    /// The value of lane (own lane XOR mask).
    pub fn shuffle_xor(self, mask: u32) -> Self {
        self.shuffle("bfly", mask.to_string(), 0x1F)
    }

    /// The value of the lane `by` after this one; the lane's own past the end.
    pub fn shuffle_down(self, by: u32) -> Self {
        self.shuffle("down", by.to_string(), 0x1F)
    }

    /// The value of the lane `by` before this one; the lane's own before the start.
    pub fn shuffle_up(self, by: u32) -> Self {
        self.shuffle("up", by.to_string(), 0)
    }

    /// The value of lane `lane` (0 to width − 1) of the lane's group of `width` neighbours, a power of two.
    pub fn shuffle_in_group(self, lane: u32, width: u32) -> Self {
        if width == 1 { self } else { self.shuffle("idx", lane.to_string(), ((32 - width) << 8) | 0x1F) }
    }

    /// The value of lane `lane`, in all lanes.
    pub fn shuffle_from(self, lane: impl Operand<'a, U32>) -> Self {
        self.shuffle("idx", lane.text(), 0x1F)
    }
}

impl Reg<'_, F64> {
    /// The value of lane (own lane XOR mask), in two shuffles.
    pub fn shuffle_xor(self, mask: u32) -> Self {
        let [low, high] = self.words().map(|word| word.shuffle_xor(mask));
        self.asm.make("mov.b64", &[format!("{{{}, {}}}", low.name(), high.name())])
    }
}

impl Asm {
    /// Whether the condition holds in any lane.
    pub fn any<'a>(&'a self, p: Reg<'a, Pred>) -> Reg<'a, Pred> {
        self.make("vote.sync.any.pred", &[p.name(), ALL_LANES.into()])
    }

    /// Whether the condition holds in all lanes.
    pub fn all<'a>(&'a self, p: Reg<'a, Pred>) -> Reg<'a, Pred> {
        self.make("vote.sync.all.pred", &[p.name(), ALL_LANES.into()])
    }

    /// A mask with one bit for each lane in which the condition holds.
    pub fn ballot<'a>(&'a self, p: Reg<'a, Pred>) -> Reg<'a, U32> {
        self.make("vote.sync.ballot.b32", &[p.name(), ALL_LANES.into()])
    }

    /// Waits for all threads of the block; their earlier writes to shared memory are then visible.
    pub fn barrier(&self) {
        self.emit("bar.sync", &["0".into()]);
    }

    /// Waits at barrier `id` (1 to 15) for `threads` threads (a multiple of 32).
    pub fn barrier_of(&self, id: u32, threads: u32) {
        self.emit("bar.sync", &[id.to_string(), threads.to_string()]);
    }

    /// Waits for the warp; its lanes' earlier writes are then visible.
    pub fn warp_barrier(&self) {
        self.emit("bar.warp.sync", &[ALL_LANES.into()]);
    }

    /// Makes this thread's earlier writes visible to the device before its later ones.
    pub fn fence(&self) {
        self.emit("fence.acq_rel.gpu", &[]);
    }
}
