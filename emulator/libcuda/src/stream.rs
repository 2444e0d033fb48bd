//! Streams: the order of work within one and between several; graphs are launched into them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    code::{Outcome, fail},
    context::thread_key,
    graph::{Graph, Node},
    handle::Handle,
    host,
    schedule::{ForeignRecord, WorkId},
    state::{Context, LastRecord, State, Stream},
    work::{Record, Side, Work},
};

/// `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD` (cuda.h): numbers in the guise of handles.
const LEGACY: Handle = 1;
const PER_THREAD: Handle = 2;

/// Takes a stream out of those that a program may use; work that is in it still runs.
pub fn destroy(state: &mut State, stream: Handle) -> Outcome {
    if let Some(capture) = state.streams.get(stream)?.capture {
        state.break_capture(capture, "a stream of it was destroyed");
        state.forget_stream(capture, stream);
    }
    state.streams.remove(stream).map(drop)
}

impl State {
    /// The stream that a raw handle means on this thread.
    pub fn stream(&mut self, context: Handle, raw: Handle) -> Outcome<Handle> {
        match raw {
            0 | LEGACY => Ok(self.contexts.get(context)?.legacy),
            PER_THREAD => self.per_thread(context),
            _ => {
                let owner = self.streams.get(raw)?.context;
                self.contexts.get(owner)?.check()?;
                Ok(raw)
            }
        }
    }

    fn per_thread(&mut self, context: Handle) -> Outcome<Handle> {
        let key = thread_key(std::thread::current().id());
        if let Some(&stream) = self.contexts.get(context)?.per_thread.get(&key) {
            return Ok(stream);
        }
        let stream = self.streams.insert(Stream::new(context, true, 0));
        self.contexts.get_mut(context)?.per_thread.insert(key, stream);
        Ok(stream)
    }

    fn is_legacy(&self, stream: Handle, context: Handle) -> bool {
        self.contexts.get(context).is_ok_and(|Context { legacy, .. }| *legacy == stream)
    }

    /// Queues work in a stream, or records it where the stream is captured; then there is nothing to wait for.
    pub fn submit(&mut self, stream: Handle, work: Work) -> Outcome<Option<WorkId>> {
        if let Some(capture) = self.streams.get(stream)?.capture {
            self.record_work(capture, stream, work)?;
            return Ok(None);
        }
        self.refuse_implicit(stream)?;
        self.queue(stream, work, Vec::new()).map(Some)
    }

    /// Queues work in a stream that is not captured, after other work besides.
    pub fn queue(&mut self, stream: Handle, work: Work, besides: Vec<WorkId>) -> Outcome<WorkId> {
        let mut after = besides;
        let Stream { context, blocking, .. } = *self.streams.get(stream)?;
        if self.is_legacy(stream, context) {
            let others = self.streams.iter().filter(|(_, other)| other.context == context && other.blocking);
            after.extend(others.filter_map(|(_, other)| other.last));
        } else if blocking {
            let legacy = self.contexts.get(context)?.legacy;
            after.extend(self.streams.get(legacy)?.last);
        }
        let own = self.streams.get_mut(stream)?;
        after.extend(own.last);
        after.append(&mut own.after);
        let foreign = std::mem::take(&mut own.foreign);
        let id = self.schedule.submit(context, work, after, foreign);
        self.streams.get_mut(stream)?.last = Some(id);
        Ok(id)
    }

    /// The legacy stream may not be used while a stream that it waits for is captured.
    fn refuse_implicit(&mut self, stream: Handle) -> Outcome {
        let context = self.streams.get(stream)?.context;
        if !self.is_legacy(stream, context) {
            return Ok(());
        }
        let waits = |other: &Stream| other.context == context && other.blocking;
        let captured: Vec<Handle> = self
            .streams
            .iter()
            .filter(|(_, other)| waits(other))
            .filter_map(|(_, other)| other.capture)
            .collect();
        if captured.is_empty() {
            return Ok(());
        }
        for capture in captured {
            self.break_capture(capture, "the legacy stream was used, which waits for the captured stream");
        }
        fail!(
            STREAM_CAPTURE_IMPLICIT,
            "the legacy stream would wait for a stream that is captured: use another stream, or CU_STREAM_NON_BLOCKING"
        )
    }

