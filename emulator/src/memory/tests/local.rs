use super::{ALL, ZERO, pattern, strided};
use crate::error::FaultKind;
use crate::memory::{Access, LANES, Local};
use crate::options::Checks;

#[test]
fn every_lane_has_its_own() {
    for bytes in [1, 2, 4, 8, 16] {
        let mut local = Local::new(64, Checks::ALL).unwrap();
        let same = [16 + u64::from(bytes % 16); LANES];
        let access = Access { mask: ALL, addresses: &same, bytes };
        let (stored, mut loaded) = (pattern(bytes), ZERO);
        local.store(access, &stored).unwrap();
        local.load(access, &mut loaded).unwrap();
        for lane in 0..LANES {
            let mut expected: Vec<u8> = stored.iter().flat_map(|word| word[lane].to_le_bytes()).collect();
            expected[bytes as usize..].fill(0);
            let got: Vec<u8> = loaded.iter().flat_map(|word| word[lane].to_le_bytes()).collect();
            assert_eq!(got, expected);
        }
    }
}

#[test]
fn bounds_alignment_and_what_nothing_wrote() {
    let mut local = Local::new(10, Checks::ALL).unwrap();
    let load = |local: &Local, first, step, bytes| {
        let addresses = strided(first, step);
        let access = Access { mask: 0xf, addresses: &addresses, bytes };
        local.load(access, &mut { ZERO }).map_err(|fault| (fault.kind, fault.lane))
    };
    assert_eq!(load(&local, 0, 0, 1), Err((FaultKind::UninitialisedMemory, 0)));
    let eight = [0; LANES];
    local.store(Access { mask: 0x7, addresses: &eight, bytes: 8 }, &ZERO).unwrap();
    assert_eq!(load(&local, 0, 0, 8), Err((FaultKind::UninitialisedMemory, 3)));
    let last = [8; LANES];
    local.store(Access { mask: ALL, addresses: &last, bytes: 2 }, &ZERO).unwrap();
    assert_eq!(load(&local, 8, 0, 2), Ok(()));
    assert_eq!(load(&local, 8, 0, 4), Err((FaultKind::OutOfBounds, 0)));
    assert_eq!(load(&local, 0, 4, 2), Err((FaultKind::OutOfBounds, 3)));
    assert_eq!(load(&local, u64::MAX, 0, 1), Err((FaultKind::OutOfBounds, 0)));
    assert_eq!(load(&local, 0, 1, 2), Err((FaultKind::Misaligned, 1)));
    local.restart();
    assert_eq!(load(&local, 0, 0, 8), Err((FaultKind::UninitialisedMemory, 0)));
    assert!(Local::new(1 << 20, Checks::ALL).is_err());
}
