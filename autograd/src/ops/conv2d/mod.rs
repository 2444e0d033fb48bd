//! 2-D convolution (cross-correlation, as everywhere in deep learning).
//!
//! y[n,oy,ox,o] = bias[o] + Σ_{ky,kx,i} x[n, oy·s + ky − p, ox·s + kx − p, i] · w[o,ky,kx,i]
//!
//! Images are NHWC; the weight is [out, kh, kw, in] in memory, so that a patch row and a weight row are both contiguous.
//! The two gradients are convolutions too: dgrad correlates dy with the flipped kernel (one sub-kernel for each phase of
//! the stride), wgrad correlates x with dy (Dumoulin & Visin 2016, arXiv 1603.07285).

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use crate::{Backward, Device, Error, Forward, Op, Result, Shape, Tensor, apply, cpu::column_sums};

/// Attributes of a convolution: rows first, then columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Distance between neighbouring outputs' patches.
    pub stride: [usize; 2],
    /// Zeros added on each side.
    pub padding: [usize; 2],
}

impl Conv2d {
    /// The same stride and padding in both directions.
    pub fn square(stride: usize, padding: usize) -> Self {
        Self { stride: [stride; 2], padding: [padding; 2] }
    }
}

/// All sizes of one convolution, seen as y = conv(x, w).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub n: usize,
    /// Height and width of x.
    pub input: [usize; 2],
    /// Number of channels of x.
    pub cin: usize,
    /// Height and width of y.
    pub output: [usize; 2],
    /// Number of channels of y.
    pub cout: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
}

impl Geometry {
    /// Elements of the weight per output channel.
    pub fn patch(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.cin
    }

    /// Floating-point operations of any of the three passes, padding counted as pixels.
    pub fn operations(&self) -> u64 {
        2 * (self.n * self.output[0] * self.output[1] * self.cout * self.patch()) as u64
    }
}

impl Conv2d {
    fn geometry(&self, x: &Shape, w: &Shape) -> Result<Geometry> {
        let [n, h, width, cin] = x.dims("conv2d", "x [N,H,W,C]")?;
        let [cout, kh, kw, in_channels] = w.dims("conv2d", "weight [out,kh,kw,in]")?;
        let fail = |message: String| Err(Error::shape("conv2d", message));
        if in_channels != cin {
            return fail(format!("x {x} has {cin} channels and the weight {w} takes {in_channels}"));
        }
        if self.stride.contains(&0) || x.numel() == 0 || w.numel() == 0 {
            return fail(format!("stride {:?}, x {x} and the weight {w} must be at least 1", self.stride));
        }
        let (mut output, mut bordered) = ([0; 2], [0; 2]);
        for (i, (side, k)) in [(h, kh), (width, kw)].into_iter().enumerate() {
            let padded = self.padding[i].checked_mul(2).and_then(|p| side.checked_add(p)).filter(|&p| p >= k);
            let Some(padded) = padded else {
                let p = self.padding[i];
                return fail(format!("kernel {kh}x{kw} is larger than x {x} with padding {p}"));
            };
            output[i] = (padded - k) / self.stride[i] + 1;
            bordered[i] = padded;
        }
        // The passes copy an image with its border; a large stride shrinks y and not the border.
        Shape::from([bordered[0], bordered[1], cin]).checked_numel("conv2d")?;
        let (stride, padding) = (self.stride, self.padding);
        Ok(Geometry { n, input: [h, width], cin, output, cout, kernel: [kh, kw], stride, padding })
    }
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn keep_f32(&self, i: usize) -> bool {
        i == 2
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let g = self.geometry(inputs[0], inputs[1])?;
        if let Some(bias) = inputs.get(2)
            && bias[..] != [g.cout]
        {
            return Err(Error::shape("conv2d", format!("bias {bias} given where [{}] is expected", g.cout)));
        }
        Ok([g.n, g.output[0], g.output[1], g.cout].into())
    }

    fn operations(&self, inputs: &[&Shape]) -> u64 {
        self.geometry(inputs[0], inputs[1]).map_or(0, |g| g.operations())
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let (x, w) = (inputs[0], inputs[1]);
        let g = self.geometry(x.shape(), w.shape())?;
        cx.save(x);
        cx.save(w);
        match x.device() {
            Device::Cpu => cpu::forward(&g, x, w, inputs.get(2).copied()),
            #[cfg(feature = "cuda")]
            Device::Cuda => cuda::fprop(&g, x, w, inputs.get(2).copied()),
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let [x, w] = cx.saved()?;
        let g = self.geometry(x.shape(), w.shape())?;
        match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let (x, w, d) = (x.values::<T>()?, w.values::<T>()?, dy.values::<T>()?);
                cx.accumulate(1, |dst, add| {
                    cpu::wgrad(&g, x, d, dst, add);
                })?;
                if cx.needs(2) {
                    cx.accumulate(2, |dst, add| column_sums(d, g.cout, dst, add))?;
                }
                if cx.needs(0) {
                    cx.accumulate(0, |dst, add| cpu::dgrad(&g, d, w, None, dst, add))?;
                }
                Ok(())
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => {
                cx.fill_wide(1, |dw| cuda::wgrad(&g, &x, dy, dw))?;
                if cx.needs(2) {
                    cx.fill(2, |db| cuda::bias_gradient(dy, db))?;
                }
                cx.fill(0, |dx| cuda::dgrad(&g, dy, &w, None, dx))
            }
        }
    }
}

impl Tensor {
    /// Convolution: x [N,H,W,in], weight [out,kh,kw,in], bias [out] → [N,H',W',out].
    pub fn conv2d(&self, weight: &Tensor, bias: Option<&Tensor>, attributes: Conv2d) -> Result<Tensor> {
        match bias {
            Some(bias) => apply(attributes, &[self, weight, bias]),
            None => apply(attributes, &[self, weight]),
        }
    }
}
