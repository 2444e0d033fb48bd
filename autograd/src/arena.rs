//! Parameters and their gradients in flat arenas, so that the optimiser, the gradient norm, an all-reduce and a
//! checkpoint walk one buffer instead of a list of tensors.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

#[cfg(feature = "cuda")]
use crate::cuda::arena as device;
use crate::{
    DType, Device, Element, Error, Result, Shape, Tensor,
    buffer::Buffer,
    tape::{Edge, LeafId, store, sum_of},
    tensor::Storage,
};

/// Parameters start at multiples of this many elements, which suits every vector width.
const ALIGN: usize = 64;

/// A new arena's number, by which gradients name their arena.
pub(crate) fn next_id() -> u64 {
    static NEXT_ID: AtomicU64 = AtomicU64::new(0);
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// The range and shape of each parameter in the arenas.
#[derive(Clone, Debug)]
pub struct ArenaLayout {
    shapes: Arc<[Shape]>,
    pub(crate) ranges: Arc<[Range<usize>]>,
    len: usize,
}

impl ArenaLayout {
    /// Lays parameters of these shapes out one after the other.
    pub fn new(shapes: impl IntoIterator<Item = Shape>) -> Result<Self> {
        let shapes: Vec<Shape> = shapes.into_iter().collect();
        let mut len = 0usize;
        let mut ranges = Vec::with_capacity(shapes.len());
        for shape in &shapes {
            let n = shape.checked_numel("arena")?;
            ranges.push(len..len + n);
            len = (len + n).next_multiple_of(ALIGN);
        }
        Ok(Self { shapes: shapes.into(), ranges: ranges.into(), len })
    }

    /// Number of elements of an arena, gaps included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a layout without parameters.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Range of elements of each parameter.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// Shape of each parameter, in order.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }
}

/// The parameters of a model in one buffer; on a device, in f32 and as a copy in f16.
pub struct Arena {
    pub(crate) id: u64,
    pub(crate) layout: ArenaLayout,
    pub(crate) storage: Storage,
    #[cfg(feature = "cuda")]
    pub(crate) halves: Option<device::Halves>,
}

impl Arena {
    /// An arena of zeros.
    pub fn new(layout: ArenaLayout, dtype: DType) -> Result<Self> {
        let storage = crate::dispatch!(dtype, T => T::storage(Arc::new(Buffer::<T>::zeros(layout.len()))));
        Ok(Self {
            id: next_id(),
            layout,
            storage,
            #[cfg(feature = "cuda")]
            halves: None,
        })
    }

    /// The range and shape of each parameter.
    pub fn layout(&self) -> &ArenaLayout {
        &self.layout
    }

    /// Element type of all values.
    pub fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    /// Parameter `index` as a tensor that shares the arena's memory and whose gradient goes to [`Gradients`].
    pub fn parameter(&self, index: usize) -> Tensor {
        let edge = Edge::Param { arena: self.id, index };
        let (shape, start) = (self.layout.shapes[index].clone(), self.layout.ranges[index].start);
        #[cfg(feature = "cuda")]
        if let Some(halves) = self.halves.as_ref().filter(|halves| halves.read[index]) {
            return Tensor::view(shape, Storage::Cuda(halves.memory.clone()), start, Some(edge));
        }
        Tensor::view(shape, self.storage.clone(), start, Some(edge))
    }

    /// All elements in arena order; an error where `T` is not the arena's dtype.
    pub fn values<T: Element>(&self) -> Result<&[T]> {
        let buffer = T::buffer(&self.storage);
        buffer.map(|b| &b[..]).ok_or_else(|| wrong_dtype::<T>("arena", self.dtype()))
    }

    /// All elements to write. An error while a tensor or a graph still reads them.
    pub fn values_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        let dtype = self.dtype();
        let buffer = T::buffer_mut(&mut self.storage).ok_or_else(|| wrong_dtype::<T>("arena", dtype))?;
        let buffer = Arc::get_mut(buffer).ok_or_else(|| {
            Error::Busy(
                "parameters are written while a tensor of a step still reads them; drop it first".into(),
            )
        })?;
        Ok(&mut buffer[..])
    }

    /// Gradients for these parameters, all zero; on a device in f32.
    pub fn gradients(&self) -> Result<Gradients> {
        let layout = self.layout.clone();
        let storage = match &self.storage {
            #[cfg(feature = "cuda")]
            Storage::Cuda(masters) => device::zeros(masters)?,
            _ => crate::dispatch!(self.dtype(), T => T::storage(Arc::new(Buffer::<T>::zeros(layout.len())))),
        };
        let fresh = vec![true; layout.ranges.len()];
        let arena = Some(ArenaGradients { id: self.id, layout, storage, fresh });
        Ok(Gradients { arena, leaves: HashMap::new() })
    }
}

