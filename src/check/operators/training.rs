//! The training arithmetic: optimiser, clipping, schedule and loss scale.

use ssmv_autograd::{
    Element,
    cuda::{Cuda, DeviceMemory},
    dispatch,
    optim::{AdamW, AdamWOptions, DeviceAdamW, clip_factor, gradient_norm},
};
use ssmv_kernels::optim::StepState;

use super::*;
use crate::{
    config::ScheduleKind,
    train::{loss_scale::LossScale, schedule::Schedule},
};

pub(super) const TABLE: &[Operator] = &[
    Operator::whole("adamw", adamw, golden!["adamw"], SINGLE),
    Operator::whole("clip_grad_norm", clip_grad_norm, golden!["clip_grad_norm"], SINGLE),
    Operator::whole("cosine_annealing", cosine_annealing, golden!["cosine_annealing"], SINGLE),
    Operator::whole("grad_scaler", grad_scaler, golden!["grad_scaler"], SINGLE),
];

fn round<T: Element>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&v| T::from_f64(v)).collect()
}

fn widen<T: Element>(values: &[T]) -> Array {
    Array::vector(values.iter().map(|v| v.to_f64()).collect())
}

/// `steps` steps of AdamW over `in.p` with the gradients `in.grad.i`: `out.p.i` after each, and the moments at the end.
fn adamw(case: &GoldenCase, device: &TargetDevice) -> Result<Outputs> {
    let a = &case.attributes;
    let (lr, weight_decay) = (a.number("lr")?, a.number("weight_decay")?);
    let (beta1, beta2, eps) = (a.number("beta1")?, a.number("beta2")?, a.number("eps")?);
    let options = AdamWOptions { lr, beta1, beta2, eps, weight_decay, gradient_scale: 1.0 };
    let start = case.tensor("in.p")?;
    let mut outputs = Outputs::new();
    if let TargetDevice::Cuda(cuda) = device {
        return adamw_on_device(case, cuda, &options);
    }
    dispatch!(device.master_dtype(), T => {
        let mut p = round::<T>(&start.values);
        let all = 0..p.len();
        let mut optimiser = AdamW::<T>::new(options, p.len(), vec![all]);
        for i in 0..case.attributes.count("steps")? {
            let g = round::<T>(&case.shaped(&format!("in.grad.{i}"), &start.shape)?.values);
            optimiser.step(&mut p, &g)?;
            outputs.insert(format!("out.p.{i}"), Array { shape: start.shape.clone(), ..widen(&p) });
        }
        for (name, values) in [("out.m", &optimiser.m), ("out.v", &optimiser.v)] {
            outputs.insert(name.to_owned(), Array { shape: start.shape.clone(), ..widen(values) });
        }
    });
    Ok(outputs)
}

/// All `in.*` as one vector: its norm, and each clipped so that the norm becomes at most `max_norm`.
fn clip_grad_norm(case: &GoldenCase, device: &TargetDevice) -> Result<Outputs> {
    let max_norm = case.attributes.number("max_norm")?;
    let mut outputs = Outputs::new();
    if let TargetDevice::Cuda(cuda) = device {
        return clip_grad_norm_on_device(case, cuda, max_norm);
    }
    dispatch!(device.master_dtype(), T => {
        let all: Vec<f64> = case.with_prefix("in.").flat_map(|(_, a)| a.values.iter().copied()).collect();
        let norm = gradient_norm(&round::<T>(&all));
        let factor = T::from_f64(clip_factor(norm, max_norm));
        outputs.insert("out.norm".to_owned(), Array { shape: Vec::new(), values: vec![norm] });
        for (name, array) in case.with_prefix("in.") {
            let clipped: Vec<T> = round::<T>(&array.values).into_iter().map(|g| g * factor).collect();
            outputs.insert(format!("out.{name}"), Array { shape: array.shape.clone(), ..widen(&clipped) });
        }
    });
    Ok(outputs)
}

/// The rate at each epoch. Rates are f64 in every dtype.
fn cosine_annealing(case: &GoldenCase, _: &TargetDevice) -> Result<Outputs> {
    let (base_lr, t_max) = (case.attributes.number("base_lr")?, case.attributes.count("t_max")? as u64);
    if case.attributes.number("eta_min")? != 0.0 {
        return Err(Error::Failure("eta_min other than 0 is not supported".to_owned()));
    }
    let schedule = Schedule {
        kind: ScheduleKind::CosineEpoch,
        base_lr,
        warmup: 0,
        total_steps: t_max,
        shift: 0,
        steps_per_epoch: 1,
        epochs: t_max,
    };
    schedule.validate()?;
    let rates = (0..=t_max).map(|epoch| schedule.rate(epoch)).collect();
    Ok(Outputs::from([("out.lr".to_owned(), Array::vector(rates))]))
}

