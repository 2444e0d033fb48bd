//! The composites: what the model builds of the operators, and the model as a whole, with respect to their inputs and
//! to every parameter.

use ssmv_autograd::{Arena, DType, Tensor, apply, no_grad};
use ssmv_raw::{
    Error, Result,
    check::Draw,
    model::{
        Predictor, Preset,
        decoder::Up,
        encoder::Residual,
        layers::{Context, Norms},
        mamba::{Mamba, MixerSizes},
        parameters::{Builder, Parameter, initialise},
    },
};

use super::{
    gradients::{agree, dot, slope, values},
    seeded::Square,
};

/// A name and how to make one.
pub struct Composite {
    name: &'static str,
    cases: usize,
    make: fn(&mut Draw) -> Subject,
}

/// Every composite.
pub const TABLE: &[Composite] = &[
    Composite { name: "residual block", cases: 4, make: residual },
    Composite { name: "mamba mixer", cases: 4, make: mixer },
    Composite { name: "up block", cases: 4, make: up },
    Composite { name: "nano predictor", cases: 1, make: predictor },
];

/// A step so small that few of a network's ReLUs turn over on it; those that do are what the tolerance is for.
const STEP: f64 = 1e-6;
const RELATIVE: f64 = 1e-5;
const ROUNDING: f64 = 1e-15;

type Function = Box<dyn FnMut(&mut Arena, &[Tensor]) -> Result<Tensor>>;

/// A function of inputs and parameters.
struct Subject {
    parameters: Vec<Parameter>,
    inputs: Vec<Tensor>,
    function: Function,
}

/// A module that was put together with `builder`.
fn module(
    builder: Builder,
    inputs: Vec<Tensor>,
    forward: impl Fn(&Context, &[Tensor]) -> Result<Tensor> + 'static,
) -> Subject {
    let norms = builder.norms;
    let function: Function =
        Box::new(move |arena, x| forward(&Context::new(arena, Norms::Host(&norms), true), x));
    Subject { parameters: builder.parameters, inputs, function }
}

fn residual(draw: &mut Draw) -> Subject {
    let mut b = Builder::default();
    let (cin, stride, batch, side) =
        (draw.channels(), draw.within(1, 2), draw.within(1, 3), draw.within(3, 6));
    let project = draw.flag() || stride == 2;
    let cout = if project { draw.channels() } else { cin };
    let block = Residual::new(&mut b, [cin, cout], stride, project);
    let x = values(draw, &[batch, side, side + 1, cin]);
    module(b, vec![x], move |cx, x| block.forward(cx, &x[0]))
}

fn mixer(draw: &mut Draw) -> Subject {
    let mut b = Builder::default();
    let sizes =
        MixerSizes { dim: draw.pick(&[1, 8, 17, 33]), states: draw.within(1, 16), taps: 4, expand: 2 };
    let mamba = Mamba::new(&mut b, sizes);
    let (batch, length) = (draw.within(1, 2), draw.pick(&[1, 3, 10, 70]));
    let x = values(draw, &[batch, length, sizes.dim]);
    module(b, vec![x], move |cx, x| mamba.forward(cx, &x[0]))
}

/// Future frames of a sequence.
const FUTURE: usize = 2;

fn up(draw: &mut Draw) -> Subject {
    let mut b = Builder::default();
    let (batch, side, cin, cout) = (draw.within(1, 2), draw.within(1, 4), draw.channels(), draw.channels());
    let skip = draw.pick(&[0, 3, 24]);
    let block = Up::new(&mut b, [cin, cout], skip, FUTURE);
    let mut inputs = vec![values(draw, &[FUTURE * batch, side, side, cin])];
    if skip > 0 {
        inputs.push(values(draw, &[batch, 2 * side, 2 * side, skip]));
    }
    module(b, inputs, move |cx, x| block.forward(cx, &x[0], x.get(1)))
}

fn predictor(draw: &mut Draw) -> Subject {
    let preset = Preset::find("nano").expect("there is a nano");
    let mut model = Predictor::zeros(preset, DType::F64).unwrap();
    let parameters = model.parameters.clone();
    let inputs =
        vec![draw.between(&[1, 4, preset.size, preset.size, 3], 0.0, 1.0).tensor(DType::F64).unwrap()];
    let function: Function = Box::new(move |arena, x| {
        std::mem::swap(&mut model.arena, arena);
        let y = model.train(&x[0]);
        std::mem::swap(&mut model.arena, arena);
        y
    });
    Subject { parameters, inputs, function }
}

/// Draws and checks all cases; the first failure in words.
pub fn check(composite: &Composite) -> std::result::Result<(), String> {
    for index in 0..composite.cases {
        let mut draw = Draw::new(composite.name, index);
        let mut subject = (composite.make)(&mut draw);
        let shapes: Vec<_> = subject.inputs.iter().map(|t| t.shape().clone()).collect();
        gradients(&mut subject, &mut draw)
            .map_err(|e| format!("{} case {index} of {shapes:?}: {e}", composite.name))?;
    }
    Ok(())
}

