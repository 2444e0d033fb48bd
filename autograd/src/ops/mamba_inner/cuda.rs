//! Launches of the mixer.

use ssmv_kernels::selective_scan::SelectiveScan;

use super::{Sizes, sizes};
use crate::{
    Backward, Error, Forward, Op, Result, Shape, Tensor,
    cuda::{Argument, plan::size},
    ops::{causal_conv1d::cuda as conv, layout, linear::cuda as linear, selective_scan::cuda as scan},
};

/// The device's operator; inputs uz and the parameters in the order of [`MambaInner`](super::MambaInner).
pub(super) struct Inner;

impl Op for Inner {
    fn name(&self) -> &'static str {
        "mamba_inner"
    }

    fn keep_f32(&self, i: usize) -> bool {
        !matches!(i, 0 | 3 | 4)
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let s = sizes(inputs)?;
        Ok([s.batch, s.length, s.channels].into())
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let shapes: Vec<&Shape> = inputs.iter().map(|t| t.shape()).collect();
        forward(cx, sizes(&shapes)?, inputs)
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let saved = cx.saved_all();
        let [inputs @ .., u, projected, dt, delta] = &saved[..] else {
            return Err(Error::Backward("mamba_inner saved too little".into()));
        };
        let shapes: Vec<&Shape> = inputs.iter().map(Tensor::shape).collect();
        backward(cx, sizes(&shapes)?, inputs, &Kept { u, projected, dt, delta }, dy)
    }
}

/// Tensors that the forward pass saves besides its inputs.
struct Kept<'a> {
    pub u: &'a Tensor,
    /// (δ, B, C), one row per time step.
    pub projected: &'a Tensor,
    pub dt: &'a Tensor,
    /// δ·W_dtᵀ, before bias and softplus.
    pub delta: &'a Tensor,
}

impl Sizes {
    fn scan(&self) -> Result<SelectiveScan> {
        let size = |n| size("mamba_inner", n);
        let [b, l, d, n] = [self.batch, self.length, self.channels, self.states].map(size);
        let mixer = SelectiveScan::mixer(b?, l?, d?, n?);
        Ok(SelectiveScan { z_row: size(2 * self.channels)?, bc_row: size(self.row())?, ..mixer })
    }

    fn conv(&self) -> Result<ssmv_kernels::causal_conv1d::CausalConv1d> {
        conv::specification([self.batch, self.length, self.channels], self.taps, true, 2 * self.channels)
    }

    /// Number of columns of the projection (δ, B, C).
    fn row(&self) -> usize {
        self.rank + 2 * self.states
    }
}

/// The address of column `column` of a matrix's first row.
fn column(matrix: &Tensor, column: usize) -> Result<Argument> {
    Ok(Argument::Pointer(matrix.memory()?.address_of(matrix.offset() + column)))
}

/// The scan's inputs in the kernels' order.
fn scan_inputs(
    s: Sizes,
    inputs: &[&Tensor],
    u: &Tensor,
    delta: &Tensor,
    projected: &Tensor,
) -> Result<Vec<Argument>> {
    let [uz, .., dt_bias, a_log, d] = inputs else {
        return Err(Error::shape("mamba_inner", "takes eight inputs"));
    };
    Ok(vec![
        u.argument()?,
        delta.argument()?,
        dt_bias.argument()?,
        a_log.argument()?,
        column(projected, s.rank)?,
        column(projected, s.rank + s.states)?,
        d.argument()?,
        column(uz, s.channels)?,
    ])
}

fn forward(cx: &mut Forward, s: Sizes, inputs: &[&Tensor]) -> Result<Tensor> {
    let [uz, conv_weight, conv_bias, x_proj, dt_proj, ..] = inputs else {
        return Err(Error::shape("mamba_inner", "takes eight inputs"));
    };
    let (b, l, d) = (s.batch, s.length, s.channels);
    let u = uz.empty_like([b, l, d])?;
    conv::launch_forward(
        s.conv()?,
        uz.dtype(),
        &u,
        [uz.argument()?, conv_weight.argument()?, conv_bias.argument()?],
    )?;
    let projected = linear::forward(&u, x_proj, None)?;
    let dt = uz.empty_like([b, l, s.rank])?;
    layout::cuda::slice(
        layout::cuda::Move::Take,
        layout::cuda::along(projected.shape(), 2, 0, s.rank)?,
        &projected,
        &dt,
    )?;
    let delta = linear::forward(&dt, dt_proj, None)?;
    let y = uz.empty_like([b, l, d])?;
    scan::launch_forward(s.scan()?, uz.dtype(), &y, &scan_inputs(s, inputs, &u, &delta, &projected)?)?;
    inputs.iter().for_each(|t| cx.save(t));
    [&u, &projected, &dt, &delta].iter().for_each(|t| cx.save(t));
    Ok(y)
}

fn backward(cx: &mut Backward, s: Sizes, inputs: &[Tensor], kept: &Kept, dy: &Tensor) -> Result<()> {
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let [uz, conv_weight, conv_bias, x_proj, dt_proj, ..] = inputs[..] else {
        return Err(Error::shape("mamba_inner", "takes eight inputs"));
    };
    let Kept { u, projected, dt, delta } = kept;
    let dtype = uz.dtype();
    let duz = uz.empty_like(uz.shape().clone())?;
    let dprojected = uz.empty_like(projected.shape().clone())?;
    let (du, ddelta) = (uz.empty_like(u.shape().clone())?, uz.empty_like(delta.shape().clone())?);

    let given = scan_inputs(s, &inputs, u, delta, projected)?;
    cx.fill_together([5, 6, 7], |[dbias, da, dd]| {
        let outputs = [
            du.argument()?,
            ddelta.argument()?,
            dbias.argument()?,
            da.argument()?,
            column(&dprojected, s.rank)?,
            column(&dprojected, s.rank + s.states)?,
            dd.argument()?,
            column(&duz, s.channels)?,
        ];
        scan::launch_backward(s.scan()?, dtype, dy, &given, &outputs)
    })?;

    // δ's gradient fills its columns beside those of B and C.
    let ddt = uz.empty_like(dt.shape().clone())?;
    linear::input_gradient(&ddelta, dt_proj, &ddt, false)?;
    layout::cuda::slice(
        layout::cuda::Move::Place,
        layout::cuda::along(projected.shape(), 2, 0, s.rank)?,
        &ddt,
        &dprojected,
    )?;
    cx.fill_wide(4, |dw| linear::weight_gradient(&ddelta, dt, dw))?;
    linear::input_gradient(&dprojected, x_proj, &du, true)?;
    cx.fill_wide(3, |dw| linear::weight_gradient(&dprojected, u, dw))?;

    let given = [uz.argument()?, conv_weight.argument()?, conv_bias.argument()?];
    cx.fill_together([1, 2], |[dw, db]| {
        let outputs = [duz.argument()?, dw.argument()?, db.argument()?];
        conv::launch_backward(s.conv()?, dtype, &du, given, outputs)
    })?;
    cx.give(0, duz)
}
