//! Asynchronous copies from global to shared memory (PTX ISA, "cp.async").

use super::{Asm, Global, Operand, Shared, Type, U32};

impl Asm {
    /// Starts a copy of 16 bytes that bypasses L1; both addresses must be multiples of 16.
    pub fn copy_async_16<'a, T: Type>(&'a self, to: Shared<'a, T>, from: Global<'a, T>) {
        self.emit("cp.async.cg.shared.global", &[to.address(), from.address(), "16".into()]);
    }

    /// Starts a copy of the first `bytes` bytes (0 to 16); the rest of the 16 in shared memory become zero.
    pub fn copy_async_16_zero_fill<'a, T: Type>(
        &'a self,
        to: Shared<'a, T>,
        from: Global<'a, T>,
        bytes: impl Operand<'a, U32>,
    ) {
        let operands = [to.address(), from.address(), "16".into(), bytes.text()];
        self.emit("cp.async.cg.shared.global", &operands);
    }

    /// Starts a copy of 4 or 8 bytes; those past `bytes` become zero.
    pub fn copy_async_small<'a, T: Type>(
        &'a self,
        to: Shared<'a, T>,
        from: Global<'a, T>,
        size: u32,
        bytes: impl Operand<'a, U32>,
    ) {
        let operands = [to.address(), from.address(), size.to_string(), bytes.text()];
        self.emit("cp.async.ca.shared.global", &operands);
    }

    /// Groups the copies that this thread started since the last group.
    pub fn copy_async_commit(&self) {
        self.emit("cp.async.commit_group", &[]);
    }

    /// Waits until at most `pending` of this thread's groups are unfinished. A barrier makes them visible to other
    /// threads.
    pub fn copy_async_wait(&self, pending: u32) {
        self.emit("cp.async.wait_group", &[pending.to_string()]);
    }
}
