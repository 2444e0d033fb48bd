//! The ring's schedule over device memory.

use std::ops::Range;

use ssmv_autograd::{
    DType,
    cuda::{Address, Argument, Cuda, LoadedKernel},
};
use ssmv_kernels::{
    ptx::{F16, F32},
    reduce_copy::ReduceCopy,
};

use super::{Aborter, DeviceCollectives, DeviceLink, Error, Region, Result, Turn};
use crate::cut::{Cut, Pieces};
use crate::frame::Operation;
use crate::{Communicator, ReduceOp, ring::Pass, segment_of};

/// A segment of at most this many bytes is one piece: more pieces would only add launches.
const UNCUT: usize = 256 << 10;

/// Collectives by the ring's schedule over a link. One kernel adds the left neighbour's elements to this rank's and writes the
/// result for the right neighbour; nothing waits for the device.
#[derive(Debug)]
pub struct DeviceRing<L> {
    cuda: Cuda,
    link: L,
    kernels: Vec<(Step, LoadedKernel)>,
}

/// Selects a kernel: the step, and the size of an element in bytes.
type Step = (ReduceCopy, usize);

/// A collective in progress.
struct Run<'a> {
    region: &'a Region<'a>,
    turn: Turn,
}

impl Run<'_> {
    fn bytes(&self) -> usize {
        self.region.memory.dtype().bytes()
    }

    fn address(&self, piece: &Range<usize>) -> Address {
        self.region.memory.address_of(piece.start)
    }

    /// The address of a piece in a link's memory: with the alignment of its elements modulo 16, for wide accesses.
    fn beside(&self, address: Address, piece: &Range<usize>) -> Address {
        address.offset((piece.start * self.bytes() % 16) as u64)
    }

    /// Size of a piece in a link's memory in bytes, with the bytes before it.
    fn extent(&self, piece: &Range<usize>) -> usize {
        piece.start * self.bytes() % 16 + piece.len() * self.bytes()
    }
}

impl<L: DeviceLink> DeviceRing<L> {
    /// A ring over a link between devices; `cuda` is this rank's.
    ///
    /// # Errors
    /// The device does not load the kernels.
    pub fn new(cuda: &Cuda, link: L) -> ssmv_autograd::Result<Self> {
        let target = cuda.target();
        let sums = ReduceCopy::ALL.map(|step| ((step, 4), step.kernel::<F32>(target)));
        let halves = ((ReduceCopy::Copy, 2), ReduceCopy::Copy.kernel::<F16>(target));
        let load = |(step, kernel)| Ok((step, cuda.load(&kernel)?));
        let kernels = sums.into_iter().chain([halves]).map(load).collect::<ssmv_autograd::Result<_>>()?;
        Ok(Self { cuda: cuda.clone(), link, kernels })
    }

    fn pieces(&self) -> Pieces {
        Pieces { width: self.link.width(), most: self.link.most(), uncut: UNCUT }
    }

    /// A collective in which all ranks play the same part.
    fn pass(&mut self, control: &mut Communicator, run: &mut Run, pass: Pass) -> Result<()> {
        let cut = Cut::new(&run.region.range, pass.ranks, run.bytes(), self.pieces());
        let steps = pass.steps();
        self.start(run, &cut, pass.starts(), 0)?;
        for wave in 0..cut.waves {
            for step in 0..steps {
                let pieces = self.turn(control, run, &cut, pass.receives(step), wave)?;
                let last = step + 1 == steps;
                let what = match step + 1 {
                    step if step < pass.reducing_steps() => Some(ReduceCopy::SumForward),
                    step if step > pass.reducing_steps() => (!last).then_some(ReduceCopy::Copy),
                    _ if last => Some(ReduceCopy::Sum),
                    _ => Some(ReduceCopy::SumBoth),
                };
                self.take(run, what, &pieces)?;
                if last && wave + 1 < cut.waves {
                    self.start(run, &cut, pass.starts(), wave + 1)?;
                }
            }
        }
        Ok(())
    }

