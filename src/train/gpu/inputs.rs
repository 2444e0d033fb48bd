//! Frames and learning rate on their way to the device, a step ahead of what it computes.

use ssmv_autograd::{
    DType, Tensor,
    cuda::{Address, Cuda, UploadBuffer},
};
use ssmv_kernels::{pointwise::Frames, ptx::F16};

use crate::{
    Error, Result,
    model::CHANNELS,
    train::backend::{NextBatch, Source},
};

/// Bytes before the frames: the learning rate, and what keeps the frames aligned.
const HEADER: usize = 256;

/// Two places that are filled and sent by turns, and the tensors that a step reads.
pub(super) struct Inputs {
    feeds: [UploadBuffer<u8>; 2],
    /// Frames that the model sees and those that it is to predict, a pair each batch of the step.
    batches: Vec<(Tensor, Tensor)>,
    source: Source,
    cuda: Cuda,
}

/// Bytes of device memory: both places, and the tensors of a step's batches.
pub(super) fn bytes(source: Source) -> u64 {
    let places = 2 * (HEADER + source.accumulate * source.batch_bytes());
    let frames = source.accumulate * source.batch * source.steps;
    (places + frames * source.side * source.side * CHANNELS * DType::F16.bytes()) as u64
}

impl Inputs {
    /// Room for a step's batches.
    pub fn new(cuda: &Cuda, source: Source) -> Result<Self> {
        let bytes = HEADER + source.accumulate * source.batch_bytes();
        let tensor = |frames| {
            Tensor::cuda_zeros(cuda, [source.batch, frames, source.side, source.side, CHANNELS], DType::F16)
        };
        let batches = (0..source.accumulate).map(|_| Ok((tensor(source.seen)?, tensor(source.predicted())?)));
        Ok(Self {
            feeds: [UploadBuffer::new(cuda, bytes)?, UploadBuffer::new(cuda, bytes)?],
            batches: batches.collect::<Result<_>>()?,
            source,
            cuda: cuda.clone(),
        })
    }

    /// The tensors of the step's batches.
    pub fn batches(&self) -> impl Iterator<Item = (&Tensor, &Tensor)> {
        self.batches.iter().map(|(frames, target)| (frames, target))
    }

    /// Reads the batches of step `step`, sends them with the learning rate, and lets the compute stream put both where the
    /// step reads them. Nothing of the device has changed where it fails.
    pub fn fill(&mut self, step: u64, rate: f64, rate_to: Address, next: &mut NextBatch) -> Result<()> {
        let Self { feeds, batches, source, cuda } = self;
        let feed = &mut feeds[(step % 2) as usize];
        let bytes = source.batch_bytes();
        feed.send(|host| -> Result<()> {
            let (header, frames) = host.split_at_mut(HEADER);
            header[..8].copy_from_slice(&rate.to_le_bytes());
            for slot in frames.chunks_exact_mut(bytes) {
                next(&mut |batch| {
                    if batch.frames.len() != slot.len() {
                        let (got, want) = (batch.frames.len(), slot.len());
                        return Err(Error::Failure(format!(
                            "a batch of {got} bytes where {want} are expected"
                        )));
                    }
                    slot.copy_from_slice(&batch.frames);
                    Ok(())
                })?;
            }
            Ok(())
        })??;
        let buffer = feed.receive()?;
        cuda.driver().copy(rate_to, buffer.address(), 8, cuda.compute_stream())?;
        for (i, (frames, target)) in batches.iter().enumerate() {
            let from = buffer.address_of(HEADER + i * bytes)?;
            for (tensor, first, count) in
                [(frames, 0, source.seen), (target, source.seen, source.predicted())]
            {
                let frames = Frames {
                    sequences: source.batch as u32,
                    steps: source.steps as u32,
                    first: first as u32,
                    count: count as u32,
                    frame_bytes: source.frame_bytes() as u32,
                    grey_to_rgb: source.channels == 1,
                };
                cuda.launch_one(&frames, &[from.into(), tensor.argument()?], |frames, target| {
                    Ok(frames.normalise::<F16>(target))
                })?;
            }
        }
        Ok(feed.done()?)
    }
}
