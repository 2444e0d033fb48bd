//! Loads, stores, atomics and asynchronous copies: addresses from registers, words to and from registers.

use super::context::{Context, fault};
use super::warp::Warp;
use crate::error::{Fault, FaultKind};
use crate::machine::lanes::{V32, V64, each, pack, wide};
use crate::machine::program::{
    Address, AsyncCopy, Atomic, ConvertAddress, Pred, Program, RegisterFile, Transfer, Value,
};
use crate::memory::{Access, LANES, Site, Words, traffic};
use crate::space::StateSpace;

impl Warp {
    /// Addresses of an access, one per lane.
    pub(super) fn addresses(&self, program: &Program, address: &Address, mask: u32) -> Result<V64, Fault> {
        let mut offset = address.offset as u64;
        if address.in_frame {
            offset = offset.wrapping_add(self.frames.last().map_or(0, |f| f.local));
        }
        let mut out = [0; LANES];
        if address.wide {
            self.need(program, RegisterFile::Bits64, &[address.base], mask)?;
            let base = self.v64(program, address.base);
            wide(
                #[inline(always)]
                || {
                    for i in 0..LANES {
                        out[i] = base[i].wrapping_add(offset);
                    }
                },
            );
        } else {
            self.need(program, RegisterFile::Bits32, &[address.base], mask)?;
            let base = self.v32(program, address.base);
            wide(
                #[inline(always)]
                || {
                    for i in 0..LANES {
                        out[i] = u64::from(base[i].wrapping_add(offset as u32));
                    }
                },
            );
        }
        Ok(out)
    }

    /// Calls `each_space` for every state space that generic addresses belong to, with its lanes and the addresses within.
    fn by_space(
        addresses: &V64,
        mask: u32,
        mut each_space: impl FnMut(StateSpace, u32, &V64) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut masks = [0u32; StateSpace::MEMORIES.len()];
        let mut within = *addresses;
        for lane in each(mask) {
            let (space, address) = StateSpace::of_generic(addresses[lane]);
            within[lane] = address;
            for (other, mask) in StateSpace::MEMORIES.into_iter().zip(&mut masks) {
                *mask |= u32::from(space == other) << lane;
            }
        }
        for (space, mask) in StateSpace::MEMORIES.into_iter().zip(masks) {
            if mask != 0 {
                each_space(space, mask, &within)?;
            }
        }
        Ok(())
    }

    /// Loads words from a state space; `None` for generic addresses.
    pub(super) fn load_from(
        &mut self,
        cx: &mut Context<'_>,
        (space, site): (Option<StateSpace>, Site),
        access: Access<'_>,
        words: &mut Words,
    ) -> Result<(), Fault> {
        match space {
            Some(StateSpace::Global | StateSpace::Const) => {
                cx.view.load(access, words)?;
                if cx.checks.traffic {
                    traffic::global(access, &mut cx.report);
                }
                Ok(())
            }
            Some(StateSpace::Shared) => {
                cx.shared.load(site, access, words)?;
                if cx.checks.traffic {
                    traffic::shared(access, &mut cx.report);
                }
                Ok(())
            }
            Some(StateSpace::Local) => self.local.load(access, words),
            Some(StateSpace::Param | StateSpace::Register) => parameters(cx.parameters, access, words),
            None => Self::by_space(access.addresses, access.mask, |space, mask, addresses| {
                self.load_from(cx, (Some(space), site), Access { mask, addresses, ..access }, words)
            }),
        }
    }

