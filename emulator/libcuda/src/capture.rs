//! Capture: work of streams recorded as a graph, and the rules that make a capture invalid (CUDA C++ Programming Guide,
//! "Cross-stream Dependencies and Events" and "Prohibited and Unhandled Operations").

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    code::{Code, Failure, Outcome, fail},
    graph::{Graph, Node},
    handle::Handle,
    state::{Capture, LastRecord, Mode, State},
    work::Work,
};

thread_local! {
    /// What this thread's own unsafe calls are held against.
    static THREAD_MODE: Cell<Mode> = const { Cell::new(Mode::Global) };
}

/// Sets the mode of this thread; returns the old one.
pub fn exchange_thread_mode(mode: Mode) -> Mode {
    THREAD_MODE.replace(mode)
}

/// The state of a stream's capture, as programs ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The stream is not captured.
    None = 0,
    /// The stream is captured.
    Active = 1,
    /// The stream is captured, and the capture is invalid.
    Invalidated = 2,
}

impl State {
    /// Begins to record a stream.
    pub fn begin_capture(&mut self, stream: Handle, mode: Mode) -> Outcome {
        let found = self.streams.get(stream)?;
        let context = self.contexts.get(found.context)?;
        if context.legacy == stream {
            return fail!(STREAM_CAPTURE_UNSUPPORTED, "the legacy default stream cannot be captured");
        }
        if found.capture.is_some() {
            return fail!(ILLEGAL_STATE, "the stream is captured already");
        }
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let capture = self.captures.insert(Capture {
            origin: stream,
            mode,
            thread: std::thread::current().id(),
            graph: Graph::default(),
            heads: BTreeMap::from([(stream, Vec::new())]),
            broken: None,
            number: NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        });
        self.streams.get_mut(stream)?.capture = Some(capture);
        Ok(())
    }

    /// Ends the capture of a stream; returns the graph.
    pub fn end_capture(&mut self, stream: Handle) -> Outcome<Handle> {
        let Some(handle) = self.streams.get(stream)?.capture else {
            return fail!(ILLEGAL_STATE, "the stream is not captured");
        };
        let capture = self.captures.get(handle)?;
        if capture.origin != stream {
            self.break_capture(handle, "it was ended in another stream than the one it began in");
            return fail!(STREAM_CAPTURE_UNMATCHED, "the capture began in another stream: end it there");
        }
        if capture.mode != Mode::Relaxed && capture.thread != std::thread::current().id() {
            let broken = capture.broken.clone();
            self.break_capture(handle, "another thread tried to end it");
            return match broken {
                Some(why) => fail!(STREAM_CAPTURE_INVALIDATED, "the capture is invalid: {why}"),
                None => fail!(STREAM_CAPTURE_WRONG_THREAD, "the thread that began the capture must end it"),
            };
        }
        let capture = self.captures.remove(handle)?;
        for (_, other) in self.streams.iter_mut().filter(|(_, other)| other.capture == Some(handle)) {
            other.capture = None;
        }
        if let Some(why) = capture.broken {
            return fail!(STREAM_CAPTURE_INVALIDATED, "the capture is invalid: {why}");
        }
        let joined = capture.graph.ancestors(capture.heads.get(&stream).map_or(&[][..], Vec::as_slice));
        if let Some(loose) = (0..capture.graph.nodes.len()).find(|node| !joined.contains(node)) {
            let node = &capture.graph.nodes[loose];
            return fail!(
                STREAM_CAPTURE_UNJOINED,
                "another stream joined the capture and was not joined back: the capture's stream must wait for an event behind {node}"
            );
        }
        Ok(self.graphs.insert(capture.graph))
    }

    /// The state of a stream's capture, and its number.
    pub fn capture_status(&self, stream: Handle) -> Outcome<(Status, u64)> {
        let Some(capture) = self.streams.get(stream)?.capture else { return Ok((Status::None, 0)) };
        let Capture { broken, number, .. } = self.captures.get(capture)?;
        Ok((if broken.is_some() { Status::Invalidated } else { Status::Active }, *number))
    }

    /// Makes a capture invalid; the first reason stays.
    pub fn break_capture(&mut self, capture: Handle, why: &str) {
        if let Ok(capture) = self.captures.get_mut(capture) {
            capture.broken.get_or_insert_with(|| why.to_owned());
        }
    }

    /// Takes a stream out of a capture.
    pub fn forget_stream(&mut self, capture: Handle, stream: Handle) {
        if let Ok(capture) = self.captures.get_mut(capture) {
            capture.heads.remove(&stream);
        }
    }

