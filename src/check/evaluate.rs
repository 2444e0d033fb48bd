//! One evaluation of a case, forward and backward, on the CPU or on a device.

use ssmv_autograd::{DType, Gradients, Products, Shape, Tensor, cuda::Cuda, with_products};

use super::{
    case::{Array, Case},
    compare::Outputs,
    golden::GoldenCase,
    operators::{Call, Layout, Operator, Output},
};
use crate::{Error, Result};

/// Maximum number of elements of an intermediate result: 2 GiB in f64.
const LARGEST_RESULT: usize = 1 << 28;

/// Device and dtype of the computation of cases.
#[derive(Clone, Debug)]
pub enum TargetDevice {
    /// The CPU, in f32 or f64.
    Cpu(DType),
    /// The CPU in f32, with products of bf16.
    CpuBf16,
    /// A GPU or the emulator, in f16 with f32 sums.
    Cuda(Cuda),
}

impl TargetDevice {
    /// The given device, or the CPU for `None`, with the given dtype.
    ///
    /// # Errors
    /// [`Error::Usage`] for f64 or f32 on a device and f16 on the CPU.
    pub fn new(dtype: Option<DType>, device: Option<Cuda>) -> Result<Self> {
        match (device, dtype) {
            (None, Some(DType::F16)) => {
                Err(Error::Usage("--dtype f16 needs a GPU; add --device emulator or --device cuda".into()))
            }
            (None, dtype) => Ok(Self::Cpu(dtype.unwrap_or(DType::F32))),
            (Some(cuda), None | Some(DType::F16)) => Ok(Self::Cuda(cuda)),
            (Some(_), Some(other)) => Err(Error::Usage(format!(
                "--dtype {other} needs the CPU, since a GPU computes in f16: add --device cpu"
            ))),
        }
    }

    /// The dtype of activations and matrices.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Cpu(dtype) => *dtype,
            Self::CpuBf16 => DType::F32,
            Self::Cuda(_) => DType::F16,
        }
    }

    /// Name of the number format of products.
    pub(super) fn format(&self) -> &'static str {
        match self {
            Self::CpuBf16 => "bf16",
            _ => self.dtype().name(),
        }
    }

    /// The dtype whose bounds apply. Two operands that are rounded to bf16 change their product by a share of at most
    /// 2⁻⁸ + 2⁻¹⁸, which is below the bound of f16.
    pub(super) fn bounds_of(&self) -> DType {
        match self {
            Self::CpuBf16 => DType::F16,
            _ => self.dtype(),
        }
    }

    /// Runs `body` with the products of this device.
    ///
    /// # Errors
    /// The processor has no products of bf16.
    pub(super) fn with_products<R>(&self, body: impl FnOnce() -> Result<R>) -> Result<R> {
        match self {
            Self::CpuBf16 => with_products(Products::Bf16, body)?,
            _ => body(),
        }
    }

    /// The dtype of parameters, statistics and the optimiser, which stay in f32 on a device.
    pub(super) fn master_dtype(&self) -> DType {
        match self {
            Self::Cpu(dtype) => *dtype,
            Self::CpuBf16 | Self::Cuda(_) => DType::F32,
        }
    }

    /// A tensor on this device.
    pub(super) fn tensor(&self, array: &Array, dtype: DType) -> Result<Tensor> {
        match self {
            Self::Cpu(_) | Self::CpuBf16 => array.tensor(dtype),
            Self::Cuda(cuda) => Ok(array.tensor(DType::F32)?.to_cuda(cuda, dtype)?),
        }
    }
}

