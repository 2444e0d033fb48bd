//! Tests of asynchronous copies, `ldmatrix`, and the tensor cores.

use super::{Guide, IsaTest, LANES, isa_test, word::half};
use crate::{
    Target,
    ptx::{F16, F16x2, Reg, U32},
};

/// The test of tile instructions.
pub fn tiles(target: Target) -> IsaTest {
    isa_test("tiles", target, vec![], |t| {
        copies(t);
        let matrices = matrices(t);
        products(t, matrices);
    })
}

/// Copies of words of the input, whole or in part.
fn copies(t: &Guide) {
    let asm = t.asm;
    asm.step("asynchronous copies");
    let word = |l: u32| 0xC0DE_0000_0000u64 + u64::from(l) * 0x1_0001;
    // 16 bytes are the slots of two lanes.
    let pair = t.input_slot::<crate::ptx::U64>(word).cast::<U32>();
    let even = t.input_slot::<crate::ptx::U64>(word).cast::<U32>();
    let room = asm.shared::<U32>(4 * LANES).at(t.lane * 4);
    let target = asm.shared::<U32>(2 * LANES);
    let (low, high) = (|l: u32| word(l) as u32, |l: u32| (word(l) >> 32) as u32);

    // Even lanes copy their own slot and the next lane's.
    asm.if_((t.lane & 1).eq(0), || {
        asm.copy_async_16(target.at(t.lane * 2), even);
    });
    asm.copy_async_commit();
    asm.copy_async_small(room, pair, 4, 4);
    asm.copy_async_small(room.plus(2), pair, 8, 4);
    asm.copy_async_commit();
    asm.copy_async_wait(1);
    asm.barrier();
    t.check("cp.async.cg 16", target.at(t.lane * 2).load(), low);
    t.check("cp.async.cg 16, second word", target.at(t.lane * 2).plus(1).load(), high);
    asm.copy_async_wait(0);
    t.check("cp.async.ca 4", room.load(), low);
    t.check("cp.async.ca 8 of 4", room.plus(2).load(), low);
    t.check("cp.async.ca 8 of 4, filled", room.plus(3).load(), |_| 0);

    let filled = asm.shared::<U32>(2 * LANES);
    asm.if_((t.lane & 1).eq(0), || {
        asm.copy_async_16_zero_fill(filled.at(t.lane * 2), even, 12);
    });
    asm.copy_async_commit();
    asm.copy_async_wait(0);
    asm.barrier();
    t.check("cp.async.cg 16 of 12", filled.at(t.lane * 2).load(), low);
    let second = |l: u32| if l.is_multiple_of(2) { high(l) } else { 0 };
    t.check("cp.async.cg 16 of 12, filled", filled.at(t.lane * 2).plus(1).load(), second);
}

/// Element (row, column) of the 8×8 matrix `m`: integers that binary16 represents, with exact sums of products.
fn element(m: u32, row: u32, column: u32) -> f32 {
    ((m * 7 + row * 5 + column * 3) % 11) as f32 - 5.0
}

/// The fragment of matrix m in lane l.
fn fragment(m: u32, transpose: bool, lane: u32) -> [u16; 2] {
    let (g, c) = (lane / 4, 2 * (lane % 4));
    [c, c + 1].map(|c| half(if transpose { element(m, c, g) } else { element(m, g, c) }))
}

/// Four 8×8 matrices in shared memory, read in every way; returns the fragments that were read without transposition.
fn matrices<'a>(t: &Guide<'a>) -> [Reg<'a, F16x2>; 4] {
    let asm = t.asm;
    asm.step("matrices");
    let tile = asm.shared::<F16>(4 * 64);
    // Lane l writes row l mod 8 of matrix l / 8, four pairs from the input.
    let row = tile.at(t.lane * 8);
    for pair in 0..4 {
        let value = |l: u32| [0, 1].map(|i| half(element(l / 8, l % 8, 2 * pair + i)));
        row.cast::<F16x2>().plus(pair.into()).store(t.give::<F16x2>(value));
    }
    asm.barrier();
    let mut plain = None;
    for transpose in [false, true] {
        let four = [(); 4].map(|()| asm.register::<F16x2>());
        asm.ldmatrix_x4(four, row, transpose);
        for (m, part) in (0..).zip(four) {
            let what = format!("ldmatrix.x4, transpose {transpose}, matrix {m}");
            t.check(&what, part.get(), |l| fragment(m, transpose, l));
        }
        let two = [(); 2].map(|()| asm.register::<F16x2>());
        asm.ldmatrix_x2(two, row, transpose);
        for (m, part) in (0..).zip(two) {
            let what = format!("ldmatrix.x2, transpose {transpose}, matrix {m}");
            t.check(&what, part.get(), |l| fragment(m, transpose, l));
        }
        plain.get_or_insert(four.map(|part| part.get()));
    }
    plain.unwrap_or([(); 4].map(|()| asm.register::<F16x2>().get()))
}

/// A consists of the four matrices: 0 and 1 are the upper and lower left, 2 and 3 the upper and lower right. B's two
/// matrices, of rows 0 to 7 and 8 to 15, are 1 and 3, transposed for the fragment layout.
fn products<'a>(t: &Guide<'a>, a: [Reg<'a, F16x2>; 4]) {
    let asm = t.asm;
    asm.step("a product");
    let sums = [(); 4].map(|()| asm.var::<crate::ptx::F32>(0.5));
    asm.mma_m16n8k16(sums, a, [a[1], a[3]]);
    let a_element = |row: u32, depth: u32| element(row / 8 + 2 * (depth / 8), row % 8, depth % 8);
    // A fragment of B holds rows where one of A holds columns: matrices read without transposition give B's transpose.
    let b_element = |depth: u32, column: u32| element(1 + 2 * (depth / 8), column, depth % 8);
    let product = |row: u32, column: u32| {
        0.5 + (0..16).map(|depth| a_element(row, depth) * b_element(depth, column)).sum::<f32>()
    };
    for (i, sum) in (0..).zip(sums) {
        let want = |l: u32| product(l / 4 + 8 * (i / 2), 2 * (l % 4) + i % 2);
        t.check(&format!("mma.m16n8k16, sum {i}"), sum.get(), want);
    }
}
