//! Handles of memory and events for other processes of the machine: 64 bytes that say where to find them.

use crate::{
    code::{Outcome, fail},
    shared::FileName,
    state::{LastRecord, State},
};

/// Bytes of a handle (cuda.h, `CU_IPC_HANDLE_SIZE`).
pub const HANDLE_BYTES: usize = 64;

const MEMORY: &[u8; 8] = b"ssmv-mem";
const EVENT: &[u8; 8] = b"ssmv-evt";

/// The fields of a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    kind: [u8; 8],
    file: FileName,
    /// Offset and bytes of memory; an event's number and 0.
    numbers: [u64; 2],
}

impl Content {
    fn bytes(&self) -> [u8; HANDLE_BYTES] {
        let mut bytes = [0; HANDLE_BYTES];
        bytes[..8].copy_from_slice(&self.kind);
        bytes[8..12].copy_from_slice(&self.file.process.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.file.descriptor.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.file.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.numbers[0].to_le_bytes());
        bytes[32..40].copy_from_slice(&self.numbers[1].to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8; HANDLE_BYTES], kind: &[u8; 8]) -> Outcome<Self> {
        let four = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let eight = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if bytes[..8] != *kind {
            return fail!(INVALID_VALUE, "the bytes are not a handle of this kind");
        }
        let file = FileName { process: four(8), descriptor: four(12), number: eight(16) };
        if file.process == std::process::id() {
            return fail!(
                INVALID_CONTEXT,
                "the handle is this process's own: handles are for other processes, here the original is at hand"
            );
        }
        Ok(Self { kind: *kind, file, numbers: [eight(24), eight(32)] })
    }
}

/// The handle of the block that an allocation lies in: opening it gives the block's first address, not the allocation's.
pub fn memory_handle(state: &State, address: u64) -> Outcome<[u8; HANDLE_BYTES]> {
    let (file, offset, bytes) = state.exported(address)?;
    Ok(Content { kind: *MEMORY, file, numbers: [offset, bytes] }.bytes())
}

/// Another process's memory: its file, offset and bytes.
pub fn read_memory(bytes: &[u8; HANDLE_BYTES]) -> Outcome<(FileName, u64, u64)> {
    let Content { file, numbers: [offset, bytes], .. } = Content::read(bytes, MEMORY)?;
    Ok((file, offset, bytes))
}

/// The handle of an event that was made for other processes.
pub fn event_handle(at: &LastRecord) -> Outcome<[u8; HANDLE_BYTES]> {
    match at {
        LastRecord::Shared { page, number } if page.name().process == std::process::id() => {
            Ok(Content { kind: *EVENT, file: page.name(), numbers: [*number, 0] }.bytes())
        }
        LastRecord::Shared { .. } => {
            fail!(INVALID_VALUE, "the event is another process's; only its maker gives out handles")
        }
        _ => fail!(INVALID_VALUE, "the event was made without CU_EVENT_INTERPROCESS"),
    }
}

/// Another process's event: the file of its page and its number there.
pub fn read_event(bytes: &[u8; HANDLE_BYTES]) -> Outcome<(FileName, u64)> {
    let Content { file, numbers: [number, _], .. } = Content::read(bytes, EVENT)?;
    Ok((file, number))
}
