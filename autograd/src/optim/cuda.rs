//! AdamW on a GPU: norm, the numbers of the step, and the update, none of which the host waits for.

use std::ops::Range;

use ssmv_kernels::{
    optim::{
        DIGESTS, StepState, adamw, average, decay_bitmap, digest, grad_norm, keep_unless_skipped,
        optimiser_step, partial_sums,
    },
    ptx::F32,
};

use crate::{
    DType, Error, Result, Shape, Tensor,
    cuda::{Address, Argument, Cuda, DeviceBuffer, DeviceMemory},
};

/// Elements of the record: the state, then the loss.
const RECORD: usize = StepState::BYTES / 4 + 4;
/// Where the loss is in it.
const LOSS: usize = StepState::BYTES / 4;

/// AdamW over arenas in device memory. Its settings and counters are there too, in a record that ends with the step's loss,
/// so that one copy reads all of a step.
pub struct DeviceAdamW {
    cuda: Cuda,
    /// First and second moment, laid out as the parameters.
    pub moments: [DeviceMemory; 2],
    record: DeviceMemory,
    decaying: DeviceBuffer<u32>,
    partials: DeviceBuffer<f64>,
    len: u32,
}

/// What is known after a step.
#[derive(Clone, Copy, Debug)]
pub struct StepRecord {
    /// Settings, counters and the numbers of the step.
    pub state: StepState,
    /// The mean loss.
    pub loss: f32,
}

impl StepRecord {
    /// Bytes in device memory.
    pub const BYTES: usize = 4 * RECORD;

    /// From its bytes; `None` where those are too few.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (state, rest) = bytes.split_first_chunk()?;
        Some(Self { state: StepState::from_bytes(state), loss: f32::from_le_bytes(*rest.first_chunk()?) })
    }
}

impl DeviceAdamW {
    /// For arenas of `len` parameters, of which the ranges `decaying` decay; moments zero.
    ///
    /// # Errors
    /// Arenas that no kernel counts, and what the device refuses.
    pub fn new(cuda: &Cuda, len: usize, decaying: &[Range<usize>], state: &StepState) -> Result<Self> {
        let fits = u32::try_from(len).ok().filter(|&n| n <= u32::MAX - (1 << 12));
        let fail = |message: String| Error::misuse("adamw", message);
        let n = fits.ok_or_else(|| fail(format!("{len} parameters are more than a kernel counts")))?;
        let bits = decay_bitmap(n, decaying).map_err(|e| fail(e.to_string()))?;
        let zeros = || -> Result<DeviceMemory> {
            let memory = DeviceMemory::new(cuda, DType::F32, len)?;
            memory.clear(0..len)?;
            Ok(memory)
        };
        let record = DeviceMemory::new(cuda, DType::F32, RECORD)?;
        record.clear(0..RECORD)?;
        let partials = cuda.uninit(partial_sums(n) as usize)?;
        let decaying = cuda.copy_of(&bits)?;
        let optimiser =
            Self { cuda: cuda.clone(), moments: [zeros()?, zeros()?], record, decaying, partials, len: n };
        optimiser.set_state(state)?;
        Ok(optimiser)
    }

    /// Writes settings and counters; returns when they are there.
    pub fn set_state(&self, state: &StepState) -> Result<()> {
        let to = self.address();
        self.cuda.driver().upload(to, &state.to_bytes(), self.cuda.compute_stream())
    }

    /// Settings and counters, and the last loss; waits for the device.
    pub fn record(&self) -> Result<StepRecord> {
        let mut bytes = [0; StepRecord::BYTES];
        self.cuda.driver().download(&mut bytes, self.address(), self.cuda.compute_stream())?;
        StepRecord::from_bytes(&bytes).ok_or_else(|| Error::misuse("adamw", "a record is too short"))
    }

    /// Where the record is.
    pub fn address(&self) -> Address {
        self.record.address_of(0)
    }

    /// Where the learning rate of the next step is: an f64.
    pub fn rate_address(&self) -> Address {
        self.field(StepState::OFFSETS.rate)
    }

    /// Where a kernel writes 1 (u32) once it finds a value that is not finite: the step is then skipped.
    pub fn overflow_address(&self) -> Address {
        self.field(StepState::OFFSETS.overflow)
    }

    fn field(&self, offset: usize) -> Address {
        self.address().offset(offset as u64)
    }

    /// The loss scale as a scalar: what a backward pass starts with.
    pub fn scale(&self) -> Result<Tensor> {
        Tensor::over_cuda(Shape::scalar(), &self.record, StepState::OFFSETS.scale / 4)
    }

    /// The loss as a scalar, for the step to write.
    pub fn loss(&self) -> Result<Tensor> {
        Tensor::over_cuda(Shape::scalar(), &self.record, LOSS)
    }

    /// The memory of the loss, which all ranks add up, and its element there.
    pub fn loss_place(&self) -> (&DeviceMemory, Range<usize>) {
        (&self.record, LOSS..LOSS + 1)
    }

    /// Sums over memory laid out as the arena, equal for equal bits: ranks compare them. Waits for the device.
    pub fn digest(&self, memory: &DeviceMemory) -> Result<Vec<u32>> {
        let words = (memory.len() * memory.dtype().bytes() / 4) as u32;
        let sums = self.cuda.uninit::<u32>(DIGESTS as usize)?;
        let arguments = [memory.argument(), Argument::from(&sums)];
        self.cuda.launch_one(&("digest", words), &arguments, |_, target| Ok(digest(words, target)))?;
        sums.download()
    }

    /// One step: the gradients' norm, whether the step is taken, AdamW over the masters and their f16 copy, the next loss
    /// scale.
    pub fn step(&self, [masters, halves]: [&DeviceMemory; 2], gradients: &DeviceMemory) -> Result<()> {
        let (n, cuda, state) = (self.len, &self.cuda, Argument::Pointer(self.address()));
        let partials = Argument::from(&self.partials);
        cuda.launch_one(&("grad_norm", n), &[gradients.argument(), partials], |_, target| {
            Ok(grad_norm::<F32>(n, target))
        })?;
        cuda.launch_one(&("optimiser_step", n), &[partials, state], |_, target| {
            Ok(optimiser_step(n, target))
        })?;
        let arguments = [
            masters.argument(),
            self.moments[0].argument(),
            self.moments[1].argument(),
            gradients.argument(),
            halves.argument(),
            (&self.decaying).into(),
            state,
        ];
        cuda.launch_one(&("adamw", n), &arguments, |_, target| Ok(adamw::<F32>(n, true, target)))
    }

    /// kept ← pending, unless the step was skipped.
    pub fn keep(&self, pending: &DeviceMemory, kept: &DeviceMemory) -> Result<()> {
        let n = pending.len() as u32;
        let arguments = [pending.argument(), kept.argument(), Argument::Pointer(self.address())];
        self.cuda.launch_one(&("keep", n), &arguments, |_, target| Ok(keep_unless_skipped(n, target)))
    }

    /// average ← average + share·(parameters − average), unless the step was skipped; the share is
    /// [`ema_share`](super::ema_share) of the state's decay and updates.
    pub fn average(&self, parameters: &DeviceMemory, average_of: &DeviceMemory) -> Result<()> {
        let (n, state) = (self.len, Argument::Pointer(self.address()));
        let arguments = [parameters.argument(), average_of.argument(), state];
        self.cuda.launch_one(&("average", n), &arguments, |_, target| Ok(average(n, target)))
    }
}
