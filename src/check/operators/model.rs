//! The model's mixer and the model as a whole.

use ssmv_autograd::Gradients;

use super::{
    super::{compare::ALL_GRADIENTS, parameters},
    *,
};
use crate::model::{
    DevicePredictor, Predict, Predictor, Preset,
    layers::{Context, Norms},
    mamba::{Mamba, MixerSizes},
    parameters::Builder,
};

pub(super) const TABLE: &[Operator] = &[
    Operator::whole("mamba_mixer", mamba_mixer, golden!["mamba_mixer_16x5"], COMPOSITE),
    Operator::whole(
        "predictor",
        predictor,
        golden!["predictor_nano", "predictor_nano_next5"],
        &[("out.loss", [1e-9, 1e-5, 1e-3]), (ALL_GRADIENTS, [1e-8, 1e-3, 4e-2]), ("", [1e-9, 1e-4, 1e-2])],
    ),
];

/// The mixer of the model, its parameters `param.NAME`.
fn mamba_mixer(case: &GoldenCase, device: &TargetDevice) -> Result<Outputs> {
    let (dim, states) = (case.attributes.count("dim")?, case.attributes.count("state")?);
    let (taps, expand) = (case.attributes.count("conv")?, case.attributes.count("expand")?);
    let input = case.tensor("in.x")?;
    if input.shape.len() != 3 || input.shape[2] != dim || input.shape.contains(&0) {
        return Err(Error::Failure(format!("in.x {:?} is not [B,L,{dim}]", input.shape)));
    }
    let mut builder = Builder::default();
    let mixer = Mamba::new(&mut builder, MixerSizes { dim, states, taps, expand });
    let arena = parameters::arena(case, "param", &builder.parameters, device)?;
    let widest = (2 * expand * dim).max(dim.div_ceil(16) + 2 * states);
    room(&[input.shape[0], input.shape[1], widest])?;
    let x = device.tensor(input, device.dtype())?.leaf();
    let y = mixer.forward(&Context::new(&arena, Norms::Host(&[]), false), &x)?;
    let mut outputs = Outputs::from([("out.y".to_owned(), Array::of(&y)?)]);
    let mut gradients = arena.gradients()?;
    y.backward_from(device.tensor(case.tensor("grad_out.y")?, y.dtype())?, &mut gradients)?;
    if let Some(dx) = gradients.of(&x) {
        outputs.insert("grad_in.x".to_owned(), Array::of(dx)?);
    }
    parameters::gradients(&mut outputs, "grad_param", &builder.parameters, &arena, &mut gradients)?;
    Ok(outputs)
}

/// One training step's arithmetic of a whole model: its output, L1 loss, gradients and running statistics, and the
/// output with those statistics.
fn predictor(case: &GoldenCase, device: &TargetDevice) -> Result<Outputs> {
    if !case.attributes.flag("training")? {
        return Err(Error::Failure("training false is not supported; only true is".to_owned()));
    }
    let name = case.attributes.word("preset")?;
    let preset = Preset::find(name).ok_or_else(|| Error::Failure(format!("unknown preset {name:?}")))?;
    let frames = to_channels_last(&device.tensor(case.tensor("in.frames")?, device.dtype())?)?;
    let target = to_channels_last(&device.tensor(case.tensor("in.target")?, device.dtype())?)?;
    let [batch, steps, height, width, colours] = frames.shape().dims("predictor", "in.frames [B,T,C,S,S]")?;
    // The number of predicted frames is the target's.
    let preset = &preset.with(preset.size, target.shape().get(1).copied().unwrap_or(0))?;
    if [height, width, colours] != [preset.size, preset.size, crate::model::CHANNELS] || batch * steps == 0 {
        return Err(Error::Failure(format!("in.frames {} do not fit the preset {name}", frames.shape())));
    }
    let mut model = Predictor::zeros(preset, device.master_dtype())?;
    model.arena =
        parameters::arena(case, "state", &model.parameters, &TargetDevice::Cpu(device.master_dtype()))?;
    for norm in &mut model.norms {
        let channels = [norm.mean.len()];
        let read = |part: &str| case.shaped(&format!("state.{}.{part}", norm.name), &channels);
        (norm.mean, norm.variance) =
            (read("running_mean")?.values.clone(), read("running_var")?.values.clone());
    }
    let mut outputs = Outputs::new();
    match device {
        TargetDevice::Cpu(_) | TargetDevice::CpuBf16 => {
            let y = model.train(&frames)?;
            let mut gradients = model.arena.gradients()?;
            loss_and_gradients(&mut outputs, &y, &target, &mut gradients)?;
            parameters::gradients(&mut outputs, "grad", &model.parameters, &model.arena, &mut gradients)?;
            outputs
                .insert("out.y_eval".to_owned(), Array::of(&to_channels_first(&model.predict(&frames)?)?)?);
        }
        TargetDevice::Cuda(cuda) => {
            let model_there = DevicePredictor::upload(&model, cuda)?;
            let y = model_there.train(&frames)?;
            let mut gradients = model_there.arena.gradients()?;
            loss_and_gradients(&mut outputs, &y, &target, &mut gradients)?;
            parameters::gradients(
                &mut outputs,
                "grad",
                &model.parameters,
                &model_there.arena,
                &mut gradients,
            )?;
            model_there.norms.kept_memory().copy_from(model_there.norms.pending_memory())?;
            outputs.insert(
                "out.y_eval".to_owned(),
                Array::of(&to_channels_first(&model_there.forward(&frames)?)?)?,
            );
            model_there.write_back(&mut model)?;
        }
    }
    for norm in model.norms {
        for (part, values) in [("running_mean", norm.mean), ("running_var", norm.variance)] {
            outputs.insert(format!("out_state.{}.{part}", norm.name), Array::vector(values));
        }
    }
    Ok(outputs)
}

/// Output, loss and gradients of one batch.
fn loss_and_gradients(
    outputs: &mut Outputs,
    y: &Tensor,
    target: &Tensor,
    gradients: &mut Gradients,
) -> Result<()> {
    let loss = y.l1_loss(target)?;
    outputs.insert("out.y".to_owned(), Array::of(&to_channels_first(y)?)?);
    outputs.insert("out.loss".to_owned(), Array::of(&loss)?);
    Ok(loss.backward(gradients)?)
}

/// Permutes [B,T,C,H,W] → [B,T,H,W,C].
fn to_channels_last(x: &Tensor) -> Result<Tensor> {
    Ok(x.permute(&[0, 1, 3, 4, 2])?)
}

/// Permutes [B,T,H,W,C] → [B,T,C,H,W].
fn to_channels_first(x: &Tensor) -> Result<Tensor> {
    Ok(x.detach().permute(&[0, 1, 4, 2, 3])?)
}
