//! The tape: the operator trait, the graph that the forward pass builds, and the backward pass over it.
//!
//! A tensor that needs a gradient holds an [`Edge`] to the node that produced it. A node holds its operator, the
//! operator's saved values, and the edges of its inputs. [`Tensor::backward`] visits each node once, newest first,
//! passes the gradient to the operator, and drops the saved values. There is no central list of operators.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

#[cfg(feature = "cuda")]
use crate::cuda::{Cuda, DeviceBuffer, primitives};
use crate::{
    DType, Device, Element, Error, Gradients, Result, Shape, Tensor,
    buffer::Buffer,
    profile::{self, Direction, PassTime},
};

/// An operator: a small struct that holds its attributes.
///
/// `forward` and `backward` get tensors of one device and one dtype, except for [`Op::keep_f32`] ([`apply`] checks
/// this). Saved tensors are dropped when `backward` returns.
pub trait Op: Send + Sync + 'static {
    /// Name for errors and listings.
    fn name(&self) -> &'static str;

    /// Whether input `i` stays in f32 if the first one is f16: statistics, states, biases and inputs of an exponential.
    /// `docs/precision.md` lists these inputs and the reasons.
    fn keep_f32(&self, _i: usize) -> bool {
        false
    }

    /// The shape of the output, or an error for input shapes that do not fit.
    fn shape(&self, inputs: &[&Shape]) -> Result<Shape>;

    /// Floating-point operations of the forward pass's matrix products and convolutions, two for a multiply-add; 0 for an
    /// operator that is bound by memory.
    fn operations(&self, _inputs: &[&Shape]) -> u64 {
        0
    }

    /// Computes the output, and saves through `cx` the values that `backward` needs.
    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor>;

    /// Computes the gradient of every input for which [`Backward::needs`] is true, from the output's gradient `dy`.
    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()>;
}

/// Applies an operator: checks dtypes and shapes, runs it, and records it if a gradient will be needed.
pub fn apply(op: impl Op, inputs: &[&Tensor]) -> Result<Tensor> {
    let name = op.name();
    let first = inputs[0].dtype();
    for (i, input) in inputs.iter().enumerate() {
        let expected = if first == DType::F16 && op.keep_f32(i) { DType::F32 } else { first };
        if input.dtype() != expected {
            return Err(Error::Dtype { op: name, found: input.dtype().name(), expected: expected.name() });
        }
        if input.device() != inputs[0].device() {
            return Err(Error::misuse(name, "some inputs are on a device and some on the CPU"));
        }
    }
    let shapes: Vec<&Shape> = inputs.iter().map(|t| t.shape()).collect();
    let shape = op.shape(&shapes)?;
    shape.checked_numel(name)?;
    let recording = grad_enabled() && inputs.iter().any(|t| t.requires_grad());
    let mut cx = Forward { recording, saved: Saved::default() };
    // While a kernel waits for its threads, this thread may run another task, which must not inherit a no_grad.
    let forward = || with_grad(true, || op.forward(&mut cx, inputs));
    let y = profile::timed(forward, |seconds| PassTime {
        op: name,
        direction: Direction::Forward,
        inputs: shapes.iter().map(|&s| s.clone()).collect(),
        seconds,
        operations: op.operations(&shapes),
        bytes: inputs.iter().map(|t| t.bytes()).sum::<u64>() + shape.numel() as u64 * first.bytes() as u64,
    })?;
    crate::finite::check(name, &y)?;
    if *y.shape() != shape {
        return Err(Error::shape(name, format!("made {} where {shape} was promised", y.shape())));
    }
    if !recording {
        return Ok(y);
    }
    let node = Node {
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        edges: inputs.iter().map(|t| t.edge().cloned()).collect(),
        inputs: inputs.iter().map(|t| (t.shape().clone(), t.dtype())).collect(),
        op: Box::new(op),
        saved: Mutex::new(Some(cx.saved)),
    };
    Ok(y.with_edge(Some(Edge::Node(Arc::new(node)))))
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static GRAD: Cell<bool> = const { Cell::new(true) };
}

/// Whether operators on this thread are recorded.
pub fn grad_enabled() -> bool {
    GRAD.get()
}

