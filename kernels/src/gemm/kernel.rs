//! The product itself.

use super::{Epilogue, Gemm, output::Output, plan::Cut};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F16, F16x2, F32, Launch, Reg, U32, U64},
    span::Real,
    tile::{Accumulators, COLUMNS, FragmentLoads, Major, Pipeline, Role, Staging, TileCopy},
};

/// Row tiles that follow each other before the column changes, so that the blocks which run at once share columns in L2.
const GROUP: u32 = 8;

/// C = f(op(A)·op(B)), or the parts of the sum where k is split.
///
/// A block computes a tile of C: asynchronous copies bring tiles of A and B, some stages ahead, into shared memory;
/// `ldmatrix` brings fragments into registers, one step ahead; `mma` adds their products up in f32. Sums return through
/// shared memory as rows.  Must move 2(mk + kn) + |C| bytes and do 2mnk operations: bound by the tensor cores where m, n
/// and k pass some hundreds, and by the weights' bytes below.
pub(super) fn matrix_kernel(gemm: &Gemm, cut: Cut, target: Target) -> Kernel {
    let Gemm { m, n, k: depth, epilogue, .. } = *gemm;
    let Cut { shape, splits, tiles } = cut;
    let (rows, columns) = (m.div_ceil(shape.m), n.div_ceil(shape.n));
    let launch = Launch::new("gemm", name(gemm, cut), target).grid([rows * columns, 1, splits]).block([
        shape.threads(),
        1,
        1,
    ]);
    let [wide_m, wide_n, wide_k] = [m, n, depth].map(u64::from);
    let output = if splits > 1 { 4 * u64::from(splits) } else { epilogue.bytes_an_element() };
    let bias = if splits > 1 { 0 } else { epilogue.bias.map_or(0, |b| u64::from(b.bytes())) * wide_n };
    let work = Work {
        bytes: 2 * (wide_m * wide_k + wide_k * wide_n) + output * wide_m * wide_n + bias,
        operations: 2 * wide_m * wide_n * wide_k,
    };
    let summary = format!(
        "C = A·B for m {m}, n {n}, k {depth}; tiles of {}×{}×{}, {} stages, k in {splits} parts",
        shape.m, shape.n, shape.k, shape.stages
    );
    Asm::kernel(launch, work, &summary, |k| {
        let (a_pointer, b_pointer) = (k.pointer::<F16>("a"), k.pointer::<F16>("b"));
        let output = Output::parameters(k, epilogue);
        let workspace = (splits > 1).then(|| k.pointer::<F32>("workspace"));
        k.step("the block's tile of C, its part of k, the warp's part of the tile");
        let (row, column) = block_tile(k, rows, columns);
        let (row, column) = (row * shape.m, column * shape.n);
        let part = k.block(2);
        let start = part * (tiles * shape.k);
        let end = (start + tiles * shape.k).min(depth);
        let thread = k.thread(0);
        let warp = thread >> 5;
        let (warp_row, warp_column) = k.divide(warp, shape.warps_n);
        let (warp_row, warp_column) = (warp_row * shape.warp_m(), warp_column * shape.warp_n());

        let (a_tile, b_tile) = ([shape.m, shape.k], [shape.n, shape.k]);
        let threads = shape.threads();
        k.step("copies of A and of B");
        let a = TileCopy::new(k, gemm.a_matrix(), a_pointer, a_tile, threads, thread, [row, start, end]);
        let b = TileCopy::new(k, gemm.b_matrix(), b_pointer, b_tile, threads, thread, [column, start, end]);

        k.step("fragments and sums");
        let (blocks_a, blocks_b) = (shape.warp_m() / 16, shape.warp_n() / 16);
        let a_loads = FragmentLoads::new(k, Role::A, gemm.a, a_tile, warp_row, blocks_a);
        let b_loads = FragmentLoads::new(k, Role::B, gemm.b, b_tile, warp_column, blocks_b);
        let registers =
            |blocks| (0..blocks).map(|_| [(); 4].map(|()| k.register::<F16x2>())).collect::<Vec<_>>();
        let fragments = [(); 2].map(|()| (registers(blocks_a), registers(blocks_b)));
        let sums = Accumulators::new(k, blocks_a, 2 * blocks_b);

        let b_at = i64::from(a.bytes());
        let pipeline = Pipeline::new(k, shape.stages, a.bytes() + b.bytes());
        pipeline.run(
            tiles,
            shape.steps(),
            |slot| {
                a.issue(slot);
                b.issue(slot.plus_bytes(b_at));
            },
            |buffer, slot, step| {
                let (a, b) = &fragments[buffer];
                a_loads.load(a, slot, step);
                b_loads.load(b, slot.plus_bytes(b_at), step);
            },
            |buffer| sums.multiply(&fragments[buffer].0, &fragments[buffer].1),
        );

        let origin = [row + warp_row, column + warp_column];
        Staging::new(k, shape, pipeline.memory()).finish(&sums, warp, origin, |row, column, values| {
            let store = |j: usize, values: &[Reg<'_, F32>]| {
                let column = if j == 0 { column } else { column + j as u32 };
                k.if_(row.lt(m) & column.lt(n), || {
                    let index = row.mad(n, column);
                    match workspace {
                        None => output.store(index, column, values),
                        Some(parts) => {
                            let at = parts.at_wide(part.mul_wide(m * n) + index.to::<U64>());
                            F32::store(at, values);
                        }
                    }
                });
            };
            if n.is_multiple_of(COLUMNS) {
                store(0, &values);
            } else {
                values.iter().enumerate().for_each(|(j, value)| store(j, std::slice::from_ref(value)));
            }
        });
    })
}

/// The block's row and column of tiles: groups of rows, column by column.
fn block_tile(k: &Asm, rows: u32, columns: u32) -> (Reg<'_, U32>, Reg<'_, U32>) {
    let group = (1..=GROUP.min(rows)).rev().find(|g| rows.is_multiple_of(*g)).unwrap_or(1);
    let (group_number, within) = k.divide(k.block(0), group * columns);
    let (column, row) = k.divide(within, group);
    (group_number.mad(group, row), column)
}

/// A name that no other text has.
pub(super) fn name(gemm: &Gemm, Cut { shape, splits, tiles: _ }: Cut) -> String {
    let side = |major| if major == Major::K { "k" } else { "o" };
    let parts = if splits > 1 { format!("_split{splits}") } else { String::new() };
    format!(
        "gemm_{}{}_m{}_n{}_k{}_t{}x{}x{}{parts}{}",
        side(gemm.a),
        side(gemm.b),
        gemm.m,
        gemm.n,
        gemm.k,
        shape.m,
        shape.n,
        shape.k,
        gemm.epilogue.name(),
    )
}

impl Epilogue {
    /// What a kernel's name says of it.
    pub(super) fn name(self) -> String {
        let bias = self.bias.map_or(String::new(), |b| format!("_bias{}", b.name()));
        let residual = if self.residual { "_residual" } else { "" };
        format!("{bias}{residual}{}_{}", self.activation.name(), self.output.name())
    }

    /// Bytes of residual and output an element.
    pub(super) fn bytes_an_element(self) -> u64 {
        u64::from(self.output.bytes()) * if self.residual { 2 } else { 1 }
    }
}
