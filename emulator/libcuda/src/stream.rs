//! Streams: work in order, and what one stream's work waits for in others.

use crate::{
    code::{Outcome, fail},
    context::{Context, thread_key},
    event::At,
    handle::Handle,
    schedule::{ForeignRecord, WorkId},
    state::State,
    work::Work,
};

/// `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD` (cuda.h): numbers in the guise of handles.
const LEGACY: Handle = 1;
const PER_THREAD: Handle = 2;

/// A stream.
#[derive(Debug)]
pub struct Stream {
    /// Its context.
    pub context: Handle,
    /// Waits for the legacy default stream, and is waited for by it.
    pub blocking: bool,
    /// As the program asked; lower is more urgent.
    pub priority: i32,
    /// The newest work in it.
    pub last: Option<WorkId>,
    /// What the next work waits for besides.
    after: Vec<WorkId>,
    foreign: Vec<ForeignRecord>,
    /// The capture that records its work.
    pub capture: Option<Handle>,
}

impl Stream {
    /// A stream of a context.
    pub fn new(context: Handle, blocking: bool, priority: i32) -> Self {
        Self {
            context,
            blocking,
            priority,
            last: None,
            after: Vec::new(),
            foreign: Vec::new(),
            capture: None,
        }
    }

    /// The legacy default stream of a context.
    pub fn default_of(context: Handle) -> Self {
        Self::new(context, false, 0)
    }
}

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
        let waits = |other: &crate::stream::Stream| other.context == context && other.blocking;
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
            (At::Captured { capture: theirs, nodes }, own) => self.join_capture(stream, own, theirs, nodes),
            (_, Some(capture)) => {
                self.break_capture(capture, "it waited for an event that was recorded outside of it");
                fail!(
                    STREAM_CAPTURE_ISOLATION,
                    "a captured stream would wait for work that is not captured: record the event in a captured stream"
                )
            }
            (At::Never, None) => Ok(()),
            (At::Work { work, .. }, None) => {
                self.streams.get_mut(stream)?.after.push(work);
                Ok(())
            }
            (At::Shared { page, number }, None) => {
                let record = page.records(number);
                let foreign = ForeignRecord { page, event: number, record };
                self.streams.get_mut(stream)?.foreign.push(foreign);
                Ok(())
            }
        }
    }
}
