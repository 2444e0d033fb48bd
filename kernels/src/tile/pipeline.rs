//! The main loop of a tensor-core kernel: copies run several stages ahead, fragments one step ahead of the products.

use crate::ptx::{Asm, F16, Reg, Shared, U32, Var};

/// A ring of slots in shared memory.
pub struct Pipeline<'a> {
    asm: &'a Asm,
    slots: Shared<'a, F16>,
    /// Offsets of the ring's first byte and of its end.
    bounds: (Reg<'a, U32>, Reg<'a, U32>),
    slot_bytes: u32,
    stages: u32,
}

impl<'a> Pipeline<'a> {
    /// A ring of `stages` slots (at least 2) of `slot_bytes` bytes.
    pub fn new(asm: &'a Asm, stages: u32, slot_bytes: u32) -> Self {
        let slots = asm.shared::<F16>(stages * slot_bytes / 2);
        let bounds = (slots.to_u32(), slots.plus_bytes((stages * slot_bytes).into()).to_u32());
        Self { asm, slots, bounds, slot_bytes, stages }
    }

    /// The ring's memory, for other uses after [`Pipeline::run`].
    pub fn memory(&self) -> Shared<'a, F16> {
        self.slots
    }

    /// Processes `tiles` tiles of `steps` steps, an even number. `copy` starts the copy of the next tile to a slot
    /// (past the last tile it must write zeros, as [`TileCopy`](super::TileCopy) does). `load(buffer, slot, step)`
    /// loads a step's fragments to one of two register buffers, and `multiply(buffer)` uses them. At the end all copies
    /// are complete and all threads have finished reading the slots.
    pub fn run(
        &self,
        tiles: u32,
        steps: u32,
        copy: impl Fn(Shared<'a, F16>),
        load: impl Fn(usize, Shared<'a, F16>, u32),
        multiply: impl Fn(usize),
    ) {
        let asm = self.asm;
        asm.step("fill all stages but one");
        for stage in 0..self.stages - 1 {
            copy(self.slots.plus_bytes((stage * self.slot_bytes).into()));
            asm.copy_async_commit();
        }
        let read = self.slots.to_var();
        let write = self.slots.plus_bytes(((self.stages - 1) * self.slot_bytes).into()).to_var();
        asm.copy_async_wait(self.stages - 2);
        asm.barrier();
        load(0, Shared::follow(read), 0);

        asm.for_range(0, tiles, 1, |_| {
            for step in 0..steps {
                let next = (step as usize + 1) % 2;
                if step == steps - 1 {
                    // After this barrier the next slot is filled, and this one is free: all its fragments are loaded.
                    asm.step("the next slot");
                    self.advance(read);
                    asm.copy_async_wait(self.stages - 2);
                    asm.barrier();
                    load(next, Shared::follow(read), 0);
                } else {
                    load(next, Shared::follow(read), step + 1);
                }
                if step == 0 {
                    asm.step("copy the tile that comes some stages later");
                    copy(Shared::follow(write));
                    asm.copy_async_commit();
                    self.advance(write);
                }
                asm.step(&format!("multiply step {step}"));
                multiply(step as usize % 2);
            }
        });
        asm.copy_async_wait(0);
        asm.barrier();
    }

    fn advance(&self, slot: Var<'a, U32>) {
        let asm = self.asm;
        slot.add(self.slot_bytes);
        let (first, end) = self.bounds;
        asm.when(slot.get().eq(end), || slot.set(first));
    }
}