fn wrong_dtype<T: Element>(op: &'static str, found: DType) -> Error {
    if found == T::DTYPE {
        return Error::misuse(op, "it is on a device; its memory is read by download");
    }
    Error::Dtype { op, found: found.name(), expected: T::DTYPE.name() }
}

pub(crate) struct ArenaGradients {
    id: u64,
    pub layout: ArenaLayout,
    pub storage: Storage,
    /// Parameters that no gradient has reached since the last reset; their old values are overwritten, not cleared.
    pub fresh: Vec<bool>,
}

impl ArenaGradients {
    #[cfg(feature = "cuda")]
    pub fn view(&self, index: usize) -> Tensor {
        let (shape, start) = (self.layout.shapes[index].clone(), self.layout.ranges[index].start);
        Tensor::view(shape, self.storage.clone(), start, None)
    }
}

/// The gradients that backward passes sum: one flat arena for the parameters, and a tensor for every other leaf.
#[derive(Default)]
pub struct Gradients {
    pub(crate) arena: Option<ArenaGradients>,
    leaves: HashMap<LeafId, Tensor>,
}

impl Gradients {
    /// Gradients for graphs without an arena: of leaves only.
    pub fn of_leaves() -> Self {
        Self::default()
    }

    /// Resets all gradients: the next backward pass starts from zero.
    pub fn reset(&mut self) {
        self.leaves.clear();
        if let Some(arena) = &mut self.arena {
            arena.fresh.fill(true);
        }
    }

    /// The gradient of a leaf; `None` where no backward pass has reached it.
    pub fn of(&self, leaf: &Tensor) -> Option<&Tensor> {
        match leaf.edge() {
            Some(Edge::Leaf(id)) => self.leaves.get(id),
            _ => None,
        }
    }

    /// The parameters' gradients, laid out as the arena; zero for parameters that no backward pass has reached.
    pub fn values_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        let len = self.arena.as_ref().map_or(0, |arena| arena.layout.len);
        self.part_mut(0..len)
    }

    /// The gradients of some elements of the arena, which should cover whole parameters; zero for parameters that no
    /// backward pass has reached.
    ///
    /// # Errors
    /// As [`values_mut`](Self::values_mut), and a range that the arena does not have.
    pub fn part_mut<T: Element>(&mut self, part: Range<usize>) -> Result<&mut [T]> {
        let arena = self.arena.as_mut().ok_or_else(|| {
            Error::Backward("these gradients belong to leaves alone, not to an arena".into())
        })?;
        let dtype = arena.storage.dtype();
        let buffer = T::buffer_mut(&mut arena.storage)
            .and_then(Arc::get_mut)
            .ok_or_else(|| wrong_dtype::<T>("gradients", dtype))?;
        let ranges = &arena.layout.ranges;
        let first = ranges.partition_point(|range| range.end <= part.start);
        for (fresh, range) in arena.fresh.iter_mut().zip(ranges.iter()).skip(first) {
            if range.start >= part.end {
                break;
            }
            if std::mem::take(fresh) {
                buffer[range.clone()].fill(T::ZERO);
            }
        }
        let len = arena.layout.len;
        let whole = || Error::misuse("gradients", format!("{part:?} of an arena of {len}"));
        buffer.get_mut(part.clone()).ok_or_else(whole)
    }

    pub(crate) fn add_leaf(&mut self, id: LeafId, gradient: Tensor) -> Result<()> {
        match self.leaves.get_mut(&id) {
            None => {
                self.leaves.insert(id, gradient.detach());
                Ok(())
            }
            Some(sum) => sum_of(sum, &gradient),
        }
    }

    /// Adds a gradient of a parameter to its sum.
    pub(crate) fn add_parameter(&mut self, arena_id: u64, index: usize, gradient: &Tensor) -> Result<()> {
        match gradient.device() {
            Device::Cpu => crate::dispatch!(gradient.dtype(), T => {
                let values = gradient.values::<T>()?;
                self.accumulate(arena_id, index, |dst, add| store(dst, values, add))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => self.add_on_device(arena_id, index, gradient),
        }
    }

    pub(crate) fn arena_of(&mut self, id: u64) -> Result<&mut ArenaGradients> {
        self.arena.as_mut().filter(|a| a.id == id).ok_or_else(|| {
            Error::Backward("a parameter's gradient was sent to the gradients of another arena".into())
        })
    }

    pub(crate) fn accumulate<T: Element>(
        &mut self,
        arena_id: u64,
        index: usize,
        write: impl FnOnce(&mut [T], bool),
    ) -> Result<()> {
        let arena = self.arena_of(arena_id)?;
        let dtype = arena.storage.dtype();
        let buffer = T::buffer_mut(&mut arena.storage)
            .and_then(Arc::get_mut)
            .ok_or_else(|| wrong_dtype::<T>("gradients", dtype))?;
        let add = !std::mem::replace(&mut arena.fresh[index], false);
        write(&mut buffer[arena.layout.ranges[index].clone()], add);
        Ok(())
    }
}
