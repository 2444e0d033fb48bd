//! Events: points in streams, in this process or shared with others.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use crate::{
    code::{Code, Failure, Outcome, fail},
    handle::Handle,
    schedule::WorkId,
    shared::{EventPage, FileName, MOST_EVENTS},
    state::State,
    work::{Record, Work},
};

/// An event.
#[derive(Debug)]
pub struct Event {
    /// Its context.
    pub context: Handle,
    /// Whether it measures time.
    pub timing: bool,
    /// Where it was recorded last.
    pub at: At,
    /// Whether other processes can open it, or it is another process's.
    pub shared: bool,
}

/// Where an event was recorded.
#[derive(Debug, Clone)]
pub enum At {
    /// Nowhere.
    Never,
    /// Behind work of this process.
    Work { work: WorkId, record: Arc<Record> },
    /// In a capture, behind these nodes.
    Captured { capture: Handle, nodes: Vec<usize> },
    /// Wherever the processes that share it recorded it.
    Shared { page: Arc<EventPage>, number: u64 },
}

/// The pages of shared events: this process's, and those of others that were opened.
#[derive(Debug, Default)]
pub struct Pages {
    own: Option<Arc<EventPage>>,
    used: u64,
    others: BTreeMap<(u32, u32, u64), Arc<EventPage>>,
}

impl Pages {
    /// A new number on this process's page.
    pub fn take(&mut self) -> Outcome<At> {
        let page = match &self.own {
            Some(page) => page.clone(),
            None => self.own.insert(Arc::new(EventPage::new()?)).clone(),
        };
        if self.used == MOST_EVENTS {
            return fail!(
                OUT_OF_MEMORY,
                "{MOST_EVENTS} events for other processes were made, and no more are possible"
            );
        }
        self.used += 1;
        Ok(At::Shared { page, number: self.used - 1 })
    }

    /// Another process's event.
    pub fn open(&mut self, name: FileName, number: u64) -> Outcome<At> {
        if number >= MOST_EVENTS {
            return fail!(INVALID_VALUE, "the event's handle has been changed");
        }
        let key = (name.process, name.descriptor, name.number);
        let page = match self.others.get(&key) {
            Some(page) => page.clone(),
            None => {
                let page = Arc::new(EventPage::open(name)?);
                self.others.insert(key, page.clone());
                page
            }
        };
        Ok(At::Shared { page, number })
    }
}

/// Whether a call asks an event without waiting or waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// All work before the record is done.
    Done,
    /// Some is not.
    Pending,
}

impl State {
    /// Puts an event at the end of a stream.
    pub fn record_event(&mut self, event: Handle, stream: Handle) -> Outcome {
        let context = self.streams.get(stream)?.context;
        if self.events.get(event)?.context != context {
            return fail!(INVALID_HANDLE, "the event and the stream belong to different contexts");
        }
        if let Some(capture) = self.streams.get(stream)?.capture {
            let at = self.capture_event(capture, stream)?;
            let event = self.events.get_mut(event)?;
            if event.shared {
                self.break_capture(capture, "an event of several processes was recorded");
                return fail!(STREAM_CAPTURE_UNSUPPORTED, "an event of several processes cannot be captured");
            }
            event.at = at;
            return Ok(());
        }
        let shared = match &self.events.get(event)?.at {
            At::Shared { page, number } => Some((page.clone(), *number, page.recorded(*number))),
            _ => None,
        };
        let record = Arc::new(Record { shared, ..Record::default() });
        let Some(work) = self.submit(stream, Work::Record(record.clone()))? else { return Ok(()) };
        let event = self.events.get_mut(event)?;
        if !matches!(event.at, At::Shared { .. }) {
            event.at = At::Work { work, record };
        }
        Ok(())
    }

    /// Whether the work before an event's last record is done. An event without a record is done.
    pub fn event_answer(&self, event: Handle) -> Outcome<Answer> {
        let done = match &self.events.get(event)?.at {
            At::Never => true,
            At::Work { work, .. } => self.schedule.is_done(*work),
            At::Shared { page, number } => page.is_complete(*number, page.records(*number)),
            At::Captured { .. } => {
                return fail!(
                    CAPTURED_EVENT,
                    "the event was recorded in a capture, where it happens only when the graph runs"
                );
            }
        };
        Ok(if done { Answer::Done } else { Answer::Pending })
    }

    /// Milliseconds between two events.
    pub fn elapsed(&self, start: Handle, end: Handle) -> Outcome<f32> {
        let mut times = Vec::new();
        for event in [start, end] {
            let found = self.events.get(event)?;
            if !found.timing {
                return fail!(INVALID_HANDLE, "an event with CU_EVENT_DISABLE_TIMING measures no time");
            }
            match &found.at {
                At::Never => {
                    return fail!(INVALID_HANDLE, "an event was never recorded, so no time can be measured");
                }
                At::Work { record, .. } => {
                    let at = *record.at.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some(at) = at else {
                        return Err(Failure::new(Code::NOT_READY, ""));
                    };
                    times.push(at);
                }
                At::Captured { .. } => return fail!(CAPTURED_EVENT, "the event was recorded in a capture"),
                At::Shared { .. } => {
                    return fail!(INVALID_HANDLE, "an event of several processes measures no time");
                }
            }
        }
        let (from, to) = (times[0], times[1]);
        let time = to.saturating_duration_since(from).as_secs_f32()
            - from.saturating_duration_since(to).as_secs_f32();
        Ok(time * 1e3)
    }
}
