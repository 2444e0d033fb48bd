//! The race detector against the definition: a vector clock for each thread, and every access kept.

use proptest::prelude::*;

use super::{ALL, Block, ZERO, strided};
use crate::error::FaultKind;
use crate::memory::{Access, LANES, Site};
use crate::options::Checks;

const WARPS: usize = 3;
const THREADS: usize = WARPS * LANES;
const BYTES: u64 = 192;

type Clock = [u32; THREADS];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Load,
    Store,
    Atomic,
    StrongLoad,
    StrongStore,
}

/// The next step of a warp.
#[derive(Debug, Clone)]
enum Step {
    Access {
        kind: Kind,
        warp: usize,
        mask: u32,
        addresses: Box<[u64; LANES]>,
        bytes: u32,
        equal: bool,
    },
    SyncWarp {
        warp: usize,
        mask: u32,
    },
    /// The warps that only arrive, and those that wait, at one barrier.
    Barrier {
        arriving: u32,
        waiting: u32,
    },
    Arrive {
        warp: usize,
    },
    Fence {
        warp: usize,
    },
}

struct Event {
    thread: usize,
    /// The thread's own clock then.
    when: u32,
    address: u64,
    bytes: u64,
    kind: Kind,
}

/// The definition of a race.
struct Model {
    clocks: Vec<Clock>,
    events: Vec<Event>,
    arrived: [Clock; 2],
    fenced: Clock,
}

fn join(clock: &mut Clock, other: &Clock) {
    clock.iter_mut().zip(other).for_each(|(mine, &theirs)| *mine = theirs.max(*mine));
}

fn of_warp(warp: usize) -> std::ops::Range<usize> {
    warp * LANES..(warp + 1) * LANES
}

/// Whether two accesses of one byte must be ordered.
fn conflict(a: Kind, b: Kind) -> bool {
    let writes = |kind| !matches!(kind, Kind::Load | Kind::StrongLoad);
    let strong = |kind| !matches!(kind, Kind::Load | Kind::Store);
    (writes(a) || writes(b)) && !(strong(a) && strong(b))
}

impl Model {
    fn new() -> Self {
        let mut clocks = vec![[0; THREADS]; THREADS];
        clocks.iter_mut().enumerate().for_each(|(thread, clock)| clock[thread] = 1);
        Self { clocks, events: Vec::new(), arrived: [[0; THREADS]; 2], fenced: [0; THREADS] }
    }

    /// State that the threads share.
    fn joined(&self, threads: impl IntoIterator<Item = usize>) -> Clock {
        let mut all = [0; THREADS];
        threads.into_iter().for_each(|thread| join(&mut all, &self.clocks[thread]));
        all
    }

    fn learn(&mut self, threads: impl IntoIterator<Item = usize>, clock: &Clock) {
        for thread in threads {
            join(&mut self.clocks[thread], clock);
        }
    }

    /// The lanes that race, each checked against all earlier accesses.
    fn access(
        &mut self,
        kind: Kind,
        warp: usize,
        mask: u32,
        addresses: &[u64; LANES],
        bytes: u32,
        equal: bool,
    ) -> u32 {
        let before = self.events.len();
        let mut racing = 0;
        for lane in crate::memory::access::lanes(mask) {
            let (thread, address, bytes) = (warp * LANES + lane, addresses[lane], u64::from(bytes));
            let races = self.events.iter().enumerate().any(|(index, event)| {
                let overlap = event.address < address + bytes && address < event.address + event.bytes;
                let agreed = index >= before && equal;
                let ordered = event.thread == thread || event.when <= self.clocks[thread][event.thread];
                overlap && conflict(kind, event.kind) && !ordered && !agreed
            });
            racing |= u32::from(races) << lane;
            if equal && kind == Kind::Store {
                // Of lanes that write the same, the last counts.
                let mut index = 0;
                self.events.retain(|event| {
                    index += 1;
                    index <= before || event.address != address
                });
            }
            if kind != Kind::StrongLoad {
                let when = self.clocks[thread][thread];
                self.events.push(Event { thread, when, address, bytes, kind });
            }
        }
        for lane in crate::memory::access::lanes(mask) {
            self.clocks[warp * LANES + lane][warp * LANES + lane] += 1;
        }
        racing
    }

    fn arrive(&mut self, barrier: usize, warp: usize) {
        let clock = self.past(of_warp(warp));
        join(&mut self.arrived[barrier], &clock);
    }

