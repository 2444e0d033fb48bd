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

use crate::{
    DType, Element, Error, Result, Shape, Tensor,
    buffer::Buffer,
    tape::{Edge, LeafId, store},
    tensor::Storage,
};

/// Parameters start at multiples of this many elements, which suits every vector width.
const ALIGN: usize = 64;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Where each parameter stands in the arenas.
#[derive(Clone, Debug)]
pub struct ArenaLayout {
    shapes: Arc<[Shape]>,
    ranges: Arc<[Range<usize>]>,
    len: usize,
}

impl ArenaLayout {
    /// Parameters of these shapes, one after the other.
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

    /// Elements of an arena, gaps included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Each parameter's place.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// Each parameter's shape.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }
}

/// The parameters of a model in one buffer.
pub struct Arena {
    id: u64,
    layout: ArenaLayout,
    storage: Storage,
}

impl Arena {
    /// An arena of zeros.
    pub fn new(layout: ArenaLayout, dtype: DType) -> Self {
        let storage = crate::dispatch!(dtype, T => T::storage(Arc::new(Buffer::<T>::zeros(layout.len()))));
        Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), layout, storage }
    }

    /// Where each parameter stands.
    pub fn layout(&self) -> &ArenaLayout {
        &self.layout
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    /// Parameter `index` as a tensor that shares the arena's memory and whose gradient goes to [`Gradients`].
    pub fn parameter(&self, index: usize) -> Tensor {
        let edge = Edge::Param { arena: self.id, index };
        let (shape, start) = (self.layout.shapes[index].clone(), self.layout.ranges[index].start);
        Tensor::view(shape, self.storage.clone(), start, Some(edge))
    }

    /// All elements; an error where `T` is not the arena's dtype.
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

    /// Gradients for these parameters, all zero.
    pub fn gradients(&self) -> Gradients {
        let layout = self.layout.clone();
        let storage =
            crate::dispatch!(self.dtype(), T => T::storage(Arc::new(Buffer::<T>::zeros(layout.len()))));
        let fresh = vec![true; layout.ranges.len()];
        Gradients {
            arena: Some(ArenaGradients { id: self.id, layout, storage, fresh }),
            leaves: HashMap::new(),
        }
    }
}

fn wrong_dtype<T: Element>(op: &'static str, found: DType) -> Error {
    Error::Dtype { op, found: found.name(), expected: T::DTYPE.name() }
}

struct ArenaGradients {
    id: u64,
    layout: ArenaLayout,
    storage: Storage,
    /// Parameters that no gradient has reached since the last reset; their old values are overwritten, not cleared.
    fresh: Vec<bool>,
}

/// What backward passes add up: one flat arena for the parameters, and a tensor for every other leaf.
#[derive(Default)]
pub struct Gradients {
    arena: Option<ArenaGradients>,
    leaves: HashMap<LeafId, Tensor>,
}

impl Gradients {
    /// For graphs without an arena: keeps the gradients of leaves alone.
    pub fn of_leaves() -> Self {
        Self::default()
    }

    /// Forgets everything: the next backward pass starts from zero.
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

    /// The parameters' gradients, laid out as the arena; zero where no backward pass has come.
    pub fn values_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        let arena = self.arena.as_mut().ok_or_else(|| Error::Backward("there is no arena".into()))?;
        let dtype = arena.storage.dtype();
        let buffer = T::buffer_mut(&mut arena.storage)
            .and_then(Arc::get_mut)
            .ok_or_else(|| wrong_dtype::<T>("gradients", dtype))?;
        for (fresh, range) in arena.fresh.iter_mut().zip(arena.layout.ranges.iter()) {
            if std::mem::take(fresh) {
                buffer[range.clone()].fill(T::ZERO);
            }
        }
        Ok(&mut buffer[..])
    }

    pub(crate) fn add_leaf(&mut self, id: LeafId, gradient: Tensor) -> Result<()> {
        match self.leaves.get_mut(&id) {
            None => {
                self.leaves.insert(id, gradient.detach());
                Ok(())
            }
            Some(sum) => crate::dispatch!(gradient.dtype(), T => {
                store(sum.values_mut::<T>()?, gradient.values::<T>()?, true);
                Ok(())
            }),
        }
    }

    pub(crate) fn accumulate<T: Element>(
        &mut self,
        arena_id: u64,
        index: usize,
        write: impl FnOnce(&mut [T], bool),
    ) -> Result<()> {
        let arena = self.arena.as_mut().filter(|a| a.id == arena_id).ok_or_else(|| {
            Error::Backward("a parameter's gradient was sent to the gradients of another arena".into())
        })?;
        let dtype = arena.storage.dtype();
        let buffer = T::buffer_mut(&mut arena.storage)
            .and_then(Arc::get_mut)
            .ok_or_else(|| wrong_dtype::<T>("gradients", dtype))?;
        let add = !std::mem::replace(&mut arena.fresh[index], false);
        write(&mut buffer[arena.layout.ranges[index].clone()], add);
        Ok(())
    }
}