    /// A broadcast: waves go right from the root, one rank in a turn, to the root's left neighbour.
    fn chain(&mut self, control: &mut Communicator, run: &mut Run, root: usize) -> Result<()> {
        let (rank, ranks) = (self.link.rank(), self.link.ranks());
        let cut = Cut::new(&run.region.range, 1, run.bytes(), self.pieces());
        let distance = (rank + ranks - root) % ranks;
        for index in 0..cut.waves + ranks - 2 {
            if distance == 0 && index < cut.waves {
                self.start(run, &cut, 0, index)?;
            }
            let wave = (index + 1).checked_sub(distance).filter(|&wave| distance > 0 && wave < cut.waves);
            let Some(wave) = wave else {
                self.link.turn(control, next(run), &[], run.region.stream)?;
                self.device_step(run, |this| this.link.release(run.region.stream))?;
                continue;
            };
            let pieces = self.turn(control, run, &cut, 0, wave)?;
            self.take(run, (distance + 1 < ranks).then_some(ReduceCopy::Copy), &pieces)?;
        }
        Ok(())
    }

    /// Ends a turn of the link and returns the pieces to receive.
    fn turn(
        &mut self,
        control: &mut Communicator,
        run: &mut Run,
        cut: &Cut,
        segment: usize,
        wave: usize,
    ) -> Result<Vec<Range<usize>>> {
        let pieces: Vec<_> = (0..cut.width).map(|i| cut.piece(segment, wave, i)).collect();
        let extent = |piece: &Range<usize>| if piece.is_empty() { 0 } else { run.extent(piece) };
        let incoming: Vec<_> = pieces.iter().map(extent).collect();
        self.link.turn(control, next(run), &incoming, run.region.stream)?;
        Ok(pieces)
    }

    /// Writes copies of a wave's pieces of this rank's elements for the right neighbour.
    fn start(&mut self, run: &Run, cut: &Cut, segment: usize, wave: usize) -> Result<()> {
        let stream = run.region.stream;
        self.device_step(run, |this| {
            for i in 0..cut.width {
                let own = cut.piece(segment, wave, i);
                if own.is_empty() {
                    continue;
                }
                let to = run.beside(this.link.outbox(i, stream)?, &own);
                let bytes = (own.len() * run.bytes()) as u64;
                this.cuda.driver().copy(to, run.address(&own), bytes, stream)?;
                this.link.send(i, run.extent(&own), stream)?;
            }
            Ok(())
        })
    }

    /// Applies `what` to the received pieces and these elements; `None` only copies them there.
    fn take(&mut self, run: &Run, what: Option<ReduceCopy>, pieces: &[Range<usize>]) -> Result<()> {
        let stream = run.region.stream;
        self.device_step(run, |this| {
            for (i, own) in pieces.iter().enumerate().filter(|(_, own)| !own.is_empty()) {
                let received = run.beside(this.link.receive(i, stream)?, own);
                let at = run.address(own);
                let Some(what) = what else {
                    let bytes = (own.len() * run.bytes()) as u64;
                    this.cuda.driver().copy(at, received, bytes, stream)?;
                    continue;
                };
                let mut arguments: Vec<Argument> = vec![received.into(), at.into()];
                if what.forwards() {
                    arguments.push(run.beside(this.link.outbox(i, stream)?, own).into());
                }
                this.launch(run, what, own.len(), arguments)?;
                if what.forwards() {
                    this.link.send(i, run.extent(own), stream)?;
                }
            }
            this.link.release(stream)
        })
    }

    fn launch(
        &self,
        run: &Run,
        what: ReduceCopy,
        count: usize,
        mut arguments: Vec<Argument>,
    ) -> ssmv_autograd::Result<()> {
        // A piece has a few MiB at most.
        let count = count as u32;
        arguments.push(count.into());
        let step = (what, run.bytes());
        let known = self.kernels.iter().find(|(known, _)| *known == step);
        let (_, kernel) = known.ok_or_else(|| ssmv_autograd::Error::Misuse {
            operation: "ring".into(),
            message: format!("no kernel does {what:?} to elements of {} bytes", run.bytes()),
        })?;
        let blocks = if run.bytes() == 2 {
            ReduceCopy::blocks::<F16>(count)
        } else {
            ReduceCopy::blocks::<F32>(count)
        };
        self.cuda.launch_in(&kernel.with_blocks(blocks), &arguments, run.region.stream)
    }

