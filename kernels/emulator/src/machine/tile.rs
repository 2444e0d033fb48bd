//! Asynchronous copies, matrix loads and matrix products (PTX ISA, "cp.async", "ldmatrix", "mma").

use super::block::Context;
use super::lanes::{FULL, each};
use super::program::{Address, Loc, Pred, Room};
use super::warp::Warp;
use crate::error::Fault;
use crate::memory::{Access, LANES, Site, Words, traffic};
use crate::numerics::half::Half;
use crate::numerics::mma;

/// `cp.async`
#[derive(Debug, Clone, Copy)]
pub(super) struct CopyAsync {
    /// In shared memory.
    pub to: Address,
    /// In global memory.
    pub from: Address,
    /// Bytes that are written.
    pub bytes: u32,
    /// Bytes that are read; the rest is zeros.
    pub source_bytes: Loc,
    /// Reads nothing where it is true.
    pub ignore: Pred,
}

/// `ldmatrix`
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadMatrix {
    /// Matrices of 8×8 halves.
    pub count: u32,
    /// Each is transposed.
    pub transposed: bool,
    /// A register a matrix.
    pub to: [Loc; 4],
    /// Lane i gives the address of row i mod 8 of matrix i / 8.
    pub address: Address,
}

/// What products are added up in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Accumulator {
    /// f32, of factors of this format.
    Single(Half),
    /// f16, of f16.
    Half,
}

/// `mma.m16n8k8` and `mma.m16n8k16`
#[derive(Debug, Clone, Copy)]
pub(super) struct Multiply {
    /// The sums.
    pub accumulator: Accumulator,
    /// 8 or 16.
    pub k: u32,
    /// D.
    pub to: [Loc; 4],
    /// A.
    pub left: [Loc; 4],
    /// B.
    pub right: [Loc; 4],
    /// C.
    pub sum: [Loc; 4],
}

/// An instruction on tiles.
#[derive(Debug, Clone)]
pub(super) enum Tile {
    /// `cp.async`
    Copy(CopyAsync),
    /// `cp.async.commit_group`
    Commit,
    /// `cp.async.wait_group`
    Wait(u32),
    /// `cp.async.wait_all`
    WaitAll,
    /// `ldmatrix`
    Load(LoadMatrix),
    /// `mma`
    Multiply(Multiply),
}

impl Tile {
    /// The whole warp must run it.
    pub fn aligned(&self) -> bool {
        matches!(self, Self::Load(_) | Self::Multiply(_))
    }
}

impl Warp {
    pub(super) fn tile(
        &mut self,
        cx: &mut Context<'_>,
        tile: &Tile,
        line: u32,
        mask: u32,
    ) -> Result<(), Fault> {
        match tile {
            Tile::Copy(copy) => self.copy_async(cx, copy, line, mask)?,
            Tile::Commit => cx.shared.commit_group(self.index, mask),
            Tile::Wait(left) => cx.shared.wait_group(self.index, mask, *left),
            Tile::WaitAll => cx.shared.wait_all(self.index, mask),
            Tile::Load(load) => self.load_matrix(cx, load, line)?,
            Tile::Multiply(multiply) => self.multiply(cx, multiply)?,
        }
        Ok(())
    }

    fn copy_async(
        &mut self,
        cx: &mut Context<'_>,
        copy: &CopyAsync,
        line: u32,
        mask: u32,
    ) -> Result<(), Fault> {
        let to = self.addresses(cx.program, &copy.to, mask)?;
        let from = self.addresses(cx.program, &copy.from, mask)?;
        self.need(cx.program, 0, &[copy.source_bytes], mask)?;
        self.need_predicate(cx.program, copy.ignore, mask)?;
        let mut bytes = self.v32(cx.program, copy.source_bytes).map(|b| b.min(copy.bytes));
        if !copy.ignore.is_none() {
            for lane in each(self.predicate(copy.ignore) & mask) {
                bytes[lane] = 0;
            }
        }
        let site = Site { warp: self.index, line, strong: false };
        let access = Access { mask, addresses: &to, bytes: copy.bytes };
        cx.shared.copy_async(site, &mut cx.view, access, &from, &bytes)?;
        if cx.checks.traffic {
            let reads = each(mask).filter(|&lane| bytes[lane] > 0).fold(0, |m, lane| m | 1u32 << lane);
            traffic::global(Access { mask: reads, addresses: &from, bytes: copy.bytes }, &mut cx.report);
            traffic::shared(access, &mut cx.report);
        }
        Ok(())
    }

    fn load_matrix(&mut self, cx: &mut Context<'_>, load: &LoadMatrix, line: u32) -> Result<(), Fault> {
        let rows = 8 * load.count;
        let mask = FULL >> (LANES as u32 - rows);
        let mut addresses = self.addresses(cx.program, &load.address, mask)?;
        if load.address.room == Room::Generic {
            addresses = addresses.map(|a| a.wrapping_sub(crate::memory::SHARED_WINDOW));
        }
        let mut words: Words = [[0; LANES]; 4];
        let site = Site { warp: self.index, line, strong: false };
        let access = Access { mask, addresses: &addresses, bytes: 16 };
        cx.shared.load(site, access, &mut words)?;
        if cx.checks.traffic {
            traffic::shared(access, &mut cx.report);
        }
        for (matrix, &to) in load.to.iter().enumerate().take(load.count as usize) {
            let mut out = [0; LANES];
            for (lane, value) in out.iter_mut().enumerate() {
                let (row, pair) = (lane / 4, lane % 4);
                *value = if load.transposed {
                    // Column `row` of rows 2·pair and the next.
                    let half = |r: usize| words[row / 2][8 * matrix + r] >> (16 * (row % 2)) & 0xffff;
                    half(2 * pair) | half(2 * pair + 1) << 16
                } else {
                    words[pair][8 * matrix + row]
                };
            }
            self.set32(to, &out, FULL);
        }
        Ok(())
    }

    fn multiply(&mut self, cx: &mut Context<'_>, op: &Multiply) -> Result<(), Fault> {
        let (lefts, rights) = ((op.k / 4) as usize, (op.k / 8) as usize);
        let sums = if matches!(op.accumulator, Accumulator::Half) { 2 } else { 4 };
        self.need(cx.program, 0, &op.left[..lefts], FULL)?;
        self.need(cx.program, 0, &op.right[..rights], FULL)?;
        self.need(cx.program, 0, &op.sum[..sums], FULL)?;
        let a = op.left.map(|loc| *self.v32(cx.program, loc));
        let b = op.right.map(|loc| *self.v32(cx.program, loc));
        let mut c = op.sum.map(|loc| *self.v32(cx.program, loc));
        match op.accumulator {
            Accumulator::Single(format) => mma::mma_f32(cx.core, format, &a[..lefts], &b[..rights], &mut c),
            Accumulator::Half => {
                let mut two = [c[0], c[1]];
                mma::mma_f16(cx.core, &a[..lefts], &b[..rights], &mut two);
                [c[0], c[1]] = two;
            }
        }
        for (&to, column) in op.to.iter().zip(&c).take(sums) {
            self.set32(to, column, FULL);
        }
        cx.report.tensor_macs += 16 * 8 * u64::from(op.k);
        Ok(())
    }
}