    /// Stores words to a state space; `None` for generic addresses.
    pub(super) fn store_to(
        &mut self,
        cx: &mut Context<'_>,
        (space, site): (Option<StateSpace>, Site),
        access: Access<'_>,
        words: &Words,
    ) -> Result<(), Fault> {
        match space {
            Some(StateSpace::Global | StateSpace::Const) => {
                if cx.checks.pending_copies {
                    cx.shared.check_global_store(access)?;
                }
                cx.view.store(access, words)?;
                if cx.checks.traffic {
                    traffic::global(access, &mut cx.report);
                }
                Ok(())
            }
            Some(StateSpace::Shared) => {
                cx.shared.store(site, access, words)?;
                if cx.checks.traffic {
                    traffic::shared(access, &mut cx.report);
                }
                Ok(())
            }
            Some(StateSpace::Local) => self.local.store(access, words),
            Some(StateSpace::Param | StateSpace::Register) => {
                let message = "a store to the kernel's parameters".to_owned();
                let lane = access.mask.trailing_zeros().min(31);
                let address = access.addresses.get(lane as usize).copied();
                Err(Fault { kind: FaultKind::OutOfBounds, lane, address, message })
            }
            None => Self::by_space(access.addresses, access.mask, |space, mask, addresses| {
                self.store_to(cx, (Some(space), site), Access { mask, addresses, ..access }, words)
            }),
        }
    }

    pub(super) fn load(
        &mut self,
        cx: &mut Context<'_>,
        op: &Transfer,
        line: u32,
        mask: u32,
    ) -> Result<(), Fault> {
        let addresses = self.addresses(cx.program, &op.address, mask)?;
        let site = Site { warp: self.index, line, strong: op.strong };
        let mut words: Words = [[0; LANES]; 4];
        let access = Access { mask, addresses: &addresses, bytes: u32::from(op.bytes) * u32::from(op.count) };
        self.load_from(cx, (op.address.space, site), access, &mut words)?;
        let count = usize::from(op.count);
        for (at, value) in op.values.iter().enumerate().take(count) {
            match op.bytes {
                4 if !value.wide => self.set32(value.loc, &words[at], mask),
                8 if value.wide => {
                    let (low, high) = (&words[2 * at], &words[2 * at + 1]);
                    self.set64(value.loc, &pack(low, high), mask);
                }
                bytes => self.set_part(*value, &words, (at, bytes, op.signed), mask),
            }
        }
        Ok(())
    }

    /// Elements that are narrower than their register: of 1 or 2 bytes, or of 4 in 64 bits.
    fn set_part(&mut self, value: Value, words: &Words, (at, bytes, signed): (usize, u8, bool), mask: u32) {
        let bits = 8 * u32::from(bytes);
        let (word, shift) = (at * usize::from(bytes) / 4, (at * usize::from(bytes) % 4 * 8) as u32);
        let column = &words[word.min(3)];
        if value.wide {
            let out = std::array::from_fn(|i| {
                let x = u64::from(column[i] >> shift) << (64 - bits);
                if signed { (x as i64 >> (64 - bits)) as u64 } else { x >> (64 - bits) }
            });
            self.set64(value.loc, &out, mask);
        } else {
            let limit = if signed && value.sixteen { 0xffff } else { u32::MAX };
            let out: V32 = std::array::from_fn(|i| {
                let x = column[i] >> shift << (32 - bits);
                (if signed { (x as i32 >> (32 - bits)) as u32 } else { x >> (32 - bits) }) & limit
            });
            self.set32(value.loc, &out, mask);
        }
    }

    pub(super) fn store(
        &mut self,
        cx: &mut Context<'_>,
        op: &Transfer,
        line: u32,
        mask: u32,
    ) -> Result<(), Fault> {
        let addresses = self.addresses(cx.program, &op.address, mask)?;
        let site = Site { warp: self.index, line, strong: op.strong };
        let mut words: Words = [[0; LANES]; 4];
        for (at, value) in op.values.iter().enumerate().take(usize::from(op.count)) {
            self.need_value(cx.program, *value, mask)?;
            match op.bytes {
                4 if !value.wide => words[at] = *self.v32(cx.program, value.loc),
                8 if value.wide => {
                    let column = self.v64(cx.program, value.loc);
                    let (low, high) = words.split_at_mut(2 * at + 1);
                    let (low, high) = (&mut low[2 * at], &mut high[0]);
                    wide(
                        #[inline(always)]
                        || {
                            for i in 0..LANES {
                                low[i] = column[i] as u32;
                                high[i] = (column[i] >> 32) as u32;
                            }
                        },
                    );
                }
                bytes => {
                    let bytes = usize::from(bytes);
                    let (word, shift) = (at * bytes / 4, at * bytes % 4 * 8);
                    let keep = u32::MAX >> (32 - 8 * bytes.min(4));
                    for (lane, out) in words[word.min(3)].iter_mut().enumerate() {
                        *out |= (self.lane(cx.program, *value, lane) as u32 & keep) << shift;
                    }
                }
            }
        }
        let access = Access { mask, addresses: &addresses, bytes: u32::from(op.bytes) * u32::from(op.count) };
        self.store_to(cx, (op.address.space, site), access, &words)
    }

