use super::{ALL, Block, ZERO, pattern, strided};
use crate::error::FaultKind;
use crate::memory::{LANES, Shared};
use crate::options::Checks;

#[test]
fn a_warp_reads_what_it_wrote() {
    for checks in [Checks::ALL, Checks::NONE] {
        for bytes in [1, 2, 4, 8, 16] {
            for (step, mask) in [(1, ALL), (1, 0x00ff_f0f7), (3, ALL)] {
                let mut block = Block::new(2048, 32, checks);
                let addresses = strided(u64::from(bytes), step * u64::from(bytes));
                block.store(0, ALL, strided(0, 16), 16, &[[0xeeee_eeee; LANES]; 4]).unwrap();
                block.store(0, ALL, strided(512, 16), 16, &[[0xeeee_eeee; LANES]; 4]).unwrap();
                block.store(0, ALL, strided(1024, 16), 16, &[[0xeeee_eeee; LANES]; 4]).unwrap();
                block.shared.sync_warp(0, ALL);
                let stored = pattern(bytes);
                block.store(0, mask, addresses, bytes, &stored).unwrap();
                block.shared.sync_warp(0, ALL);
                let image: Vec<u8> =
                    (0..1536).map(|byte| block.load(0, 1, [byte; LANES], 1).unwrap()[0][0] as u8).collect();
                let mut expected = vec![0xee; 1536];
                for lane in (0..LANES).filter(|lane| mask >> lane & 1 != 0) {
                    let flat: Vec<u8> = stored.iter().flat_map(|word| word[lane].to_le_bytes()).collect();
                    expected[addresses[lane] as usize..][..bytes as usize]
                        .copy_from_slice(&flat[..bytes as usize]);
                }
                assert_eq!(image, expected, "{bytes} bytes a lane, step {step}, mask {mask:#x}");
                let loaded = block.load(0, mask, addresses, bytes).unwrap();
                for lane in (0..LANES).filter(|lane| mask >> lane & 1 != 0) {
                    let flat: Vec<u8> = loaded.iter().flat_map(|word| word[lane].to_le_bytes()).collect();
                    assert_eq!(flat[..bytes as usize], image[addresses[lane] as usize..][..bytes as usize]);
                    assert!(flat[bytes as usize..].iter().all(|&byte| byte == 0));
                }
            }
        }
    }
}

#[test]
fn one_word_for_all_lanes() {
    let mut block = Block::new(64, 64, Checks::ALL);
    block.store(0, 1, [32; LANES], 16, &pattern(3)).unwrap();
    block.barrier(3);
    assert_eq!(block.load(0, ALL, [32; LANES], 16).unwrap(), pattern(3).map(|word| [word[0]; LANES]));
    assert_eq!(block.load(1, ALL, [34; LANES], 2).unwrap()[0], [pattern(3)[0][0] >> 16; LANES]);
}

#[test]
fn bounds_alignment_and_what_nothing_wrote() {
    let mut block = Block::new(130, 32, Checks::ALL);
    block.store(0, ALL, strided(0, 4), 4, &ZERO).unwrap();
    let fault = block.store(0, ALL, strided(8, 4), 4, &ZERO).unwrap_err();
    assert_eq!((fault.kind, fault.lane, fault.address), (FaultKind::OutOfBounds, 30, Some(128)));
    assert_eq!(fault.message, "4 bytes at shared address 0x80: the block has 130 bytes of shared memory");
    assert_eq!(block.store(0, 1, [128; LANES], 2, &ZERO), Ok(()));
    assert_eq!(block.load(0, 1, [u64::MAX; LANES], 1).unwrap_err().kind, FaultKind::OutOfBounds);
    assert_eq!(block.load(0, 1, [1 << 32; LANES], 1).unwrap_err().kind, FaultKind::OutOfBounds);
    let fault = block.load(0, ALL - 3, strided(2, 4), 4).unwrap_err();
    assert_eq!((fault.kind, fault.lane), (FaultKind::Misaligned, 2));
    assert!(Shared::new(1 << 20, 32, Checks::ALL).is_err());
    assert!(Shared::new(16, 1025, Checks::ALL).is_err());

    let mut block = Block::new(256, 32, Checks::ALL);
    block.store(0, ALL - (1 << 9), strided(0, 4), 4, &ZERO).unwrap();
    let fault = block.load(0, ALL, strided(0, 4), 4).unwrap_err();
    assert_eq!((fault.kind, fault.lane, fault.address), (FaultKind::UninitialisedMemory, 9, Some(36)));
    assert_eq!(block.add(0, 1, [36; LANES], 4).unwrap_err().kind, FaultKind::UninitialisedMemory);
    assert_eq!(block.load(0, ALL - (1 << 9), strided(0, 4), 4), Ok(ZERO));
    block.shared.restart();
    assert_eq!(block.load(0, 1, [0; LANES], 4).unwrap_err().kind, FaultKind::UninitialisedMemory);
}

#[test]
fn blocks_begin_with_zeros_and_no_history() {
    let mut block = Block::new(128, 64, Checks { uninitialised_memory: false, ..Checks::ALL });
    block.store(0, ALL, strided(0, 4), 4, &pattern(1)).unwrap();
    block.shared.restart();
    assert_eq!(block.load(1, ALL, strided(0, 4), 4), Ok(ZERO));
}

#[test]
fn atomics_go_lane_by_lane() {
    for (bytes, at) in [(1, 1), (2, 2), (4, 4), (8, 8)] {
        let mut block = Block::new(16, 32, Checks::ALL);
        block.store(0, 1, [0; LANES], 16, &ZERO).unwrap();
        block.shared.sync_warp(0, ALL);
        let old = block.add(0, ALL, [at; LANES], bytes).unwrap();
        assert_eq!(old[0], std::array::from_fn(|lane| lane as u32));
        block.shared.sync_warp(0, ALL);
        let mut expected = [0u8; 16];
        expected[at as usize] = 32;
        let all = block.load(0, 1, [0; LANES], 16).unwrap().map(|word| word[0].to_le_bytes());
        assert_eq!(all.as_flattened(), expected);
    }
}
