//! Arithmetic between tensors: NumPy's rules of broadcasting against a plain implementation of them, the operators of Rust,
//! and errors.

use std::sync::Arc;

use proptest::prelude::*;
use ssmv_autograd::{
    DType, Gradients, Result, Tensor,
    cuda::{Cuda, Emulated, EmulatorOptions},
};

/// The shape of a result; `None` where NumPy refuses the operands.
fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let padded = |shape: &[usize]| [vec![1; rank - shape.len()], shape.to_vec()].concat();
    let sizes = padded(a).into_iter().zip(padded(b)).map(|pair| match pair {
        (m, n) if m == n => Some(m),
        (1, n) => Some(n),
        (m, 1) => Some(m),
        _ => None,
    });
    sizes.collect()
}

/// The element of an operand for element `i` of a result.
fn index(mut i: usize, result: &[usize], operand: &[usize]) -> usize {
    let (mut at, mut stride) = (0, 1);
    for (axis, size) in result.iter().enumerate().rev() {
        if let Some(&own) =
            (axis + operand.len()).checked_sub(result.len()).and_then(|axis| operand.get(axis))
        {
            at += if own == 1 { 0 } else { i % size * stride };
            stride *= own;
        }
        i /= size;
    }
    at
}

/// Values that no sum of a few repeats.
fn values(shape: &[usize], factor: f64) -> Tensor {
    let n = shape.iter().product::<usize>();
    Tensor::new(shape, &(1..=n).map(|i| i as f64 * factor).collect::<Vec<_>>()).unwrap()
}

fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![3 => Just(1usize), 3 => 2..4usize, 1 => Just(0usize)], 0..5)
}

proptest! {
    #[test]
    fn shapes_and_elements_are_numpys(a in shapes(), b in shapes()) {
        let (x, z) = (values(&a, 1.0).leaf(), values(&b, 1e-3).leaf());
        let Some(shape) = broadcast(&a, &b) else {
            let error = x.sub(&z).unwrap_err().to_string();
            prop_assert!(error.starts_with(&format!("sub: {a:?} and {b:?} do not broadcast")), "{}", error);
            return Ok(());
        };
        let y = x.sub(&z).unwrap();
        prop_assert_eq!(y.shape().to_vec(), shape.clone());
        let (xs, zs) = (x.to_f64().unwrap(), z.to_f64().unwrap());
        let at = |i, operand: &[usize]| index(i, &shape, operand);
        let want: Vec<f64> = (0..y.numel()).map(|i| xs[at(i, &a)] - zs[at(i, &b)]).collect();
        prop_assert_eq!(y.to_f64().unwrap(), want);

        // The gradient of an operand counts how often each element was read.
        let mut gradients = Gradients::of_leaves();
        let ones = Tensor::new(shape.clone(), &vec![1.0; y.numel()]).unwrap();
        y.backward_from(ones, &mut gradients).unwrap();
        for (leaf, operand, sign) in [(&x, &a, 1.0), (&z, &b, -1.0)] {
            let mut reads = vec![0.0; leaf.numel()];
            (0..y.numel()).for_each(|i| reads[at(i, operand)] += sign);
            let gradient = gradients.of(leaf).unwrap();
            prop_assert_eq!(gradient.shape(), leaf.shape());
            prop_assert_eq!(gradient.to_f64().unwrap(), reads);
        }
    }
}

/// Rows longer than what a core takes at once, and many short ones.
#[test]
fn large_arrays_agree() {
    for (a, b) in [
        (vec![], vec![40_000]),
        (vec![3, 40_001], vec![3, 1]),
        (vec![40_001], vec![2, 40_001]),
        (vec![9_000, 3], vec![9_000, 1]),
    ] {
        let (x, z) = (values(&a, 1.0), values(&b, 0.5));
        let y = x.mul(&z).unwrap();
        let (xs, zs) = (x.to_f64().unwrap(), z.to_f64().unwrap());
        for (i, y) in y.to_f64().unwrap().into_iter().enumerate() {
            let shape = broadcast(&a, &b).unwrap();
            assert_eq!(y, xs[index(i, &shape, &a)] * zs[index(i, &shape, &b)], "{a:?}, {b:?}, {i}");
        }
    }
}

