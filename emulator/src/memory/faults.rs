//! Faults of memory, and their messages.

use super::access::{Access, LANES, Site, Words, lanes, low_bytes};
use super::copies::Collision;
use super::races::{AccessKind, Conflict};
use super::runs::Run;
use crate::error::{Fault, FaultKind};

/// The fault of a lane at an address.
#[cold]
pub(super) fn fault(kind: FaultKind, lane: usize, address: u64, message: String) -> Fault {
    Fault { kind, lane: lane as u32, address: Some(address), message }
}

/// The fault of an address that is not a multiple of the width.
#[cold]
pub(super) fn misaligned(lane: usize, address: u64, bytes: u32) -> Fault {
    let message = format!("{bytes} bytes at {address:#x}: the address must be a multiple of {bytes}");
    fault(FaultKind::Misaligned, lane, address, message)
}

/// Two lanes of one instruction copy to the same bytes of shared memory.
#[cold]
pub(super) fn copying(lane: usize, address: u64) -> Fault {
    let message = format!("shared address {address:#x}: a lower lane copies to the same bytes");
    fault(FaultKind::PendingCopy, lane, address, message)
}

/// A store to global memory that a copy may still read.
#[cold]
pub(super) fn source_pending(lane: usize, address: u64, bytes: u32, found: Collision) -> Fault {
    let Collision { thread, line, .. } = found;
    let message = format!(
        "{bytes} bytes at {address:#x}: the source of an asynchronous copy that thread {thread} issued in line {line} and has not waited for"
    );
    fault(FaultKind::PendingCopy, lane, address, message)
}

/// An error if lanes of one store write different values to one address.
#[cold]
pub(super) fn check_agreement(site: Site, access: Access<'_>, words: &Words) -> Result<(), Fault> {
    let mask = low_bytes(access.bytes.min(4)) as u32;
    let parts = &words[..access.bytes.div_ceil(4) as usize];
    for lane in lanes(access.mask) {
        let address = access.addresses[lane];
        let below =
            lanes(access.mask & ((1 << lane) - 1)).filter(|&below| access.addresses[below] == address);
        if let Some(other) = below.last()
            && parts.iter().any(|word| (word[lane] ^ word[other]) & mask != 0)
        {
            let (address, thread) = (address as usize, site.warp * LANES as u32 + other as u32);
            let conflict = Conflict { lane, address, kind: AccessKind::Write, thread, line: site.line };
            return Err(race(site, Run::one(access, lane), conflict, AccessKind::Write));
        }
    }
    Ok(())
}

/// The fault of a run that reads a byte that was never written.
#[cold]
pub(super) fn unwritten(run: Run, byte: usize) -> Fault {
    let lane = run.lane + (byte - run.address) / run.bytes;
    let address = run.address + (byte - run.address) / run.bytes * run.bytes;
    let message =
        format!("{} bytes at shared address {address:#x}: byte {byte:#x} was never written", run.bytes);
    fault(FaultKind::UninitialisedMemory, lane, address as u64, message)
}

/// The fault of a run that touches the destination of a pending copy.
#[cold]
pub(super) fn pending(run: Run, Collision { address, thread, line }: Collision) -> Fault {
    let lane = run.lane + (address as usize - run.address) / run.bytes;
    let message = format!(
        "shared address {address:#x} is the destination of an asynchronous copy that thread {thread} issued in line {line} and has not waited for"
    );
    fault(FaultKind::PendingCopy, lane, address, message)
}

/// The fault of a lane whose access races with an earlier access.
#[cold]
pub(super) fn race(site: Site, run: Run, conflict: Conflict, kind: AccessKind) -> Fault {
    let Conflict { lane, address, kind: other_kind, thread: other, line: other_line } = conflict;
    let thread = site.warp as usize * LANES + lane;
    let now = match kind {
        AccessKind::Read => "reads",
        AccessKind::Write => "writes",
        AccessKind::Atomic => "atomically changes",
    };
    let before = match other_kind {
        AccessKind::Read => "read",
        AccessKind::Write => "wrote",
        AccessKind::Atomic => "atomically changed",
    };
    let message = format!(
        "thread {thread} {now} {} bytes in line {} whose shared address {address:#x} thread {other} {before} in line {other_line}, and no synchronisation orders them",
        run.bytes, site.line
    );
    fault(FaultKind::Race, lane, address as u64, message)
}
