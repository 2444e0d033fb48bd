//! The table of operators: the form of a row, and the rows, in one file for each kind of operator.

mod channels;
mod images;
mod layout;
mod model;
mod pointwise;
mod sequences;
mod training;

use serde_json::json;
use ssmv_autograd::{DType, Shape, Tensor};

use super::{
    case::{Array, Attributes, Case},
    compare::Outputs,
    draw::Draw,
    evaluate::{TargetDevice, room},
    golden::GoldenCase,
};
use crate::{Error, Result};

/// All rows of the table.
pub fn operators() -> impl Iterator<Item = &'static Operator> {
    [
        images::TABLE,
        channels::TABLE,
        sequences::TABLE,
        layout::TABLE,
        pointwise::TABLE,
        model::TABLE,
        training::TABLE,
    ]
    .into_iter()
    .flatten()
}

/// Operators whose products take bf16 on the CPU with [`Products::Bf16`](ssmv_autograd::Products::Bf16).
pub(crate) const WITH_BF16: [&str; 4] = ["conv2d", "conv_transpose2d", "linear", "matmul"];

/// The golden cases of a row: their names, and the bytes of their files, which are compiled into the program.
macro_rules! golden {
    ($($name:literal),* $(,)?) => {
        &[$((
            $name,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/", $name, ".safetensors")),
        )),*]
    };
}
use golden;

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Operator {
    /// The operator's name, which a golden case has in its metadata.
    pub name: &'static str,
    /// Inputs, in the order of the call.
    pub(crate) inputs: &'static [Input],
    /// Function that computes the operator.
    pub(crate) call: Call,
    /// Checks that this engine supports the attributes of a golden case.
    pub(crate) accepts: fn(&Attributes) -> Result<()>,
    /// The output's shape. It is compared with the golden case before anything is computed, because attributes in a file
    /// may give an output that does not fit into memory.
    pub(crate) shape: Option<OutputShape>,
    /// Cases with random inputs, for the gradient checks and `selftest`.
    pub drawn: &'static [DrawnCases],
    /// Golden cases of the operator.
    pub(crate) golden: Golden,
    /// Maximum relative errors, by tensor and dtype.
    pub(crate) bounds: Bounds,
}

type Tensors = fn(&[Tensor], &Attributes) -> Result<Output>;
type File = fn(&GoldenCase, &TargetDevice) -> Result<Outputs>;
type OutputShape = fn(&[&Shape], &Attributes) -> Result<Shape>;
/// Names of golden cases under `tests/golden`, and the bytes of their files.
type Golden = &'static [(&'static str, &'static [u8])];

/// Maximum relative errors in f64, f32 and f16, by the name of the tensor in a golden case; the last ones
/// are those of all other tensors.
pub(crate) type Bounds = &'static [(&'static str, [f64; 3])];

/// The bounds of one operator.
pub(crate) const SINGLE: Bounds = &[("", [1e-10, 2e-5, 4e-3])];
/// The bounds of a composite, in which its operators' errors add up.
pub(crate) const COMPOSITE: Bounds = &[("", [1e-10, 5e-5, 1e-2])];

/// Computation of an operator.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    /// From the tensors of its inputs, and with gradients.
    Tensors(Tensors),
    /// From a golden case as a whole.
    File(File),
}

/// The outputs of a call.
pub(crate) struct Output {
    /// The output, which is differentiated.
    pub y: Tensor,
    /// Further outputs that are compared, by name.
    pub others: Vec<(&'static str, Array)>,
}

/// Wraps the output of an operator with one output.
fn only(y: ssmv_autograd::Result<Tensor>) -> Result<Output> {
    Ok(Output { y: y?, others: Vec::new() })
}

/// An input of an operator.
#[derive(Clone, Copy)]
pub(crate) struct Input {
    /// Name in golden cases.
    pub name: &'static str,
    /// Layout in golden cases.
    pub layout: Layout,
    /// True: stays in f32 on a device, where activations and matrices are in f16.
    pub keep_f32: bool,
    /// True: it has no gradient.
    pub constant: bool,
    /// True: it may be missing, and so may all inputs after it.
    pub optional: bool,
}

impl Input {
    /// An activation or a matrix.
    const fn new(name: &'static str) -> Self {
        Self { name, layout: Layout::Same, keep_f32: false, constant: false, optional: false }
    }

    const fn layout(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }

    const fn keep_f32(self) -> Self {
        Self { keep_f32: true, ..self }
    }

