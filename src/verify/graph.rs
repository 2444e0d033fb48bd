//! One case as a graph: its tensors as leaves, its output, and the gradients that come back.

use ssmv_autograd::{DType, Gradients, Tensor};

use super::{
    Place,
    case::{Array, Case},
    compare::Outputs,
};
use crate::{Error, Result};

/// What one run of a case gathers.
pub(super) struct Graph<'a> {
    pub case: &'a Case,
    pub place: &'a Place,
    leaves: Vec<(String, Tensor)>,
    /// Outputs beside `out.y` and the gradients.
    pub outputs: Outputs,
}

impl<'a> Graph<'a> {
    pub fn new(case: &'a Case, place: &'a Place) -> Self {
        Self { case, place, leaves: Vec::new(), outputs: Outputs::new() }
    }

    /// `in.NAME`, a leaf where the case holds its gradient.
    pub fn input(&mut self, name: &str) -> Result<Tensor> {
        self.leaf(&format!("in.{name}"), format!("grad_in.{name}"), self.place.dtype())
    }

    /// The same of what stays in f32 on a device.
    pub fn wide(&mut self, name: &str) -> Result<Tensor> {
        self.leaf(&format!("in.{name}"), format!("grad_in.{name}"), self.place.wide())
    }

    /// `in.NAME`, which stays in f32 on a device, where the case has it.
    pub fn optional(&mut self, name: &str) -> Result<Option<Tensor>> {
        match self.case.get(&format!("in.{name}")) {
            Some(_) => self.wide(name).map(Some),
            None => Ok(None),
        }
    }

    fn leaf(&mut self, name: &str, gradient: String, dtype: DType) -> Result<Tensor> {
        let tensor = self.place.tensor_of(self.case.tensor(name)?, dtype)?;
        if self.case.get(&gradient).is_none() {
            return Ok(tensor);
        }
        let leaf = tensor.leaf();
        self.leaves.push((gradient, leaf.clone()));
        Ok(leaf)
    }

    /// Refuses a result that is not the reference's before it takes memory: attributes in a file can ask for any size.
    pub fn promise(&self, shape: &[usize]) -> Result<()> {
        let want = &self.case.tensor("out.y")?.shape;
        if shape != want {
            return Err(Error::Failure(format!("out.y is {want:?} and the inputs make {shape:?}")));
        }
        Ok(())
    }

    /// Sends `grad_out.y` (1 for a scalar without it) back through `y`, in PyTorch's layout, and names what came out.
    pub fn finish(mut self, y: &Tensor) -> Result<Outputs> {
        self.outputs.insert("out.y".to_owned(), Array::of(y)?);
        if self.leaves.is_empty() {
            return Ok(self.outputs);
        }
        let mut gradients = Gradients::of_leaves();
        if self.case.get("grad_out.y").is_none() && y.numel() == 1 {
            y.backward(&mut gradients)?;
        } else {
            let cotangent = self.place.tensor_of(self.case.tensor("grad_out.y")?, y.dtype())?;
            y.backward_from(cotangent, &mut gradients)?;
        }
        for (name, leaf) in &self.leaves {
            if let Some(gradient) = gradients.of(leaf) {
                self.outputs.insert(name.clone(), Array::of(gradient)?);
            }
        }
        Ok(self.outputs)
    }
}

/// NCHW → NHWC; a convolution's weight [out, in, kh, kw] → [out, kh, kw, in] and a transposed one's
/// [in, out, kh, kw] → [in, kh, kw, out] go the same way.
pub(super) fn to_channels_last(x: &Tensor) -> Result<Tensor> {
    Ok(x.permute(&[0, 2, 3, 1])?)
}

/// NHWC → NCHW.
pub(super) fn to_channels_first(x: &Tensor) -> Result<Tensor> {
    Ok(x.permute(&[0, 3, 1, 2])?)
}

/// A depthwise weight [D, 1, K] → [K, D].
pub(super) fn to_taps_first(weight: &Tensor) -> Result<Tensor> {
    let [d, _, k] = weight.shape().dims("causal_conv1d", "weight [D,1,K]")?;
    Ok(weight.permute(&[2, 1, 0])?.reshape([k, d])?)
}
