//! Device functions of an operator's context: keep bytes, and launch gradients into their place.

use super::DeviceBuffer;
use crate::{Backward, DType, Error, Forward, Result, Tensor, tape::Edge};

impl Forward {
    /// Keeps bytes in device memory for the backward pass.
    pub fn save_device_bytes(&mut self, bytes: DeviceBuffer<u8>) {
        if self.recording() {
            self.saved.device_bytes = Some(bytes);
        }
    }
}

impl Backward<'_> {
    /// Takes out the bytes that the forward pass saved in device memory.
    pub fn saved_device_bytes(&mut self) -> Option<DeviceBuffer<u8>> {
        self.saved.device_bytes.take()
    }

    /// On a device: `write` launches the kernels that fill a tensor of the input's shape and dtype with the gradient of
    /// input `i`. For an f32 parameter that tensor is its place among the gradients. Does nothing if input `i` needs no
    /// gradient.
    pub fn fill(&mut self, i: usize, write: impl FnOnce(&Tensor) -> Result<()>) -> Result<()> {
        if !self.needs(i) {
            return Ok(());
        }
        self.fill_together([i], |[gradient]| write(gradient))
    }

    /// As [`Backward::fill`], for a launch that can write f32 even if the input is f16: a parameter's gradient is f32.
    pub fn fill_wide(&mut self, i: usize, write: impl FnOnce(&Tensor) -> Result<()>) -> Result<()> {
        if !self.needs(i) {
            return Ok(());
        }
        self.fill_in([i], true, |[gradient]| write(gradient))
    }

    /// [`Backward::fill`] for launches that write several inputs' gradients at once, whether they are needed or not.
    pub fn fill_together<const N: usize>(
        &mut self,
        inputs: [usize; N],
        write: impl FnOnce([&Tensor; N]) -> Result<()>,
    ) -> Result<()> {
        self.fill_in(inputs, false, write)
    }

    fn fill_in<const N: usize>(
        &mut self,
        inputs: [usize; N],
        wide: bool,
        write: impl FnOnce([&Tensor; N]) -> Result<()>,
    ) -> Result<()> {
        let cuda = self
            .cuda
            .clone()
            .ok_or_else(|| Error::misuse("backward", "the gradient is on the CPU, not on a device"))?;
        let mut gradients = Vec::with_capacity(N);
        for &i in &inputs {
            let (shape, dtype) = self.node.inputs[i].clone();
            // A parameter's gradient is written in place; any other gets a new tensor that is given afterwards.
            gradients.push(match &self.node.edges[i] {
                Some(Edge::Param { arena, index }) if wide || dtype == DType::F32 => {
                    match self.gradients.place(*arena, *index)? {
                        Some(place) => (place, true),
                        None => (Tensor::on_cuda(&cuda, shape, DType::F32, None)?, false),
                    }
                }
                _ => (Tensor::on_cuda(&cuda, shape, dtype, None)?, false),
            });
        }
        write(std::array::from_fn(|j| &gradients[j].0))?;
        for (i, (gradient, in_place)) in inputs.into_iter().zip(gradients) {
            match in_place {
                true => self.given[i] = true,
                false => self.give(i, gradient)?,
            }
        }
        Ok(())
    }
}
