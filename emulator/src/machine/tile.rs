//! Asynchronous copies, and 8×8 tiles between shared memory and registers (PTX ISA, "cp.async", "ldmatrix", "stmatrix",
//! "movmatrix").

use super::block::Context;
use super::lanes::{FULL, V32, each};
use super::multiply::Multiply;
use super::program::{Address, Loc, Pred, StateSpace};
use super::warp::Warp;
use super::wmma::Fragment;
use crate::error::Fault;
use crate::memory::{Access, LANES, Site, Words, traffic};

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

/// `stmatrix`
#[derive(Debug, Clone, Copy)]
pub(super) struct StoreMatrix {
    /// Matrices of 8×8 halves.
    pub count: u32,
    /// Each is transposed.
    pub transposed: bool,
    /// A register a matrix.
    pub from: [Loc; 4],
    /// Lane i gives the address of row i mod 8 of matrix i / 8.
    pub address: Address,
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
    /// `stmatrix`
    Store(StoreMatrix),
    /// `movmatrix`: to and from.
    Transpose(Loc, Loc),
    /// `wmma.load`, `wmma.store`
    Fragment(Fragment),
    /// `mma`
    Multiply(Multiply),
}

impl Tile {
    /// The whole warp must run it.
    pub fn aligned(&self) -> bool {
        !matches!(self, Self::Copy(_) | Self::Commit | Self::Wait(_) | Self::WaitAll)
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
            Tile::Store(store) => self.store_matrix(cx, store, line)?,
            &Tile::Transpose(to, from) => {
                self.need(cx.program, 0, &[from], FULL)?;
                let out = transpose(self.v32(cx.program, from));
                self.set32(to, &out, FULL);
            }
            Tile::Fragment(fragment) => self.fragment(cx, fragment, line)?,
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
        if load.address.room == StateSpace::Generic {
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

    fn store_matrix(&mut self, cx: &mut Context<'_>, store: &StoreMatrix, line: u32) -> Result<(), Fault> {
        let count = store.count as usize;
        let mask = FULL >> (LANES - 8 * count);
        let mut addresses = self.addresses(cx.program, &store.address, mask)?;
        if store.address.room == StateSpace::Generic {
            addresses = addresses.map(|a| a.wrapping_sub(crate::memory::SHARED_WINDOW));
        }
        self.need(cx.program, 0, &store.from[..count], FULL)?;
        let mut words: Words = [[0; LANES]; 4];
        for (matrix, &from) in store.from.iter().enumerate().take(count) {
            let from = self.v32(cx.program, from);
            let tile = if store.transposed { transpose(from) } else { *from };
            for (lane, value) in tile.into_iter().enumerate() {
                words[lane % 4][8 * matrix + lane / 4] = value;
            }
        }
        let site = Site { warp: self.index, line, strong: false };
        let access = Access { mask, addresses: &addresses, bytes: 16 };
        cx.shared.store(site, access, &words)?;
        if cx.checks.traffic {
            traffic::shared(access, &mut cx.report);
        }
        Ok(())
    }
}

/// An 8×8 tile of halves with rows and columns changed.
fn transpose(tile: &V32) -> V32 {
    let half = |row: usize, column: usize| tile[4 * row + column / 2] >> (16 * (column % 2)) & 0xffff;
    std::array::from_fn(|lane| {
        let (row, pair) = (lane / 4, lane % 4);
        half(2 * pair, row) | half(2 * pair + 1, row) << 16
    })
}
