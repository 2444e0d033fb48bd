//! Transposed 2-D convolution, the adjoint of [`super::conv2d`]: its forward pass is that operator's dgrad, its dgrad
//! is that one's fprop, and its wgrad is that one's wgrad with x and dy exchanged.
//!
//! y[n, iy·s + ky − p, ix·s + kx − p, o] += x[n,iy,ix,i] · w[i,ky,kx,o]

#[cfg(feature = "cuda")]
use super::conv2d::cuda;
use super::conv2d::{Geometry, cpu};
use crate::{
    Backward, Device, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer, cpu::column_sums,
};

/// Attributes of a transposed convolution: rows first, then columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose2d {
    /// Distance between neighbouring inputs' footprints.
    pub stride: [usize; 2],
    /// Rows and columns cut from each side of the output.
    pub padding: [usize; 2],
    /// Rows and columns added at the end of the output; smaller than the stride.
    pub output_padding: [usize; 2],
}

impl ConvTranspose2d {
    /// The same attributes in both directions, without output padding.
    pub fn square(stride: usize, padding: usize) -> Self {
        Self { stride: [stride; 2], padding: [padding; 2], output_padding: [0; 2] }
    }

    /// The convolution that this one is the adjoint of: from this one's output to its input.
    fn geometry(&self, x: &Shape, w: &Shape) -> Result<Geometry> {
        let op = "conv_transpose2d";
        let [n, h, width, cin] = x.dims(op, "x [N,H,W,C]")?;
        let [in_channels, kh, kw, cout] = w.dims(op, "weight [in,kh,kw,out]")?;
        let fail = |message: String| Err(Error::shape(op, message));
        if in_channels != cin {
            return fail(format!("x {x} has {cin} channels and the weight {w} takes {in_channels}"));
        }
        if self.stride.contains(&0) || x.numel() == 0 || w.numel() == 0 {
            return fail(format!("stride {:?}, x {x} and the weight {w} must be at least 1", self.stride));
        }
        let (mut input, mut bordered) = ([0; 2], [0; 2]);
        for (i, (side, k)) in [(h, kh), (width, kw)].into_iter().enumerate() {
            if self.output_padding[i] >= self.stride[i] {
                let (extra, stride) = (self.output_padding[i], self.stride[i]);
                return fail(format!("output padding {extra} must be smaller than the stride {stride}"));
            }
            let full = (side - 1)
                .checked_mul(self.stride[i])
                .and_then(|s| s.checked_add(k)?.checked_add(self.output_padding[i]));
            let cut = self.padding[i].checked_mul(2);
            (input[i], bordered[i]) = match (full, cut) {
                (Some(full), Some(cut)) if full > cut => (full - cut, full),
                _ => {
                    return fail(format!(
                        "padding {} leaves nothing of the output of x {x}",
                        self.padding[i]
                    ));
                }
            };
        }
        // The backward pass copies an image of y together with the part that the padding cut off.
        Shape::from([bordered[0], bordered[1], cout]).checked_numel(op)?;
        let (stride, padding) = (self.stride, self.padding);
        Ok(Geometry { n, input, cin: cout, output: [h, width], cout: cin, kernel: [kh, kw], stride, padding })
    }
}

impl Op for ConvTranspose2d {
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn keep_f32(&self, i: usize) -> bool {
        i == 2
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let g = self.geometry(inputs[0], inputs[1])?;
        if let Some(bias) = inputs.get(2)
            && bias[..] != [g.cin]
        {
            let message = format!("bias {bias} given where [{}] is expected", g.cin);
            return Err(Error::shape("conv_transpose2d", message));
        }
        Ok([g.n, g.input[0], g.input[1], g.cin].into())
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
            Device::Cpu => crate::dispatch!(x.dtype(), T => {
                let mut y = Buffer::<T>::uninit(g.n * g.input[0] * g.input[1] * g.cin);
                let bias = inputs.get(2).map(|b| b.values::<T>()).transpose()?;
                cpu::dgrad(&g, x.values()?, w.values()?, bias, &mut y, false);
                Ok(Tensor::from_buffer([g.n, g.input[0], g.input[1], g.cin], y))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => {
                let y = x.empty_like([g.n, g.input[0], g.input[1], g.cin])?;
                cuda::dgrad(&g, x, w, inputs.get(2).copied(), &y)?;
                Ok(y)
            }
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let [x, w] = cx.saved()?;
        let g = self.geometry(x.shape(), w.shape())?;
        match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let (xs, ws, d) = (x.values::<T>()?, w.values::<T>()?, dy.values::<T>()?);
                cx.accumulate(1, |dst, add| cpu::wgrad(&g, d, xs, dst, add))?;
                if cx.needs(2) {
                    cx.accumulate(2, |dst, add| column_sums(d, g.cin, dst, add))?;
                }
                if cx.needs(0) {
                    cx.accumulate(0, |dst, add| cpu::fprop(&g, d, ws, None, dst, add))?;
                }
                Ok(())
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => {
                cx.fill_wide(1, |dw| cuda::wgrad(&g, dy, &x, dw))?;
                if cx.needs(2) {
                    cx.fill(2, |db| cuda::bias_gradient(dy, db))?;
                }
                cx.fill(0, |dx| cuda::fprop_into(&g, dy, &w, None, dx))
            }
        }
    }
}

impl Tensor {
    /// Transposed convolution: x [N,H,W,in], weight [in,kh,kw,out], bias [out] →
    /// [N, (H−1)·s − 2p + kh + output padding, …, out].
    pub fn conv_transpose2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        attributes: ConvTranspose2d,
    ) -> Result<Tensor> {
        match bias {
            Some(bias) => apply(attributes, &[self, weight, bias]),
            None => apply(attributes, &[self, weight]),
        }
    }
}
