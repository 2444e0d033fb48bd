//! The training arithmetic of a device: its own norm, clipping, AdamW and loss scale.

use ssmv_autograd::{
    DType,
    cuda::{Cuda, DeviceMemory},
};
use ssmv_kernels::optim::StepState;

use super::{
    case::{Array, Case},
    compare::Outputs,
    parameters::shaped,
};
use crate::{
    Result,
    optim::{AdamW, DeviceOptimiser},
    train::loss_scale::LossScale,
};

fn rounded(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

fn whole(memory: &DeviceMemory, shape: &[usize]) -> Result<Array> {
    let values = memory.download(0..memory.len())?.into_iter().map(f64::from).collect();
    Ok(Array { shape: shape.to_vec(), values })
}

/// No loss scale: 1 for ever.
fn unscaled() -> StepState {
    LossScale::off().on_device(StepState::default())
}

/// `steps` steps of AdamW over `in.p` with the gradients `in.grad.i`.
pub(super) fn adamw(case: &Case, cuda: &Cuda, lr: f64, optimiser: &AdamW) -> Result<Outputs> {
    let AdamW { beta1, beta2, eps, weight_decay } = *optimiser;
    let start = case.tensor("in.p")?;
    let values = rounded(&start.values);
    let masters = DeviceMemory::copy_of(cuda, DType::F32, &values)?;
    let halves = DeviceMemory::copy_of(cuda, DType::F16, &values)?;
    let state = StepState { rate: lr, beta1, beta2, eps, weight_decay, ..unscaled() };
    let all = 0..values.len();
    let on_device = DeviceOptimiser::new(cuda, values.len(), &[all], &state)?;
    let mut outputs = Outputs::new();
    for i in 0..case.count("steps")? {
        let gradient = &shaped(case, &format!("in.grad.{i}"), &start.shape)?.values;
        let gradient = DeviceMemory::copy_of(cuda, DType::F32, &rounded(gradient))?;
        on_device.step([&masters, &halves], &gradient)?;
        outputs.insert(format!("out.p.{i}"), whole(&masters, &start.shape)?);
    }
    for (name, memory) in ["out.m", "out.v"].into_iter().zip(&on_device.moments) {
        outputs.insert(name.to_owned(), whole(memory, &start.shape)?);
    }
    Ok(outputs)
}

/// All `in.*` as one vector: the device's norm and clip factor. The factor goes into AdamW there; here the host multiplies.
pub(super) fn clip_grad_norm(case: &Case, cuda: &Cuda, max_norm: f64) -> Result<Outputs> {
    let all: Vec<f64> = case.with_prefix("in.").flat_map(|(_, a)| a.values.iter().copied()).collect();
    let zeros = vec![0.0; all.len()];
    let masters = DeviceMemory::copy_of(cuda, DType::F32, &zeros)?;
    let halves = DeviceMemory::copy_of(cuda, DType::F16, &zeros)?;
    let optimiser = DeviceOptimiser::new(cuda, all.len(), &[], &StepState { max_norm, ..unscaled() })?;
    optimiser.step([&masters, &halves], &DeviceMemory::copy_of(cuda, DType::F32, &rounded(&all))?)?;
    let state = optimiser.record()?.state;
    let norm = Array { shape: Vec::new(), values: vec![state.norm] };
    let mut outputs = Outputs::from([("out.norm".to_owned(), norm)]);
    for (name, array) in case.with_prefix("in.") {
        let values =
            rounded(&array.values).into_iter().map(|g| f64::from(g * state.gradient_scale)).collect();
        outputs.insert(format!("out.{name}"), Array { shape: array.shape.clone(), values });
    }
    Ok(outputs)
}

/// The loss scale after each step, of gradients that overflow or do not.
pub(super) fn grad_scaler(case: &Case, cuda: &Cuda, scale: &LossScale) -> Result<Outputs> {
    let one = |x| DeviceMemory::copy_of(cuda, DType::F32, &[x]);
    let (masters, halves) = (one(0.0)?, DeviceMemory::copy_of(cuda, DType::F16, &[0.0])?);
    let optimiser = DeviceOptimiser::new(cuda, 1, &[], &scale.on_device(StepState::default()))?;
    let mut trace = Vec::new();
    for found in &case.tensor("in.found_inf")?.values {
        optimiser.step([&masters, &halves], &one(if *found != 0.0 { f32::INFINITY } else { 1.0 })?)?;
        trace.push(f64::from(optimiser.record()?.state.scale));
    }
    Ok(Outputs::from([("out.scale".to_owned(), Array::vector(trace))]))
}