    pub(super) fn atomic(
        &mut self,
        cx: &mut Context<'_>,
        op: &Atomic,
        line: u32,
        mask: u32,
    ) -> Result<(), Fault> {
        let program = cx.program;
        let addresses = self.addresses(program, &op.address, mask)?;
        for value in op.values {
            self.need_value(program, value, mask)?;
        }
        if let Some(lane) = each(mask).find(|&lane| !addresses[lane].is_multiple_of(op.align.into())) {
            let message = format!("an atomic operation of {} bytes at {:#x}", op.align, addresses[lane]);
            let address = Some(addresses[lane]);
            return Err(Fault { kind: FaultKind::Misaligned, lane: lane as u32, address, message });
        }
        let column = |value: Value| -> V64 { std::array::from_fn(|lane| self.lane(program, value, lane)) };
        let (b, c) = (column(op.values[0]), column(op.values[1]));
        let site = Site { warp: self.index, line, strong: true };
        let mut words: Words = [[0; LANES]; 4];
        let new = |lane: usize, old: u64| op.op.apply(old, b[lane], c[lane]);
        let mut run = |space: StateSpace, mask: u32, addresses: &V64| -> Result<(), Fault> {
            let access = Access { mask, addresses, bytes: op.bytes };
            match space {
                StateSpace::Shared => {
                    cx.shared.atomic(site, access, &mut words, new)?;
                    if cx.checks.traffic {
                        traffic::shared(access, &mut cx.report);
                    }
                }
                StateSpace::Global => {
                    if cx.checks.pending_copies {
                        cx.shared.check_global_store(access)?;
                    }
                    cx.view.atomic(access, &mut words, new)?;
                    if cx.checks.traffic {
                        traffic::global(access, &mut cx.report);
                    }
                }
                _ => {
                    return Err(fault(
                        FaultKind::Trap,
                        mask,
                        "an atomic operation on local memory".to_owned(),
                    ));
                }
            }
            Ok(())
        };
        match op.address.space {
            None => Self::by_space(&addresses, mask, run)?,
            Some(space) => run(space, mask, &addresses)?,
        }
        if let Some(to) = op.to {
            if to.wide {
                self.set64(to.loc, &pack(&words[0], &words[1]), mask);
            } else {
                self.set32(to.loc, &words[0], mask);
            }
        }
        Ok(())
    }

    /// `cp.async` and its groups.
    pub(super) fn async_copy(
        &mut self,
        cx: &mut Context<'_>,
        copy: &AsyncCopy,
        line: u32,
        mask: u32,
    ) -> Result<(), Fault> {
        let (to, from, bytes, source_bytes, ignore_source) = match copy {
            AsyncCopy::Copy { to, from, bytes, source_bytes, ignore_source } => {
                (to, from, *bytes, *source_bytes, *ignore_source)
            }
            AsyncCopy::Commit => {
                cx.shared.commit_group(self.index, mask);
                return Ok(());
            }
            AsyncCopy::Wait(pending) => {
                cx.shared.wait_group(self.index, mask, Some(*pending));
                return Ok(());
            }
            AsyncCopy::WaitAll => {
                cx.shared.wait_group(self.index, mask, None);
                return Ok(());
            }
        };
        let to = self.addresses(cx.program, to, mask)?;
        let from = self.addresses(cx.program, from, mask)?;
        self.need(cx.program, RegisterFile::Bits32, &[source_bytes], mask)?;
        self.need_predicate(cx.program, ignore_source, mask)?;
        let mut read_bytes = self.v32(cx.program, source_bytes).map(|b| b.min(bytes));
        if !ignore_source.is_none() {
            for lane in each(self.predicate(ignore_source) & mask) {
                read_bytes[lane] = 0;
            }
        }
        let site = Site { warp: self.index, line, strong: false };
        let access = Access { mask, addresses: &to, bytes };
        cx.shared.copy_async(site, &mut cx.view, access, &from, &read_bytes)?;
        if cx.checks.traffic {
            let reads = each(mask).filter(|&lane| read_bytes[lane] > 0).fold(0, |m, lane| m | 1u32 << lane);
            traffic::global(Access { mask: reads, addresses: &from, bytes }, &mut cx.report);
            traffic::shared(access, &mut cx.report);
        }
        Ok(())
    }