/// Runs `body` without recording: saves nothing, and no output needs a gradient.
pub fn no_grad<R>(body: impl FnOnce() -> R) -> R {
    with_grad(false, body)
}

fn with_grad<R>(enabled: bool, body: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            GRAD.set(self.0);
        }
    }
    let _restore = Restore(GRAD.replace(enabled));
    body()
}

/// Identifies a leaf tensor in [`Gradients`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeafId(u64);

impl LeafId {
    pub(crate) fn fresh() -> Self {
        Self(NEXT_ID.fetch_add(1, Ordering::Relaxed))
    }
}

/// The destination of a tensor's gradient.
#[derive(Clone)]
pub(crate) enum Edge {
    /// The node of the operator that produced the tensor.
    Node(Arc<Node>),
    /// A leaf, whose gradient is kept under this id.
    Leaf(LeafId),
    /// Parameter `index` of the arena with that id.
    Param { arena: u64, index: usize },
}

/// One operator application in the graph.
pub(crate) struct Node {
    id: u64,
    op: Box<dyn Op>,
    pub edges: Vec<Option<Edge>>,
    pub inputs: Vec<(Shape, DType)>,
    saved: Mutex<Option<Saved>>,
}

impl Node {
    /// The record of a backward pass: each input's gradient costs as much as the output.
    fn backward_time(&self, dy: &Tensor, seconds: f64) -> PassTime {
        let shapes: Vec<&Shape> = self.inputs.iter().map(|(shape, _)| shape).collect();
        let bytes = |(shape, dtype): &(Shape, DType)| (shape.numel() * dtype.bytes()) as u64;
        let wanted = self.edges.iter().zip(&self.inputs).filter(|(edge, _)| edge.is_some());
        let products = self.edges.iter().take(2).flatten().count() as u64;
        PassTime {
            op: self.op.name(),
            direction: Direction::Backward,
            inputs: shapes.iter().map(|&s| s.clone()).collect(),
            seconds,
            operations: products * self.op.operations(&shapes),
            bytes: dy.bytes()
                + self.inputs.iter().map(bytes).sum::<u64>()
                + wanted.map(|(_, i)| bytes(i)).sum::<u64>(),
        }
    }
}

/// Drops a long chain of nodes in a loop: nested drops would overflow the stack.
impl Drop for Node {
    fn drop(&mut self) {
        let mut chain = std::mem::take(&mut self.edges);
        while let Some(edge) = chain.pop() {
            if let Some(Edge::Node(node)) = edge
                && let Some(mut last) = Arc::into_inner(node)
            {
                chain.append(&mut last.edges);
            }
        }
    }
}

#[derive(Default)]
pub(crate) struct Saved {
    tensors: Vec<Tensor>,
    #[cfg(feature = "cuda")]
    pub device_bytes: Option<DeviceBuffer<u8>>,
}

/// Context of an operator's forward pass.
pub struct Forward {
    recording: bool,
    pub(crate) saved: Saved,
}

impl Forward {
    /// Whether a backward pass may follow.
    pub fn recording(&self) -> bool {
        self.recording
    }

    /// Saves the tensor's elements (shared, not copied) for the backward pass.
    pub fn save(&mut self, tensor: &Tensor) {
        if self.recording {
            self.saved.tensors.push(tensor.detach());
        }
    }
}

/// Context of an operator's backward pass.
pub struct Backward<'a> {
    pub(crate) node: &'a Node,
    pub(crate) saved: Saved,
    pending: &'a mut Pending,
    pub(crate) gradients: &'a mut Gradients,
    /// The device of the gradient.
    #[cfg(feature = "cuda")]
    pub(crate) cuda: Option<Cuda>,
    pub(crate) given: Vec<bool>,
}