#[test]
fn operators_are_the_methods() -> Result<()> {
    let (a, b) = (Tensor::new([2], &[3.0, -4.0])?, Tensor::new([2], &[0.5, 2.0])?);
    let same = |y: Result<Tensor>, want: [f64; 2]| assert_eq!(y.unwrap().to_f64().unwrap(), want);
    same(&a + &b, [3.5, -2.0]);
    same(&a - b.clone(), [2.5, -6.0]);
    same(a.clone() * &b, [1.5, -8.0]);
    same(a.clone() / b.clone(), [6.0, -2.0]);
    same(-&a, [-3.0, 4.0]);
    same(-a.clone(), [-3.0, 4.0]);
    same(&a + 1.0, [4.0, -3.0]);
    same(&a - 1.0, [2.0, -5.0]);
    same(&a * 2.0, [6.0, -8.0]);
    same(&a / 2.0, [1.5, -2.0]);
    same(1.0 + &a, [4.0, -3.0]);
    same(1.0 - &a, [-2.0, 5.0]);
    same(2.0 * &a, [6.0, -8.0]);
    same(12.0 / &a, [4.0, -3.0]);
    same(((&a + &b)? * &a)? - 0.5, [10.0, 7.5]);
    Ok(())
}

#[test]
fn operators_are_differentiated() -> Result<()> {
    let x = Tensor::new([2], &[2.0, -4.0])?.leaf();
    let mut gradients = Gradients::of_leaves();
    ((1.0 / &x)? + (&x * &x)?)?.sum(&[])?.backward(&mut gradients)?;
    assert_eq!(gradients.of(&x).unwrap().to_f64()?, [3.75, -8.0625]);
    Ok(())
}

#[test]
fn misfits_are_errors_with_both_shapes() {
    let a = values(&[2, 3], 1.0);
    let error = (&a + values(&[2], 1.0)).unwrap_err().to_string();
    assert_eq!(error, "add: [2, 3] and [2] do not broadcast: axis −1 has 3 and 2 elements");
    let error = (&a / values(&[4, 2, 1, 3], 1.0).reshape([2, 4, 3]).unwrap()).unwrap_err().to_string();
    assert_eq!(error, "div: [2, 3] and [2, 4, 3] do not broadcast: axis −2 has 2 and 4 elements");
    let error = (&a - a.to_dtype(DType::F32).unwrap()).unwrap_err().to_string();
    assert_eq!(error, "sub: f32 given where f64 is expected");
}

/// On a device, with sums of gradients over axes that are neither the first nor the last, and over none.
#[test]
fn a_device_agrees() -> Result<()> {
    let cuda = Cuda::over(Arc::new(Emulated::new(&EmulatorOptions::default())))?;
    for dtype in [DType::F16, DType::F32] {
        for (a, b) in [
            (vec![2, 3, 1, 2], vec![3, 5, 1]),
            (vec![1], vec![]),
            (vec![0, 3], vec![3]),
            (vec![4], vec![1, 4]),
        ] {
            let host = [values(&a, 0.25), values(&b, 0.5)].map(|x| x.to_dtype(DType::F32).unwrap());
            let gradients_of = |inputs: [Tensor; 2]| -> Result<Vec<Vec<f64>>> {
                let leaves = inputs.map(|x| x.leaf());
                let y = ((2.0 - &leaves[0])? * &leaves[1])?;
                let mut gradients = Gradients::of_leaves();
                y.backward_from(y.detach(), &mut gradients)?;
                let of = |leaf: &Tensor| gradients.of(leaf).unwrap().to_f64();
                Ok(vec![y.to_f64()?, of(&leaves[0])?, of(&leaves[1])?])
            };
            let want = gradients_of(host.clone())?;
            let [x, z] = host.map(|x| x.to_cuda(&cuda, dtype).unwrap());
            for (got, want) in gradients_of([x, z])?.into_iter().zip(want) {
                assert_eq!(got.len(), want.len());
                let near = |(got, want): (&f64, &f64)| (got - want).abs() <= want.abs() * 2f64.powi(-11);
                assert!(got.iter().zip(&want).all(near), "{a:?}, {b:?} in {dtype}: {got:?}, not {want:?}");
            }
        }
    }
    Ok(())
}
