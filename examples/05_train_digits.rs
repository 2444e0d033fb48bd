//! A complete training against the library: data, model, optimiser, a prediction.
//!
//!     cargo run --release --example 05_train_digits

use ssmv_autograd::{
    DType, Tensor,
    optim::{AdamW, AdamWOptions},
};
use ssmv_raw::{
    Result,
    data::{DataSpec, Dataset, Split},
    model::{
        Predict, Predictor, Preset,
        frames::{FrameShape, to_tensor},
    },
};

const BATCH: usize = 16;
const STEPS: u64 = 200;
const SEEN: usize = 10;

/// A batch of `BATCH` sequences: the frames that are seen, and the two that follow.
fn batch(data: &Dataset, split: Split, number: u64) -> Result<(Tensor, Tensor)> {
    let mut bytes = vec![0; BATCH * data.sequence_bytes()];
    for (sequence, bytes) in (0..).zip(bytes.chunks_exact_mut(data.sequence_bytes())) {
        data.sequence(split, 0, number * BATCH as u64 + sequence, bytes)?;
    }
    let shape = FrameShape { batch: BATCH, steps: SEEN + 2, side: data.side(), channels: data.channels() };
    Ok((to_tensor(&bytes, shape, 0..SEEN)?, to_tensor(&bytes, shape, SEEN..SEEN + 2)?))
}

fn main() -> Result<()> {
    let spec = DataSpec { canvas: 32, digit_size: 14, frames: SEEN + 2, ..DataSpec::default() };
    let data = Dataset::open(&spec)?;
    let mut model = Predictor::new(Preset::find("nano").expect("a preset"), 0, DType::F32)?;
    let mut gradients = model.arena.gradients()?;
    let options = AdamWOptions { lr: 3e-3, ..AdamWOptions::default() };
    let mut optimiser = AdamW::<f32>::new(options, model.arena.layout().len(), Vec::new());
    for step in 0..STEPS {
        let (frames, target) = batch(&data, Split::Train, step)?;
        gradients.reset();
        let loss = model.train(&frames)?.l1_loss(&target)?;
        if step % 20 == 0 {
            println!("step {step:3}  loss {:.4}", loss.item()?);
        }
        loss.backward(&mut gradients)?;
        drop(loss);
        optimiser.step(model.arena.values_mut()?, gradients.values_mut()?)?;
    }
    let (frames, target) = batch(&data, Split::Test, 0)?;
    let error = model.predict(&frames)?.l1_loss(&target)?.item()?;
    let black = Tensor::zeros(target.shape().clone(), DType::F32)?.l1_loss(&target)?.item()?;
    println!("unseen digits: L1 {error:.4} a pixel; an all-black prediction has {black:.4}");
    Ok(())
}
