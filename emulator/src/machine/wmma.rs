//! `wmma.load` and `wmma.store`: a matrix between memory and a warp's registers (PTX ISA, "wmma.load", "wmma.store").
//!
//! Which lane holds which element is not documented. It is taken from how ptxas 13.5 compiles these instructions for sm_80
//! and sm_90: the registers are those of `mma`, so that `wmma.mma` is one or more of them.

use super::block::Context;
use super::lanes::FULL;
use super::program::{Address, Loc, Value};
use super::warp::Warp;
use crate::error::Fault;
use crate::memory::{Access, LANES, Site, Words};

/// A matrix in memory and in registers.
///
/// A lane holds runs of elements. The first of a run is at row `units[i].0 + lane / 4` and column
/// `units[i].1 + lane mod 4 · run` of the matrix as `mma` has it; the others are in the columns that follow.
#[derive(Debug, Clone)]
pub(super) struct Fragment {
    /// To memory, not from it.
    pub store: bool,
    /// Where element (0, 0) is.
    pub address: Address,
    /// Elements from one row (or column) in memory to the next.
    pub stride: Loc,
    /// Bits of an element.
    pub bits: u32,
    /// The elements of a run are neighbours in memory; otherwise those of different rows are.
    pub contiguous: bool,
    /// Elements of a run.
    pub run: u32,
    /// Where lane 0's runs begin.
    pub units: Vec<(u32, u32)>,
    /// The registers, run after run.
    pub registers: Vec<Value>,
}

impl Fragment {
    /// The addresses of element `element` of a run, in all lanes.
    fn addresses(
        &self,
        base: &[u64; LANES],
        strides: &[u32; LANES],
        unit: (u32, u32),
        element: u32,
    ) -> [u64; LANES] {
        std::array::from_fn(|lane| {
            let row = u64::from(unit.0 + lane as u32 / 4);
            let column = u64::from(unit.1 + lane as u32 % 4 * self.run + element);
            let stride = u64::from(strides[lane]);
            let at = if self.contiguous { row * stride + column } else { column * stride + row };
            base[lane].wrapping_add(at.wrapping_mul(self.bits.into()) / 8)
        })
    }
}

impl Warp {
    /// Loads or stores a matrix, by all lanes.
    pub(super) fn fragment(&mut self, cx: &mut Context<'_>, op: &Fragment, line: u32) -> Result<(), Fault> {
        let base = self.addresses(cx.program, &op.address, FULL)?;
        self.need(cx.program, 0, &[op.stride], FULL)?;
        let strides = *self.v32(cx.program, op.stride);
        let site = Site { warp: self.index, line, strong: false };
        let per_unit = op.registers.len() / op.units.len().max(1);
        // A run is one access where it can be, else one an element.
        let (accesses, bits) = if op.contiguous { (1, op.bits * op.run) } else { (op.run, op.bits) };
        for (&unit, registers) in op.units.iter().zip(op.registers.chunks(per_unit.max(1))) {
            let mut run: Words = [[0; LANES]; 4];
            if op.store {
                self.collect(cx, registers, &mut run)?;
            }
            for element in 0..accesses {
                let addresses = op.addresses(&base, &strides, unit, element);
                let access = Access { mask: FULL, addresses: &addresses, bytes: bits / 8 };
                let (word, shift) = ((element * bits / 32) as usize, element * bits % 32);
                let mut words: Words = [[0; LANES]; 4];
                if op.store {
                    for (to, from) in words.iter_mut().zip(&run[word..]) {
                        *to = from.map(|x| x >> shift);
                    }
                    self.store_in(cx, (op.address.room, site), access, &words)?;
                } else {
                    self.load_in(cx, (op.address.room, site), access, &mut words)?;
                    for (to, from) in run[word..].iter_mut().zip(&words) {
                        to.iter_mut().zip(from).for_each(|(to, from)| *to |= from << shift);
                    }
                }
            }
            if !op.store {
                self.spread(registers, &run);
            }
        }
        Ok(())
    }

    /// The words of a run out of its registers.
    fn collect(&self, cx: &Context<'_>, registers: &[Value], run: &mut Words) -> Result<(), Fault> {
        let mut words = run.iter_mut();
        for &value in registers {
            self.need_value(cx.program, value, FULL)?;
            let column: [u64; LANES] = std::array::from_fn(|lane| self.lane(cx.program, value, lane));
            for shift in [0, 32].into_iter().take(1 + usize::from(value.wide)) {
                if let Some(word) = words.next() {
                    *word = column.map(|x| (x >> shift) as u32);
                }
            }
        }
        Ok(())
    }

    /// The words of a run into its registers.
    fn spread(&mut self, registers: &[Value], run: &Words) {
        let mut words = run.iter();
        for value in registers {
            let Some(low) = words.next() else { return };
            if value.wide {
                let Some(high) = words.next() else { return };
                let both = std::array::from_fn(|i| u64::from(low[i]) | u64::from(high[i]) << 32);
                self.set64(value.loc, &both, FULL);
            } else {
                self.set32(value.loc, low, FULL);
            }
        }
    }
}