    /// Makes what comes later in a stream wait for an event.
    pub fn wait_event(&mut self, stream: Handle, event: Handle) -> Outcome {
        let capture = self.streams.get(stream)?.capture;
        let waited = self.events.get(event)?;
        match (waited.at.clone(), capture) {
            (LastRecord::Captured { capture: theirs, nodes }, own) => {
                self.join_capture(stream, own, theirs, nodes)
            }
            (_, Some(capture)) => {
                self.break_capture(capture, "it waited for an event that was recorded outside of it");
                fail!(
                    STREAM_CAPTURE_ISOLATION,
                    "a captured stream would wait for work that is not captured: record the event in a captured stream"
                )
            }
            (LastRecord::Never, None) => Ok(()),
            (LastRecord::Work { work, .. }, None) => {
                self.streams.get_mut(stream)?.after.push(work);
                Ok(())
            }
            (LastRecord::Shared { page, number }, None) => {
                let record = page.records(number);
                let foreign = ForeignRecord { page, event: number, record };
                self.streams.get_mut(stream)?.foreign.push(foreign);
                Ok(())
            }
        }
    }

    /// Launches a graph in a stream.
    pub fn launch_graph(&mut self, exec: Handle, stream: Handle) -> Outcome {
        let found = self.graph_execs.get(exec)?;
        let graph = found.graph.clone();
        if let Some(capture) = self.streams.get(stream)?.capture {
            return self.record_node(capture, stream, Node::Child(graph));
        }
        let (order, last) = (found.order.clone(), found.last);
        graph.check_grids()?;
        let begin = self.submit(stream, Work::Nothing)?;
        let begin: Vec<WorkId> = begin.into_iter().chain(last).collect();
        let context = self.streams.get(stream)?.context;
        let ends = self.queue_nodes(context, &graph, &order, &begin)?;
        let end = self.queue(stream, Work::Nothing, ends)?;
        self.graph_execs.get_mut(exec)?.last = Some(end);
        Ok(())
    }

    /// Queues the nodes of a graph behind other work; gives what nothing of the graph comes after.
    fn queue_nodes(
        &mut self,
        context: Handle,
        graph: &Graph,
        order: &[usize],
        begin: &[WorkId],
    ) -> Outcome<Vec<WorkId>> {
        let mut ids: BTreeMap<usize, Vec<WorkId>> = BTreeMap::new();
        for &node in order {
            let after = &graph.after[node];
            let mut before: Vec<WorkId> =
                after.iter().filter_map(|node| ids.get(node)).flatten().copied().collect();
            if after.is_empty() {
                before.extend(begin);
            }
            let queued = match &graph.nodes[node] {
                Node::Work(work) => vec![self.schedule.submit(context, fresh(work), before, Vec::new())],
                Node::Record(event) => vec![self.queue_record(context, *event, before)?],
                Node::Wait(event) => {
                    if let LastRecord::Work { work, .. } = &self.events.get(*event)?.at {
                        before.push(*work);
                    }
                    vec![self.schedule.submit(context, Work::Nothing, before, Vec::new())]
                }
                Node::Child(child) => {
                    let order = child.order()?;
                    match child.nodes.is_empty() {
                        true => before,
                        false => self.queue_nodes(context, child, &order, &before)?,
                    }
                }
            };
            ids.insert(node, queued);
        }
        let followed: BTreeSet<usize> = graph.after.iter().flatten().copied().collect();
        let ends = ids
            .iter()
            .filter(|(node, _)| !followed.contains(node))
            .flat_map(|(_, ids)| ids.clone())
            .collect();
        Ok(if graph.nodes.is_empty() { begin.to_vec() } else { ends })
    }

    fn queue_record(&mut self, context: Handle, event: Handle, before: Vec<WorkId>) -> Outcome<WorkId> {
        let record = Arc::new(Record::default());
        let id = self.schedule.submit(context, Work::Record(record.clone()), before, Vec::new());
        self.events.get_mut(event)?.at = LastRecord::Work { work: id, record };
        Ok(id)
    }
}

/// Work as it is queued now: a copy from the host reads what is there from now on.
fn fresh(work: &Work) -> Work {
    let mut work = work.clone();
    if let Work::Copy(copy) = &mut work {
        let length = copy.reach()[1] as usize;
        if let Side::Host(address, Some(digest)) = &mut copy.from {
            *digest = host::digest(*address, length).unwrap_or(*digest);
        }
    }
    work
}
