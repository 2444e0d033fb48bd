use std::collections::HashMap;

use proptest::prelude::*;

use super::{ALL, ZERO, pattern, strided};
use crate::error::{Error, FaultKind};
use crate::memory::{Access, LANES, Memory};
use crate::options::Checks;
use crate::space::StateSpace;

fn message(result: Result<(), Error>) -> String {
    result.expect_err("must be refused").to_string()
}

#[test]
fn the_host_sees_what_it_wrote() {
    let memory = Memory::new(1 << 20);
    let a = memory.alloc(100).unwrap();
    let b = memory.alloc(5000).unwrap();
    assert_eq!((a % 256, b % 256), (0, 0));
    assert!(b - a >= 256 + 4096);
    assert_eq!(memory.used(), 256 + 5120);
    let data: Vec<u8> = (0..77).collect();
    memory.write(a + 13, &data).unwrap();
    memory.fill(b + 1, 9, 4099).unwrap();
    memory.copy(b + 3, a + 13, 77).unwrap();
    let mut back = vec![0; 80];
    memory.read(b + 1, &mut back).unwrap();
    assert_eq!(back[..2], [9, 9]);
    assert_eq!(back[2..79], data);
    assert_eq!(back[79], 9);
    memory.free(b).unwrap();
    assert_eq!(memory.used(), 256);
    assert_eq!(StateSpace::of_generic(a), (StateSpace::Global, a));
    assert_eq!(StateSpace::of_generic(StateSpace::Shared.window() + 12), (StateSpace::Shared, 12));
    assert_eq!(StateSpace::of_generic(StateSpace::Local.window() + 8), (StateSpace::Local, 8));
}

#[test]
fn what_is_mapped_is_one_memory_at_one_address() {
    let (owner, other) = (Memory::of_device(1, 1 << 16), Memory::of_device(2, 1 << 16));
    let (a, b) = (owner.alloc(100).unwrap(), owner.alloc(100).unwrap());
    let own = other.alloc(100).unwrap();
    assert!(message(other.write(a, &[1])).contains("no allocation there"));
    other.map(&owner, a).unwrap();
    other.write(a + 3, &[5, 6]).unwrap();
    owner.write(a + 4, &[7]).unwrap();
    let mut back = [0; 2];
    other.read(a + 3, &mut back).unwrap();
    assert_eq!(back, [5, 7]);
    assert_eq!(other.used(), 256, "it counts where it was allocated");
    assert!(message(other.free(a)).contains("only mapped"));
    other.unmap(a).unwrap();
    assert!(other.read(a, &mut back).is_err());
    assert!(message(other.unmap(own)).contains("nothing is mapped"));
    other.map(&owner, b).unwrap();
    assert!(message(other.map(&owner, b)).contains("has an allocation there"));
    owner.free(b).unwrap();
    assert!(other.read(b, &mut back).is_err());
    assert!(message(other.map(&owner, a + 1)).contains("no allocation of the other memory starts there"));
}

#[test]
fn what_the_host_must_not_do() {
    let memory = Memory::new(1 << 16);
    let a = memory.alloc(100).unwrap();
    let b = memory.alloc(100).unwrap();
    assert!(message(memory.alloc(0).map(drop)).contains("0 bytes"));
    assert!(message(memory.alloc(1 << 16).map(drop)).contains("512 of 65536 bytes are in use"));
    assert!(message(memory.alloc(usize::MAX).map(drop)).contains("out of memory"));
    assert!(message(memory.write(a + 98, &[0; 3])).contains("only 2 of 3 bytes are inside the 100-byte"));
    assert!(message(memory.fill(a + 100, 0, 1)).contains("0 bytes past the end of a 100-byte allocation"));
    assert!(message(memory.mark_unwritten(b - 8, 1)).contains("8 bytes before a 100-byte allocation"));
    assert!(message(memory.read(0, &mut [0])).contains("no allocation there"));
    assert!(message(memory.copy(a, a + 10, 11)).contains("overlap"));
    memory.copy(a, a, 11).unwrap();
    assert!(message(memory.free(a + 4)).contains("no allocation starts there"));
    memory.free(a).unwrap();
    assert!(message(memory.free(a)).contains("freed before"));
    assert!(message(memory.write(a, &[0])).contains("that was freed"));
    assert_ne!(memory.alloc(100).unwrap(), a);
    let huge = Memory::new(usize::MAX);
    assert!(message(huge.alloc(1 << 62).map(drop)).contains("no addresses left"));
}

