//! Mamba's mixer between its two projections (Gu & Dao 2023, arXiv 2312.00752, section 3.4).
//!
//! With (x, z) = halves of uz: u = silu(conv1d(x)), (δ, B, C) = columns of u·W_xᵀ, Δ = softplus(δ·W_dtᵀ + b_dt),
//! A = −exp(A_log), y = scan(u, Δ, A, B, C, D)·silu(z).
//!
//! On the CPU it is composed of operators. On a device it is one operator: its kernels read x, z, B and C inside the
//! projections' rows and write their gradients there, so no tensor is split or concatenated. Convolution with SiLU is
//! one kernel, and softplus with scan, skip and gate is another.

#[cfg(feature = "cuda")]
mod cuda;

#[cfg(feature = "cuda")]
use crate::{Device, apply};
use crate::{Error, Result, Shape, Tensor};

/// The mixer's parameters; D channels, N states, K taps, R columns of δ.
#[derive(Clone, Copy)]
pub struct MambaInner<'a> {
    /// Weight of the causal convolution, [K, D].
    pub conv_weight: &'a Tensor,
    /// Bias of the causal convolution, [D].
    pub conv_bias: &'a Tensor,
    /// W_x of the projection to (δ, B, C), [R + 2·N, D].
    pub x_proj: &'a Tensor,
    /// W_dt of the projection from δ to Δ, [D, R].
    pub dt_proj: &'a Tensor,
    /// b_dt, the bias of Δ, [D].
    pub dt_bias: &'a Tensor,
    /// A_log, where A = −exp(A_log), [D, N].
    pub a_log: &'a Tensor,
    /// D, the weight of the skip connection, [D].
    pub d: &'a Tensor,
}

/// Sizes of the mixer's inputs.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "the kernels' sizes"))]
struct Sizes {
    batch: usize,
    length: usize,
    channels: usize,
    states: usize,
    rank: usize,
    taps: usize,
}

fn sizes(inputs: &[&Shape]) -> Result<Sizes> {
    let op = "mamba_inner";
    let [uz, conv_weight, conv_bias, x_proj, dt_proj, dt_bias, a_log, d] = inputs else {
        return Err(Error::shape(op, "takes eight inputs"));
    };
    let [batch, length, both] = uz.dims(op, "uz [B,L,2·D]")?;
    let [taps, channels] = conv_weight.dims(op, "conv weight [K,D]")?;
    let [rows, states] = a_log.dims(op, "A_log [D,N]")?;
    let [out, rank] = dt_proj.dims(op, "dt_proj [D,R]")?;
    let fits = both == 2 * channels
        && [rows, out] == [channels; 2]
        && x_proj[..] == [rank + 2 * states, channels]
        && [conv_bias, dt_bias, d].iter().all(|s| s[..] == [channels])
        && uz.numel() * states * rank * taps > 0;
    if !fits {
        let message = format!(
            "uz {uz}, conv {conv_weight} and {conv_bias}, x_proj {x_proj}, dt_proj {dt_proj} and {dt_bias}, A_log {a_log}, \
             D {d} do not fit or are empty"
        );
        return Err(Error::shape(op, message));
    }
    Ok(Sizes { batch, length, channels, states, rank, taps })
}

impl Tensor {
    /// The mixer between its projections: uz (self) [B,L,2·D] → [B,L,D].
    pub fn mamba_inner(&self, w: &MambaInner) -> Result<Tensor> {
        let inputs = [self, w.conv_weight, w.conv_bias, w.x_proj, w.dt_proj, w.dt_bias, w.a_log, w.d];
        #[cfg(feature = "cuda")]
        if self.device() == Device::Cuda {
            return apply(cuda::Inner, &inputs);
        }
        let Sizes { channels, states, rank, .. } = sizes(&inputs.map(Tensor::shape))?;
        let (x, z) = (self.slice(2, 0, channels)?, self.slice(2, channels, channels)?);
        let u = x.causal_conv1d(w.conv_weight, w.conv_bias)?.silu()?;
        drop(x);
        let projected = u.linear(w.x_proj, None)?;
        let dt = projected.slice(2, 0, rank)?;
        let b = projected.slice(2, rank, states)?;
        let c = projected.slice(2, rank + states, states)?;
        let delta = dt.linear(w.dt_proj, Some(w.dt_bias))?.softplus()?;
        let a = w.a_log.exp()?.scale(-1.0)?;
        let y = u.selective_scan(&delta, &a, &b, &c, w.d)?;
        y.mul(&z.silu()?)
    }
}
