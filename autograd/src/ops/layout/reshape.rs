//! A new shape over the same memory.

use crate::{Backward, Error, Forward, Op, Result, Shape, Tensor, apply};

/// y has the elements of x, in their order, under `to`.  dx = dy under x's shape.
pub struct Reshape {
    /// Shape of y, with as many elements as x.
    pub to: Shape,
    /// Shape of x, for the backward pass.
    from: Shape,
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        if self.to.checked_numel("reshape")? != inputs[0].numel() {
            let message = format!("{} does not have as many elements as {}", self.to, inputs[0]);
            return Err(Error::shape("reshape", message));
        }
        Ok(self.to.clone())
    }

    fn forward(&self, _: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        Ok(inputs[0].with_shape(self.to.clone()))
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        cx.give(0, dy.with_shape(self.from.clone()))
    }
}

impl Tensor {
    /// The same elements under another shape; memory is shared.
    pub fn reshape(&self, to: impl Into<Shape>) -> Result<Tensor> {
        apply(Reshape { to: to.into(), from: self.shape().clone() }, &[self])
    }
}