#[test]
fn warps_read_what_warps_wrote() {
    let memory = Memory::new(1 << 20);
    let base = memory.alloc(8192).unwrap();
    let mut view = memory.view(Checks::ALL);
    for bytes in [1, 2, 4, 8, 16] {
        for start in [0, u64::from(bytes), 64] {
            for (step, mask) in [(1, ALL), (1, 0x00ff_f0f7), (3, ALL)] {
                memory.fill(base, 0xee, 8192).unwrap();
                let addresses = strided(base + start, step * u64::from(bytes));
                let access = Access { mask, addresses: &addresses, bytes };
                let (stored, mut loaded) = (pattern(bytes + step as u32), ZERO);
                view.store(access, &stored).unwrap();
                view.load(access, &mut loaded).unwrap();
                let mut image = vec![0xee; 8192];
                for lane in (0..LANES).filter(|lane| mask >> lane & 1 != 0) {
                    let flat: Vec<u8> = stored.iter().flat_map(|word| word[lane].to_le_bytes()).collect();
                    let at = (addresses[lane] - base) as usize;
                    image[at..at + bytes as usize].copy_from_slice(&flat[..bytes as usize]);
                    let mut whole = [0; 16];
                    whole[..bytes as usize].copy_from_slice(&flat[..bytes as usize]);
                    let words: Vec<u32> = loaded.iter().map(|word| word[lane]).collect();
                    assert_eq!(bytemuck::bytes_of(&whole), bytemuck::cast_slice::<u32, u8>(&words));
                }
                let mut back = vec![0; 8192];
                memory.read(base, &mut back).unwrap();
                assert_eq!(back, image, "{bytes} bytes a lane, start {start}, step {step}, mask {mask:#x}");
            }
        }
    }
}

#[test]
fn faults_name_the_lane_and_the_place() {
    let memory = Memory::new(1 << 20);
    let base = memory.alloc(1024).unwrap();
    memory.fill(base, 1, 1024).unwrap();
    let mut view = memory.view(Checks::NONE);
    let mut out = ZERO;
    let mut load = |addresses: [u64; LANES], mask, bytes| {
        view.load(Access { mask, addresses: &addresses, bytes }, &mut out)
            .map_err(|f| (f.kind, f.lane, f.message))
    };
    assert_eq!(load(strided(base + 896, 4), ALL, 4), Ok(()));
    let (kind, lane, message) = load(strided(base + 900, 4), ALL, 4).unwrap_err();
    assert_eq!((kind, lane), (FaultKind::OutOfBounds, 31));
    assert_eq!(
        message,
        format!("4 bytes at {:#x}: 0 bytes past the end of a 1024-byte allocation at {base:#x}", base + 1024)
    );
    assert_eq!(load(strided(base + 900, 4), ALL >> 1, 4), Ok(()));
    let (kind, lane, _) = load(strided(base + 2, 4), ALL - 1, 4).unwrap_err();
    assert_eq!((kind, lane), (FaultKind::Misaligned, 1));
    let (kind, _, message) = load(strided(0, 4), ALL, 4).unwrap_err();
    assert_eq!(kind, FaultKind::OutOfBounds);
    assert!(message.ends_with("no allocation there"), "{message}");
    let (kind, lane, _) = load(strided(u64::MAX - 14, 0), 1 << 7, 16).unwrap_err();
    assert_eq!((kind, lane), (FaultKind::Misaligned, 7));
    assert_eq!(load(strided(u64::MAX - 15, 0), 1, 8).unwrap_err().0, FaultKind::OutOfBounds);
    memory.free(base).unwrap();
    let (kind, lane, message) = load(strided(base, 4), ALL, 4).unwrap_err();
    assert_eq!((kind, lane), (FaultKind::OutOfBounds, 0));
    assert!(message.ends_with("that was freed"), "{message}");
}

