//! Faults on purpose: each check must be able to fail.

use std::sync::atomic::{AtomicUsize, Ordering};

use ssmv_autograd::{
    Arena, ArenaLayout, Backward, DType, Forward, Gradients, Op, Result, Shape, Tensor, apply, no_grad,
};
use ssmv_raw::check::Draw;

use super::gradients::{self, TensorFunction, values};

/// y = x², with dx = factor·x·dy where `gives` (2 is right).
pub struct Square {
    pub factor: f64,
    pub gives: bool,
}

impl Op for Square {
    fn name(&self) -> &'static str {
        "square"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(inputs[0].clone())
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        cx.save(inputs[0]);
        inputs[0].detach().mul(&inputs[0].detach())
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let [x] = cx.saved()?;
        if self.gives {
            cx.give(0, x.mul(dy)?.scale(self.factor)?)?;
        }
        Ok(())
    }
}

fn square(factor: f64) -> TensorFunction {
    let mut draw = Draw::new("square", 0);
    let x = draw.away(&[3, 5], 0.1).tensor(DType::F64).unwrap();
    TensorFunction::new(format!("factor {factor}"), vec![x], move |x| {
        Ok(apply(Square { factor, gives: true }, &[&x[0]])?)
    })
}

#[test]
fn a_wrong_gradient_is_caught() {
    for factor in [2.0 + 1e-4, 1.0, -2.0, 0.0, f64::NAN] {
        let found = gradients::gradients(&square(factor), &mut Draw::new("wrong", 0));
        let message = found.expect_err("a wrong gradient passed");
        assert!(message.contains("backward gives") && message.contains("index 0"), "{message}");
    }
    let right = square(2.0);
    gradients::gradients(&right, &mut Draw::new("right", 0)).unwrap();
    gradients::agreements(&right, &mut Draw::new("right", 0)).unwrap();
}

/// Right in f64, off in f32.
#[test]
fn a_dtype_that_disagrees_is_caught() {
    let mut draw = Draw::new("dtype", 0);
    let case = TensorFunction::new(String::new(), vec![values(&mut draw, &[4])], |x| {
        let k = if x[0].dtype() == DType::F32 { 1.001 } else { 1.0 };
        Ok(x[0].scale(k)?)
    });
    gradients::gradients(&case, &mut draw).unwrap();
    assert!(gradients::agreements(&case, &mut draw).unwrap_err().contains("f32 against f64"));
}

/// A function that is another one at every call is not the sum of its gradients.
#[test]
fn a_function_that_changes_is_caught() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let mut draw = Draw::new("calls", 0);
    let case = TensorFunction::new(String::new(), vec![values(&mut draw, &[4])], |x| {
        Ok(x[0].scale(1.0 + CALLS.fetch_add(1, Ordering::Relaxed) as f64)?)
    });
    assert!(gradients::agreements(&case, &mut draw).is_err());
}

#[test]
fn an_operator_that_gives_no_gradient_is_an_error() {
    let x = Tensor::new([2], &[1.0, 2.0]).unwrap().leaf();
    let y = apply(Square { factor: 2.0, gives: false }, &[&x]).unwrap();
    let error = y.sum(&[]).unwrap().backward(&mut Gradients::of_leaves()).unwrap_err().to_string();
    assert!(error.contains("square") && error.contains("no gradient"), "{error}");
}

#[test]
fn a_second_backward_pass_through_a_graph_is_an_error() {
    let x = Tensor::new([2], &[1.0, 2.0]).unwrap().leaf();
    let y = x.silu().unwrap().sum(&[]).unwrap();
    let mut gradients = Gradients::of_leaves();
    y.backward(&mut gradients).unwrap();
    let error = y.backward(&mut gradients).unwrap_err().to_string();
    assert!(error.contains("one backward pass"), "{error}");
}

#[test]
fn a_leaf_used_twice_gets_the_sum() {
    let x = Tensor::new([2], &[3.0, -4.0]).unwrap().leaf();
    let mut gradients = Gradients::of_leaves();
    x.mul(&x).unwrap().add(&x).unwrap().sum(&[]).unwrap().backward(&mut gradients).unwrap();
    assert_eq!(gradients.of(&x).unwrap().to_f64().unwrap(), [7.0, -7.0]);
}

#[test]
fn backward_starts_from_a_scalar_that_needs_a_gradient() {
    let x = Tensor::new([2], &[3.0, -4.0]).unwrap();
    let mut gradients = Gradients::of_leaves();
    assert!(x.leaf().silu().unwrap().backward(&mut gradients).is_err(), "not a scalar");
    assert!(x.sum(&[]).unwrap().backward(&mut gradients).is_err(), "no leaf");
    let y = x.leaf().silu().unwrap();
    assert!(
        y.backward_from(Tensor::scalar(1.0, DType::F64).unwrap(), &mut gradients).is_err(),
        "another shape"
    );
    assert!(
        y.backward_from(y.detach().to_dtype(DType::F32).unwrap(), &mut gradients).is_err(),
        "another dtype"
    );
}

/// What a graph saved keeps the parameters from being written; backward and `no_grad` free them.
#[test]
fn saved_tensors_are_freed_and_no_grad_saves_none() {
    let mut arena = Arena::new(ArenaLayout::new([Shape::from([3])]).unwrap(), DType::F64).unwrap();
    let mut gradients = arena.gradients().unwrap();
    let y = arena.parameter(0).silu().unwrap();
    assert!(arena.values_mut::<f64>().is_err(), "silu saved its input");
    y.backward_from(Tensor::new([3], &[1.0; 3]).unwrap(), &mut gradients).unwrap();
    assert!(arena.values_mut::<f64>().is_ok(), "backward freed it, though y is still there");
    let y = no_grad(|| arena.parameter(0).silu()).unwrap();
    assert!(arena.values_mut::<f64>().is_ok(), "no_grad saved it");
    assert!(!y.requires_grad() && y.backward_from(y.clone(), &mut gradients).is_err());
}

#[test]
fn a_parameter_of_another_arena_is_an_error() {
    let layout = ArenaLayout::new([Shape::from([3])]).unwrap();
    let (one, other) =
        (Arena::new(layout.clone(), DType::F64).unwrap(), Arena::new(layout, DType::F64).unwrap());
    let y = one.parameter(0).silu().unwrap().sum(&[]).unwrap();
    assert!(y.backward(&mut other.gradients().unwrap()).is_err());
}

/// A task that a waiting kernel takes up in between is not part of the no_grad around that kernel.
#[test]
fn no_grad_stays_with_its_own_task() {
    let x = Tensor::new([48, 1024], &[1.0f64; 48 * 1024]).unwrap().leaf();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    // Work that comes from outside is what a waiting thread takes up first.
    std::thread::scope(|scope| {
        for caller in 0..4 {
            let (x, pool) = (&x, &pool);
            scope.spawn(move || {
                for _ in 0..300 {
                    let recorded = |x: &Tensor| x.silu().unwrap().requires_grad();
                    if caller % 2 == 0 {
                        assert!(!pool.install(|| ssmv_autograd::no_grad(|| recorded(x))));
                    } else {
                        assert!(pool.install(|| recorded(x)));
                    }
                }
            });
        }
    });
}

#[test]
fn a_long_chain_is_dropped_without_recursion() {
    let mut x = Tensor::new([1], &[1.0f64]).unwrap().leaf();
    for _ in 0..200_000 {
        x = x.scale(1.0).unwrap();
    }
    drop(x);
}
