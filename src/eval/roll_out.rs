//! Roll-out: predictions beyond one pass.

use ssmv_autograd::{Element, Tensor, dispatch};

use crate::{
    Error, Result,
    model::{CHANNELS, Predict, SKIP_FRAMES},
};

/// The next `count` frames: frames [B, T, S, S, 3] in [0, 1] → [B, count, S, S, 3].
///
/// Each pass predicts a block of frames, as many as the model was made for. They are fed back clipped to [0, 1], like the
/// inputs in training, and the window moves by as many, so that it always has T frames. The result is not clipped.
///
/// # Errors
/// [`Error::Failure`] for fewer than 3 frames, no sequence or frames of another size than the model's.
pub fn roll_out(model: &dyn Predict, frames: &Tensor, count: usize) -> Result<Tensor> {
    let [batch, steps, height, width, channels] = frames.shape().dims("roll-out", "frames [B,T,S,S,3]")?;
    let side = model.preset().size;
    if [height, width, channels] != [side, side, CHANNELS] {
        return Err(Error::Failure(format!(
            "frames have {height}×{width} pixels and {channels} colours; the model `{}` takes {side}×{side} and {CHANNELS}",
            model.preset().name
        )));
    }
    if batch == 0 || steps < SKIP_FRAMES {
        return Err(Error::Failure(format!(
            "{batch} sequences of {steps} frames; the model needs at least {SKIP_FRAMES} frames"
        )));
    }
    dispatch!(frames.dtype(), T => feed_back::<T>(model, frames, count, [batch, steps, side]))
}

/// As [`roll_out`], of checked frames.
fn feed_back<T: Element>(
    model: &dyn Predict,
    frames: &Tensor,
    count: usize,
    [batch, steps, side]: [usize; 3],
) -> Result<Tensor> {
    let frame = side * side * CHANNELS;
    let block = model.preset().frames_out;
    // Of a block longer than the window, only its end stays in the window.
    let fresh_frames = block.min(steps);
    let mut out = vec![T::ZERO; batch * count * frame];
    let mut window = frames.detach();
    for first in (0..count).step_by(block) {
        let next = model.predict(&window)?;
        let next = next.values::<T>()?;
        let take = block.min(count - first) * frame;
        for (to, from) in out.chunks_exact_mut(count * frame).zip(next.chunks_exact(block * frame)) {
            to[first * frame..][..take].copy_from_slice(&from[..take]);
        }
        if first + block < count {
            let seen = window.values::<T>()?;
            window = Tensor::build([batch, steps, side, side, CHANNELS], |moved: &mut [T]| {
                let sequences = moved.chunks_exact_mut(steps * frame).zip(seen.chunks_exact(steps * frame));
                for ((to, old), new) in sequences.zip(next.chunks_exact(block * frame)) {
                    let (kept, fresh) = to.split_at_mut((steps - fresh_frames) * frame);
                    kept.copy_from_slice(&old[fresh_frames * frame..]);
                    let new = &new[(block - fresh_frames) * frame..];
                    fresh.iter_mut().zip(new).for_each(|(slot, &value)| *slot = clip(value));
                }
            })?;
        }
    }
    Ok(Tensor::new([batch, count, side, side, CHANNELS], &out)?)
}

/// Clips a value to [0, 1]; NaN stays NaN.
fn clip<T: Element>(value: T) -> T {
    if value < T::ZERO {
        T::ZERO
    } else if value > T::ONE {
        T::ONE
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use ssmv_autograd::DType;

    use super::*;
    use crate::model::Predictor;
    use crate::model::Preset;

    #[test]
    fn windows_move_on_by_what_was_predicted() {
        let model = Predictor::new(Preset::find("nano").unwrap(), 1, DType::F32).unwrap();
        let frame = 32 * 32 * 3;
        let values: Vec<f32> = (0..2 * 4 * frame).map(|i| (i * 7 % 97) as f32 / 96.0).collect();
        let frames = Tensor::new([2, 4, 32, 32, 3], &values).unwrap();
        let first = model.predict(&frames).unwrap();
        let first = first.values::<f32>().unwrap();

        // The second pass by hand: the last 2 inputs and the first 2 predictions, clipped.
        let mut window = Vec::new();
        for b in 0..2 {
            window.extend_from_slice(&values[(b * 4 + 2) * frame..(b + 1) * 4 * frame]);
            window.extend(first[b * 2 * frame..(b + 1) * 2 * frame].iter().map(|v| v.clamp(0.0, 1.0)));
        }
        let second = model.predict(&Tensor::new([2, 4, 32, 32, 3], &window).unwrap()).unwrap();
        let second = second.values::<f32>().unwrap();

        let rolled = roll_out(&model, &frames, 3).unwrap();
        let rolled = rolled.values::<f32>().unwrap();
        for b in 0..2 {
            assert_eq!(rolled[b * 3 * frame..][..2 * frame], first[b * 2 * frame..][..2 * frame]);
            assert_eq!(rolled[(b * 3 + 2) * frame..][..frame], second[b * 2 * frame..][..frame]);
        }
        // Blocks longer than the window: its last frames are the next window.
        let preset = Preset::find("nano").unwrap().with(32, 5).unwrap();
        let long = Predictor::new(&preset, 1, DType::F32).unwrap();
        let first = long.predict(&frames).unwrap();
        let first = first.values::<f32>().unwrap();
        let last =
            |b: usize| first[(b * 5 + 1) * frame..(b + 1) * 5 * frame].iter().map(|v| v.clamp(0.0, 1.0));
        let window: Vec<f32> = last(0).chain(last(1)).collect();
        let second = long.predict(&Tensor::new([2, 4, 32, 32, 3], &window).unwrap()).unwrap();
        let second = second.values::<f32>().unwrap();
        let rolled = roll_out(&long, &frames, 7).unwrap();
        let rolled = rolled.values::<f32>().unwrap();
        for b in 0..2 {
            assert_eq!(rolled[b * 7 * frame..][..5 * frame], first[b * 5 * frame..][..5 * frame]);
            assert_eq!(rolled[(b * 7 + 5) * frame..][..2 * frame], second[b * 5 * frame..][..2 * frame]);
        }
        assert_eq!(roll_out(&model, &frames, 1).unwrap().shape()[1], 1);
        for shape in [[1, 2, 32, 32, 3], [0, 4, 32, 32, 3], [1, 4, 64, 64, 3], [1, 4, 32, 32, 1]] {
            assert!(roll_out(&model, &Tensor::zeros(shape, DType::F32).unwrap(), 2).is_err(), "{shape:?}");
        }
    }
}
