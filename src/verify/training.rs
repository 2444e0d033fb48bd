//! The training arithmetic: optimiser, clipping, schedule and loss scale.

use ssmv_autograd::{Element, dispatch};

use super::{
    Place,
    case::{Array, Case},
    compare::Outputs,
    on_device::{
        adamw as adamw_on_device, clip_grad_norm as clip_on_device, grad_scaler as scaler_on_device,
    },
    parameters::shaped,
};
use crate::{
    Error, Result,
    config::ScheduleKind,
    optim::{AdamW, Moments, clip_factor, gradient_norm},
    train::{loss_scale::LossScale, schedule::Schedule},
};

fn round<T: Element>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&v| T::from_f64(v)).collect()
}

fn widen<T: Element>(values: &[T]) -> Array {
    Array::vector(values.iter().map(|v| v.to_f64()).collect())
}

/// `steps` steps of AdamW over `in.p` with the gradients `in.grad.i`: `out.p.i` after each, and the moments at the end.
pub(super) fn adamw(case: &Case, place: &Place) -> Result<Outputs> {
    let (lr, weight_decay) = (case.number("lr")?, case.number("weight_decay")?);
    let (beta1, beta2, eps) = (case.number("beta1")?, case.number("beta2")?, case.number("eps")?);
    let optimiser = AdamW { beta1, beta2, eps, weight_decay };
    let start = case.tensor("in.p")?;
    let mut outputs = Outputs::new();
    if let Place::Device(cuda) = place {
        return adamw_on_device(case, cuda, lr, &optimiser);
    }
    dispatch!(place.wide(), T => {
        let mut p = round::<T>(&start.values);
        let mut moments = Moments::zeros(p.len());
        let all = 0..p.len();
        let decaying = std::slice::from_ref(&all);
        for i in 0..case.count("steps")? {
            let g = round::<T>(&shaped(case, &format!("in.grad.{i}"), &start.shape)?.values);
            optimiser.step([(i + 1) as f64, lr, 1.0], decaying, 0..p.len(), &mut p, &g, &mut moments);
            outputs.insert(format!("out.p.{i}"), Array { shape: start.shape.clone(), ..widen(&p) });
        }
        for (name, values) in [("out.m", &moments.m), ("out.v", &moments.v)] {
            outputs.insert(name.to_owned(), Array { shape: start.shape.clone(), ..widen(values) });
        }
    });
    Ok(outputs)
}

/// All `in.*` as one vector: its norm, and each clipped so that the norm becomes at most `max_norm`.
pub(super) fn clip_grad_norm(case: &Case, place: &Place) -> Result<Outputs> {
    let max_norm = case.number("max_norm")?;
    let mut outputs = Outputs::new();
    if let Place::Device(cuda) = place {
        return clip_on_device(case, cuda, max_norm);
    }
    dispatch!(place.wide(), T => {
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
pub(super) fn cosine_annealing(case: &Case, _: &Place) -> Result<Outputs> {
    let (base_lr, t_max) = (case.number("base_lr")?, case.count("t_max")? as u64);
    if case.number("eta_min")? != 0.0 {
        return Err(Error::Failure("eta_min other than 0 is not supported".to_owned()));
    }
    let schedule = Schedule {
        kind: ScheduleKind::CosineEpoch,
        base_lr,
        warmup: 0,
        total_steps: t_max,
        steps_per_epoch: 1,
        epochs: t_max,
    };
    schedule.validate()?;
    let rates = (0..=t_max).map(|epoch| schedule.rate(epoch)).collect();
    Ok(Outputs::from([("out.lr".to_owned(), Array::vector(rates))]))
}

/// The loss scale after each step. It is f32 in every dtype, as torch's is.
pub(super) fn grad_scaler(case: &Case, place: &Place) -> Result<Outputs> {
    let number = |name: &str| case.number(name).map(|v| v as f32);
    let interval = case.count("growth_interval")? as u32;
    let scale =
        LossScale::new(number("init_scale")?, number("growth_factor")?, number("backoff_factor")?, interval)?;
    // torch has no floor.
    let mut scale = scale.with_floor(0.0);
    if let Place::Device(cuda) = place {
        return scaler_on_device(case, cuda, &scale);
    }
    let mut trace = Vec::new();
    for (step, found) in case.tensor("in.found_inf")?.values.iter().enumerate() {
        scale.update(step as u64, *found != 0.0)?;
        trace.push(f64::from(scale.scale()));
    }
    Ok(Outputs::from([("out.scale".to_owned(), Array::vector(trace))]))
}
