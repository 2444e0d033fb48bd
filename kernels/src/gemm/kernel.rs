//! The kernel of the product.

use super::{Epilogue, Gemm, output::Output};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F16, F32, Launch, U64},
    span::Real,
    tile::{Major, Product, TileCopy},
};

/// C = f(op(A)·op(B)), or the partial sums if k is split.
///
/// A block computes a tile of C, or of a part's sums ([`Product::run`]). Must move 2(mk + kn) + |C| bytes and do 2mnk
/// operations: bound by the tensor cores if m, n and k exceed some hundreds, and by the weights' bytes otherwise.
/// and k pass some hundreds, and by the weights' bytes below.
pub(super) fn matrix_kernel(gemm: &Gemm, product: &Product, target: Target) -> Kernel {
    let Gemm { m, n, k: depth, epilogue, .. } = *gemm;
    let Product { shape, splits, .. } = *product;
    let launch =
        Launch::new("gemm", name(gemm, product), target).grid(product.grid()).block([shape.threads(), 1, 1]);
    let [wide_m, wide_n, wide_k] = [m, n, depth].map(u64::from);
    let output = if splits > 1 { 4 * u64::from(splits) } else { epilogue.bytes_an_element() };
    let bias = if splits > 1 { 0 } else { epilogue.bias.map_or(0, |b| u64::from(b.bytes())) * wide_n };
    let work = Work {
        bytes: 2 * (wide_m * wide_k + wide_k * wide_n) + output * wide_m * wide_n + bias,
        operations: 2 * wide_m * wide_n * wide_k,
    };
    let summary = format!(
        "C = A*B for m {m}, n {n}, k {depth}; tiles of {}x{}x{}, {} stages, k in {splits} parts",
        shape.m, shape.n, shape.k, shape.stages
    );
    Asm::kernel(launch, work, &summary, |asm| {
        let (a_pointer, b_pointer) = (asm.pointer::<F16>("a"), asm.pointer::<F16>("b"));
        let output = Output::parameters(asm, epilogue);
        let workspace = (splits > 1).then(|| asm.pointer::<F32>("workspace"));
        let place = product.place(asm);
        asm.step("copies of A and of B");
        let (a_tile, b_tile, threads) = ([shape.m, shape.k], [shape.n, shape.k], shape.threads());
        let a = TileCopy::new(asm, gemm.a_matrix(), a_pointer, a_tile, threads, place.row, &place);
        let b = TileCopy::new(asm, gemm.b_matrix(), b_pointer, b_tile, threads, place.column, &place);
        product.run(asm, place, [&a, &b], |row, column, sums| {
            let index = row.mad(n, column);
            match workspace {
                None => output.store(index, column, sums),
                Some(parts) => {
                    F32::store(parts.at_wide(place.part.mul_wide(m * n) + index.to::<U64>()), sums);
                }
            }
        });
    })
}

/// A name that is unique to the text.
fn name(gemm: &Gemm, &Product { shape, splits, .. }: &Product) -> String {
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
    /// The options' part of a kernel's name.
    pub(crate) fn name(self) -> String {
        let bias = self.bias.map_or(String::new(), |b| format!("_bias{}", b.name()));
        let residual = if self.residual { "_residual" } else { "" };
        format!("{bias}{residual}{}_{}", self.activation.name(), self.output.name())
    }

    /// Bytes of residual and output per element.
    pub(super) fn bytes_an_element(self) -> u64 {
        u64::from(self.output.bytes()) * if self.residual { 2 } else { 1 }
    }
}
