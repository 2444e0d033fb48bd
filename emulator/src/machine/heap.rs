//! `malloc` and `free`.

use std::sync::PoisonError;

use super::block::Context;
use super::lanes::each;
use super::program::Loc;
use super::warp::{Warp, fault};
use crate::error::{Fault, FaultKind};
use crate::memory::LANES;

impl Warp {
    /// Takes memory from the heap, lane by lane. It counts as never written; the null pointer says that there was no room.
    pub(super) fn allocate(
        &mut self,
        cx: &mut Context<'_>,
        to: Loc,
        bytes: Loc,
        mask: u32,
    ) -> Result<(), Fault> {
        self.need(cx.program, 1, &[bytes], mask)?;
        let Some(heap) = cx.heap else { return Ok(()) };
        let mut heap = heap.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = *self.v64(cx.program, bytes);
        let mut out = [0; LANES];
        for lane in each(mask) {
            if let Some(address) = heap.take(wanted[lane]) {
                cx.view.forget(address, wanted[lane]);
                out[lane] = address;
            }
        }
        self.set64(to, &out, mask);
        Ok(())
    }

    /// Gives memory back to the heap. Reads of it are reads of what nothing wrote from then on.
    pub(super) fn free(&mut self, cx: &mut Context<'_>, address: Loc, mask: u32) -> Result<(), Fault> {
        self.need(cx.program, 1, &[address], mask)?;
        let Some(heap) = cx.heap else { return Ok(()) };
        let mut heap = heap.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = *self.v64(cx.program, address);
        for lane in each(mask).filter(|&lane| addresses[lane] != 0) {
            let address = addresses[lane];
            let Some(bytes) = heap.give(address) else {
                let message = format!("free of {address:#x}, which malloc did not give or free already took");
                return Err(Fault {
                    address: Some(address),
                    ..fault(FaultKind::OutOfBounds, 1 << lane, message)
                });
            };
            cx.view.forget(address, bytes);
        }
        Ok(())
    }
}