    /// The accesses before the threads' next steps: their own clocks count steps to come, so subtract one.
    fn past(&self, threads: std::ops::Range<usize>) -> Clock {
        let mut clock = self.joined(threads.clone());
        threads.for_each(|thread| clock[thread] = self.clocks[thread][thread] - 1);
        clock
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::SyncWarp { warp, mask } => {
                let threads = || crate::memory::access::lanes(mask).map(move |lane| warp * LANES + lane);
                let mut clock = self.joined(threads());
                threads().for_each(|thread| clock[thread] = self.clocks[thread][thread] - 1);
                self.learn(threads(), &clock);
            }
            Step::Barrier { arriving, waiting } => {
                for warp in crate::memory::access::lanes(arriving | waiting) {
                    self.arrive(0, warp);
                }
                let clock = std::mem::replace(&mut self.arrived[0], [0; THREADS]);
                for warp in crate::memory::access::lanes(waiting) {
                    self.learn(of_warp(warp), &clock);
                }
            }
            // Arrives at another barrier, which warp 0 alone waits at, at once or after others arrived.
            Step::Arrive { warp } => {
                self.arrive(1, warp);
                if warp == 0 {
                    let clock = std::mem::replace(&mut self.arrived[1], [0; THREADS]);
                    self.learn(of_warp(0), &clock);
                }
            }
            Step::Fence { warp } => {
                let clock = self.past(of_warp(warp));
                join(&mut self.fenced, &clock);
                let fenced = self.fenced;
                self.learn(of_warp(warp), &fenced);
            }
            Step::Access { .. } => {}
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        4 => Just(Kind::Load),
        3 => Just(Kind::Store),
        1 => Just(Kind::Atomic),
        1 => Just(Kind::StrongLoad),
        1 => Just(Kind::StrongStore),
    ];
    let addresses = prop_oneof![
        3 => (0u64..4, 0u64..2).prop_map(|(first, step)| strided(first * 16, step)),
        1 => (0u64..48).prop_map(|place| [place; LANES]),
        1 => proptest::array::uniform32(0u64..48),
        1 => Just(strided(0, 1)).prop_map(|lanes| lanes.map(|lane| 31 - lane)),
    ];
    let lanes = prop_oneof![Just(ALL), any::<u32>(), (0u32..32).prop_map(|lane| 1 << lane)];
    let access = (
        kind,
        0..WARPS,
        lanes,
        addresses,
        prop_oneof![4 => Just(4u32), 1 => Just(2), 1 => Just(1), 1 => Just(8)],
        any::<bool>(),
    )
        .prop_map(|(kind, warp, mask, addresses, bytes, equal)| Step::Access {
            kind,
            warp,
            mask,
            addresses: Box::new(addresses.map(|place| place * u64::from(bytes) % BYTES)),
            bytes,
            equal,
        });
    let all = (1 << WARPS) - 1;
    let step = prop_oneof![
        4 => access,
        3 => (0..WARPS).prop_map(|warp| Step::SyncWarp { warp, mask: ALL }),
        2 => Just(Step::Barrier { arriving: 0, waiting: all }),
        2 => (0u32..=all, 0u32..=all)
            .prop_map(|(arriving, waiting)| Step::Barrier { arriving: arriving & !waiting, waiting }),
        1 => (0..WARPS).prop_map(|warp| Step::Arrive { warp }),
        1 => (0..WARPS).prop_map(|warp| Step::Fence { warp }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A few lanes of one warp at two words, and waits of two or three of them.
fn partial_steps() -> impl Strategy<Value = Vec<Step>> {
    let few = |most: usize| {
        proptest::collection::vec(0u32..5, 1..=most)
            .prop_map(|lanes| lanes.into_iter().fold(0, |mask, lane| mask | 1 << lane))
    };
    let kind = prop_oneof![3 => Just(Kind::Load), 1 => Just(Kind::Store), 1 => Just(Kind::Atomic)];
    let access = (kind, few(2), 0u64..2).prop_map(|(kind, mask, place)| Step::Access {
        kind,
        warp: 1,
        mask,
        addresses: Box::new([place * 4; LANES]),
        bytes: 4,
        equal: true,
    });
    let step = prop_oneof![
        6 => access,
        5 => few(3).prop_map(|mask| Step::SyncWarp { warp: 1, mask }),
        1 => Just(Step::SyncWarp { warp: 1, mask: ALL }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Runs the steps until the detector reports a race. The definition must agree; with `exact`, also that there was none before.
fn compare(steps: Vec<Step>, exact: bool) -> Result<(), TestCaseError> {
    let checks = Checks { uninitialised_memory: false, ..Checks::ALL };
    let mut block = Block::new(BYTES as u32, THREADS as u32, checks);
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Access { kind, warp, mask, addresses, bytes, equal } => {
                let site = Site {
                    strong: matches!(kind, Kind::StrongLoad | Kind::StrongStore),
                    ..block.site(warp as u32)
                };
                let access = Access { mask, addresses: &addresses, bytes };
                let mut words = ZERO;
                if !equal {
                    words = words.map(|_| std::array::from_fn(|lane| 0x0101_0101 * (lane as u32 + 1)));
                }
                let result = match kind {
                    Kind::Load | Kind::StrongLoad => block.shared.load(site, access, &mut words),
                    Kind::Store | Kind::StrongStore => block.shared.store(site, access, &words),
                    Kind::Atomic => block.shared.atomic(site, access, &mut words, |_, old| old ^ 5),
                };
                let racing = model.access(kind, warp, mask, &addresses, bytes, equal);
                match result {
                    Ok(()) if racing != 0 && exact => {
                        return Err(TestCaseError::fail(format!(
                            "missed: lanes {racing:#x} of line {}",
                            site.line
                        )));
                    }
                    Ok(()) => {}
                    Err(fault) => {
                        prop_assert_eq!(fault.kind, FaultKind::Race);
                        prop_assert!(
                            racing >> fault.lane & 1 != 0,
                            "invented: {} ({racing:#x})",
                            fault.message
                        );
                        return Ok(());
                    }
                }
            }
            Step::SyncWarp { warp, mask } => {
                block.shared.sync_warp(warp as u32, mask);
                model.step(&step);
            }
            Step::Barrier { arriving, waiting } => {
                for warp in crate::memory::access::lanes(arriving | waiting) {
                    block.shared.arrive(0, warp as u32);
                }
                block.shared.release(0, waiting);
                model.step(&step);
            }
            Step::Arrive { warp } => {
                block.shared.arrive(7, warp as u32);
                if warp == 0 {
                    block.shared.release(7, 1);
                }
                model.step(&step);
            }
            Step::Fence { warp } => {
                block.shared.fence(warp as u32);
                model.step(&step);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]
    #[test]
    fn races_are_those_of_the_definition(steps in steps()) {
        compare(steps, true)?;
    }

    #[test]
    fn no_race_is_invented_where_parts_of_warps_wait(steps in partial_steps()) {
        compare(steps, false)?;
    }
}