/// The loss scale after each step. It is f32 in every dtype, as torch's is.
fn grad_scaler(case: &GoldenCase, device: &TargetDevice) -> Result<Outputs> {
    let number = |name: &str| case.attributes.number(name).map(|v| v as f32);
    let interval = case.attributes.count("growth_interval")? as u32;
    let scale =
        LossScale::new(number("init_scale")?, number("growth_factor")?, number("backoff_factor")?, interval)?;
    // torch has no floor.
    let mut scale = scale.with_floor(0.0);
    if let TargetDevice::Cuda(cuda) = device {
        return grad_scaler_on_device(case, cuda, &scale);
    }
    let mut trace = Vec::new();
    for (step, found) in case.tensor("in.found_inf")?.values.iter().enumerate() {
        scale.update(step as u64, *found != 0.0)?;
        trace.push(f64::from(scale.scale()));
    }
    Ok(Outputs::from([("out.scale".to_owned(), Array::vector(trace))]))
}

fn whole(memory: &DeviceMemory, shape: &[usize]) -> Result<Array> {
    let values = memory.download(0..memory.len())?.into_iter().map(f64::from).collect();
    Ok(Array { shape: shape.to_vec(), values })
}

/// The state of an optimiser without a loss scale.
fn unscaled() -> StepState {
    LossScale::off().on_device(StepState::default())
}

/// `steps` steps of AdamW over `in.p` with the gradients `in.grad.i`.
fn adamw_on_device(case: &GoldenCase, cuda: &Cuda, options: &AdamWOptions) -> Result<Outputs> {
    let AdamWOptions { lr, beta1, beta2, eps, weight_decay, .. } = *options;
    let start = case.tensor("in.p")?;
    let values = round::<f32>(&start.values);
    let masters = DeviceMemory::copy_of(cuda, DType::F32, &values)?;
    let halves = DeviceMemory::copy_of(cuda, DType::F16, &values)?;
    let state = StepState { rate: lr, beta1, beta2, eps, weight_decay, ..unscaled() };
    let all = 0..values.len();
    let on_device = DeviceAdamW::new(cuda, values.len(), &[all], &state)?;
    let mut outputs = Outputs::new();
    for i in 0..case.attributes.count("steps")? {
        let gradient = &case.shaped(&format!("in.grad.{i}"), &start.shape)?.values;
        let gradient = DeviceMemory::copy_of(cuda, DType::F32, &round::<f32>(gradient))?;
        on_device.step([&masters, &halves], &gradient)?;
        outputs.insert(format!("out.p.{i}"), whole(&masters, &start.shape)?);
    }
    for (name, memory) in ["out.m", "out.v"].into_iter().zip(&on_device.moments) {
        outputs.insert(name.to_owned(), whole(memory, &start.shape)?);
    }
    Ok(outputs)
}

/// All `in.*` as one vector: the device's norm and clip factor. The factor goes into AdamW there; here the host multiplies.
fn clip_grad_norm_on_device(case: &GoldenCase, cuda: &Cuda, max_norm: f64) -> Result<Outputs> {
    let all: Vec<f64> = case.with_prefix("in.").flat_map(|(_, a)| a.values.iter().copied()).collect();
    let zeros = vec![0.0; all.len()];
    let masters = DeviceMemory::copy_of(cuda, DType::F32, &zeros)?;
    let halves = DeviceMemory::copy_of(cuda, DType::F16, &zeros)?;
    let optimiser = DeviceAdamW::new(cuda, all.len(), &[], &StepState { max_norm, ..unscaled() })?;
    optimiser.step([&masters, &halves], &DeviceMemory::copy_of(cuda, DType::F32, &round::<f32>(&all))?)?;
    let state = optimiser.record()?.state;
    let norm = Array { shape: Vec::new(), values: vec![state.norm] };
    let mut outputs = Outputs::from([("out.norm".to_owned(), norm)]);
    for (name, array) in case.with_prefix("in.") {
        let values =
            round::<f32>(&array.values).into_iter().map(|g| f64::from(g * state.gradient_scale)).collect();
        outputs.insert(format!("out.{name}"), Array { shape: array.shape.clone(), values });
    }
    Ok(outputs)
}

/// The loss scale after each step, of gradients that overflow or do not.
fn grad_scaler_on_device(case: &GoldenCase, cuda: &Cuda, scale: &LossScale) -> Result<Outputs> {
    let one = |x| DeviceMemory::copy_of(cuda, DType::F32, &[x]);
    let (masters, halves) = (one(0.0)?, DeviceMemory::copy_of(cuda, DType::F16, &[0.0])?);
    let optimiser = DeviceAdamW::new(cuda, 1, &[], &scale.on_device(StepState::default()))?;
    let mut trace = Vec::new();
    for found in &case.tensor("in.found_inf")?.values {
        optimiser.step([&masters, &halves], &one(if *found != 0.0 { f32::INFINITY } else { 1.0 })?)?;
        trace.push(f64::from(optimiser.record()?.state.scale));
    }
    Ok(Outputs::from([("out.scale".to_owned(), Array::vector(trace))]))
}
