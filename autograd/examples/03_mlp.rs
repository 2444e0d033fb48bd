//! A multilayer perceptron that learns whether a point is inside of a circle.
//!
//!     cargo run --release -p ssmv-autograd --example 03_mlp

use ssmv_autograd::{
    Arena, ArenaLayout, DType, Result, Shape, Tensor,
    init::Init,
    optim::{AdamW, AdamWOptions},
};

const SHAPES: [&[usize]; 4] = [&[32, 2], &[32], &[1, 32], &[1]];

/// x [N, 2] → logits [N, 1]
fn model(p: &Arena, x: &Tensor) -> Result<Tensor> {
    let hidden = x.linear(&p.parameter(0), Some(&p.parameter(1)))?.relu()?;
    hidden.linear(&p.parameter(2), Some(&p.parameter(3)))
}

fn main() -> Result<()> {
    // All parameters in one array, which the optimiser walks.
    let mut parameters = Arena::new(ArenaLayout::new(SHAPES.map(Shape::from))?, DType::F32)?;
    for (i, fan_in) in [2, 2, 32, 32].into_iter().enumerate() {
        parameters.set(i, &Init::fan_in(fan_in).values(SHAPES[i], 0, &format!("parameter {i}")))?;
    }
    let mut gradients = parameters.gradients()?;
    let options = AdamWOptions { lr: 1e-2, ..AdamWOptions::default() };
    let mut optimiser = AdamW::<f32>::new(options, parameters.layout().len(), Vec::new());

    let points: Vec<f64> = Init::Uniform(1.0).values(&[400, 2], 1, "points");
    let inside = |p: &[f64]| if p[0] * p[0] + p[1] * p[1] < 0.5 { 1.0 } else { 0.0 };
    let targets: Vec<f32> = points.chunks(2).map(inside).collect();
    let x = Tensor::new([400, 2], &points.iter().map(|&v| v as f32).collect::<Vec<_>>())?;
    let target = Tensor::new([400, 1], &targets)?;
    for step in 0..=300 {
        gradients.reset();
        let y = model(&parameters, &x)?.sigmoid()?;
        let loss = y.mse_loss(&target)?;
        if step % 50 == 0 {
            let right = y.values::<f32>()?.iter().zip(&targets).filter(|(y, t)| (**y > 0.5) == (**t > 0.5));
            println!("step {step:3}: loss {:.4}, {:.1} % right", loss.item()?, right.count() as f64 / 4.0);
        }
        loss.backward(&mut gradients)?;
        drop((y, loss));
        optimiser.step(parameters.values_mut()?, gradients.values_mut()?)?;
    }
    Ok(())
}