    const fn constant(self) -> Self {
        Self { constant: true, ..self }
    }

    const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

/// Layout of a tensor in a golden case, which has PyTorch's layout. An output has the layout of the first
/// input.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The same layout as in the engine.
    Same,
    /// NCHW for NHWC; a convolution's weight [out,in,kh,kw] for [out,kh,kw,in], and a transposed one's
    /// [in,out,kh,kw] for [in,kh,kw,out].
    ChannelsFirst,
    /// A depthwise weight [D,1,K] for [K,D].
    TapsLast,
}

/// Cases with random inputs under one name.
#[derive(Clone, Copy)]
pub struct DrawnCases {
    /// Name of the cases.
    pub name: &'static str,
    /// Check that runs the cases.
    pub by: By,
    /// Draws one case from random numbers.
    pub draw: fn(&mut Draw) -> Case,
}

/// The check that runs drawn cases.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The gradient checks, with this number of cases.
    Gradients(usize),
    /// `selftest`, with one case on every device.
    Device,
    /// `selftest` on a GPU only: sizes of the preset `base`, for which the emulator is too slow.
    Gpu,
}

const fn gradients(name: &'static str, cases: usize, draw: fn(&mut Draw) -> Case) -> DrawnCases {
    DrawnCases { name, by: By::Gradients(cases), draw }
}

const fn device(name: &'static str, draw: fn(&mut Draw) -> Case) -> DrawnCases {
    DrawnCases { name, by: By::Device, draw }
}

const fn gpu(name: &'static str, draw: fn(&mut Draw) -> Case) -> DrawnCases {
    DrawnCases { name, by: By::Gpu, draw }
}

/// A function of tensors.
pub type Function = Box<dyn Fn(&[Tensor]) -> Result<Tensor> + Send + Sync>;

impl Operator {
    /// A row without cases, and with the bounds of an operator.
    const fn new(name: &'static str, inputs: &'static [Input], call: Tensors) -> Self {
        let (accepts, call) = (|_: &Attributes| Ok(()), Call::Tensors(call));
        Self { name, inputs, call, accepts, shape: None, drawn: &[], golden: &[], bounds: SINGLE }
    }

    /// A row that has only golden cases.
    const fn whole(name: &'static str, call: File, golden: Golden, bounds: Bounds) -> Self {
        let accepts = |_: &Attributes| Ok(());
        Self { name, inputs: &[], call: Call::File(call), accepts, shape: None, drawn: &[], golden, bounds }
    }

    const fn accepts(self, accepts: fn(&Attributes) -> Result<()>) -> Self {
        Self { accepts, ..self }
    }

    const fn shape(self, shape: OutputShape) -> Self {
        Self { shape: Some(shape), ..self }
    }

    const fn drawn(self, drawn: &'static [DrawnCases]) -> Self {
        Self { drawn, ..self }
    }

    const fn golden(self, golden: Golden) -> Self {
        Self { golden, ..self }
    }

    const fn bounds(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Computes the outputs of the operator.
    pub(crate) fn apply(&self, inputs: &[Tensor], attributes: &Attributes) -> Result<Output> {
        let least = self.inputs.iter().take_while(|input| !input.optional).count();
        if !(least..=self.inputs.len()).contains(&inputs.len()) {
            return Err(Error::Failure(format!("{} does not accept {} inputs", self.name, inputs.len())));
        }
        match self.call {
            Call::Tensors(call) => call(inputs, attributes),
            Call::File(_) => Err(Error::Failure(format!("{} is computed only from golden cases", self.name))),
        }
    }

    /// The operator as a function of its differentiable inputs, and those inputs in f64.
    ///
    /// # Errors
    /// The values do not fit their shape.
    pub fn function(&self, case: Case) -> Result<(Vec<Tensor>, Function)> {
        let all = case.inputs.iter().map(|array| array.tensor(DType::F64)).collect::<Result<Vec<_>>>()?;
        let varied: Vec<usize> =
            (0..all.len()).filter(|&i| !self.inputs.get(i).is_some_and(|input| input.constant)).collect();
        let inputs = varied.iter().map(|&i| all[i].clone()).collect();
        let (operator, attributes) = (*self, case.attributes);
        let function = move |given: &[Tensor]| {
            let mut inputs = all.clone();
            varied.iter().zip(given).for_each(|(&i, tensor)| inputs[i] = tensor.clone());
            Ok(operator.apply(&inputs, &attributes)?.y)
        };
        Ok((inputs, Box::new(function)))
    }
}
