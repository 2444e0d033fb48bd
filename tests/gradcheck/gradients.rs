//! One helper that compares a function's gradients with central differences, and its other dtypes, threads and places
//! where gradients are put with each other.

use ssmv_autograd::{Arena, ArenaLayout, DType, Error as TensorError, Gradients, Tensor, no_grad};
use ssmv_raw::{
    Error, Result,
    check::{
        Draw, Operator,
        operators::{By, DrawnCases, Function},
    },
};

/// A function, what it is applied to, and its attributes in words.
pub struct TensorFunction {
    pub attributes: String,
    pub inputs: Vec<Tensor>,
    pub function: Function,
}

impl TensorFunction {
    pub fn new(
        attributes: String,
        inputs: Vec<Tensor>,
        function: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Self {
        Self { attributes, inputs, function: Box::new(function) }
    }
}

/// Values from −1 to 1 in f64.
pub fn values(draw: &mut Draw, shape: &[usize]) -> Tensor {
    draw.values(shape).tensor(DType::F64).unwrap()
}

/// Step of the differences, which are off by its fourth power and by rounding over it.
const STEP: f64 = 1e-3;
/// What a gradient may be off, of the larger of the two values and the gradient's root mean square.
const RELATIVE: f64 = 1e-6;
/// What rounding makes of the differences, of Σ|w·y|.
const ROUNDING: f64 = 1e-12;
/// Coordinates of an input that are compared alone, and random directions.
const COORDINATES: usize = 8;
const DIRECTIONS: usize = 2;

/// Draws and checks all cases of a row; the first failure in words.
pub fn row((operator, check): &(&Operator, &DrawnCases)) -> std::result::Result<(), String> {
    let By::Gradients(cases) = check.by else {
        return Err(format!("{} is not a gradient check", check.name));
    };
    for index in 0..cases {
        let mut draw = Draw::new(check.name, index);
        let case = (check.draw)(&mut draw);
        let attributes = serde_json::Value::Object(case.attributes.0.clone()).to_string();
        let (inputs, function) = operator.function(case).map_err(|e| format!("{}: {e}", check.name))?;
        let case = TensorFunction { attributes, inputs, function };
        let shapes: Vec<_> = case.inputs.iter().map(Tensor::shape).collect();
        let mut all = || -> std::result::Result<(), String> {
            gradients(&case, &mut draw)?;
            agreements(&case, &mut draw)
        };
        all().map_err(|e| format!("{} case {index} ({}) of {shapes:?}: {e}", check.name, case.attributes))?;
    }
    Ok(())
}

/// Output and the inputs' gradients under a cotangent, by `backward_from`.
struct Run {
    y: Vec<f64>,
    gradients: Vec<Vec<f64>>,
}

fn run(function: &Function, inputs: &[Tensor], cotangent: &Tensor, dtype: DType) -> Result<Run> {
    let leaves: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(dtype).unwrap().leaf()).collect();
    let y = function(&leaves)?;
    let mut gradients = Gradients::of_leaves();
    y.backward_from(cotangent.to_dtype(dtype).unwrap(), &mut gradients)?;
    let of = |(i, leaf)| match gradients.of(leaf) {
        Some(g) if g.shape() == leaf.shape() => Ok(g.to_f64().unwrap()),
        Some(g) => Err(TensorError::Backward(format!("input {i} {leaf:?} got a gradient {g:?}")).into()),
        None => Err(TensorError::Backward(format!("input {i} got no gradient")).into()),
    };
    let gradients = leaves.iter().enumerate().map(of).collect::<Result<_>>()?;
    Ok(Run { y: y.to_f64().unwrap(), gradients })
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn cotangent(case: &TensorFunction, draw: &mut Draw) -> Result<Tensor> {
    let y = no_grad(|| (case.function)(&case.inputs))?;
    Ok(values(draw, y.shape()))
}

/// The derivative of `f` at 0, by differences of fourth order: (8(f(h) − f(−h)) − (f(2h) − f(−2h)))/12h.
pub fn slope(step: f64, mut f: impl FnMut(f64) -> Result<f64>) -> Result<f64> {
    let mut difference = |h| Ok::<_, Error>(f(h)? - f(-h)?);
    Ok((8.0 * difference(step)? - difference(2.0 * step)?) / (12.0 * step))
}

/// Whether two values of a derivative are within `allowed`; what is wrong in words.
pub fn agree(analytic: f64, numeric: f64, allowed: f64) -> std::result::Result<(), String> {
    let error = (analytic - numeric).abs();
    // A NaN does not agree.
    if error <= allowed {
        return Ok(());
    }
    let relative = error / analytic.abs().max(numeric.abs());
    Err(format!("backward gives {analytic:e}, differences give {numeric:e}, relative error {relative:.1e}"))
}

/// Every input's gradient against central differences of Σ w·f(x), along random directions and at single coordinates.
pub fn gradients(case: &TensorFunction, draw: &mut Draw) -> std::result::Result<(), String> {
    let text = |e: Error| e.to_string();
    let w = cotangent(case, draw).map_err(text)?;
    let analytic = run(&case.function, &case.inputs, &w, DType::F64).map_err(text)?;
    let w = w.to_f64().unwrap();
    let noise = ROUNDING / STEP * w.iter().zip(&analytic.y).map(|(w, y)| (w * y).abs()).sum::<f64>();
    for (i, input) in case.inputs.iter().enumerate() {
        let x = input.to_f64().unwrap();
        let objective = |direction: &[f64], h: f64| -> Result<f64> {
            let moved: Vec<f64> = x.iter().zip(direction).map(|(x, d)| x + h * d).collect();
            let mut inputs = case.inputs.clone();
            inputs[i] = Tensor::new(input.shape().clone(), &moved)?;
            Ok(dot(&no_grad(|| (case.function)(&inputs))?.to_f64().unwrap(), &w))
        };
        let slope = |direction: &[f64]| slope(STEP, |h| objective(direction, h));
        let gradient = &analytic.gradients[i];
        let typical = (dot(gradient, gradient) / gradient.len() as f64).sqrt();
        let compare = |place: String, analytic: f64, numeric: f64, scale: f64| {
            agree(analytic, numeric, RELATIVE * scale.max(analytic.abs()) + noise)
                .map_err(|e| format!("input {i}, {place}: {e}"))
        };
        let mut coordinates = draw.order(x.len());
        coordinates.truncate(COORDINATES);
        coordinates.sort_unstable();
        for at in coordinates {
            let mut direction = vec![0.0; x.len()];
            direction[at] = 1.0;
            compare(format!("index {at}"), gradient[at], slope(&direction).map_err(text)?, typical)?;
        }
        for n in 0..DIRECTIONS {
            let direction: Vec<f64> = x.iter().map(|_| draw.uniform(-1.0, 1.0)).collect();
            let along = typical * (x.len() as f64).sqrt();
            compare(
                format!("direction {n}"),
                dot(gradient, &direction),
                slope(&direction).map_err(text)?,
                along,
            )?;
        }
    }
    Ok(())
}

/// ‖got − want‖ of ‖want‖, and of the typical size where `want` nearly vanishes.
fn distance(got: &[f64], want: &[f64], scale: f64) -> f64 {
    let difference: f64 = got.iter().zip(want).map(|(g, w)| (g - w) * (g - w)).sum();
    let size = dot(want, want).sqrt().max(scale);
    if got.len() == want.len() && size > 0.0 { difference.sqrt() / size } else { difference.sqrt() }
}

fn near(what: &str, got: &Run, want: &Run, factor: f64, bound: f64) -> std::result::Result<(), String> {
    let largest = want.gradients.iter().map(|g| dot(g, g).sqrt()).fold(0.0, f64::max);
    let pairs = got.gradients.iter().zip(&want.gradients).enumerate();
    let outputs = (usize::MAX, (&got.y, &want.y));
    for (i, (got, want)) in pairs.chain([outputs]) {
        let factor = if i == usize::MAX { 1.0 } else { factor };
        let scaled: Vec<f64> = want.iter().map(|v| factor * v).collect();
        // A gradient that cancels to nearly nothing is measured against the others.
        let error = distance(got, &scaled, 1e-3 * largest);
        if got.len() == want.len() && error <= bound {
            continue;
        }
        let fits = |(g, w): (&f64, &f64)| (g - w).abs() <= bound * w.abs();
        let bad = got.iter().zip(&scaled).position(|pair| !fits(pair)).unwrap_or(0);
        let tensor = if i == usize::MAX { "the output".to_owned() } else { format!("input {i}'s gradient") };
        let (g, w) = (got.get(bad), scaled.get(bad));
        return Err(format!("{what}: {tensor} is off by {error:.1e}; first at index {bad}: {g:?} for {w:?}"));
    }
    Ok(())
}

/// The same gradients in f32, on other numbers of threads, for one input alone, added up in the graph and in an arena.
pub fn agreements(case: &TensorFunction, draw: &mut Draw) -> std::result::Result<(), String> {
    let text = |e: Error| e.to_string();
    let w = cotangent(case, draw).map_err(text)?;
    let want = run(&case.function, &case.inputs, &w, DType::F64).map_err(text)?;
    let single = run(&case.function, &case.inputs, &w, DType::F32).map_err(text)?;
    near("f32 against f64", &single, &want, 1.0, 1e-4)?;
    for (threads, pool) in super::pools() {
        let other = pool.install(|| run(&case.function, &case.inputs, &w, DType::F32)).map_err(text)?;
        if other.y != single.y || other.gradients != single.gradients {
            return Err(format!("other bits on {threads} threads"));
        }
    }
    for i in 0..case.inputs.len() {
        let alone = only(case, i, &w).map_err(text)?;
        if alone != want.gradients[i] {
            return Err(format!("input {i} gets another gradient when it alone needs one"));
        }
    }
    near("used twice", &twice(case, &w).map_err(text)?, &want, 2.0, 1e-12)?;
    near("two passes into an arena", &arena(case, &w).map_err(text)?, &want, 2.0, 1e-12)
}

/// The gradient of input `i` when no other one needs one.
fn only(case: &TensorFunction, i: usize, w: &Tensor) -> Result<Vec<f64>> {
    let mut inputs = case.inputs.clone();
    inputs[i] = inputs[i].leaf();
    let mut gradients = Gradients::of_leaves();
    (case.function)(&inputs)?.backward_from(w.clone(), &mut gradients)?;
    Ok(gradients.of(&inputs[i]).map(|t| t.to_f64().unwrap()).unwrap_or_default())
}

/// f(x) + f(x) where x is made by an operator, so that the second gradient is added to the first inside the graph.
fn twice(case: &TensorFunction, w: &Tensor) -> Result<Run> {
    let leaves: Vec<Tensor> = case.inputs.iter().map(Tensor::leaf).collect();
    let made = leaves.iter().map(|t| Ok(t.scale(1.0)?)).collect::<Result<Vec<_>>>()?;
    let y = (case.function)(&made)?;
    let mut gradients = Gradients::of_leaves();
    y.add(&(case.function)(&made)?)?.backward_from(w.clone(), &mut gradients)?;
    let gradients =
        leaves.iter().map(|t| gradients.of(t).map(|t| t.to_f64().unwrap()).unwrap_or_default()).collect();
    Ok(Run { y: y.to_f64().unwrap(), gradients })
}

/// Two passes over parameters of an arena, whose gradients are added up.
fn arena(case: &TensorFunction, w: &Tensor) -> Result<Run> {
    let layout = ArenaLayout::new(case.inputs.iter().map(|t| t.shape().clone()))?;
    let mut arena = Arena::new(layout.clone(), DType::F64).unwrap();
    for (input, range) in case.inputs.iter().zip(layout.ranges()) {
        arena.values_mut::<f64>()?[range.clone()].copy_from_slice(&input.to_f64().unwrap());
    }
    let mut gradients = arena.gradients().unwrap();
    // What an earlier step left behind must not show.
    gradients.values_mut::<f64>()?.fill(f64::NAN);
    gradients.reset();
    let parameters: Vec<Tensor> = (0..case.inputs.len()).map(|i| arena.parameter(i)).collect();
    let mut y = Vec::new();
    for _ in 0..2 {
        let output = (case.function)(&parameters)?;
        output.backward_from(w.clone(), &mut gradients)?;
        y = output.to_f64().unwrap();
    }
    drop(parameters);
    arena.values_mut::<f64>()?;
    let values = gradients.values_mut::<f64>()?;
    Ok(Run { y, gradients: layout.ranges().iter().map(|r| values[r.clone()].to_vec()).collect() })
}
