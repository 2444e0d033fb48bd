//! The selective state-space scan of Mamba (Gu & Dao 2023, arXiv 2312.00752, algorithm 2), a whole operator.
//!
//! h_t = exp(Δ_t·A)·h_{t−1} + Δ_t·B_t·u_t,  y_t = C_t·h_t + D·u_t, with h [D,N] of each sequence and h_{−1} = 0.
//!
//! With λ_t = C_t·dy_t + exp(Δ_{t+1}·A)·λ_{t+1} (the gradient that arrives at h_t) and e_t = λ_t·exp(Δ_t·A)·h_{t−1}:
//! dA = Σ Δ_t·e_t, dΔ_t = Σ_n A·e_t + λ_t·B_t·u_t, du_t = D·dy_t + Σ_n λ_t·Δ_t·B_t, dB_t = Σ_d λ_t·Δ_t·u_t,
//! dC_t = Σ_d dy_t·h_t, dD = Σ dy_t·u_t.
//!
//! The forward pass saves only its inputs. The backward pass recomputes the states from checkpoints √L steps apart, so
//! its memory grows with √L and its time with L.

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use crate::{Backward, Device, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer};

/// Selective scan; inputs u [B,L,D], Δ [B,L,D], A [D,N], B [B,L,N], C [B,L,N], D [D].
pub struct SelectiveScan;

#[derive(Clone, Copy)]
struct Sizes {
    length: usize,
    channels: usize,
    states: usize,
}

fn sizes(inputs: &[&Shape]) -> Result<Sizes> {
    let op = "selective_scan";
    let [batch, length, channels] = inputs[0].dims(op, "u [B,L,D]")?;
    let [rows, states] = inputs[2].dims(op, "A [D,N]")?;
    let bc: Shape = [batch, length, states].into();
    let fits = inputs[1] == inputs[0]
        && rows == channels
        && *inputs[3] == bc
        && *inputs[4] == bc
        && inputs[5][..] == [channels]
        && batch * length * channels * states > 0;
    if !fits {
        let [u, delta, a, b, c, d] = inputs else {
            return Err(Error::shape(op, "takes six inputs"));
        };
        let message = format!("u {u}, delta {delta}, A {a}, B {b}, C {c}, D {d} do not fit or are empty");
        return Err(Error::shape(op, message));
    }
    Ok(Sizes { length, channels, states })
}

impl Op for SelectiveScan {
    fn name(&self) -> &'static str {
        "selective_scan"
    }

    fn keep_f32(&self, i: usize) -> bool {
        i == 2 || i == 5
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        sizes(inputs)?;
        Ok(inputs[0].clone())
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        inputs.iter().for_each(|t| cx.save(t));
        let shapes: Vec<&Shape> = inputs.iter().map(|t| t.shape()).collect();
        let s = sizes(&shapes)?;
        match inputs[0].device() {
            Device::Cpu => crate::dispatch!(inputs[0].dtype(), T => {
                let y = cpu::forward::<T>(s, &cpu::Inputs::of(inputs)?);
                Ok(Tensor::from_buffer(inputs[0].shape().clone(), y))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => cuda::forward(s, inputs),
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let saved = cx.saved_all();
        let shapes: Vec<&Shape> = saved.iter().map(Tensor::shape).collect();
        let inputs: Vec<&Tensor> = saved.iter().collect();
        let s = sizes(&shapes)?;
        match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let gradients: [Buffer<T>; 6] = cpu::backward(s, &cpu::Inputs::of(&inputs)?, dy.values()?);
                for (i, (gradient, shape)) in gradients.into_iter().zip(shapes).enumerate() {
                    cx.give(i, Tensor::from_buffer(shape.clone(), gradient))?;
                }
                Ok(())
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => cuda::backward(s, cx, &inputs, dy),
        }
    }
}

impl Tensor {
    /// The selective scan of u (self) [B,L,D] with Δ [B,L,D], A [D,N], B and C [B,L,N] and D [D] → [B,L,D].
    pub fn selective_scan(
        &self,
        delta: &Tensor,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        d: &Tensor,
    ) -> Result<Tensor> {
        apply(SelectiveScan, &[self, delta, a, b, c, d])
    }
}