    fn valid_capture(&mut self, capture: Handle) -> Outcome<&mut Capture> {
        let capture = self.captures.get_mut(capture)?;
        match &capture.broken {
            Some(why) => fail!(STREAM_CAPTURE_INVALIDATED, "the capture is invalid: {why}"),
            None => Ok(capture),
        }
    }

    /// Records work of a captured stream.
    pub fn record_work(&mut self, capture: Handle, stream: Handle, work: Work) -> Outcome {
        self.record_node(capture, stream, Node::Work(work))
    }

    /// Records a node behind what a captured stream has done so far.
    pub fn record_node(&mut self, capture: Handle, stream: Handle, node: Node) -> Outcome {
        let after = self.valid_capture(capture)?.heads.get(&stream).cloned().unwrap_or_default();
        let capture_of = capture;
        let name = self.nodes.insert(Default::default());
        let capture = self.valid_capture(capture_of)?;
        let index = capture.graph.add(name, node, after);
        capture.heads.insert(stream, vec![index]);
        Ok(())
    }

    /// The place of an event that is recorded in a captured stream.
    pub fn capture_event(&mut self, capture: Handle, stream: Handle) -> Outcome<LastRecord> {
        let nodes = self.valid_capture(capture)?.heads.get(&stream).cloned().unwrap_or_default();
        Ok(LastRecord::Captured { capture, nodes })
    }

    /// A stream waits for an event of a capture: it becomes part of it.
    pub fn join_capture(
        &mut self,
        stream: Handle,
        own: Option<Handle>,
        theirs: Handle,
        nodes: Vec<usize>,
    ) -> Outcome {
        if self.captures.get(theirs).is_err() {
            return fail!(INVALID_VALUE, "the event was recorded in a capture that has ended");
        }
        if own.is_some_and(|own| own != theirs) {
            for capture in own.into_iter().chain([theirs]) {
                self.break_capture(capture, "two captures would become one");
            }
            return fail!(STREAM_CAPTURE_MERGE, "a stream of one capture would wait for an event of another");
        }
        let context = self.streams.get(stream)?.context;
        if self.contexts.get(context)?.legacy == stream {
            self.break_capture(theirs, "the legacy stream was made to wait for it");
            return fail!(STREAM_CAPTURE_IMPLICIT, "the legacy default stream cannot be part of a capture");
        }
        let heads = self.valid_capture(theirs)?.heads.entry(stream).or_default();
        let all: BTreeSet<usize> = heads.iter().copied().chain(nodes).collect();
        *heads = all.into_iter().collect();
        self.streams.get_mut(stream)?.capture = Some(theirs);
        Ok(())
    }

    /// An error, and invalid captures, where a call that might wait for the device or change what it reaches is made while
    /// a capture forbids it.
    pub fn refuse_unsafe(&mut self, call: &str) -> Outcome {
        let here = std::thread::current().id();
        let forbids = |capture: &Capture| {
            let own = capture.thread == here && capture.mode != Mode::Relaxed;
            match THREAD_MODE.get() {
                Mode::Global => own || capture.mode == Mode::Global,
                Mode::ThreadLocal => own,
                Mode::Relaxed => false,
            }
        };
        let captures: Vec<Handle> =
            self.captures.iter().filter(|(_, capture)| forbids(capture)).map(|(handle, _)| handle).collect();
        self.break_all(&captures, call)
    }

    /// An error, and an invalid capture, where a call waits for a captured stream; otherwise as for any unsafe call.
    pub fn refuse_wait(&mut self, call: &str, stream: Handle) -> Outcome {
        match self.streams.get(stream)?.capture {
            Some(capture) => self.break_all(&[capture], call),
            None => self.refuse_unsafe(call),
        }
    }

    /// An error, and invalid captures, where a call waits for a whole context of which a stream is captured.
    pub fn refuse_wait_for_all(&mut self, call: &str, context: Handle) -> Outcome {
        let captures: BTreeSet<Handle> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.context == context)
            .filter_map(|(_, stream)| stream.capture)
            .collect();
        self.break_all(&captures.into_iter().collect::<Vec<_>>(), call)?;
        self.refuse_unsafe(call)
    }

    fn break_all(&mut self, captures: &[Handle], call: &str) -> Outcome {
        if captures.is_empty() {
            return Ok(());
        }
        for &capture in captures {
            self.break_capture(capture, &format!("{call} was called"));
        }
        Err(Failure::new(
            Code::STREAM_CAPTURE_UNSUPPORTED,
            format!("{call} is not allowed while a stream is captured; the capture is invalid now"),
        ))
    }
}
