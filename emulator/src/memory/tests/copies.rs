use super::{ALL, Block, ZERO, strided};
use crate::error::{Fault, FaultKind};
use crate::memory::{Access, LANES, Memory, View};
use crate::options::Checks;

const WHOLE: [u32; LANES] = [16; LANES];

/// Two warps over 2 KiB of shared memory, and 2 KiB of global memory that hold their own indices in words.
fn memory() -> (Memory, u64) {
    let memory = Memory::new(1 << 20);
    let base = memory.alloc(2048).unwrap();
    let words: Vec<u32> = (0..512).collect();
    memory.write(base, bytemuck::cast_slice(&words)).unwrap();
    (memory, base)
}

fn issue(block: &mut Block, view: &mut View<'_>, warp: u32, to: u64, from: u64) -> Result<(), Fault> {
    let site = block.site(warp);
    let access = Access { mask: ALL, addresses: &strided(to, 16), bytes: 16 };
    block.shared.copy_async(site, view, access, &strided(from, 16), &WHOLE)
}

fn kind<T>(result: Result<T, Fault>) -> Option<FaultKind> {
    result.err().map(|fault| fault.kind)
}

#[test]
fn groups_land_when_they_are_waited_for() {
    let (memory, base) = memory();
    let mut view = memory.view(Checks::ALL);
    let mut block = Block::new(2048, 64, Checks::ALL);
    for stage in 0..3 {
        issue(&mut block, &mut view, 0, stage * 512, base + stage * 512).unwrap();
        block.shared.commit_group(0, ALL);
    }
    block.shared.wait_group(0, ALL, Some(2));
    assert_eq!(
        block.load(0, ALL, strided(0, 16), 4).unwrap()[0],
        std::array::from_fn(|lane| 4 * lane as u32)
    );
    assert_eq!(kind(block.load(0, ALL, strided(512, 16), 4)), Some(FaultKind::PendingCopy));
    block.shared.wait_group(0, ALL - 1, Some(1));
    let fault = block.load(0, ALL, strided(512, 16), 4).unwrap_err();
    assert_eq!((fault.kind, fault.lane, fault.address), (FaultKind::PendingCopy, 0, Some(512)));
    assert!(fault.message.contains("that thread 0 issued in line 2 and"), "{}", fault.message);
    assert!(block.load(0, ALL - 1, strided(512, 16), 4).is_ok());
    // Only `wait_all` waits for what was not committed.
    issue(&mut block, &mut view, 0, 1536, base).unwrap();
    block.shared.wait_group(0, ALL, Some(0));
    assert!(block.load(0, ALL, strided(1024, 16), 16).is_ok());
    assert_eq!(kind(block.load(0, ALL, strided(1536, 16), 16)), Some(FaultKind::PendingCopy));
    block.shared.wait_group(0, ALL, None);
    assert_eq!(block.load(0, ALL, strided(1536, 16), 16).unwrap()[3][31], 127);
}

#[test]
fn others_need_a_barrier_after_the_wait() {
    let (memory, base) = memory();
    let mut view = memory.view(Checks::ALL);
    for barrier in [true, false] {
        let mut block = Block::new(2048, 64, Checks::ALL);
        issue(&mut block, &mut view, 0, 0, base).unwrap();
        block.shared.wait_group(0, ALL, None);
        if barrier {
            block.barrier(3);
        }
        let loaded = kind(block.load(1, ALL, strided(0, 16), 16));
        assert_eq!(loaded, (!barrier).then_some(FaultKind::Race));
        // And a barrier before the wait is none.
        let mut block = Block::new(2048, 64, Checks::ALL);
        issue(&mut block, &mut view, 0, 0, base).unwrap();
        block.barrier(3);
        block.shared.wait_group(0, ALL, None);
        assert_eq!(kind(block.load(1, ALL, strided(0, 16), 16)), Some(FaultKind::Race));
    }
}

