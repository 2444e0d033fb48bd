use super::{ALL, Block, ZERO, pattern, strided};
use crate::error::{Fault, FaultKind};
use crate::memory::{Access, LANES, Site};
use crate::options::Checks;

/// Four warps over 1 KiB that all of them may read at once.
fn block() -> Block {
    let mut block = Block::new(1024, 128, Checks::ALL);
    for part in 0..8 {
        block.store(0, ALL, strided(part * 128, 4), 4, &ZERO).unwrap();
    }
    block.barrier(0xf);
    block
}

fn is_race<T>(result: Result<T, Fault>) -> bool {
    matches!(result, Err(Fault { kind: FaultKind::Race, .. }))
}

#[test]
fn the_message_names_both_threads_and_lines() {
    let mut block = block();
    block.line = 9;
    block.store(1, ALL, strided(0, 4), 4, &ZERO).unwrap();
    let fault = block.load(0, ALL, strided(64, 4), 4).unwrap_err();
    assert_eq!((fault.kind, fault.lane, fault.address), (FaultKind::Race, 0, Some(64)));
    assert_eq!(
        fault.message,
        "thread 0 reads 4 bytes in line 11 whose shared address 0x40 thread 48 wrote in line 10, and no synchronisation orders them"
    );
}

#[test]
fn a_tile_through_shared_memory_needs_both_barriers() {
    for (first, second) in [(true, true), (false, true), (true, false)] {
        let mut block = block();
        let mut raced = false;
        for _ in 0..3 {
            for warp in 0..4 {
                raced |= is_race(block.store(warp, ALL, strided(u64::from(warp) * 128, 4), 4, &ZERO));
            }
            if first {
                block.barrier(0xf);
            }
            for warp in 0..4 {
                raced |= is_race(block.load(warp, ALL, strided(u64::from(warp) * 4, 16), 4));
            }
            if second {
                block.barrier(0xf);
            }
        }
        assert_eq!(raced, !(first && second));
    }
}

#[test]
fn lanes_of_a_warp_wait_by_what_syncs_them() {
    let reversed = strided(0, 4).map(|address| 124 - address);
    // A store, then another lane's load of it.
    let mut unsynced = block();
    unsynced.store(2, ALL, strided(0, 4), 4, &ZERO).unwrap();
    assert!(unsynced.load(2, ALL, strided(0, 4), 4).is_ok());
    assert!(is_race(unsynced.load(2, ALL, reversed, 4)));
    let mut synced = block();
    synced.store(2, ALL, strided(0, 4), 4, &pattern(1)).unwrap();
    synced.shared.sync_warp(2, ALL);
    assert_eq!(synced.load(2, ALL, reversed, 4).unwrap()[0][0], pattern(1)[0][31]);
    // A load, then another lane's store.
    assert!(is_race(synced.store(2, ALL, strided(0, 4), 4, &ZERO)));
    synced.shared.sync_warp(2, ALL);
    assert_eq!(synced.store(2, ALL, strided(0, 4), 4, &ZERO), Ok(()));
    // A wait of one warp does not order accesses of another.
    assert!(is_race(synced.load(3, ALL, strided(0, 4), 4)));
}

#[test]
fn a_part_of_a_warp_waits_for_itself_alone() {
    let mut block = block();
    block.store(0, 1, [0; LANES], 4, &ZERO).unwrap();
    block.shared.sync_warp(0, 0x3);
    assert!(block.load(0, 2, [0; LANES], 4).is_ok());
    assert!(is_race(block.load(0, 4, [0; LANES], 4)));
    // Lane 1 waited for lane 0, and now lane 2 for lane 1.
    block.shared.sync_warp(0, 0x6);
    assert!(block.load(0, 4, [0; LANES], 4).is_ok());
    // All the lanes of a warp that has only 8 are a whole warp.
    let mut small = Block::new(64, 40, Checks::ALL);
    small.store(1, 0xff, strided(0, 4), 4, &ZERO).unwrap();
    small.shared.sync_warp(1, 0xff);
    assert!(small.load(1, 0xff, strided(0, 4).map(|address| address ^ 4), 4).is_ok());
}

#[test]
fn readers_that_waited_one_by_one() {
    let mut block = block();
    block.load(0, 1, [0; LANES], 4).unwrap();
    block.shared.sync_warp(0, 0b101);
    block.load(0, 2, [0; LANES], 4).unwrap();
    block.shared.sync_warp(0, 0b110);
    assert_eq!(block.store(0, 4, [0; LANES], 4, &ZERO), Ok(()));
    assert!(is_race(block.load(0, 1, [0; LANES], 4)));
}