/// Each input's and parameter's gradient along a random direction and at a coordinate.
fn gradients(subject: &mut Subject, draw: &mut Draw) -> std::result::Result<(), String> {
    let text = |e: Error| e.to_string();
    let mut arena = initialise(&subject.parameters, 1, DType::F64).map_err(text)?;
    let engine = |e: ssmv_autograd::Error| e.to_string();
    // Away from where they begin, so that no scale is 1 and no bias 0.
    arena.values_mut::<f64>().map_err(engine)?.iter_mut().for_each(|v| *v += draw.uniform(-0.1, 0.1));

    let leaves: Vec<Tensor> = subject.inputs.iter().map(Tensor::leaf).collect();
    let y = (subject.function)(&mut arena, &leaves).map_err(text)?;
    let w = values(draw, y.shape());
    let mut gradients = arena.gradients().unwrap();
    y.backward_from(w.clone(), &mut gradients).map_err(engine)?;
    let w = w.to_f64().unwrap();
    let noise = ROUNDING / STEP * dot(&w.iter().map(|w| w.abs()).collect::<Vec<_>>(), &absolute(&y));
    drop(y);

    for (i, leaf) in leaves.iter().enumerate() {
        let gradient =
            gradients.of(leaf).ok_or_else(|| format!("input {i} got no gradient"))?.to_f64().unwrap();
        let x = leaf.to_f64().unwrap();
        let objective = |direction: &[f64], h: f64| {
            let moved: Vec<f64> = x.iter().zip(direction).map(|(x, d)| x + h * d).collect();
            let mut inputs = subject.inputs.clone();
            inputs[i] = Tensor::new(leaf.shape().clone(), &moved)?;
            let y = no_grad(|| (subject.function)(&mut arena, &inputs))?;
            Ok(dot(&y.to_f64().unwrap(), &w))
        };
        compare(&format!("input {i}"), &gradient, noise, draw, objective)?;
    }
    let values = gradients.values_mut::<f64>().map_err(engine)?.to_vec();
    for (parameter, range) in subject.parameters.iter().zip(arena.layout().clone().ranges()) {
        let start = arena.values::<f64>().map_err(engine)?[range.clone()].to_vec();
        let objective = |direction: &[f64], h: f64| {
            let slots = &mut arena.values_mut::<f64>()?[range.clone()];
            slots.iter_mut().zip(start.iter().zip(direction)).for_each(|(s, (x, d))| *s = x + h * d);
            let y = no_grad(|| (subject.function)(&mut arena, &subject.inputs))?;
            arena.values_mut::<f64>()?[range.clone()].copy_from_slice(&start);
            Ok(dot(&y.to_f64().unwrap(), &w))
        };
        compare(&parameter.name, &values[range.clone()], noise, draw, objective)?;
    }
    Ok(())
}

fn absolute(y: &Tensor) -> Vec<f64> {
    y.to_f64().unwrap().into_iter().map(f64::abs).collect()
}

fn compare(
    what: &str,
    gradient: &[f64],
    noise: f64,
    draw: &mut Draw,
    mut objective: impl FnMut(&[f64], f64) -> Result<f64>,
) -> std::result::Result<(), String> {
    let length = dot(gradient, gradient).sqrt();
    let typical = length / (gradient.len() as f64).sqrt();
    let at = draw.within(0, gradient.len() - 1);
    let mut single = vec![0.0; gradient.len()];
    single[at] = 1.0;
    let random: Vec<f64> = gradient.iter().map(|_| draw.uniform(-1.0, 1.0)).collect();
    for (place, direction, scale) in
        [(format!("index {at}"), single, typical), ("a direction".into(), random, length)]
    {
        let analytic = dot(gradient, &direction);
        let numeric = slope(STEP, |h| objective(&direction, h)).map_err(|e| e.to_string())?;
        agree(analytic, numeric, RELATIVE * scale.max(analytic.abs()) + noise)
            .map_err(|e| format!("{what}, {place}: {e}"))?;
    }
    Ok(())
}

#[test]
fn a_wrong_gradient_inside_a_composite_is_caught() {
    let wrong = |factor| {
        let mut draw = Draw::new("wrong composite", 0);
        let mut subject = mixer(&mut draw);
        let mut forward = subject.function;
        subject.function = Box::new(move |arena, x| {
            let x = apply(Square { factor, gives: true }, &[&x[0]])?;
            forward(arena, &[x])
        });
        gradients(&mut subject, &mut draw)
    };
    wrong(2.0).unwrap();
    assert!(wrong(2.002).unwrap_err().contains("input 0"));
}
