//! Events: points in streams, in this process or shared with others.

use std::sync::{Arc, PoisonError};

use crate::{
    code::{Code, Failure, Outcome, fail},
    handle::Handle,
    state::{LastRecord, State},
    work::{Record, Work},
};

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
            LastRecord::Shared { page, number } => Some((page.clone(), *number, page.recorded(*number))),
            _ => None,
        };
        let record = Arc::new(Record { shared, ..Record::default() });
        let Some(work) = self.submit(stream, Work::Record(record.clone()))? else { return Ok(()) };
        let event = self.events.get_mut(event)?;
        if !matches!(event.at, LastRecord::Shared { .. }) {
            event.at = LastRecord::Work { work, record };
        }
        Ok(())
    }

    /// Whether the work before an event's last record is done. An event without a record is done.
    pub fn event_is_done(&self, event: Handle) -> Outcome<bool> {
        let done = match &self.events.get(event)?.at {
            LastRecord::Never => true,
            LastRecord::Work { work, .. } => self.schedule.is_done(*work),
            LastRecord::Shared { page, number } => page.is_complete(*number, page.records(*number)),
            LastRecord::Captured { .. } => {
                return fail!(
                    CAPTURED_EVENT,
                    "the event was recorded in a capture, where it happens only when the graph runs"
                );
            }
        };
        Ok(done)
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
                LastRecord::Never => {
                    return fail!(INVALID_HANDLE, "an event was never recorded, so no time can be measured");
                }
                LastRecord::Work { record, .. } => {
                    let at = *record.at.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some(at) = at else {
                        return Err(Failure::new(Code::NOT_READY, ""));
                    };
                    times.push(at);
                }
                LastRecord::Captured { .. } => {
                    return fail!(CAPTURED_EVENT, "the event was recorded in a capture");
                }
                LastRecord::Shared { .. } => {
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