#[test]
fn a_barrier_of_some_warps_orders_those() {
    let mut block = block();
    block.store(0, ALL, strided(0, 4), 4, &ZERO).unwrap();
    block.barrier(0b0011);
    assert!(block.load(1, ALL, strided(0, 4), 4).is_ok());
    assert!(is_race(block.load(2, ALL, strided(0, 4), 4)));
    block.barrier(0b0110);
    assert!(block.load(2, ALL, strided(0, 4), 4).is_ok());
}

#[test]
fn who_only_arrives_does_not_wait() {
    let mut block = block();
    // Warp 0 produces and arrives; warp 1 waits and consumes.
    block.store(0, ALL, strided(0, 4), 4, &ZERO).unwrap();
    block.shared.arrive(3, 0);
    block.store(0, ALL, strided(128, 4), 4, &ZERO).unwrap();
    block.shared.arrive(3, 1);
    block.shared.release(3, 0b10);
    assert!(block.load(1, ALL, strided(0, 4), 4).is_ok());
    assert!(is_race(block.load(1, ALL, strided(128, 4), 4)));
    assert!(is_race(block.store(0, ALL, strided(0, 4), 4, &ZERO)));
}

#[test]
fn lanes_of_one_store() {
    let mut block = block();
    let mut equal = ZERO;
    equal[0] = [7; LANES];
    assert_eq!(block.store(0, ALL, [0; LANES], 4, &equal), Ok(()));
    let fault = block.store(1, ALL, strided(128, 0), 4, &pattern(1)).unwrap_err();
    assert_eq!((fault.kind, fault.lane), (FaultKind::Race, 1));
    // An earlier write of one lane races with the store, even if it wrote the same value.
    block.store(2, 1, [512; LANES], 4, &equal).unwrap();
    assert!(is_race(block.store(2, ALL, [512; LANES], 4, &equal)));
    // Halves of a word are different bytes.
    assert_eq!(block.store(1, ALL, strided(256, 2), 2, &pattern(1)), Ok(()));
    assert_eq!(block.store(2, ALL, strided(320, 1), 1, &pattern(1)), Ok(()));
    assert!(is_race(block.load(2, 1, [256; LANES], 4)));
}

#[test]
fn atomics_race_with_all_but_atomics() {
    let mut block = block();
    for warp in 0..4 {
        block.add(warp, ALL, [0; LANES], 4).unwrap();
    }
    assert!(is_race(block.load(1, 1, [0; LANES], 4)));
    assert!(is_race(block.store(1, 1, [0; LANES], 4, &ZERO)));
    block.barrier(0xf);
    assert!(block.load(1, 1, [0; LANES], 4).is_ok());
    assert!(is_race(block.add(0, 1, [0; LANES], 4)));
    block.store(0, 1, [64; LANES], 4, &ZERO).unwrap();
    assert!(is_race(block.add(1, 1, [64; LANES], 4)));
}

#[test]
fn a_flag_and_fences_order_a_hand_over() {
    for fenced in [true, false] {
        let mut block = block();
        let flag = [512; LANES];
        let strong = |block: &mut Block, warp| Site { strong: true, ..block.site(warp) };
        block.store(0, ALL, strided(0, 4), 4, &pattern(1)).unwrap();
        if fenced {
            block.shared.fence(0);
        }
        let site = strong(&mut block, 0);
        block.shared.store(site, Access { mask: 1, addresses: &flag, bytes: 4 }, &pattern(0)).unwrap();
        let mut out = ZERO;
        let site = strong(&mut block, 1);
        block.shared.load(site, Access { mask: ALL, addresses: &flag, bytes: 4 }, &mut out).unwrap();
        if fenced {
            block.shared.fence(1);
        }
        assert_eq!(is_race(block.load(1, ALL, strided(0, 4), 4)), !fenced);
        // A plain load of the flag is a race either way, unless a fence came between.
        assert!(is_race(block.load(2, 1, flag, 4)));
    }
}

#[test]
fn warps_that_ended_hold_nothing_up() {
    let mut block = block();
    block.store(3, ALL, strided(0, 4), 4, &ZERO).unwrap();
    block.shared.end_warp(3);
    assert!(is_race(block.load(0, ALL, strided(0, 4), 4)));
    block.barrier(0b0111);
    assert!(block.load(0, ALL, strided(0, 4), 4).is_ok());
}

#[test]
fn nothing_is_looked_for_that_was_not_asked_for() {
    let mut block = Block::new(128, 64, Checks::NONE);
    block.store(0, ALL, strided(0, 4), 4, &pattern(1)).unwrap();
    assert_eq!(block.load(1, ALL, strided(0, 4), 4).unwrap()[0], pattern(1)[0]);
}
