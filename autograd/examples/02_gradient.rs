//! A gradient: the slope of a curve, by a backward pass and by differences.
//!
//!     cargo run -p ssmv-autograd --example 02_gradient

use ssmv_autograd::{Gradients, Result, Tensor};

/// y = Σ x·exp(−x)
fn curve(x: &Tensor) -> Result<Tensor> {
    (x * (-x)?.exp()?)?.sum(&[0])
}

fn main() -> Result<()> {
    let points = [-1f64, 0.0, 0.5, 1.0, 2.0];
    // A leaf: a tensor whose gradient is kept.
    let x = Tensor::new([points.len()], &points)?.leaf();
    let mut gradients = Gradients::of_leaves();
    curve(&x)?.backward(&mut gradients)?;
    let slopes = gradients.of(&x).expect("the sum depends on x").to_f64()?;

    let h = 1e-5;
    for (&at, slope) in points.iter().zip(slopes) {
        let y = |x: f64| curve(&Tensor::new([1], &[x])?)?.item();
        let difference = (y(at + h)? - y(at - h)?) / (2.0 * h);
        println!("x = {at:5.2}: dy/dx = {slope:9.6}, by differences {difference:9.6}");
    }
    Ok(())
}