    /// Adds the rank and the collective to errors of the device.
    fn device_step<R>(
        &mut self,
        run: &Run,
        body: impl FnOnce(&mut Self) -> ssmv_autograd::Result<R>,
    ) -> Result<R> {
        let (rank, operation) = (self.link.rank(), run.turn.name());
        body(self).map_err(|source| Error::Device { rank, operation, source })
    }

    /// Checks and runs a collective; informs the other ranks of an error.
    fn collective(
        &mut self,
        control: &mut Communicator,
        region: &Region,
        (operation, root): (Operation, usize),
        body: impl FnOnce(&mut Self, &mut Communicator, &mut Run) -> Result<()>,
    ) -> Result<()> {
        let turn = Turn::first(operation, root, region, control);
        let ranks = self.link.ranks();
        let result = check(region, operation, root, ranks).map_err(|message| Error::Argument {
            rank: self.link.rank(),
            operation: turn.name(),
            message,
        });
        let result = result.and_then(|()| body(self, control, &mut Run { region, turn }));
        result.inspect_err(|error| abandon(control, error))
    }

    fn schedule(&self, reduce: bool, gather: bool) -> Pass {
        let reduce = reduce.then_some(ReduceOp::Sum);
        Pass { rank: self.link.rank(), ranks: self.link.ranks(), reduce, gather }
    }
}

/// Returns the turn and advances to the next.
fn next(run: &mut Run) -> Turn {
    let turn = run.turn;
    run.turn.tag.index = turn.tag.index.wrapping_add(1);
    turn
}

/// Checks the arguments of a collective.
pub(super) fn check(region: &Region, operation: Operation, root: usize, ranks: usize) -> Result<(), String> {
    let Region { memory, range, .. } = region;
    if range.start > range.end || range.end > memory.len() {
        return Err(format!("elements {}..{} of a memory of {}", range.start, range.end, memory.len()));
    }
    let sums = matches!(operation, Operation::AllReduceSum | Operation::ReduceScatterSum);
    if sums && memory.dtype() != DType::F32 {
        return Err(format!("sums are of f32, but the memory has {}", memory.dtype()));
    }
    if root >= ranks {
        return Err(format!("rank {root} cannot be the root among {ranks}"));
    }
    Ok(())
}

/// Ends the control ring with an error that is not its own.
pub(super) fn abandon(control: &mut Communicator, error: &Error) {
    if !matches!(error, Error::Control(_)) {
        control.abandon(&error.to_string());
    }
}

impl<L: DeviceLink> DeviceCollectives for DeviceRing<L> {
    fn all_reduce_sum(&mut self, control: &mut Communicator, region: &Region) -> Result<()> {
        let pass = self.schedule(true, true);
        self.collective(control, region, (Operation::AllReduceSum, 0), |this, control, run| {
            this.pass(control, run, pass)
        })
    }

    fn reduce_scatter_sum(&mut self, control: &mut Communicator, region: &Region) -> Result<Range<usize>> {
        let pass = self.schedule(true, false);
        self.collective(control, region, (Operation::ReduceScatterSum, 0), |this, control, run| {
            this.pass(control, run, pass)
        })?;
        Ok(segment_of(&region.range, pass.ranks, pass.rank))
    }

    fn all_gather(&mut self, control: &mut Communicator, region: &Region) -> Result<()> {
        let pass = self.schedule(false, true);
        self.collective(control, region, (Operation::AllGather, 0), |this, control, run| {
            this.pass(control, run, pass)
        })
    }

    fn broadcast(&mut self, control: &mut Communicator, region: &Region, root: usize) -> Result<()> {
        self.collective(control, region, (Operation::Broadcast, root), |this, control, run| {
            this.chain(control, run, root)
        })
    }

    fn aborter(&self) -> Aborter {
        self.link.aborter()
    }

    fn close(self: Box<Self>, control: &mut Communicator) -> Result<()> {
        Box::new(self.link).close(control)
    }
}
