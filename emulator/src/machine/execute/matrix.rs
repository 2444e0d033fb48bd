//! Matrix instructions (PTX ISA, "ldmatrix", "stmatrix", "movmatrix", "mma", "wmma").
//!
//! The PTX ISA does not define which lane holds which element of a `wmma` fragment. The layout here is the one that ptxas
//! 13.5 compiles for sm_80 and sm_90: the registers are those of `mma`, and `wmma.mma` is one or more `mma`.

use super::context::Context;
use super::warp::Warp;
use crate::error::Fault;
use crate::machine::lanes::{FULL, V32, V64, pack};
use crate::machine::program::{Fragment, Matrices, Matrix, Multiply, Product, RegisterFile, Value};
use crate::memory::{Access, LANES, Site, Words, traffic};
use crate::numerics::{mma, products};
use crate::space::StateSpace;

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
    /// Runs a matrix instruction by all lanes.
    pub(super) fn matrix(&mut self, cx: &mut Context<'_>, matrix: &Matrix, line: u32) -> Result<(), Fault> {
        match matrix {
            Matrix::Load(load) => self.load_matrix(cx, load, line)?,
            Matrix::Store(store) => self.store_matrix(cx, store, line)?,
            &Matrix::Transpose(to, from) => {
                self.need(cx.program, RegisterFile::Bits32, &[from], FULL)?;
                let out = transpose(self.v32(cx.program, from));
                self.set32(to, &out, FULL);
            }
            Matrix::Fragment(fragment) => self.fragment(cx, fragment, line)?,
            Matrix::Multiply(multiply) => self.multiply(cx, multiply)?,
        }
        Ok(())
    }

    /// The lanes that supply the address of a row, and these addresses within shared memory.
    fn row_addresses(&self, cx: &Context<'_>, matrices: &Matrices) -> Result<(u32, V64), Fault> {
        let mask = FULL >> (LANES - 8 * matrices.count);
        let mut addresses = self.addresses(cx.program, &matrices.address, mask)?;
        if matrices.address.space.is_none() {
            addresses = addresses.map(|a| a.wrapping_sub(StateSpace::Shared.window()));
        }
        Ok((mask, addresses))
    }

    /// Runs `ldmatrix`: loads 8×8 matrices.
    fn load_matrix(&mut self, cx: &mut Context<'_>, load: &Matrices, line: u32) -> Result<(), Fault> {
        let (mask, addresses) = self.row_addresses(cx, load)?;
        let mut words: Words = [[0; LANES]; 4];
        let site = Site { warp: self.index, line, strong: false };
        let access = Access { mask, addresses: &addresses, bytes: 16 };
        cx.shared.load(site, access, &mut words)?;
        if cx.checks.traffic {
            traffic::shared(access, &mut cx.report);
        }
        for (matrix, &to) in load.registers.iter().enumerate().take(load.count) {
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

    /// Runs `stmatrix`: stores 8×8 matrices.
    fn store_matrix(&mut self, cx: &mut Context<'_>, store: &Matrices, line: u32) -> Result<(), Fault> {
        let count = store.count;
        let (mask, addresses) = self.row_addresses(cx, store)?;
        self.need(cx.program, RegisterFile::Bits32, &store.registers[..count], FULL)?;
        let mut words: Words = [[0; LANES]; 4];
        for (matrix, &from) in store.registers.iter().enumerate().take(count) {
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

    /// Runs `mma` on whole fragments.
    fn multiply(&mut self, cx: &mut Context<'_>, op: &Multiply) -> Result<(), Fault> {
        let [lefts, rights, sums] = op.counts;
        let file = RegisterFile::of_width(matches!(op.product, Product::Doubles(_)));
        self.need(cx.program, file, &op.left[..lefts], FULL)?;
        self.need(cx.program, file, &op.right[..rights], FULL)?;
        self.need(cx.program, file, &op.sum[..sums], FULL)?;
        cx.report.tensor_macs += op.macs;
        if let Product::Doubles(rounding) = op.product {
            let a = op.left.map(|loc| *self.v64(cx.program, loc));
            let b = op.right.map(|loc| *self.v64(cx.program, loc));
            let mut c = op.sum.map(|loc| *self.v64(cx.program, loc));
            products::doubles(rounding, &a[..lefts], &b[..rights], &mut c[..sums]);
            for (&to, column) in op.to.iter().zip(&c).take(sums) {
                self.set64(to, column, FULL);
            }
            return Ok(());
        }
        let [l0, l1, l2, l3, ..] = op.left;
        let a = [l0, l1, l2, l3].map(|loc| *self.v32(cx.program, loc));
        let b = op.right.map(|loc| *self.v32(cx.program, loc));
        let mut c = op.sum.map(|loc| *self.v32(cx.program, loc));
        let (a, b) = (&a[..lefts.min(4)], &b[..rights]);
        let mut two = [c[0], c[1]];
        match op.product {
            Product::Single(factor) => mma::mma_f32(cx.tensor_core, factor, a, b, &mut c),
            Product::Half => mma::mma_f16(cx.tensor_core, a, b, &mut two),
            Product::Eights(formats) => products::eights_f32(cx.tensor_core, formats, a, b, &mut c),
            Product::EightsHalf(formats) => products::eights_f16(cx.tensor_core, formats, a, b, &mut two),
            Product::Integers(dot, satfinite) => products::integers(dot, satfinite, a, b, &mut c[..sums]),
            Product::Doubles(_) => {}
        }
        if matches!(op.product, Product::Half | Product::EightsHalf(_)) {
            [c[0], c[1]] = two;
        }
        for (&to, column) in op.to.iter().zip(&c).take(sums) {
            self.set32(to, column, FULL);
        }
        Ok(())
    }

    /// Runs `wmma.load` and `wmma.store`.
    fn fragment(&mut self, cx: &mut Context<'_>, op: &Fragment, line: u32) -> Result<(), Fault> {
        let base = self.addresses(cx.program, &op.address, FULL)?;
        self.need(cx.program, RegisterFile::Bits32, &[op.stride], FULL)?;
        let strides = *self.v32(cx.program, op.stride);
        let site = Site { warp: self.index, line, strong: false };
        let per_unit = op.registers.len() / op.units.len().max(1);
        // A contiguous run is one access; other runs are one access per element.
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
                    self.store_to(cx, (op.address.space, site), access, &words)?;
                } else {
                    self.load_from(cx, (op.address.space, site), access, &mut words)?;
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

    /// Reads the words of a run from its registers.
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

    /// Writes the words of a run to its registers.
    fn spread(&mut self, registers: &[Value], run: &Words) {
        let mut words = run.iter();
        for value in registers {
            let Some(low) = words.next() else { return };
            if value.wide {
                let Some(high) = words.next() else { return };
                let both = pack(low, high);
                self.set64(value.loc, &both, FULL);
            } else {
                self.set32(value.loc, low, FULL);
            }
        }
    }
}

/// The transpose of an 8×8 matrix of 16-bit elements.
fn transpose(tile: &V32) -> V32 {
    let half = |row: usize, column: usize| tile[4 * row + column / 2] >> (16 * (column % 2)) & 0xffff;
    std::array::from_fn(|lane| {
        let (row, pair) = (lane / 4, lane % 4);
        half(2 * pair, row) | half(2 * pair + 1, row) << 16
    })
}
