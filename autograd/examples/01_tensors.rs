//! Tensors: shapes, operators, broadcasting, a file.
//!
//!     cargo run -p ssmv-autograd --example 01_tensors

use ssmv_autograd::{
    Result, Tensor,
    tensor_file::{TensorFile, save_tensors},
};

fn main() -> Result<()> {
    // Two rows of three numbers, row-major. Operators check shapes, so they return a `Result`.
    let x = Tensor::new([2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
    let row = Tensor::new([3], &[10f32, 20.0, 30.0])?;
    let sum = (&x + &row)?;
    println!("{} + {} = {:?}", x.shape(), row.shape(), sum.values::<f32>()?);

    let weight = Tensor::new([2, 3], &[1f32, 0.0, -1.0, 0.5, 0.5, 0.5])?;
    let y = x.linear(&weight, None)?;
    println!("x·wᵀ {}: {:?}", y.shape(), y.values::<f32>()?);
    println!("softmax of each row: {:?}", y.softmax()?.values::<f32>()?);

    // Shapes that do not fit are an error that names the operator.
    println!("{}", (&x + &weight.reshape([3, 2])?).unwrap_err());

    let path = std::env::temp_dir().join("tensors.safetensors");
    save_tensors(&path, &[("y", &y)])?;
    println!("from {}: {:?}", path.display(), TensorFile::open(&path)?.read("y")?.values::<f32>()?);
    Ok(())
}