#[test]
fn an_overrun_is_caught_to_the_byte_whatever_the_size() {
    let memory = Memory::new(1 << 20);
    for size in [1, 3, 127, 128, 130] {
        let base = memory.alloc(size).unwrap();
        let mut view = memory.view(Checks::NONE);
        let addresses = strided(base, 4);
        let fits = (size / 4).min(32) as u32;
        let stored = view.store(Access { mask: ALL, addresses: &addresses, bytes: 4 }, &ZERO);
        assert_eq!(stored.err().map(|f| f.lane), (fits < 32).then_some(fits));
    }
}

#[test]
fn reads_of_what_nothing_wrote_are_caught() {
    let memory = Memory::new(1 << 20);
    let base = memory.alloc(4096).unwrap();
    let addresses = strided(base, 4);
    let access = Access { mask: ALL, addresses: &addresses, bytes: 4 };
    let mut view = memory.view(Checks::ALL);
    let mut out = ZERO;
    let fault = view.load(access, &mut out).unwrap_err();
    assert_eq!((fault.kind, fault.lane), (FaultKind::UninitialisedMemory, 0));
    assert_eq!(memory.view(Checks::NONE).load(access, &mut out), Ok(()));

    memory.fill(base, 1, 4096).unwrap();
    assert_eq!(view.load(access, &mut out), Ok(()));
    memory.mark_unwritten(base + 21, 1).unwrap();
    let fault = view.load(access, &mut out).unwrap_err();
    assert_eq!((fault.kind, fault.lane, fault.address), (FaultKind::UninitialisedMemory, 5, Some(base + 20)));
    assert!(
        fault.message.contains("byte 21 was never written in the 4096-byte allocation"),
        "{}",
        fault.message
    );
    let counted = view.atomic(access, &mut out, |_, old| old + 1).unwrap_err();
    assert_eq!((counted.kind, counted.lane), (FaultKind::UninitialisedMemory, 5));

    // Copies carry the hole along; a store closes it.
    memory.copy(base + 1024, base, 512).unwrap();
    let moved = strided(base + 1024, 4);
    let fault = view.load(Access { addresses: &moved, ..access }, &mut out).unwrap_err();
    assert_eq!(fault.lane, 5);
    view.store(Access { mask: 1 << 5, ..access }, &ZERO).unwrap();
    assert_eq!(view.load(access, &mut out), Ok(()));
}

#[test]
fn atomics_go_lane_by_lane() {
    let memory = Memory::new(1 << 20);
    let base = memory.alloc(64).unwrap();
    memory.fill(base, 0, 64).unwrap();
    let mut view = memory.view(Checks::ALL);
    for (bytes, at) in [(2, base + 2), (4, base + 4), (8, base + 8)] {
        let mut out = ZERO;
        let addresses = [at; LANES];
        view.atomic(Access { mask: 0xffff, addresses: &addresses, bytes }, &mut out, |lane, old| {
            old + lane as u64
        })
        .unwrap();
        assert_eq!(out[0][..5], [0, 0, 1, 3, 6]);
        assert_eq!(out[0][16..], [0; 16]);
        let mut back = [0; 8];
        memory.read(at, &mut back[..bytes as usize]).unwrap();
        assert_eq!(u64::from_le_bytes(back), 120);
    }
    let mut first = [1; 2];
    memory.read(base, &mut first).unwrap();
    assert_eq!(first, [0; 2]);
}

#[test]
fn neighbours_stored_at_once_are_all_kept() {
    const ROUNDS: u64 = 2000;
    let memory = Memory::new(1 << 20);
    let base = memory.alloc(16).unwrap();
    memory.fill(base, 0, 16).unwrap();
    std::thread::scope(|scope| {
        for byte in 0..8 {
            let memory = &memory;
            scope.spawn(move || {
                let mut view = memory.view(Checks::NONE);
                let (own, counter) = ([base + byte; LANES], [base + 8; LANES]);
                for round in 0..ROUNDS {
                    let mut words = ZERO;
                    words[0][0] = round as u32 & 0xff;
                    view.store(Access { mask: 1, addresses: &own, bytes: 1 }, &words).unwrap();
                    let mut back = ZERO;
                    view.load(Access { mask: 1, addresses: &own, bytes: 1 }, &mut back).unwrap();
                    assert_eq!(back[0][0], words[0][0]);
                    let add = Access { mask: 1, addresses: &counter, bytes: 8 };
                    view.atomic(add, &mut back, |_, old| old + 1).unwrap();
                }
            });
        }
    });
    let mut count = [0; 8];
    memory.read(base + 8, &mut count).unwrap();
    assert_eq!(u64::from_le_bytes(count), 8 * ROUNDS);
}