impl Backward<'_> {
    /// Whether input `i` needs a gradient.
    pub fn needs(&self, i: usize) -> bool {
        self.node.edges.get(i).is_some_and(Option::is_some)
    }

    /// Takes out the tensors that the forward pass saved, in order.
    pub fn saved<const N: usize>(&mut self) -> Result<[Tensor; N]> {
        std::mem::take(&mut self.saved.tensors).try_into().map_err(|all: Vec<Tensor>| {
            let op = self.node.op.name();
            Error::Backward(format!("{op} asks for {N} saved tensors and forward saved {}", all.len()))
        })
    }

    /// Takes out all tensors that the forward pass saved, if their number varies.
    pub fn saved_all(&mut self) -> Vec<Tensor> {
        std::mem::take(&mut self.saved.tensors)
    }

    /// The shape of input `i`.
    pub fn input_shape(&self, i: usize) -> &Shape {
        &self.node.inputs[i].0
    }

    /// Adds `gradient`, which has as many elements as input `i`, to the gradient of that input. Does nothing if it
    /// needs none.
    pub fn give(&mut self, i: usize, gradient: Tensor) -> Result<()> {
        let Some(edge) = self.node.edges[i].as_ref() else { return Ok(()) };
        let (shape, dtype) = &self.node.inputs[i];
        // On a device a parameter's gradient is f32, whatever dtype it is read in.
        let of_parameter = matches!(edge, Edge::Param { .. }) && gradient.device() != Device::Cpu;
        if gradient.numel() != shape.numel() || (gradient.dtype() != *dtype && !of_parameter) {
            let op = self.node.op.name();
            let message =
                format!("{op} gives input {i} the gradient {gradient:?}; {shape}, {dtype} is expected");
            return Err(Error::Backward(message));
        }
        self.given[i] = true;
        let gradient = gradient.with_shape(shape.clone());
        match edge {
            Edge::Node(target) => self.pending.add(target, gradient),
            Edge::Leaf(id) => self.gradients.add_leaf(*id, gradient),
            Edge::Param { arena, index } => self.gradients.add_parameter(*arena, *index, &gradient),
        }
    }

    /// Calls `write` on the memory of input `i`'s gradient: with `true` it must add to the contents, with `false`
    /// overwrite them. Saves a copy of a large gradient; does nothing if the input needs none.
    pub fn accumulate<T: Element>(&mut self, i: usize, write: impl FnOnce(&mut [T], bool)) -> Result<()> {
        let Some(edge) = self.node.edges[i].as_ref() else { return Ok(()) };
        if let Edge::Param { arena, index } = edge {
            self.given[i] = true;
            return self.gradients.accumulate(*arena, *index, write);
        }
        if let Edge::Node(target) = edge
            && let Some((_, sum)) = self.pending.0.get_mut(&target.id)
        {
            self.given[i] = true;
            write(sum.values_mut::<T>()?, true);
            return Ok(());
        }
        let shape = &self.node.inputs[i].0;
        let mut fresh = Buffer::<T>::uninit(shape.numel());
        write(&mut fresh, false);
        self.give(i, Tensor::from_buffer(shape.clone(), fresh))
    }
}

/// Sets `sum` to sum + gradient, on their device.
pub(crate) fn sum_of(sum: &mut Tensor, gradient: &Tensor) -> Result<()> {
    match gradient.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda => {
            *sum = primitives::add(sum, gradient)?;
            Ok(())
        }
        Device::Cpu => crate::dispatch!(gradient.dtype(), T => {
            store(sum.values_mut::<T>()?, gradient.values::<T>()?, true);
            Ok(())
        }),
    }
}

/// Adds `values` to `dst`, or copies them.
pub(crate) fn store<T: Element>(dst: &mut [T], values: &[T], add: bool) {
    if add {
        crate::cpu::zip_into(dst, values, |d, v| d + v);
    } else {
        dst.copy_from_slice(values);
    }
}

/// Called with a parameter's index in the arena when its gradient is complete.
pub type OnWhole<'a, E> = dyn FnMut(usize, &mut Gradients) -> Result<(), E> + 'a;

/// Number of reads of each parameter in the graph behind `root`.
fn readers(root: &Arc<Node>) -> HashMap<usize, usize> {
    let (mut count, mut seen, mut open) = (HashMap::new(), HashSet::from([root.id]), vec![root]);
    while let Some(node) = open.pop() {
        for edge in node.edges.iter().flatten() {
            match edge {
                Edge::Node(next) if seen.insert(next.id) => open.push(next),
                Edge::Param { index, .. } => *count.entry(*index).or_default() += 1,
                _ => {}
            }
        }
    }
    count
}

/// Nodes whose gradient is still being summed, by age.
struct Pending(BTreeMap<u64, (Arc<Node>, Tensor)>);

