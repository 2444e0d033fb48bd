//! Bytes that change on their way from one rank to another.
//!
//! The wire runs through this test: rank 1 meets rank 0 at the door of a go-between, which passes everything on but tells
//! rank 0 that rank 1 listens at the go-between too. Only for this it uses the job's token; without the token rank 0 refuses
//! the changed message.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::job::{ENDLESS, TOKEN, assert_line, free_address, rank, training, wait_for_steps};

/// Sizes in bytes of a caller's greeting, of the host's challenge, and of a proof.
const GREETING: usize = 48;
const CHALLENGE: usize = 33;
const PROOF: usize = 32;

/// Sizes in bytes of a frame's header and of its MACs.
const HEADER: usize = 40;
const CODES: usize = 64;

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
fn a_payload_that_is_changed_with_its_checksums_ends_both_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let arguments = training(&run, ENDLESS);
    let master = free_address();
    let forge = Arc::new(AtomicBool::new(false));
    let zero = rank((0, 2), master, &arguments);
    let one = rank((1, 2), go_between(master, Tampering::Forge(Arc::clone(&forge))), &arguments);
    wait_for_steps(&run, 3, &zero);
    forge.store(true, Ordering::SeqCst);
    let forged = "from rank 0 has a wrong MAC: it was changed";
    let text = one.ended_with(1);
    assert_line(&text, &["error: rank 1: ", "the header of frame ", forged]);
    let text = zero.ended_with(1);
    assert_line(&text, &["error: rank 0: ", "stopped, because rank 1: ", forged]);
    assert!(!forge.load(Ordering::SeqCst), "a frame was changed");
}

#[test]
fn a_master_is_not_reached_through_a_go_between_that_changes_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = training(&folder.path().join("run"), ENDLESS);
    let master = free_address();
    let zero = rank((0, 2), master, &arguments);
    let one = rank((1, 2), go_between(master, Tampering::Redirect), &arguments);
    let text = zero.ended_with(1);
    assert_line(&text, &["error: rank 0 of 2 ", "rank 1 ", "a message has a wrong MAC"]);
    let text = one.ended_with(1);
    assert_line(&text, &["error: rank 1 of 2 ", "a message has a wrong MAC"]);
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
    /// One payload is changed, with new checksums, as soon as this says so, which is unset by it.
    Forge(Arc<AtomicBool>),
    /// Rank 1's address is changed without the token.
    Redirect,
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
        let greeting: [u8; GREETING] = pass(&mut caller, &mut host);
        let answer: [u8; CHALLENGE + PROOF] = pass(&mut host, &mut caller);
        pass::<PROOF>(&mut caller, &mut host);
        copy_behind(host.try_clone().unwrap(), caller.try_clone().unwrap());
        // Its length and MACs, then: Here { fingerprint, address }.
        let (mut length, mut codes) = ([0; 4], [0; CODES]);
        caller.read_exact(&mut length).unwrap();
        caller.read_exact(&mut codes).unwrap();
        let mut message = vec![0; u32::from_le_bytes(length) as usize];
        caller.read_exact(&mut message).unwrap();
        let mut message: serde_json::Value = serde_json::from_slice(&message).unwrap();
        let ring = message["Here"]["address"].as_str().unwrap().parse().unwrap();
        let redirects = matches!(tampering, Tampering::Redirect);
        message["Here"]["address"] = ring_wire(ring, tampering).to_string().into();
        let message = serde_json::to_vec(&message).unwrap();
        let length = (message.len() as u32).to_le_bytes();
        if !redirects {
            codes = seal(&greeting, &answer[..CHALLENGE], &length, &message);
        }
        host.write_all(&[&length[..], &codes, &message].concat()).unwrap();
        copy(caller, host, |_| ());
    });
    address
}

/// Passes on `N` bytes.
fn pass<const N: usize>(from: &mut TcpStream, to: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).unwrap();
    to.write_all(&bytes).unwrap();
    bytes
}

/// The MACs of a caller's first message.
fn seal(greeting: &[u8], challenge: &[u8], header: &[u8], payload: &[u8]) -> [u8; CODES] {
    let token: Vec<_> =
        (0..64).step_by(2).map(|i| u8::from_str_radix(&TOKEN[i..i + 2], 16).unwrap()).collect();
    let mut key = Hmac::<Sha256>::new_from_slice(&token).unwrap();
    for part in [&b"ssmv-raw session key 2\0\x01"[..], greeting, challenge] {
        key.update(part);
    }
    let key: [u8; 32] = key.finalize().into_bytes().into();
    let code = |label: &str, bytes: &[u8]| {
        let key = blake3::keyed_hash(&key, label.as_bytes());
        *blake3::keyed_hash(key.as_bytes(), bytes).as_bytes()
    };
    let payload = code("payload", payload);
    let header = code("header", &[&0u64.to_le_bytes()[..], &payload, header].concat());
    [payload, header].concat().try_into().unwrap()
}

/// The wire to rank 1, which listens at `to`.
fn ring_wire(to: SocketAddr, tampering: Tampering) -> SocketAddr {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = door.local_addr().unwrap();
    thread::spawn(move || {
        let (caller, host) = meet(&door, to);
        copy_behind(host.try_clone().unwrap(), caller.try_clone().unwrap());
        if let Tampering::Forge(forge) = &tampering {
            return copy_frames(caller, host, forge);
        }
        copy(caller, host, |bytes| match &tampering {
            // Of a frame's many bytes one in the middle.
            Tampering::Flip(flip) if bytes.len() > 4096 && flip.swap(false, Ordering::SeqCst) => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
            }
            Tampering::Flip(_) | Tampering::Forge(_) | Tampering::Redirect => {}
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

/// Passes on the handshake and all frames; changes a payload with its checksums when `forge` says so.
fn copy_frames(mut from: TcpStream, mut to: TcpStream, forge: &AtomicBool) {
    pass::<GREETING>(&mut from, &mut to);
    pass::<PROOF>(&mut from, &mut to);
    let mut head = [0; HEADER + CODES];
    while from.read_exact(&mut head).is_ok() {
        let mut payload = vec![0; u32::from_le_bytes(head[28..32].try_into().unwrap()) as usize];
        from.read_exact(&mut payload).unwrap();
        if payload.len() > 4 && forge.swap(false, Ordering::SeqCst) {
            payload[3] ^= 1;
            head[32..36].copy_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
            let crc = crc32c::crc32c(&head[..36]);
            head[36..40].copy_from_slice(&crc.to_le_bytes());
        }
        if to.write_all(&[&head[..], &payload].concat()).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
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