/// One step against the model, all places within an allocation of 512 bytes or just past it.
#[derive(Debug, Clone)]
enum Step {
    Store { lanes: [u64; LANES], mask: u32, bytes: u32, seed: u32 },
    Load { lanes: [u64; LANES], mask: u32, bytes: u32 },
    Write { at: u64, bytes: u64, seed: u8 },
    Copy { to: u64, from: u64, bytes: u64 },
    Forget { at: u64, bytes: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lanes = prop_oneof![
        (0u64..520, 0u64..5).prop_map(|(first, step)| strided(first, step)),
        proptest::array::uniform32(0u64..520),
    ];
    let mask = prop_oneof![Just(ALL), any::<u32>()];
    let place = (lanes, mask, 0u32..5).prop_map(|(lanes, mask, log)| {
        let bytes = 1 << log;
        // Mostly aligned and inside, or few steps would get past the faults.
        (
            lanes.map(|lane| if lane < 515 { lane / u64::from(bytes) * u64::from(bytes) } else { lane }),
            mask,
            bytes,
        )
    });
    let step = prop_oneof![
        (place.clone(), any::<u32>()).prop_map(|((lanes, mask, bytes), seed)| Step::Store {
            lanes,
            mask,
            bytes,
            seed: seed >> 1
        }),
        place.prop_map(|(lanes, mask, bytes)| Step::Load { lanes, mask, bytes }),
        (0u64..600, 0u64..300, any::<u8>()).prop_map(|(at, bytes, seed)| Step::Write { at, bytes, seed }),
        (0u64..512, 0u64..512, 0u64..200).prop_map(|(to, from, bytes)| Step::Copy { to, from, bytes }),
        (0u64..512, 0u64..100).prop_map(|(at, bytes)| Step::Forget { at, bytes }),
    ];
    proptest::collection::vec(step, 1..40)
}

const SIZE: u64 = 509;

/// The model's verdict on a lane's access: the kind of fault, if any. Unwritten bytes are absent from `written`.
fn expected(written: &HashMap<u64, u8>, at: u64, bytes: u32, load: bool) -> Option<FaultKind> {
    if !at.is_multiple_of(bytes.into()) {
        Some(FaultKind::Misaligned)
    } else if at + u64::from(bytes) > SIZE {
        Some(FaultKind::OutOfBounds)
    } else if load && (at..at + u64::from(bytes)).any(|byte| !written.contains_key(&byte)) {
        Some(FaultKind::UninitialisedMemory)
    } else {
        None
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]
    #[test]
    fn global_memory_is_a_map_of_bytes(steps in steps()) {
        let memory = Memory::new(1 << 16);
        let base = memory.alloc(SIZE as usize).unwrap();
        let mut view = memory.view(Checks::ALL);
        let mut model: HashMap<u64, u8> = HashMap::new();
        let active = |mask: u32| (0..LANES).filter(move |lane| mask >> lane & 1 != 0);
        for step in steps {
            match step {
                Step::Store { lanes, mask, bytes, seed } => {
                    let words = pattern(seed);
                    let addresses = lanes.map(|lane| base + lane);
                    let result = view.store(Access { mask, addresses: &addresses, bytes }, &words);
                    let fault = active(mask)
                        .find_map(|lane| expected(&model, lanes[lane], bytes, false).map(|kind| (lane as u32, kind)));
                    prop_assert_eq!(result.err().map(|f| (f.lane, f.kind)), fault);
                    let last = fault.map_or(LANES, |(lane, _)| lane as usize);
                    for lane in active(mask).filter(|&lane| lane < last) {
                        for byte in 0..u64::from(bytes) {
                            let word = words[byte as usize / 4][lane];
                            model.insert(lanes[lane] + byte, word.to_le_bytes()[byte as usize % 4]);
                        }
                    }
                }
                Step::Load { lanes, mask, bytes } => {
                    let mut out = ZERO;
                    let addresses = lanes.map(|lane| base + lane);
                    let result = view.load(Access { mask, addresses: &addresses, bytes }, &mut out);
                    let fault = active(mask)
                        .find_map(|lane| expected(&model, lanes[lane], bytes, true).map(|kind| (lane as u32, kind)));
                    prop_assert_eq!(result.err().map(|f| (f.lane, f.kind)), fault);
                    for lane in active(mask).filter(|_| fault.is_none()) {
                        for byte in 0..16 {
                            let got = out[byte as usize / 4][lane].to_le_bytes()[byte as usize % 4];
                            let want = if byte < u64::from(bytes) { model[&(lanes[lane] + byte)] } else { 0 };
                            prop_assert_eq!(got, want);
                        }
                    }
                }
                Step::Write { at, bytes, seed } => {
                    let data: Vec<u8> = (0..bytes).map(|i| (i as u8).wrapping_mul(7) ^ seed).collect();
                    let fits = at + bytes <= SIZE || bytes == 0;
                    prop_assert_eq!(memory.write(base + at, &data).is_ok(), fits);
                    if fits {
                        model.extend(data.iter().enumerate().map(|(i, &byte)| (at + i as u64, byte)));
                    }
                }
                Step::Copy { to, from, bytes } => {
                    let fits = bytes == 0
                        || (to + bytes <= SIZE
                            && from + bytes <= SIZE
                            && (to == from || to.abs_diff(from) >= bytes));
                    prop_assert_eq!(memory.copy(base + to, base + from, bytes as usize).is_ok(), fits);
                    for i in (0..bytes).filter(|_| fits) {
                        match model.get(&(from + i)).copied() {
                            Some(byte) => model.insert(to + i, byte),
                            None => model.remove(&(to + i)),
                        };
                    }
                }
                Step::Forget { at, bytes } => {
                    let fits = at + bytes <= SIZE || bytes == 0;
                    prop_assert_eq!(memory.mark_unwritten(base + at, bytes as usize).is_ok(), fits);
                    for byte in (at..at + bytes).filter(|_| fits) {
                        model.remove(&byte);
                    }
                }
            }
        }
    }
}

/// Words and marks of a test's own, as shared memory would be.
struct Lent {
    words: Vec<std::sync::atomic::AtomicU64>,
    written: Vec<std::sync::atomic::AtomicU64>,
}

// SAFETY: the vectors are never changed, so their slices stay where they are.
unsafe impl crate::Region for Lent {
    fn words(&self) -> &[std::sync::atomic::AtomicU64] {
        &self.words
    }
    fn written(&self) -> &[std::sync::atomic::AtomicU64] {
        &self.written
    }
}

#[test]
fn a_region_is_memory_at_the_callers_address() {
    let zeroed = |len: usize| (0..len).map(|_| Default::default()).collect();
    let region: std::sync::Arc<dyn crate::Region> =
        std::sync::Arc::new(Lent { words: zeroed(8), written: zeroed(1) });
    let (memory, other) = (Memory::starting_at(1 << 40, 1 << 20), Memory::new(1 << 20));
    memory.map_region(0x1000, 60, &region).unwrap();
    other.map_region(0x2000, 60, &region).unwrap();
    assert_eq!(memory.unwritten(0x1000, 60).unwrap(), Some(0));

    memory.write(0x1000 + 4, &[1, 2, 3]).unwrap();
    let mut seen = [0; 3];
    other.read(0x2000 + 4, &mut seen).unwrap();
    assert_eq!(seen, [1, 2, 3]);
    assert_eq!(other.unwritten(0x2000 + 4, 4).unwrap(), Some(3));
    assert!(memory.write(0x1000 + 58, &[0; 3]).is_err());

    for (address, bytes) in [(0x1010, 8), (0xff0, 32), (0x3008, 8), (0x3000, 0), (0x3000, 65)] {
        assert!(memory.map_region(address, bytes, &region).is_err(), "{bytes} bytes at {address:#x}");
    }
    memory.unmap(0x1000).unwrap();
    let error = memory.write(0x1000, &[1]).unwrap_err().to_string();
    assert!(error.contains("that was freed"), "{error}");
    other.read(0x2000 + 4, &mut seen).unwrap();
    memory.map_region(0x1000, 60, &region).unwrap();
    memory.read(0x1000 + 4, &mut seen).unwrap();
}