    /// `discard`: the 128 bytes count as never written.
    pub(super) fn discard(&self, cx: &mut Context<'_>, address: &Address, mask: u32) -> Result<(), Fault> {
        let addresses = self.addresses(cx.program, address, mask)?;
        let access = Access { mask, addresses: &addresses, bytes: 128 };
        if cx.checks.pending_copies {
            cx.shared.check_global_store(access)?;
        }
        cx.view.discard(access)
    }

    /// `cvta`: adds or subtracts the start of the space's window.
    pub(super) fn convert_address(
        &mut self,
        program: &Program,
        op: &ConvertAddress,
        mask: u32,
    ) -> Result<(), Fault> {
        self.need_value(program, op.from, mask)?;
        let window = op.space.window();
        let from = self.v64(program, op.from.loc);
        let out = from.map(|a| if op.generic { a.wrapping_add(window) } else { a.wrapping_sub(window) });
        self.set64(op.to.loc, &out, mask);
        Ok(())
    }

    /// `isspacep`: tests the state space of generic addresses.
    pub(super) fn in_space(
        &mut self,
        program: &Program,
        (to, from, wanted): (Pred, Value, StateSpace),
        mask: u32,
    ) -> Result<(), Fault> {
        self.need_value(program, from, mask)?;
        let from = self.v64(program, from.loc);
        let constant =
            |a: u64| program.constant_ranges.iter().any(|&(base, bytes)| a.wrapping_sub(base) < bytes);
        let inside = |a: u64| match StateSpace::of_generic(a).0 {
            StateSpace::Global if constant(a) => wanted == StateSpace::Const,
            space => space == wanted,
        };
        let bits = (0..LANES).fold(0, |bits, lane| bits | u32::from(inside(from[lane])) << lane);
        self.set_predicate(to, bits, mask);
        Ok(())
    }
}

/// Loads from the kernel's parameters.
fn parameters(bytes: &[u8], access: Access<'_>, words: &mut Words) -> Result<(), Fault> {
    let get = |address: u64| -> Option<&[u8]> {
        let start = usize::try_from(address).ok()?;
        bytes.get(start..start.checked_add(access.bytes as usize)?)
    };
    let first = access.mask.trailing_zeros().min(31) as usize;
    let uniform = access.addresses.iter().all(|&a| a == access.addresses[first]);
    let lanes = if uniform { 1 << first } else { access.mask };
    for lane in each(lanes) {
        let address = access.addresses[lane];
        let failure = |kind, message| Fault { kind, lane: lane as u32, address: Some(address), message };
        if !address.is_multiple_of(u64::from(access.bytes)) {
            let message = format!("{} bytes at parameter address {address:#x}", access.bytes);
            return Err(failure(FaultKind::Misaligned, message));
        }
        let Some(found) = get(address) else {
            let message =
                format!("{} bytes at parameter address {address:#x} of {} bytes", access.bytes, bytes.len());
            return Err(failure(FaultKind::OutOfBounds, message));
        };
        for (word, part) in words.iter_mut().zip(found.chunks(4)) {
            let mut four = [0; 4];
            four[..part.len()].copy_from_slice(part);
            let value = u32::from_le_bytes(four);
            if uniform {
                *word = [value; LANES];
            } else {
                word[lane] = value;
            }
        }
    }
    Ok(())
}
