//! A pass of a convolution as a product on the tensor cores.

use super::gather::{Patches, PhaseWeights};
use crate::{
    Kernel, Target, Work,
    gemm::{Epilogue, Output},
    ptx::{Asm, F16, F32, Global, Launch, Reg, U32, U64},
    span::Real,
    tile::{BlockTile, GatherCopy, Matrix, Product, Source, TileCopy},
};

/// How an operand is stored.
pub enum Operand {
    /// A matrix in memory.
    Matrix(Matrix),
    /// Patches of images, gathered.
    Patches(Patches),
    /// The taps of a phase in the weights.
    PhaseWeights(PhaseWeights),
}

/// The output row of each row of the product.
pub enum Places {
    /// The row with the same index.
    Rows,
    /// The pixels of an image whose coordinates are `phase` modulo the stride.
    Phase {
        /// The grid of pixels that the rows count.
        patches: Patches,
        /// Height and width of the image.
        image: [u32; 2],
        /// Distance between neighbouring windows, in pixels.
        stride: [u32; 2],
        /// Remainder of the coordinates divided by the stride.
        phase: [u32; 2],
    },
}

/// A product of gathered operands.
pub struct Implicit {
    /// Sizes of the product, and its cut into tiles and parts.
    pub product: Product,
    /// Operand A, whose outer index is the product's row.
    pub a: Operand,
    /// Operand B, whose outer index is the product's column.
    pub b: Operand,
    /// The output row of each row of the product.
    pub places: Places,
}

impl Implicit {
    /// The kernel. It must move `bytes` (plus the traffic of the epilogue and the split) and do 2mnk operations. Bound
    /// by the tensor cores for many channels, by memory for few.
    pub fn kernel(&self, name: String, bytes: u64, epilogue: Epilogue, target: Target) -> Kernel {
        let product = self.product;
        let Product { m, n, k: depth, shape, splits, .. } = product;
        let parts = if splits > 1 { format!("_split{splits}") } else { String::new() };
        let name = format!("{name}_t{}x{}x{}{parts}{}", shape.m, shape.n, shape.k, epilogue.name());
        let launch = Launch::new("conv", name, target).grid(product.grid()).block([shape.threads(), 1, 1]);
        let [wide_m, wide_n, wide_k] = [m, n, depth].map(u64::from);
        let work = Work { bytes: bytes + product.workspace(), operations: 2 * wide_m * wide_n * wide_k };
        let summary = format!(
            "an implicit product, m {m}, n {n}, k {depth}; tiles of {}x{}x{}, {} stages, k in {splits} parts",
            shape.m, shape.n, shape.k, shape.stages
        );
        Asm::kernel(launch, work, &summary, |asm| {
            let (a, b) = (asm.pointer::<F16>("a"), asm.pointer::<F16>("b"));
            let output = Output::parameters(asm, epilogue);
            let workspace = (splits > 1).then(|| asm.pointer::<F32>("workspace"));
            let place = product.place(asm);
            asm.step("copies of A and of B");
            let a = self.a.source(asm, a, [shape.m, shape.k], shape.threads(), place.row, &place);
            let b = self.b.source(asm, b, [shape.n, shape.k], shape.threads(), place.column, &place);
            product.run(asm, place, [&*a, &*b], |row, column, sums| match workspace {
                None => output.store(self.places.row(asm, row).mad(n, column), column, sums),
                Some(parts) => {
                    let at = place.part.mul_wide(m * n) + row.mad(n, column).to::<U64>();
                    F32::store(parts.at_wide(at), sums);
                }
            });
        })
    }
}

impl Operand {
    fn source<'a>(
        &self,
        asm: &'a Asm,
        pointer: Global<'a, F16>,
        tile: [u32; 2],
        threads: u32,
        outer: Reg<'a, U32>,
        place: &BlockTile<'a>,
    ) -> Box<dyn Source<'a> + 'a> {
        match *self {
            Self::Matrix(matrix) => {
                Box::new(TileCopy::new(asm, matrix, pointer, tile, threads, outer, place))
            }
            Self::Patches(patches) => {
                Box::new(GatherCopy::new(asm, patches, pointer, tile, threads, outer, place))
            }
            Self::PhaseWeights(weights) => {
                Box::new(GatherCopy::new(asm, weights, pointer, tile, threads, outer, place))
            }
        }
    }
}

impl Places {
    /// The output row for row `index` of the product.
    fn row<'a>(&self, asm: &'a Asm, index: Reg<'a, U32>) -> Reg<'a, U32> {
        match *self {
            Self::Rows => index,
            Self::Phase { patches, image, stride, phase } => {
                let [n, a, b] = patches.pixel(asm, index);
                let (y, x) = (a * stride[0] + phase[0], b * stride[1] + phase[1]);
                n.mad(image[0], y).mad(image[1], x)
            }
        }
    }
}