impl Pending {
    fn add(&mut self, target: &Arc<Node>, gradient: Tensor) -> Result<()> {
        match self.0.get_mut(&target.id) {
            None => {
                self.0.insert(target.id, (Arc::clone(target), gradient));
                Ok(())
            }
            Some((_, sum)) => sum_of(sum, &gradient),
        }
    }
}

impl Tensor {
    /// Adds the gradients of this one-element tensor with respect to every leaf and parameter it was made from to
    /// `gradients`. Each node is visited once, after all that read its output; what it saved is freed then, so a
    /// graph serves one backward pass.
    pub fn backward(&self, gradients: &mut Gradients) -> Result<()> {
        if self.numel() != 1 {
            let message = format!("starts from a scalar, not from {}; sum or mean it first", self.shape());
            return Err(Error::Backward(message));
        }
        let one = Self::scalar(1.0, self.dtype())?;
        #[cfg(feature = "cuda")]
        let one = if self.device() == Device::Cuda { one.to_cuda(self.cuda()?, self.dtype())? } else { one };
        let one = one.with_shape(self.shape().clone());
        self.backward_from(one, gradients)
    }

    /// As [`Tensor::backward`], from any tensor, with `cotangent` as its gradient.
    pub fn backward_from(&self, cotangent: Tensor, gradients: &mut Gradients) -> Result<()> {
        self.backward_with_hook(cotangent, gradients, None::<&mut OnWhole<Error>>)
    }

    /// As [`Tensor::backward_from`]. Calls `whole` for each parameter after the last operator that adds to its gradient
    /// (on a device: after that operator is queued), while the pass continues: the gradient can already be sent to
    /// other machines.
    pub fn backward_with_hook<E: From<Error>>(
        &self,
        cotangent: Tensor,
        gradients: &mut Gradients,
        mut whole: Option<&mut OnWhole<E>>,
    ) -> Result<(), E> {
        if cotangent.shape() != self.shape() || cotangent.dtype() != self.dtype() {
            return Err(Error::Backward(format!("{cotangent:?} sent back through {self:?}")).into());
        }
        let root = match self.edge() {
            Some(Edge::Node(node)) => Arc::clone(node),
            Some(Edge::Leaf(id)) => return Ok(gradients.add_leaf(*id, cotangent)?),
            Some(Edge::Param { arena, index }) => {
                gradients.add_parameter(*arena, *index, &cotangent)?;
                return whole.map_or(Ok(()), |whole| whole(*index, gradients));
            }
            None => {
                let message =
                    "nothing that this tensor was made from needs a gradient (or it was made under no_grad)";
                return Err(Error::Backward(message.into()).into());
            }
        };
        let mut readers = whole.as_ref().map(|_| readers(&root)).unwrap_or_default();
        let mut pending = Pending(BTreeMap::new());
        pending.add(&root, cotangent.detach())?;
        drop(cotangent);
        while let Some((_, (node, dy))) = pending.0.pop_last() {
            let saved =
                node.saved.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(|| {
                    let op = node.op.name();
                    Error::Backward(format!("{op} was passed before; a graph serves one backward pass"))
                })?;
            let given = vec![false; node.edges.len()];
            let mut cx = Backward {
                node: &node,
                saved,
                pending: &mut pending,
                gradients,
                #[cfg(feature = "cuda")]
                cuda: (dy.device() == Device::Cuda).then(|| dy.cuda().cloned()).transpose()?,
                given,
            };
            profile::timed(|| node.op.backward(&mut cx, &dy), |seconds| node.backward_time(&dy, seconds))?;
            let missing = node.edges.iter().zip(&cx.given).position(|(e, given)| e.is_some() && !given);
            if let Some(i) = missing {
                return Err(Error::Backward(format!(
                    "{} gave no gradient for its input {i}",
                    node.op.name()
                ))
                .into());
            }
            let Some(whole) = &mut whole else { continue };
            for edge in node.edges.iter().flatten() {
                let Edge::Param { index, .. } = edge else { continue };
                let left = readers.entry(*index).or_default();
                *left = left.saturating_sub(1);
                if *left == 0 {
                    whole(*index, gradients)?;
                }
            }
        }
        Ok(())
    }
}
