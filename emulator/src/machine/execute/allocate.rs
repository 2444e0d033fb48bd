//! Memory that a kernel allocates: `alloca` on the thread's stack, `malloc` on the device's heap.

use crate::machine::program::{Loc, Program, RegisterFile, Value};
use std::sync::PoisonError;

use super::context::{Context, fault};
use super::warp::Warp;
use crate::error::{Fault, FaultKind};
use crate::machine::lanes::each;
use crate::memory::LANES;

impl Warp {
    /// `alloca`: takes memory from the top of the lanes' local memory, down to this function's frame.
    pub(super) fn alloca(
        &mut self,
        program: &Program,
        (to, bytes, align): (Value, Value, u64),
        mask: u32,
    ) -> Result<(), Fault> {
        self.need_value(program, bytes, mask)?;
        let frame = self.frames.last();
        let end = frame.map_or(0, |f| f.local + program.frame_of(f.routine));
        let mut out = *self.tops;
        for lane in each(mask) {
            let wanted = self.lane(program, bytes, lane);
            let top = self.tops[lane].checked_sub(wanted).map(|top| top / align * align);
            let Some(top) = top.filter(|&top| top >= end) else {
                let message = format!(
                    "alloca of {wanted} bytes: the thread has {} left of its {} bytes of local memory",
                    self.tops[lane].saturating_sub(end),
                    self.local.bytes()
                );
                return Err(fault(FaultKind::OutOfBounds, 1 << lane, message));
            };
            self.local.mark_unwritten(1 << lane, top, self.tops[lane] - top);
            out[lane] = top;
            self.lowest_top = self.lowest_top.min(top);
        }
        *self.tops = out;
        self.set_column(to, &out, mask);
        Ok(())
    }

    /// `stacksave`: the top of the lanes' stacks.
    pub(super) fn stack_save(&mut self, to: Value, mask: u32) {
        let tops = *self.tops;
        self.set_column(to, &tops, mask);
    }

    /// `stackrestore`: frees what `alloca` took below the saved top.
    pub(super) fn stack_restore(&mut self, program: &Program, from: Value, mask: u32) -> Result<(), Fault> {
        self.need_value(program, from, mask)?;
        for lane in each(mask) {
            let top = self.lane(program, from, lane);
            if top < self.tops[lane] || top > self.local.bytes() {
                let message = format!("stackrestore to {top:#x}, which stacksave did not return");
                return Err(fault(FaultKind::OutOfBounds, 1 << lane, message));
            }
            self.tops[lane] = top;
        }
        Ok(())
    }

    /// `malloc`, lane by lane. The memory counts as never written; a null pointer means that the heap is full.
    pub(super) fn malloc(
        &mut self,
        cx: &mut Context<'_>,
        to: Loc,
        bytes: Loc,
        mask: u32,
    ) -> Result<(), Fault> {
        self.need(cx.program, RegisterFile::Bits64, &[bytes], mask)?;
        let Some(heap) = cx.heap else { return Ok(()) };
        let mut heap = heap.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = *self.v64(cx.program, bytes);
        let mut out = [0; LANES];
        for lane in each(mask) {
            if let Some(address) = heap.allocate(wanted[lane]) {
                cx.view.mark_unwritten(address, wanted[lane]);
                out[lane] = address;
            }
        }
        self.set64(to, &out, mask);
        Ok(())
    }

    /// `free`. The memory counts as never written from then on.
    pub(super) fn free(&mut self, cx: &mut Context<'_>, address: Loc, mask: u32) -> Result<(), Fault> {
        self.need(cx.program, RegisterFile::Bits64, &[address], mask)?;
        let Some(heap) = cx.heap else { return Ok(()) };
        let mut heap = heap.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = *self.v64(cx.program, address);
        for lane in each(mask).filter(|&lane| addresses[lane] != 0) {
            let address = addresses[lane];
            let Some(bytes) = heap.free(address) else {
                let message =
                    format!("free of {address:#x}, which malloc did not return or free already freed");
                return Err(Fault {
                    address: Some(address),
                    ..fault(FaultKind::OutOfBounds, 1 << lane, message)
                });
            };
            cx.view.mark_unwritten(address, bytes);
        }
        Ok(())
    }
}
