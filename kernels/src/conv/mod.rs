//! 2-D convolutions on the tensor cores as implicit matrix products: patches are gathered from the images into shared
//! memory, and no patch matrix is stored.
//!
//! Images are NHWC, weights [out, kh, kw, in], everything binary16 with f32 sums. fprop is y = patches(x)·wᵀ. dgrad
//! gathers dy once for each phase of the stride, with the taps that reach that phase, so that it multiplies no zeros
//! inserted by the stride (Dumoulin & Visin 2016, arXiv 1603.07285). wgrad is dyᵀ·patches(x). A transposed convolution
//! is the dgrad of the convolution from its output to its input, and its dgrad is that one's fprop.

mod gather;
mod kernel;

use crate::{
    Error, Kernel, Plan, Result, Target,
    gemm::{Dtype, Epilogue, Gemm, reduce_kernel},
    tile::{Major, Matrix, Product},
};
use gather::{Patches, PhaseWeights};
use kernel::{Implicit, Operand, Places};

/// A convolution of x [count, input, cin] with weights [cout, kernel, cin], rows first, then columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Number of images N in the batch.
    pub count: u32,
    /// Height and width of x.
    pub input: [u32; 2],
    /// Number of channels of x.
    pub cin: u32,
    /// Number of channels of y.
    pub cout: u32,
    /// Height and width of the kernel.
    pub kernel: [u32; 2],
    /// Distance between neighbouring outputs' patches.
    pub stride: [u32; 2],
    /// Zeros added on each side.
    pub padding: [u32; 2],
}

impl Conv {
    /// Height and width of y.
    pub fn output(&self) -> [u32; 2] {
        [0, 1].map(|i| {
            (self.input[i] + 2 * self.padding[i]).saturating_sub(self.kernel[i]) / self.stride[i].max(1) + 1
        })
    }

    fn pixels(&self, [height, width]: [u32; 2]) -> u32 {
        self.count * height * width
    }

    fn patch(&self) -> u32 {
        self.kernel[0] * self.kernel[1] * self.cin
    }

    fn check(&self) -> Result<()> {
        let Self { count, input, cin, cout, kernel, stride, padding } = *self;
        let fail = |message: String| Err(Error::new("conv", message));
        if [count, input[0], input[1], cin, cout, kernel[0], kernel[1], stride[0], stride[1]].contains(&0) {
            return fail(format!("{self:?}: sizes start at 1"));
        }
        for i in 0..2 {
            let padded = u64::from(input[i]) + 2 * u64::from(padding[i]);
            if padded >= 1 << 30 || padded < u64::from(kernel[i]) {
                return fail(format!(
                    "a kernel of {kernel:?} on images of {input:?} with a border of {padding:?}"
                ));
            }
        }
        let product = |sizes: &[u32]| sizes.iter().map(|&n| u128::from(n)).product::<u128>();
        let output = self.output();
        let largest = [
            product(&[count, input[0], input[1], cin.max(cout)]),
            product(&[count, output[0], output[1], cin.max(cout)]),
            product(&[cout, kernel[0], kernel[1], cin]),
        ];
        if largest.iter().any(|&n| n >= 1 << 31) {
            return fail(format!("{self:?}: images and weights end below 2³¹ elements"));
        }
        Ok(())
    }

