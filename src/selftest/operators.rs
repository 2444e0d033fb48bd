//! Operators on the device against the CPU in f32: their outputs, and every gradient.

use ssmv_autograd::{DType, Gradients, Tensor, cuda::Cuda};

use super::{Extent, Part, draw::Draw, sheet::Sheet, table::TABLE};
use crate::{Result, verify::bound};

/// What a scalar's gradient starts from: gradients of a mean over a large tensor stay far from f16's smallest numbers.
const SCALAR_COTANGENT: f64 = 1024.0;

/// One input of a case, in f32 on the CPU.
pub(super) struct Input {
    name: &'static str,
    tensor: Tensor,
    /// Stays in f32 on the device.
    wide: bool,
    leaf: bool,
}

impl Input {
    /// An activation or a matrix: f16 on the device; its gradient is compared.
    pub fn new(name: &'static str, tensor: Tensor) -> Self {
        Self { name, tensor, wide: false, leaf: true }
    }

    /// The same in f32 on the device as well.
    pub fn wide(self) -> Self {
        Self { wide: true, ..self }
    }

    /// Without a gradient.
    pub fn fixed(self) -> Self {
        Self { leaf: false, ..self }
    }
}

/// Applies the operator to the inputs: its outputs by name, of which the first is differentiated.
type Call = Box<dyn Fn(&[Tensor]) -> Result<Vec<(&'static str, Tensor)>>>;

/// An operator with inputs.
pub(super) struct Case {
    inputs: Vec<Input>,
    call: Call,
    /// Adds up the errors of several operators.
    composite: bool,
}

impl Case {
    /// An operator with one output.
    pub fn new(
        inputs: Vec<Input>,
        call: impl Fn(&[Tensor]) -> ssmv_autograd::Result<Tensor> + 'static,
    ) -> Self {
        Self::with_outputs(inputs, move |inputs| Ok(vec![("y", call(inputs)?)]))
    }

    /// An operator with several.
    pub fn with_outputs(
        inputs: Vec<Input>,
        call: impl Fn(&[Tensor]) -> Result<Vec<(&'static str, Tensor)>> + 'static,
    ) -> Self {
        Self { inputs, call: Box::new(call), composite: false }
    }

    /// The same, held to the bound of several operators.
    pub fn composite(self) -> Self {
        Self { composite: true, ..self }
    }
}

/// A line of the table.
pub(super) struct Line {
    /// The case's name.
    pub name: &'static str,
    /// Too much work for the emulator.
    pub large: bool,
    /// Draws the case.
    pub make: fn(&mut Draw) -> Result<Case>,
}

/// Runs the table.
pub(super) fn run(cuda: &Cuda, sheet: &mut Sheet) {
    for Line { name, large, make } in TABLE {
        let within = !large || sheet.options().extent == Extent::Full;
        if within
            && sheet.wants(name)
            && let Err(error) = compare(cuda, sheet, name, *make)
        {
            sheet.failed(Part::Operators, name, &error.to_string());
        }
    }
}

fn compare(
    cuda: &Cuda,
    sheet: &mut Sheet,
    name: &'static str,
    make: fn(&mut Draw) -> Result<Case>,
) -> Result<()> {
    let mut draw = Draw::new(name);
    let case = make(&mut draw)?;
    let mut cotangent = None;
    let wanted = evaluate(&case, None, &mut draw, &mut cotangent)?;
    let made = evaluate(&case, Some(cuda), &mut draw, &mut cotangent)?;
    let bound = bound(if case.composite { "mamba_mixer" } else { name }, "", DType::F16);
    for ((tensor, got), (_, want)) in made.iter().zip(&wanted) {
        sheet.near(Part::Operators, name, tensor, got, want, bound);
    }
    Ok(())
}

/// Outputs and gradients by name, on the CPU or on a device; `cotangent` is drawn at the first call.
fn evaluate(
    case: &Case,
    cuda: Option<&Cuda>,
    draw: &mut Draw,
    cotangent: &mut Option<Tensor>,
) -> Result<Vec<(String, Vec<f64>)>> {
    let mut inputs = Vec::with_capacity(case.inputs.len());
    for Input { tensor, wide, leaf, .. } in &case.inputs {
        let placed = match cuda {
            Some(cuda) => tensor.to_cuda(cuda, if *wide { DType::F32 } else { DType::F16 })?,
            None => tensor.clone(),
        };
        inputs.push(if *leaf { placed.leaf() } else { placed });
    }
    let outputs = (case.call)(&inputs)?;
    let mut values = Vec::new();
    for (name, output) in &outputs {
        values.push(((*name).to_owned(), output.to_f64()?));
    }
    let Some((_, y)) = outputs.first() else { return Ok(values) };
    let sent = match cotangent {
        Some(sent) => sent,
        None if y.numel() == 1 => {
            cotangent.insert(Tensor::new(y.shape().clone(), &[SCALAR_COTANGENT])?.to_dtype(DType::F32)?)
        }
        None => cotangent.insert(draw.tensor(y.shape(), -1.0, 1.0)?),
    };
    let placed = match cuda {
        Some(cuda) => sent.to_cuda(cuda, y.dtype())?,
        None => sent.clone(),
    };
    let mut gradients = Gradients::of_leaves();
    y.backward_from(placed, &mut gradients)?;
    for (Input { name, leaf, .. }, tensor) in case.inputs.iter().zip(&inputs) {
        if *leaf {
            let gradient = gradients.of(tensor).map(Tensor::to_f64).transpose()?;
            values.push((format!("d{name}"), gradient.unwrap_or_default()));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ssmv_autograd::cuda::Backend;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = TABLE.iter().map(|line| line.name).collect();
        assert_eq!(names.len(), TABLE.len());
    }

    /// No emulator has the time for them: here their kernels are made, and their memory is counted.
    #[test]
    fn large_cases_can_be_launched() {
        let cuda = Cuda::open(Backend::Counting, 0).unwrap();
        for Line { name, make, .. } in TABLE.iter().filter(|line| line.large) {
            let mut draw = Draw::new(name);
            let case = make(&mut draw).unwrap();
            let made = evaluate(&case, Some(&cuda), &mut draw, &mut None)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(made.iter().all(|(tensor, values)| !tensor.is_empty() && !values.is_empty()), "{name}");
        }
    }
}
