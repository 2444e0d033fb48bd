//! The Mamba mixer, a composite of tensor operators.

use ssmv_autograd::{DType, Tensor};

use super::{
    case::Case,
    compare::Outputs,
    graph::{Graph, to_taps_first},
};
use crate::{Error, Result};

/// Mamba-1's mixer (Gu & Dao 2023) of x [B,L,dim], parameters named as mamba_ssm does:
/// (u, z) = in_proj(x);  u ← silu(causal_conv1d(u));  (dt, B, C) = x_proj(u);
/// y = scan(u, softplus(dt_proj(dt)), −exp(A_log), B, C, D);  out_proj(y·silu(z)).
pub(super) fn mamba_mixer(case: &Case, dtype: DType) -> Result<Outputs> {
    let mut graph = Graph::new(case, dtype);
    let x = graph.input("x")?;
    let in_proj = graph.param("in_proj.weight")?;
    let (conv_weight, conv_bias) = (graph.param("conv1d.weight")?, graph.param("conv1d.bias")?);
    let x_proj = graph.param("x_proj.weight")?;
    let (dt_weight, dt_bias) = (graph.param("dt_proj.weight")?, graph.param("dt_proj.bias")?);
    let (a_log, d) = (graph.param("A_log")?, graph.param("D")?);
    let out_proj = graph.param("out_proj.weight")?;

    let [batch, length, _] = x.shape().dims("mamba_mixer", "x [B,L,dim]")?;
    let [inner, state] = a_log.shape().dims("mamba_mixer", "A_log [inner,state]")?;
    let [_, rank] = dt_weight.shape().dims("mamba_mixer", "dt_proj.weight [inner,rank]")?;
    let widest = inner.saturating_mul(2).max(rank.saturating_add(state.saturating_mul(2)));
    graph.room(&[batch, length, widest])?;
    for (what, weight, rows) in [
        ("in_proj.weight", &in_proj, 2 * inner),
        ("x_proj.weight", &x_proj, rank + 2 * state),
        ("dt_proj.weight", &dt_weight, inner),
    ] {
        if weight.shape().first() != Some(&rows) {
            return Err(Error::Failure(format!("{what} {} should have {rows} rows", weight.shape())));
        }
    }
    if out_proj.shape().first() != x.shape().last() {
        return Err(Error::Failure(format!(
            "out_proj.weight {} does not fit x {}",
            out_proj.shape(),
            x.shape()
        )));
    }

    let last = |t: &Tensor, start, len| t.slice(2, start, len);
    let uz = x.linear(&in_proj, None)?;
    let (u, z) = (last(&uz, 0, inner)?, last(&uz, inner, inner)?);
    let u = u.causal_conv1d(&to_taps_first(&conv_weight)?, &conv_bias)?.silu()?;
    let dt_b_c = u.linear(&x_proj, None)?;
    let dt = last(&dt_b_c, 0, rank)?.linear(&dt_weight, Some(&dt_bias))?.softplus()?;
    let (b, c) = (last(&dt_b_c, rank, state)?, last(&dt_b_c, rank + state, state)?);
    let y = u.selective_scan(&dt, &a_log.exp()?.scale(-1.0)?, &b, &c, &d)?;
    let y = y.mul(&z.silu()?)?.linear(&out_proj, None)?;
    graph.finish(&y)
}