#[test]
fn pending_bytes_are_left_alone() {
    let (memory, base) = memory();
    let mut view = memory.view(Checks::ALL);
    let mut block = Block::new(2048, 64, Checks::ALL);
    issue(&mut block, &mut view, 0, 512, base).unwrap();
    assert_eq!(kind(block.store(0, 1, [516; LANES], 4, &ZERO)), Some(FaultKind::PendingCopy));
    assert_eq!(kind(block.load(1, ALL, strided(0, 32), 4)), Some(FaultKind::UninitialisedMemory));
    assert_eq!(kind(block.add(1, 1, [1020; LANES], 4)), Some(FaultKind::PendingCopy));
    assert_eq!(kind(issue(&mut block, &mut view, 1, 1008, base)), Some(FaultKind::PendingCopy));
    assert_eq!(kind(block.store(0, 1, [508; LANES], 4, &ZERO)), None);
    assert_eq!(kind(block.store(0, 1, [1024; LANES], 4, &ZERO)), None);
    block.shared.restart();
    assert_eq!(kind(block.store(0, 1, [516; LANES], 4, &ZERO)), None);

    let site = block.site(1);
    let access = Access { mask: 3, addresses: &[1024; LANES], bytes: 16 };
    let twice = block.shared.copy_async(site, &mut view, access, &[base; LANES], &WHOLE);
    assert_eq!(twice.map_err(|fault| (fault.kind, fault.lane)), Err((FaultKind::PendingCopy, 1)));
}

#[test]
fn a_copy_over_what_others_still_read_is_a_race() {
    let (memory, base) = memory();
    let mut view = memory.view(Checks::ALL);
    let mut block = Block::new(2048, 64, Checks::ALL);
    issue(&mut block, &mut view, 0, 0, base).unwrap();
    block.shared.wait_group(0, ALL, None);
    block.barrier(3);
    block.load(1, ALL, strided(0, 16), 16).unwrap();
    assert_eq!(kind(issue(&mut block, &mut view, 0, 0, base)), Some(FaultKind::Race));
    block.barrier(3);
    assert_eq!(kind(issue(&mut block, &mut view, 0, 0, base)), None);
}

#[test]
fn sources_stay_until_they_landed() {
    let (memory, base) = memory();
    let mut view = memory.view(Checks::ALL);
    let mut block = Block::new(2048, 64, Checks::ALL);
    issue(&mut block, &mut view, 0, 0, base + 256).unwrap();
    let stores = |block: &Block, at: u64| {
        let addresses = strided(at, 4);
        kind(block.shared.check_global_store(Access { mask: ALL, addresses: &addresses, bytes: 4 }))
    };
    assert_eq!(stores(&block, base + 128), None);
    assert_eq!(stores(&block, base + 132), Some(FaultKind::PendingCopy));
    assert_eq!(stores(&block, base + 764), Some(FaultKind::PendingCopy));
    assert_eq!(stores(&block, base + 768), None);
    block.shared.wait_group(0, ALL, None);
    assert_eq!(stores(&block, base + 256), None);
}

#[test]
fn the_rest_of_a_short_copy_is_zero() {
    let (memory, base) = memory();
    let mut view = memory.view(Checks::ALL);
    let mut block = Block::new(2048, 64, Checks::ALL);
    let mut source_bytes = WHOLE;
    source_bytes[1] = 6;
    source_bytes[2] = 0;
    let mut sources = strided(base, 16);
    sources[2] = 0;
    let site = block.site(0);
    let access = Access { mask: 0xf, addresses: &strided(0, 16), bytes: 16 };
    block.shared.copy_async(site, &mut view, access, &sources, &source_bytes).unwrap();
    block.shared.wait_group(0, ALL, None);
    let out = block.load(0, 0xf, strided(0, 16), 16).unwrap();
    let lane = |lane: usize| out.map(|word| word[lane]);
    assert_eq!([lane(0), lane(1), lane(2), lane(3)], [[0, 1, 2, 3], [4, 5, 0, 0], [0; 4], [12, 13, 14, 15]]);

    source_bytes[2] = 4;
    let site = block.site(0);
    let access = Access { mask: 0xf, addresses: &strided(512, 16), bytes: 16 };
    let fault = block.shared.copy_async(site, &mut view, access, &sources, &source_bytes).unwrap_err();
    assert_eq!((fault.kind, fault.lane), (FaultKind::OutOfBounds, 2));
    sources[2] = base + 4;
    let fault = block.shared.copy_async(site, &mut view, access, &sources, &source_bytes).unwrap_err();
    assert_eq!((fault.kind, fault.lane), (FaultKind::Misaligned, 2));
}

#[test]
fn a_kernel_that_never_waits_takes_no_end_of_memory() {
    let (memory, base) = memory();
    let mut view = memory.view(Checks::NONE);
    let mut block = Block::new(512, 32, Checks::NONE);
    for _ in 0..1024 {
        issue(&mut block, &mut view, 0, 0, base).unwrap();
    }
    assert_eq!(block.load(0, 1, [4; LANES], 4).unwrap()[0][0], 0);
    issue(&mut block, &mut view, 0, 0, base).unwrap();
    assert_eq!(block.load(0, 1, [4; LANES], 4).unwrap()[0][0], 1);
}
