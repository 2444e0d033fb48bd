//! Copies a case's parameters into an arena, and the arena's gradients out of it, in PyTorch's layouts.

use ssmv_autograd::{Arena, ArenaLayout, Element, Gradients, Shape, dispatch};

use super::{case::Array, compare::Outputs, evaluate::TargetDevice, golden::GoldenCase};
use crate::{Result, model::parameters::Parameter};

/// An arena with the tensors `PREFIX.NAME` of the parameters. All shapes are checked before memory is taken.
pub(super) fn arena(
    case: &GoldenCase,
    prefix: &str,
    parameters: &[Parameter],
    device: &TargetDevice,
) -> Result<Arena> {
    let mut values = Vec::with_capacity(parameters.len());
    for Parameter { name, layout, .. } in parameters {
        values.push(case.shaped(&format!("{prefix}.{name}"), &layout.external)?);
    }
    let shapes = parameters.iter().map(|p| Shape::from(&p.layout.internal));
    let dtype = device.master_dtype();
    let mut arena = Arena::new(ArenaLayout::new(shapes)?, dtype)?;
    let layout = arena.layout().clone();
    dispatch!(dtype, T => {
        let slots = arena.values_mut::<T>()?;
        for ((parameter, values), range) in parameters.iter().zip(values).zip(layout.ranges()) {
            let internal = parameter.layout.import(&values.values);
            slots[range.clone()].iter_mut().zip(internal).for_each(|(s, v)| *s = <T as Element>::from_f64(v));
        }
    });
    match device {
        TargetDevice::Cpu(_) | TargetDevice::CpuBf16 => Ok(arena),
        TargetDevice::Cuda(cuda) => {
            let halved: Vec<bool> = parameters.iter().map(|p| p.role.halved()).collect();
            Ok(Arena::on_cuda(cuda, layout, arena.values()?, &halved)?)
        }
    }
}

/// The parameters' gradients as `PREFIX.NAME`.
pub(super) fn gradients(
    outputs: &mut Outputs,
    prefix: &str,
    parameters: &[Parameter],
    arena: &Arena,
    gradients: &mut Gradients,
) -> Result<()> {
    let mut name = |parameter: &Parameter, values: Vec<f64>| {
        let array = Array { shape: parameter.layout.external.clone(), values };
        outputs.insert(format!("{prefix}.{}", parameter.name), array);
    };
    if let Ok(memory) = gradients.memory() {
        let all = memory.download(0..memory.len())?;
        for (parameter, range) in parameters.iter().zip(arena.layout().ranges()) {
            let values = parameter.layout.export(&all[range.clone()]);
            name(parameter, values.into_iter().map(f64::from).collect());
        }
        return Ok(());
    }
    dispatch!(arena.dtype(), T => {
        let all = gradients.values_mut::<T>()?;
        for (parameter, range) in parameters.iter().zip(arena.layout().ranges()) {
            let values = parameter.layout.export(&all[range.clone()]);
            name(parameter, values.iter().map(|v| v.to_f64()).collect());
        }
    });
    Ok(())
}
