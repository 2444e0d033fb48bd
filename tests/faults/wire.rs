//! Bytes that change on their way from one rank to another.
//!
//! The wire runs through this test: rank 1 meets rank 0 at the door of a go-between, which passes everything on but tells
//! rank 0 that rank 1 listens at the go-between too.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::job::{ENDLESS, assert_line, free_address, rank, training, wait_for_steps};

/// Bytes by which a caller proves who it is, in two parts.
const PROOF: [usize; 2] = [47, 32];

#[test]
fn a_bit_that_flips_on_the_wire_is_found_and_ends_both_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let arguments = training(&run, ENDLESS);
    let master = free_address();
    let flip = Arc::new(AtomicBool::new(false));
    let zero = rank((0, 2), master, &arguments);
    let one = rank((1, 2), go_between(master, Tampering::Flip(Arc::clone(&flip))), &arguments);
    wait_for_steps(&run, 3, &zero);
    flip.store(true, Ordering::SeqCst);
    let damaged = "the payload from rank 0 is damaged: CRC-32C";
    let text = one.ended_with(1);
    assert_line(&text, &["error: rank 1: all-reduce (sum) ", damaged]);
    let text = zero.ended_with(1);
    assert_line(&text, &["error: rank 0: ", "stopped, because rank 1: all-reduce (sum) ", damaged]);
    assert!(!flip.load(Ordering::SeqCst), "the bit was flipped");
}

#[test]
fn a_wire_that_holds_back_is_warned_of_at_a_quarter_and_ends_both_ranks_at_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let arguments = training(&run, &format!("{ENDLESS} --comm-timeout 4"));
    let master = free_address();
    let hold = Arc::new(AtomicBool::new(false));
    let zero = rank((0, 2), master, &arguments);
    let mut one = rank((1, 2), go_between(master, Tampering::Hold(Arc::clone(&hold))), &arguments);
    wait_for_steps(&run, 3, &zero);
    let known = one.lines();
    hold.store(true, Ordering::SeqCst);
    let held = Instant::now();
    one.line_after(known, &["rank 1: ", "for rank 0 to send; giving up after 4.0 s"]);
    assert!(held.elapsed() < Duration::from_millis(3500), "{:?}", held.elapsed());
    let text = one.ended_with(1);
    let ended = held.elapsed();
    assert!(ended > Duration::from_millis(3500) && ended < Duration::from_secs(8), "{ended:?}");
    assert_line(&text, &["error: rank 1: ", "rank 0 sends nothing for "]);
    let text = zero.ended_with(1);
    assert_line(&text, &["error: rank 0: ", "rank 0 sends nothing for "]);
}

/// What happens on the wire from rank 0 to rank 1.
#[derive(Clone)]
enum Tampering {
    /// One bit is flipped as soon as this says so, which is unset by it.
    Flip(Arc<AtomicBool>),
    /// Nothing passes while this says so.
    Hold(Arc<AtomicBool>),
}

/// A door at which rank 1 finds the master; the ring's wire from rank 0 to rank 1 goes through another one, on
/// which it is tampered with.
fn go_between(master: SocketAddr, tampering: Tampering) -> SocketAddr {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = door.local_addr().unwrap();
    thread::spawn(move || {
        let (mut caller, mut host) = meet(&door, master);
        let mut proof = [0; 47];
        for bytes in PROOF {
            caller.read_exact(&mut proof[..bytes]).unwrap();
            host.write_all(&proof[..bytes]).unwrap();
            if bytes == PROOF[0] {
                copy_behind(host.try_clone().unwrap(), caller.try_clone().unwrap());
            }
        }
        // Its length, then: Here { fingerprint, address }.
        let mut length = [0; 4];
        caller.read_exact(&mut length).unwrap();
        let mut message = vec![0; u32::from_le_bytes(length) as usize];
        caller.read_exact(&mut message).unwrap();
        let mut message: serde_json::Value = serde_json::from_slice(&message).unwrap();
        let ring = message["Here"]["address"].as_str().unwrap().parse().unwrap();
        message["Here"]["address"] = ring_wire(ring, tampering).to_string().into();
        let message = serde_json::to_vec(&message).unwrap();
        host.write_all(&(message.len() as u32).to_le_bytes()).unwrap();
        host.write_all(&message).unwrap();
        copy(caller, host, |_| ());
    });
    address
}

/// The wire to rank 1, which listens at `to`.
fn ring_wire(to: SocketAddr, tampering: Tampering) -> SocketAddr {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = door.local_addr().unwrap();
    thread::spawn(move || {
        let (caller, host) = meet(&door, to);
        copy_behind(host.try_clone().unwrap(), caller.try_clone().unwrap());
        copy(caller, host, |bytes| match &tampering {
            // Of a frame's many bytes one in the middle: the header is 40.
            Tampering::Flip(flip) if bytes.len() > 4096 && flip.swap(false, Ordering::SeqCst) => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
            }
            Tampering::Flip(_) => {}
            Tampering::Hold(hold) => {
                while hold.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
    });
    address
}

/// An incoming connection, and the one that it wanted.
fn meet(door: &TcpListener, to: SocketAddr) -> (TcpStream, TcpStream) {
    let caller = door.accept().unwrap().0;
    (caller, std::iter::repeat_with(|| TcpStream::connect(to)).find_map(Result::ok).unwrap())
}

fn copy_behind(from: TcpStream, to: TcpStream) {
    thread::spawn(move || copy(from, to, |_| ()));
}

/// Passes on all bytes, and the end.
fn copy(mut from: TcpStream, mut to: TcpStream, change: impl Fn(&mut [u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        change(&mut buffer[..bytes]);
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
