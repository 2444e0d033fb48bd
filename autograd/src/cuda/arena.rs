//! Arenas on a device: f32 master weights with an f16 copy, and gradients in f32.

use std::{ops::Range, sync::Arc};

use super::{Cuda, DeviceMemory, primitives};
use crate::{
    Arena, ArenaLayout, DType, Error, Gradients, Result, Tensor,
    arena::{ArenaGradients, next_id},
    tensor::Storage,
};

/// The f16 copy of an arena on a device.
pub(crate) struct Halves {
    pub memory: DeviceMemory,
    /// True for each parameter that is read from this copy.
    pub read: Arc<[bool]>,
}

impl Arena {
    /// An arena on a device: f32 masters with these values, and an f16 copy. The parameters that `halved` names are
    /// read from the copy.
    ///
    /// # Errors
    /// [`Error::Misuse`] where the numbers of values or of parameters differ from the layout's.
    pub fn on_cuda(cuda: &Cuda, layout: ArenaLayout, values: &[f32], halved: &[bool]) -> Result<Self> {
        if values.len() != layout.len() || halved.len() != layout.ranges.len() {
            let message = format!("{} values, {} parameters for another layout", values.len(), halved.len());
            return Err(Error::misuse("arena", message));
        }
        let masters = DeviceMemory::copy_of(cuda, DType::F32, values)?;
        let memory = DeviceMemory::copy_of(cuda, DType::F16, values)?;
        let halves = Some(Halves { memory, read: halved.into() });
        let id = next_id();
        Ok(Self { id, layout, storage: Storage::Cuda(masters), halves })
    }

    /// On a device, an arena laid out as this one with other masters, and an f16 copy of them.
    ///
    /// # Errors
    /// [`Error::Misuse`] for an arena on the CPU and for masters of another length.
    pub fn with_masters(&self, masters: &DeviceMemory) -> Result<Self> {
        let (Some(halves), true) = (&self.halves, masters.len() == self.layout.len()) else {
            return Err(Error::misuse("arena", format!("{} masters for another layout", masters.len())));
        };
        let memory = DeviceMemory::new(masters.cuda(), DType::F16, masters.len())?;
        let whole = |memory| Tensor::over_cuda([masters.len()], memory, 0);
        primitives::cast_into(&whole(masters)?, &whole(&memory)?)?;
        let halves = Some(Halves { memory, read: Arc::clone(&halves.read) });
        let id = next_id();
        Ok(Self { id, layout: self.layout.clone(), storage: Storage::Cuda(masters.clone()), halves })
    }

    /// The masters and the f16 copy of an arena on a device.
    ///
    /// # Errors
    /// [`Error::Misuse`] for one on the CPU.
    pub fn memories(&self) -> Result<[&DeviceMemory; 2]> {
        match (&self.storage, &self.halves) {
            (Storage::Cuda(masters), Some(halves)) => Ok([masters, &halves.memory]),
            _ => Err(Error::misuse("arena", "it is on the CPU")),
        }
    }
}

/// Gradients for masters in device memory, all zero.
pub(crate) fn zeros(masters: &DeviceMemory) -> Result<Storage> {
    let memory = DeviceMemory::new(masters.cuda(), DType::F32, masters.len())?;
    memory.clear(0..masters.len())?;
    Ok(Storage::Cuda(memory))
}

impl Gradients {
    /// The parameters' gradients in device memory, laid out as the arena; zero for parameters that no backward pass has
    /// reached.
    ///
    /// # Errors
    /// [`Error::Misuse`] for gradients on the CPU.
    pub fn memory(&mut self) -> Result<&DeviceMemory> {
        self.memory_of(0..usize::MAX)
    }

    /// As [`memory`](Self::memory), for a caller that reads only some elements: parameters that no pass has reached are
    /// cleared only there.
    ///
    /// # Errors
    /// As [`memory`](Self::memory).
    pub fn memory_of(&mut self, part: Range<usize>) -> Result<&DeviceMemory> {
        let Some(ArenaGradients { storage: Storage::Cuda(memory), fresh, layout, .. }) = &mut self.arena
        else {
            return Err(Error::misuse("gradients", "they are on the CPU"));
        };
        for (fresh, range) in fresh.iter_mut().zip(layout.ranges.iter()) {
            if range.start < part.end && part.start < range.end && std::mem::take(fresh) {
                memory.clear(range.clone())?;
            }
        }
        Ok(memory)
    }

    /// On a device, the place of a parameter's gradient if none was written yet: the caller writes all of it.
    pub(crate) fn place(&mut self, arena_id: u64, index: usize) -> Result<Option<Tensor>> {
        let arena = self.arena_of(arena_id)?;
        Ok(std::mem::replace(&mut arena.fresh[index], false).then(|| arena.view(index)))
    }

    /// Adds a gradient on a device to that of a parameter.
    pub(crate) fn add_on_device(&mut self, arena_id: u64, index: usize, gradient: &Tensor) -> Result<()> {
        match self.place(arena_id, index)? {
            Some(place) if gradient.dtype() == DType::F32 => place.assign(gradient),
            Some(place) => primitives::cast_into(gradient, &place),
            None => primitives::accumulate(gradient, &self.arena_of(arena_id)?.view(index)),
        }
    }
}