/// The result of one evaluation.
pub(super) struct Evaluation {
    /// The outputs by name, the one that is differentiated first.
    pub outputs: Vec<(&'static str, Array)>,
    /// The gradients by the names of the inputs; `None` if the backward pass gave none.
    pub gradients: Vec<(&'static str, Option<Array>)>,
}

/// Computes the case's outputs and, if `cotangent` returns a cotangent for the shape of the output, the gradients.
///
/// The tensors of a golden case are in PyTorch's layout. They are permuted inside the graph, so that the gradients are in
/// PyTorch's layout as well.
pub(super) fn evaluate(
    operator: &Operator,
    case: &Case,
    device: &TargetDevice,
    golden: Option<&GoldenCase>,
    cotangent: impl FnOnce(&[usize]) -> Result<Option<Array>>,
) -> Result<Evaluation> {
    let (mut leaves, mut inputs) = (Vec::new(), Vec::new());
    for (input, array) in operator.inputs.iter().zip(&case.inputs) {
        let dtype = if input.keep_f32 { device.master_dtype() } else { device.dtype() };
        let tensor = device.tensor(array, dtype)?;
        let leaf = if input.constant { tensor } else { tensor.leaf() };
        inputs.push(if golden.is_some() { from_torch(&leaf, input.layout)? } else { leaf.clone() });
        leaves.push(leaf);
    }
    let layout = golden.and(operator.inputs.first()).map_or(Layout::Same, |input| input.layout);
    if let (Some(file), Some(shape)) = (golden, operator.shape) {
        let shape = shape(&inputs.iter().map(Tensor::shape).collect::<Vec<_>>(), &case.attributes)?;
        let (made, want) = (torch_shape(&shape, layout), &file.tensor("out.y")?.shape);
        if made != *want {
            return Err(Error::Failure(format!(
                "out.y has the shape {want:?}, but the inputs give {made:?}"
            )));
        }
    }
    let Output { mut y, others } = operator.apply(&inputs, &case.attributes)?;
    if layout == Layout::ChannelsFirst {
        y = y.permute(&[0, 3, 1, 2])?;
    }
    let mut evaluation = Evaluation { outputs: vec![("y", Array::of(&y)?)], gradients: Vec::new() };
    evaluation.outputs.extend(others);
    if let Some(cotangent) = cotangent(y.shape())? {
        let mut gradients = Gradients::of_leaves();
        y.backward_from(device.tensor(&cotangent, y.dtype())?, &mut gradients)?;
        for (input, leaf) in operator.inputs.iter().zip(&leaves).filter(|(input, _)| !input.constant) {
            evaluation.gradients.push((input.name, gradients.of(leaf).map(Array::of).transpose()?));
        }
    }
    Ok(evaluation)
}

/// Computes the outputs and gradients of a golden case, by their names in it.
pub(super) fn evaluate_golden(
    operator: &Operator,
    file: &GoldenCase,
    device: &TargetDevice,
) -> Result<Outputs> {
    if let Call::File(call) = operator.call {
        return call(file, device);
    }
    (operator.accepts)(&file.attributes)?;
    let mut case = Case { inputs: Vec::new(), attributes: file.attributes.clone() };
    for input in operator.inputs {
        let name = format!("in.{}", input.name);
        if input.optional && file.get(&name).is_none() {
            break;
        }
        case.inputs.push(file.tensor(&name)?.clone());
    }
    let has_gradients = file.with_prefix("grad_in.").next().is_some();
    let evaluation = evaluate(operator, &case, device, Some(file), |shape| {
        Ok(match file.get("grad_out.y") {
            _ if !has_gradients => None,
            None if shape.iter().product::<usize>() == 1 => {
                Some(Array { shape: shape.to_vec(), values: vec![1.0] })
            }
            _ => Some(file.tensor("grad_out.y")?.clone()),
        })
    })?;
    let outputs = evaluation.outputs.into_iter().map(|(name, array)| (format!("out.{name}"), array));
    let gradients = evaluation.gradients.into_iter();
    let gradients = gradients.filter_map(|(name, array)| Some((format!("grad_in.{name}"), array?)));
    Ok(outputs.chain(gradients).collect())
}

fn from_torch(x: &Tensor, layout: Layout) -> Result<Tensor> {
    Ok(match layout {
        Layout::Same => x.clone(),
        Layout::ChannelsFirst => x.permute(&[0, 2, 3, 1])?,
        Layout::TapsLast => {
            let [d, _, k] = x.shape().dims("causal_conv1d", "weight [D,1,K]")?;
            x.permute(&[2, 1, 0])?.reshape([k, d])?
        }
    })
}

/// The shape that PyTorch has for one of the engine's.
fn torch_shape(shape: &Shape, layout: Layout) -> Vec<usize> {
    match layout {
        Layout::ChannelsFirst => [0, 3, 1, 2].iter().filter_map(|&axis| shape.get(axis).copied()).collect(),
        Layout::Same | Layout::TapsLast => shape.to_vec(),
    }
}

/// Checks that an intermediate result of these sizes fits into memory.
pub(super) fn room(sizes: &[usize]) -> Result<()> {
    match sizes.iter().try_fold(1usize, |n, &s| n.checked_mul(s)) {
        Some(n) if n <= LARGEST_RESULT => Ok(()),
        _ => Err(Error::Failure(format!("an intermediate result of {sizes:?} is too large"))),
    }
}
