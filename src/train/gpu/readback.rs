//! What steps came to, on its way back to the host.

use ssmv_autograd::{
    cuda::{Address, Cuda, Event, PinnedBuffer},
    optim::StepRecord,
};

use crate::{Error, Result};

/// Two records on their way, of the last two steps.
pub(super) struct Readback {
    cuda: Cuda,
    slots: [Slot; 2],
}

struct Slot {
    host: PinnedBuffer<u8>,
    arrived: Event,
    /// The step whose record is under way or there, until it is taken.
    step: Option<u64>,
}

impl Readback {
    /// Two empty slots of pinned memory.
    pub fn new(cuda: &Cuda) -> Result<Self> {
        let slot = || -> Result<Slot> {
            Ok(Slot { host: cuda.pinned(StepRecord::BYTES)?, arrived: cuda.event()?, step: None })
        };
        Ok(Self { cuda: cuda.clone(), slots: [slot()?, slot()?] })
    }

    /// Sends the record after all that is queued, as that of step `step`.
    pub fn send(&mut self, step: u64, record: Address) -> Result<()> {
        let slot = &mut self.slots[(step % 2) as usize];
        slot.host.download_from(record)?;
        slot.arrived.record()?;
        slot.step = Some(step);
        Ok(())
    }

    /// Whether the record of step `step` is there, or was never sent.
    pub fn has_come(&self, step: u64) -> Result<bool> {
        let slot = &self.slots[(step % 2) as usize];
        Ok(slot.step != Some(step) || slot.arrived.query()?)
    }

    /// The record of step `step` once it is there, where it was sent and not taken.
    pub fn receive(&mut self, step: u64) -> Result<Option<(u64, StepRecord)>> {
        let slot = &mut self.slots[(step % 2) as usize];
        if slot.step != Some(step) {
            return Ok(None);
        }
        slot.arrived.synchronize()?;
        slot.step = None;
        let record = slot.host.with(|bytes| StepRecord::from_bytes(bytes))?;
        record
            .map(|record| Some((step, record)))
            .ok_or_else(|| Error::Failure("a record is too short".into()))
    }

    /// All records that were not taken, the older first; waits for the device.
    pub fn drain(&mut self) -> Result<Vec<(u64, StepRecord)>> {
        let mut steps: Vec<u64> = self.slots.iter().filter_map(|slot| slot.step).collect();
        steps.sort_unstable();
        let records = steps.into_iter().map(|step| self.receive(step)).collect::<Result<Vec<_>>>()?;
        self.cuda.synchronize()?;
        Ok(records.into_iter().flatten().collect())
    }
}
