//! Conversion of frames: bytes to tensors, and tensors to values of the data's colours.

use ssmv_autograd::Tensor;

use super::CHANNELS;
use crate::{Error, Result};

/// Shape of a batch of sequences in bytes: [batch, steps, side, side, channels], channels 1 or 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameShape {
    /// Number of sequences in the batch.
    pub batch: usize,
    /// Number of frames in a sequence.
    pub steps: usize,
    /// Height and width of a frame in pixels.
    pub side: usize,
    /// Number of colours: 1 (grey) or 3.
    pub channels: usize,
}

/// Frames `range` of each sequence as f32 in [0,1]: [B, range, S, S, 3]; grey is repeated to three channels.
pub fn to_tensor(bytes: &[u8], shape: FrameShape, range: std::ops::Range<usize>) -> Result<Tensor> {
    let FrameShape { batch, steps, side, channels } = shape;
    let frame = side * side * channels;
    let fits =
        bytes.len() == batch * steps * frame && range.end <= steps && [1, CHANNELS].contains(&channels);
    if !fits {
        let message = format!("{} bytes and frames {range:?} do not fit {shape:?}", bytes.len());
        return Err(Error::Failure(message));
    }
    let table: [f32; 256] = std::array::from_fn(|i| i as f32 / 255.0);
    let per_sequence = range.len() * side * side * CHANNELS;
    Ok(Tensor::build([batch, range.len(), side, side, CHANNELS], |out: &mut [f32]| {
        for (i, out) in out.chunks_exact_mut(per_sequence.max(1)).enumerate() {
            let source = &bytes[(i * steps + range.start) * frame..(i * steps + range.end) * frame];
            if channels == 1 {
                for (pixel, &byte) in out.chunks_exact_mut(CHANNELS).zip(source) {
                    pixel.fill(table[usize::from(byte)]);
                }
            } else {
                out.iter_mut().zip(source).for_each(|(o, &byte)| *o = table[usize::from(byte)]);
            }
        }
    })?)
}

/// Frames [.., 3] as values of data with 1 or 3 colours: for grey data the mean over the channels, one value per pixel.
pub fn to_values(frames: &Tensor, channels: usize) -> Result<Vec<f32>> {
    match channels {
        1 => to_grey(frames),
        _ => Ok(frames.values::<f32>()?.to_vec()),
    }
}

/// The mean over the colour channels: [.., 3] → one value per pixel. Grey frames are unchanged.
fn to_grey(frames: &Tensor) -> Result<Vec<f32>> {
    let values = frames.values::<f32>()?;
    Ok(values.chunks_exact(CHANNELS).map(|p| p.iter().sum::<f32>() / CHANNELS as f32).collect())
}
