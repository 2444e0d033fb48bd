//! The second kernel of a product whose k is split.

use super::{Epilogue, output::Output};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F16, F32, Launch},
    span::Real,
    tile::Product,
};

/// Number of threads per block.
const BLOCK: u32 = 256;

/// C[i] = f(Σₛ workspace[s][i]), the parts added in order: every run gives the same bits. Must read 4 bytes per part
/// and element and write C: bound by memory (mostly L2).
pub(crate) fn reduce_kernel(product: &Product, epilogue: Epilogue, target: Target) -> Kernel {
    let Product { m, n, splits, .. } = *product;
    let width = if n.is_multiple_of(4) { 4 } else { 1 };
    let total = m * n;
    let name = format!("gemm_reduce_m{m}_n{n}_split{splits}{}", epilogue.name());
    let launch = Launch::new("gemm", name, target).threads(BLOCK, (total / width).into());
    let elements = u64::from(total);
    let work = Work {
        bytes: elements * (4 * u64::from(splits) + epilogue.bytes_an_element()),
        operations: elements * u64::from(splits),
    };
    Asm::kernel(launch, work, &format!("C = the sum of {splits} parts, in order"), |asm| {
        // The launch passes the same arguments to both kernels; this one ignores the first two.
        let _ = (asm.pointer::<F16>("a"), asm.pointer::<F16>("b"));
        let output = Output::parameters(asm, epilogue);
        let workspace = asm.pointer::<F32>("workspace");
        let i = asm.global_thread() * width;
        asm.if_(i.lt(total), || {
            let (_, column) = asm.divide(i, n);
            let first = workspace.at(i);
            let part = |s: u32| {
                let at = first.plus(i64::from(s) * i64::from(total));
                F32::load(at, width)
            };
            let sums = (1..splits)
                .fold(part(0), |sums, s| sums.into_iter().zip(part(s)).map(|(sum, x)| sum + x).collect());
            output.store(i, column, &sums);
        });
    })
}
