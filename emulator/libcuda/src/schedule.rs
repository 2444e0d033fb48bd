//! Queued work and its dependencies. Work runs as late as possible, and the order of independent work is drawn from a seed:
//! a program that relies on one order meets another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{handle::Handle, shared::EventPage, work::Work};

/// A piece of work: unique, in the order of the calls.
pub type WorkId = u64;

/// A record of another process's event.
#[derive(Debug, Clone)]
pub struct ForeignRecord {
    /// Where the events of that process are.
    pub page: Arc<EventPage>,
    /// The event's index in the page.
    pub event: u64,
    /// Which record of it is waited for.
    pub record: u64,
}

impl ForeignRecord {
    fn is_complete(&self) -> bool {
        self.page.is_complete(self.event, self.record)
    }
}

#[derive(Debug)]
struct Queued {
    context: Handle,
    work: Option<Work>,
    /// How many pieces of work must end first.
    blockers: usize,
    /// The work that waits for it.
    blocks: Vec<WorkId>,
    foreign: Vec<ForeignRecord>,
    since: Instant,
}

/// All work that is not done.
#[derive(Debug)]
pub struct Schedule {
    queued: BTreeMap<WorkId, Queued>,
    /// Without blockers in this process, and not running.
    ready: BTreeSet<WorkId>,
    next: WorkId,
    random: u64,
    shuffles: bool,
    /// Threads that wait for work: while there is one, work is not held back.
    pub waiting: usize,
}

/// What the driver's thread does next.
#[derive(Debug)]
pub enum Pick {
    /// Runs this work of this context.
    Run(WorkId, Handle, Box<Work>),
    /// Looks again after this time at the latest.
    Wait(Duration),
    /// Waits until something is queued.
    Idle,
}

/// How often events of other processes are looked at.
const POLL: Duration = Duration::from_micros(100);

impl Schedule {
    /// Empty; see [`Settings::seed`](crate::settings::Settings::seed).
    pub fn new(seed: u64) -> Self {
        Self {
            queued: BTreeMap::new(),
            ready: BTreeSet::new(),
            next: 1,
            random: seed,
            shuffles: seed != 0,
            waiting: 0,
        }
    }

    /// Queues work that runs after others; those that are done already count for nothing.
    pub fn submit(
        &mut self,
        context: Handle,
        work: Work,
        after: impl IntoIterator<Item = WorkId>,
        foreign: Vec<ForeignRecord>,
    ) -> WorkId {
        let id = self.next;
        self.next += 1;
        let blockers: BTreeSet<WorkId> =
            after.into_iter().filter(|before| self.queued.contains_key(before)).collect();
        for before in &blockers {
            if let Some(before) = self.queued.get_mut(before) {
                before.blocks.push(id);
            }
        }
        if blockers.is_empty() {
            self.ready.insert(id);
        }
        let queued = Queued {
            context,
            work: Some(work),
            blockers: blockers.len(),
            blocks: Vec::new(),
            foreign,
            since: Instant::now(),
        };
        self.queued.insert(id, queued);
        id
    }

    /// Whether a piece of work has ended.
    pub fn is_done(&self, id: WorkId) -> bool {
        !self.queued.contains_key(&id)
    }

    /// Whether all work of a context has ended.
    pub fn is_idle(&self, context: Handle) -> bool {
        self.queued.values().all(|queued| queued.context != context)
    }

    /// What to run now: any of the work whose blockers have ended, if a thread waits or it was held back for `late`.
    pub fn pick(&mut self, late: Duration) -> Pick {
        let mut free: Vec<WorkId> = Vec::new();
        let mut polls = false;
        for &id in &self.ready {
            let Some(queued) = self.queued.get_mut(&id) else { continue };
            queued.foreign.retain(|record| !record.is_complete());
            match queued.foreign.is_empty() {
                true => free.push(id),
                false => polls = true,
            }
        }
        let Some(&oldest) = free.first() else { return if polls { Pick::Wait(POLL) } else { Pick::Idle } };
        let held = self.queued.get(&oldest).map_or(late, |queued| queued.since.elapsed());
        if self.waiting == 0 && held < late {
            return Pick::Wait(if polls { POLL } else { late - held });
        }
        let chosen = if self.shuffles { free[(self.draw() % free.len() as u64) as usize] } else { oldest };
        self.ready.remove(&chosen);
        match self.queued.get_mut(&chosen).map(|queued| (queued.context, queued.work.take())) {
            Some((context, work)) => Pick::Run(chosen, context, Box::new(work.unwrap_or(Work::Nothing))),
            None => Pick::Idle,
        }
    }

    /// Notes that work has ended; what waited for it alone may run.
    pub fn complete(&mut self, id: WorkId) {
        let Some(done) = self.queued.remove(&id) else { return };
        for next in done.blocks {
            if let Some(queued) = self.queued.get_mut(&next) {
                queued.blockers -= 1;
                if queued.blockers == 0 {
                    self.ready.insert(next);
                }
            }
        }
    }

    /// The next number of the sequence (SplitMix64, Steele et al. 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order in which two streams of three pieces each, the last of the second after the first of the first, run.
    fn order(seed: u64) -> Vec<WorkId> {
        let mut schedule = Schedule::new(seed);
        let mut last = [None, None];
        for piece in 0..6 {
            let after = last[piece % 2].into_iter().chain((piece == 5).then_some(1));
            last[piece % 2] = Some(schedule.submit(7, Work::Nothing, after.collect::<Vec<_>>(), Vec::new()));
        }
        schedule.waiting = 1;
        let mut order = Vec::new();
        while let Pick::Run(id, 7, _) = schedule.pick(Duration::MAX) {
            assert!(!schedule.is_done(id));
            schedule.complete(id);
            order.push(id);
        }
        assert!(schedule.is_idle(7));
        order
    }

    #[test]
    fn any_order_that_the_streams_allow_and_no_other() {
        assert_eq!(order(0), [1, 2, 3, 4, 5, 6]);
        assert_eq!(order(5), order(5));
        let orders: BTreeSet<Vec<WorkId>> = (1..200).map(order).collect();
        assert!(orders.len() > 10, "{orders:?}");
        for order in &orders {
            let at = |id| order.iter().position(|&o| o == id);
            assert!(
                at(1) < at(3) && at(3) < at(5) && at(2) < at(4) && at(4) < at(6) && at(1) < at(6),
                "{order:?}"
            );
        }
    }

    #[test]
    fn work_is_held_back_until_a_thread_waits() {
        let mut schedule = Schedule::new(1);
        assert!(matches!(schedule.pick(Duration::ZERO), Pick::Idle));
        schedule.submit(1, Work::Nothing, [], Vec::new());
        assert!(matches!(schedule.pick(Duration::from_secs(60)), Pick::Wait(_)));
        schedule.waiting = 1;
        assert!(matches!(schedule.pick(Duration::from_secs(60)), Pick::Run(1, 1, _)));
        assert!(matches!(schedule.pick(Duration::ZERO), Pick::Idle));
    }

    #[test]
    fn another_processs_event_blocks() {
        let page = Arc::new(EventPage::new().unwrap());
        let record = page.recorded(0);
        let mut schedule = Schedule::new(1);
        schedule.waiting = 1;
        schedule.submit(1, Work::Nothing, [], vec![ForeignRecord { page: page.clone(), event: 0, record }]);
        assert!(matches!(schedule.pick(Duration::ZERO), Pick::Wait(_)));
        page.completed(0, record);
        assert!(matches!(schedule.pick(Duration::ZERO), Pick::Run(..)));
    }
}