    /// Whether it is a plain matrix product: a 1×1 kernel with stride 1 and without padding.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    fn name(&self, pass: &str) -> String {
        let Self { count, input, cin, cout, kernel, stride, padding } = self;
        let by = |[a, b]: &[u32; 2]| format!("{a}x{b}");
        format!(
            "conv_{pass}_n{count}_{}_c{cin}_o{cout}_k{}_s{}_p{}",
            by(input),
            by(kernel),
            by(stride),
            by(padding)
        )
    }

    /// Total size of x, w and y in bytes.
    fn bytes(&self) -> u64 {
        let images = u64::from(self.pixels(self.input)) * u64::from(self.cin)
            + u64::from(self.pixels(self.output())) * u64::from(self.cout);
        2 * (images + u64::from(self.patch()) * u64::from(self.cout))
    }

    /// y[n, oy, ox, o] = f(Σ x[n, oy·s + ky − p, ox·s + kx − p, i]·w[o, ky, kx, i]).
    /// Arguments: x, w, the bias [cout] and the residual (as y) if the epilogue has them, y, the workspace.
    ///
    /// # Errors
    /// Sizes of 0, kernels larger than the padded image, tensors of 2³¹ elements or more.
    pub fn fprop(&self, epilogue: Epilogue, target: Target) -> Result<Plan> {
        self.check()?;
        let (m, n, k) = (self.pixels(self.output()), self.cout, self.patch());
        let majors = [Major::K, Major::K];
        if self.is_pointwise() {
            return Gemm { m, n, k, a: majors[0], b: majors[1], epilogue }.plan(target);
        }
        // Patches of an odd number of channels are gathered element by element.
        let odd = self.cin % 2 == 1;
        let product =
            if odd { Product::choose_frugal([m, n, k], majors) } else { Product::choose([m, n, k], majors) };
        Ok(self.plan("fprop", product, epilogue, target, |product| Implicit {
            product,
            a: Operand::Patches(self.patches()),
            b: Operand::Matrix(Matrix { outer: n, k, major: Major::K }),
            places: Places::Rows,
        }))
    }

    /// dx = f(the adjoint of [`Conv::fprop`], without its epilogue), from dy; the bias of its own epilogue has cin
    /// elements. Arguments: dy, w, the bias and the residual (as dx) if the epilogue has them, dx.
    ///
    /// # Errors
    /// As [`Conv::fprop`].
    pub fn dgrad(&self, epilogue: Epilogue, target: Target) -> Result<Plan> {
        self.check()?;
        if self.is_pointwise() {
            let (m, k) = (self.pixels(self.input), self.cout);
            return Gemm { m, n: self.cin, k, a: Major::K, b: Major::Outer, epilogue }.plan(target);
        }
        let phases = (0..self.stride[0]).flat_map(|y| (0..self.stride[1]).map(move |x| [y, x]));
        let kernels = phases.filter_map(|phase| self.phase(phase, epilogue, target)).collect();
        Ok(Plan { kernels, workspace_bytes: 0 })
    }

    /// The part of dgrad for the rows and columns of dx that are `phase` modulo the stride; `None` if there are none.
    fn phase(&self, phase: [u32; 2], epilogue: Epilogue, target: Target) -> Option<Kernel> {
        // Row y of dx reads output row (y + p − ky)/s, which is an integer for every s-th tap.
        let along = |i: usize| {
            let (s, reach) = (self.stride[i], phase[i] + self.padding[i]);
            let first = reach % s;
            let rows = self.input[i].saturating_sub(phase[i]).div_ceil(s);
            let taps = self.kernel[i].saturating_sub(first).div_ceil(s);
            (rows, first, taps, (reach / s) as i32)
        };
        let ((rows, first_y, taps_y, origin_y), (columns, first_x, taps_x, origin_x)) = (along(0), along(1));
        if rows == 0 || columns == 0 {
            return None;
        }
        let taps = [taps_y, taps_x];
        let pixels = [rows, columns];
        let patches = Patches {
            image: self.output(),
            channels: self.cout,
            count: self.count,
            pixels,
            stride: [1, 1],
            origin: [origin_y, origin_x],
            taps,
            backward: true,
            pixels_are_depth: false,
        };
        let weights = PhaseWeights {
            out: self.cout,
            channels: self.cin,
            kernel: self.kernel,
            first: [first_y, first_x],
            step: self.stride,
            taps,
        };
        let (m, k) = (patches.pixel_count(), patches.patch());
        let (sizes, majors) = ([m, self.cin, k], [Major::K, Major::Outer]);
        let odd = self.cin % 2 == 1 || self.cout % 2 == 1;
        let product =
            if odd { Product::choose_frugal(sizes, majors) } else { Product::choose_whole(sizes, majors) };
        let implicit = Implicit {
            product,
            a: Operand::Patches(patches),
            b: Operand::PhaseWeights(weights),
            places: Places::Phase { patches, image: self.input, stride: self.stride, phase },
        };
        let name = self.name(&format!("dgrad{}{}", phase[0], phase[1]));
        // Each phase writes its part of dx, and reads its part of the weights.
        let bytes = self.bytes() / u64::from(self.stride[0] * self.stride[1]);
        Some(implicit.kernel(name, bytes, epilogue, target))
    }

    /// dw[o, ky, kx, i] = f(Σ dy[n, oy, ox, o]·x[n, oy·s + ky − p, ox·s + kx − p, i]), usually in f32; k is split and
    /// its parts are added in a fixed order. Arguments: dy, x, the residual (as dw) if the epilogue has it, dw, the
    /// workspace.
    ///
    /// # Errors
    /// As [`Conv::fprop`].
    pub fn wgrad(&self, epilogue: Epilogue, target: Target) -> Result<Plan> {
        self.check()?;
        let (m, n, k) = (self.cout, self.patch(), self.pixels(self.output()));
        let majors = [Major::Outer, Major::Outer];
        if self.is_pointwise() {
            return Gemm { m, n, k, a: majors[0], b: majors[1], epilogue }.plan(target);
        }
        Ok(self.plan("wgrad", Product::choose([m, n, k], majors), epilogue, target, |product| Implicit {
            product,
            a: Operand::Matrix(Matrix { outer: m, k, major: Major::Outer }),
            b: Operand::Patches(Patches { pixels_are_depth: true, ..self.patches() }),
            places: Places::Rows,
        }))
    }

    fn patches(&self) -> Patches {
        Patches {
            image: self.input,
            channels: self.cin,
            count: self.count,
            pixels: self.output(),
            stride: self.stride,
            origin: self.padding.map(|p| -(p as i32)),
            taps: self.kernel,
            backward: false,
            pixels_are_depth: false,
        }
    }

    fn plan(
        &self,
        pass: &str,
        product: Product,
        epilogue: Epilogue,
        target: Target,
        implicit: impl FnOnce(Product) -> Implicit,
    ) -> Plan {
        let first = implicit(product).kernel(self.name(pass), self.bytes(), epilogue, target);
        let second = (product.splits > 1).then(|| reduce_kernel(&product, epilogue, target));
        Plan { kernels: std::iter::once(first).chain(second).collect(), workspace_bytes: product.workspace() }
    }
}

/// The convolutions of `base` at 16 sequences of 10 frames, and difficult sizes.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let conv = |count, side, cin, cout, kernel, stride, padding| Conv {
        count,
        input: [side; 2],
        cin,
        cout,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
    };
    let convs = [
        conv(160, 64, 3, 64, 7, 2, 3),
        conv(160, 16, 64, 64, 3, 1, 1),
        conv(160, 16, 64, 128, 3, 2, 1),
        conv(160, 16, 64, 128, 1, 2, 0),
        conv(160, 8, 256, 256, 3, 1, 1),
        conv(32, 8, 256, 512, 4, 2, 1),
        conv(2, 9, 6, 12, 3, 2, 1),
        conv(2, 9, 5, 7, 3, 1, 1),
    ];
    let half = Epilogue::plain(Dtype::F16);
    let grad = Epilogue { residual: true, ..Epilogue::plain(Dtype::F32) };
    convs
        .iter()
        .flat_map(|c| [c.fprop(half, target), c.dgrad(half, target), c.wgrad(grad, target)])
        .flatten()
        .flat_map(|plan| plan.kernels)
        .collect()
}
