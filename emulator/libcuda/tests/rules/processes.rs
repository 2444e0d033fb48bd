//! Memory and events of several processes.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Stdio},
};

use super::*;

fn hex(bytes: &[u8; 64]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> IpcHandle {
    IpcHandle(std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()))
}

/// The second process of a test, which runs the test's body with these arguments in its environment.
fn second(name: &str, memory: &IpcHandle, event: &IpcHandle) -> Child {
    let handles = format!("{} {}", hex(&memory.0), hex(&event.0));
    let mut command = child(name);
    command.env("SSMV_SECOND", handles).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

fn say(child: &mut Child) {
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
}

/// Waits for a line that the other process wrote for this one.
fn hear(lines: &mut impl BufRead, word: &str) {
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the other process ended before `{word}`");
    }
}

fn memory_handle(address: u64) -> IpcHandle {
    let mut handle = IpcHandle([0; 64]);
    assert_eq!(cuIpcGetMemHandle(&mut handle, address), SUCCESS);
    handle
}

#[test]
fn handles_are_for_other_processes() {
    let sentences = [
        "the handle is this process's own",
        "CU_EVENT_INTERPROCESS needs CU_EVENT_DISABLE_TIMING",
        "the event was made without CU_EVENT_INTERPROCESS",
        "only memory of cuMemAlloc can be opened elsewhere",
        "the bytes are not a handle of this kind",
    ];
    rule("processes::handles_are_for_other_processes", &sentences, || {
        start();
        let handle = memory_handle(allocate(4));
        assert_eq!(cuIpcOpenMemHandle_v2(&mut 0, handle, 1), INVALID_CONTEXT);
        assert_eq!(cuIpcOpenMemHandle_v2(&mut 0, IpcHandle([1; 64]), 1), INVALID_VALUE);
        assert_eq!(cuEventCreate(&mut 0, 4), INVALID_VALUE);
        let (plain, mut pinned) = (event(), 0);
        assert_eq!(cuIpcGetEventHandle(&mut IpcHandle([0; 64]), plain), INVALID_VALUE);
        assert_eq!(cuMemHostAlloc(&mut pinned, 64, 0), SUCCESS);
        assert_eq!(cuIpcGetMemHandle(&mut IpcHandle([0; 64]), pinned as u64), INVALID_VALUE);
    });
}

#[test]
fn two_processes_share_memory_and_events() {
    let name = "processes::two_processes_share_memory_and_events";
    if let Ok(handles) = std::env::var("SSMV_SECOND") {
        let (memory, event) = handles.split_once(' ').unwrap();
        start();
        let (mut base, mut event_handle) = (0, 0);
        assert_eq!(cuIpcOpenMemHandle_v2(&mut base, from_hex(memory), 1), SUCCESS);
        assert_eq!(cuIpcOpenEventHandle(&mut event_handle, from_hex(event)), SUCCESS);
        // The allocation is the second of its block, and the handle opens the block.
        let (mine, stream) = (base + 1024, stream());
        std::io::stdin().read_line(&mut String::new()).unwrap();
        assert_eq!(cuStreamWaitEvent(stream, event_handle, 0), SUCCESS);
        let mut number = 0u32;
        assert_eq!(cuMemcpyDtoHAsync_v2(ptr::from_mut(&mut number).cast(), mine, 4, stream), SUCCESS);
        assert_eq!(cuStreamSynchronize(stream), SUCCESS);
        assert_eq!(*std::hint::black_box(&number), 41);
        let function = add_kernel();
        assert_eq!(add(function, mine, mine, 1, 1, stream), SUCCESS);
        assert_eq!(cuStreamSynchronize(stream), SUCCESS);
        println!("written");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        assert_eq!(cuIpcCloseMemHandle(mine), INVALID_VALUE);
        assert_eq!(cuIpcCloseMemHandle(base), SUCCESS);
        println!("closed");
        return;
    }
    let sentence = "while another process has it open (1 times): cuIpcCloseMemHandle must come first there";
    // Work waits long, so that the other process meets an event that is not there yet.
    rule_with(name, &[("SSMV_CUDA_LATE", "300")], &[sentence], || {
        start();
        let first = allocate(4);
        let (shared, stream, mut event) = (allocate(4), stream(), 0);
        assert_eq!(shared, first + 1024);
        assert_eq!(cuEventCreate(&mut event, 6), SUCCESS);
        let mut handle = IpcHandle([0; 64]);
        assert_eq!(cuIpcGetEventHandle(&mut handle, event), SUCCESS);
        let mut other = second(name, &memory_handle(shared), &handle);
        let mut lines = BufReader::new(other.stdout.take().unwrap());
        let number = 41u32;
        assert_eq!(cuMemcpyHtoDAsync_v2(shared, ptr::from_ref(&number).cast(), 4, stream), SUCCESS);
        assert_eq!(cuEventRecord(event, stream), SUCCESS);
        say(&mut other);
        hear(&mut lines, "written");
        assert_eq!(number_at(shared), 42);
        assert_eq!(cuMemFree_v2(shared), SUCCESS);
        say(&mut other);
        hear(&mut lines, "closed");
        assert!(other.wait().unwrap().success());
    });
}

#[test]
fn memory_of_a_process_that_ended_cannot_be_opened() {
    let name = "processes::memory_of_a_process_that_ended_cannot_be_opened";
    if std::env::var_os("SSMV_SECOND").is_some() {
        start();
        println!("handle {}", hex(&memory_handle(allocate(4)).0));
        return;
    }
    rule(name, &["is gone, or its memory is"], || {
        start();
        let output = child(name).env("SSMV_SECOND", "").output().unwrap();
        let text = said(&output);
        let handle = text.split("handle ").nth(1).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(cuIpcOpenMemHandle_v2(&mut 0, from_hex(&handle[..128]), 1), INVALID_VALUE);
    });
}
