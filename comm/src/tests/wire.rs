//! Invalid frames, and bytes that change on the way.

use super::super::Fault;
use super::super::frame::{HEADER, Header, MOST_PAYLOAD, Operation, Tag};
use super::super::seal::SEAL;
use super::super::tcp::TcpLink;
use super::*;
use std::io::{Read, Write};
use std::net::TcpStream;

const TAG: Tag =
    Tag { operation: Operation::AllReduceSum, element: 1, root: 0, sequence: 1, count: 4, index: 0 };

#[test]
fn a_header_comes_back_and_every_flipped_bit_is_seen() {
    let header = Header { tag: TAG, bytes: 8, crc: 0x1234_5678 };
    let bytes = header.encode();
    assert_eq!(Header::decode(&bytes, 3), Ok(header));
    for bit in 0..HEADER * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::decode(&flipped, 3).is_err(), "bit {bit}");
    }
}

/// The error of rank 0 of 2 that all-reduces four f32 after its left neighbour sent `bytes`.
fn receive(bytes: &[u8]) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0);
    let ((mut far_left, left), (mut far_right, right)) = (connect(), connect());
    let (options, _) = options(Duration::from_millis(500));
    let link = TcpLink::new(0, 2, left, right, options).unwrap();
    let mut comm = Communicator::new(0, 2, Box::new(link)).unwrap();
    far_left.write_all(bytes).unwrap();
    let error = comm.all_reduce(&mut [1f32; 4], ReduceOp::Sum).unwrap_err();
    // The right neighbour gets the reason, and nothing after it.
    let mut sent = Vec::new();
    far_right.read_to_end(&mut sent).unwrap();
    let told = String::from_utf8_lossy(&sent).into_owned();
    assert!(told.ends_with(&error.to_string()), "{told:?} does not end with {error}");
    assert_names(&error, 0, Operation::AllReduceSum, 1);
    error
}

fn header(tag: Tag, bytes: usize) -> Vec<u8> {
    Header { tag, bytes: bytes as u32, crc: crc32c::crc32c(&[0; 8]) }.encode().to_vec()
}

#[test]
fn a_length_of_garbage_is_refused_before_anything_is_read() {
    for bytes in [u32::MAX as usize, MOST_PAYLOAD + 1] {
        let error = receive(&header(TAG, bytes));
        assert!(matches!(&error.fault, Fault::Frame { peer: 1, .. }), "{error}");
        assert!(error.to_string().contains(&format!("{bytes} bytes of payload, more than")), "{error}");
    }
    let error = receive(&header(TAG, 12));
    assert!(error.to_string().contains("12 bytes of payload where 8 are due"), "{error}");
    let failed = Tag { operation: Operation::Failed, ..TAG };
    let error = receive(&header(failed, 513));
    assert!(error.to_string().contains("513 bytes of payload, more than 512"), "{error}");
}

#[test]
fn other_bytes_than_frames_are_refused() {
    let error = receive(b"GET / HTTP/1.1\r\nHost: localhost:1234\r\n\r\n\r\n\r\n");
    assert!(error.to_string().contains("rank 1 sent bytes that are not a frame"), "{error}");
    let unknown = {
        let mut bytes = header(TAG, 8);
        bytes[4] = 99;
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    };
    assert!(receive(&unknown).to_string().contains("operation 99 is unknown"));
}

#[test]
fn another_collective_is_named_with_both_sides() {
    for (theirs, words) in [
        (Tag { operation: Operation::Barrier, element: 3, count: 0, ..TAG }, "barrier 1 of 0 u32"),
        (Tag { sequence: 2, ..TAG }, "all-reduce (sum) 2 of 4 f32"),
        (Tag { count: 5, ..TAG }, "all-reduce (sum) 1 of 5 f32"),
        (Tag { element: 2, ..TAG }, "all-reduce (sum) 1 of 4 f64"),
        (Tag { index: 1, ..TAG }, "all-reduce (sum) 1 of 4 f32, frame 1"),
    ] {
        let error = receive(&header(theirs, 8));
        assert_eq!(error.fault, Fault::Mismatch { peer: 1, theirs, ours: TAG });
        let text = error.to_string();
        assert!(text.contains(words) && text.contains("this rank in all-reduce (sum) 1 of 4 f32"), "{text}");
    }
}

#[test]
fn a_neighbours_message_cannot_control_a_terminal() {
    let text = b"\x1b[2Jgone\n";
    let tag = Tag { operation: Operation::Failed, ..TAG };
    let mut bytes = Header { tag, bytes: text.len() as u32, crc: crc32c::crc32c(text) }.encode().to_vec();
    bytes.extend_from_slice(text);
    let (listener, told) = (TcpListener::bind("127.0.0.1:0").unwrap(), " [2Jgone ".to_string());
    let address = listener.local_addr().unwrap();
    let connect = || (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0);
    let ((mut far_left, left), (_far_right, right)) = (connect(), connect());
    let link = TcpLink::new(0, 2, left, right, options(Duration::from_secs(5)).0).unwrap();
    let mut comm = Communicator::new(0, 2, Box::new(link)).unwrap();
    far_left.write_all(&bytes).unwrap();
    assert_eq!(comm.barrier().unwrap_err().fault, Fault::Reported { text: told });
}

/// Listens and forwards one connection to `target` by `copy`.
fn proxy(
    target: SocketAddr,
    copy: impl FnOnce(TcpStream, TcpStream) -> std::io::Result<()> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        // An end that closes ends the copy.
        let _ = copy(listener.accept().unwrap().0, TcpStream::connect(target).unwrap());
    });
    address
}

/// Flips a bit of byte `at`.
fn flipping_proxy(target: SocketAddr, at: usize) -> SocketAddr {
    proxy(target, move |mut from, mut to| {
        let (mut buffer, mut done) = (vec![0; 1 << 16], 0);
        while let bytes @ 1.. = from.read(&mut buffer)? {
            if (done..done + bytes).contains(&at) {
                buffer[at - done] ^= 0x10;
            }
            done += bytes;
            to.write_all(&buffer[..bytes])?;
        }
        Ok(())
    })
}

/// The results of three ranks that all-reduce `data`, in which rank 1 reaches rank 2 through a proxy.
fn through(proxy: impl Fn(SocketAddr) -> SocketAddr, count: usize) -> Vec<Result<Vec<f32>, Error>> {
    let (listeners, mut addresses) = listeners(3);
    addresses[2] = proxy(addresses[2]);
    each(listeners, |rank, listener| {
        let (options, _) = options(Duration::from_secs(20));
        let mut comm = tcp::join(rank, &listener, &addresses, options).unwrap();
        let mut data = vec![rank as f32; count];
        comm.all_reduce(&mut data, ReduceOp::Sum).map(|()| data)
    })
}

/// Checks that rank 2 has an error and the others its text; returns the fault.
fn fault_of_all(results: Vec<Result<Vec<f32>, Error>>) -> Fault {
    let errors: Vec<_> = results.into_iter().map(Result::unwrap_err).collect();
    for (rank, error) in errors.iter().enumerate() {
        assert_names(error, rank, Operation::AllReduceSum, 1);
    }
    for error in &errors[..2] {
        assert_eq!(error.fault, Fault::Reported { text: errors[2].to_string() });
    }
    errors[2].fault.clone()
}

/// Size of the greeting of a test's connection in bytes.
const GREETING: usize = 24;

#[test]
fn a_byte_that_flips_on_the_wire_stops_every_rank() {
    // The last position is in the payload of a later frame.
    for (at, part) in [(20, "header"), (HEADER + SEAL + 5, "payload"), (600_000, "payload")] {
        let fault = fault_of_all(through(|target| flipping_proxy(target, GREETING + at), 3_000_000));
        assert!(matches!(fault, Fault::Checksum { peer: 1, part: p, .. } if p == part), "{fault}");
    }
    for at in [HEADER, HEADER + SEAL - 1] {
        let fault = fault_of_all(through(|target| flipping_proxy(target, GREETING + at), 3_000_000));
        assert_eq!(fault, Fault::Forged { peer: 1, part: "header", number: 0 });
    }
}

/// Actions of an attacker without the keys on frames 2 and 3 of a connection. All checksums are right.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Attack {
    None,
    /// Changes the payload, with a new checksum.
    Payload,
    /// Changes the payload in a way that keeps its checksum.
    Collision,
    /// Changes the header.
    Header,
    /// Shortens the payload.
    Shorten,
    /// Removes frame 2.
    Drop,
    /// Sends frame 2 twice.
    Repeat,
    /// Sends frame 0 in the place of frame 2.
    Replay,
    /// Sends frame 3 before frame 2.
    Swap,
    /// Sends a failure of its own.
    Inject,
}

/// A frame as it is on the wire, with codes that stay as they are.
#[derive(Clone)]
struct Frame {
    header: Header,
    codes: [u8; SEAL],
    payload: Vec<u8>,
}

impl Frame {
    fn read(from: &mut TcpStream) -> std::io::Result<Self> {
        let (mut header, mut codes) = ([0; HEADER], [0; SEAL]);
        from.read_exact(&mut header)?;
        from.read_exact(&mut codes)?;
        let header = Header::decode(&header, 1).unwrap();
        let mut payload = vec![0; header.bytes as usize];
        from.read_exact(&mut payload)?;
        Ok(Self { header, codes, payload })
    }

    /// With the right length and checksums.
    fn write(&mut self, to: &mut TcpStream) -> std::io::Result<()> {
        self.header.bytes = self.payload.len() as u32;
        self.header.crc = crc32c::crc32c(&self.payload);
        to.write_all(&[&self.header.encode()[..], &self.codes, &self.payload].concat())
    }
}

fn attacking_proxy(target: SocketAddr, attack: Attack) -> SocketAddr {
    proxy(target, move |mut from, mut to| {
        let mut greeting = [0; GREETING];
        from.read_exact(&mut greeting)?;
        to.write_all(&greeting)?;
        let mut first = None;
        for number in 0.. {
            let mut frame = Frame::read(&mut from)?;
            let mut first = first.get_or_insert_with(|| frame.clone()).clone();
            match attack {
                _ if number != 2 => {}
                Attack::None => {}
                Attack::Payload => frame.payload[7] ^= 0x80,
                Attack::Collision => {
                    // The polynomial of CRC-32C, at any place.
                    let polynomial = (1 | 0x82f6_3b78_u64 << 1).to_le_bytes();
                    let before = crc32c::crc32c(&frame.payload);
                    frame.payload[8..].iter_mut().zip(polynomial).for_each(|(byte, change)| *byte ^= change);
                    assert_eq!(crc32c::crc32c(&frame.payload), before);
                }
                Attack::Header => frame.header.tag.index += 1,
                Attack::Shorten => frame.payload.truncate(frame.payload.len() - 4),
                Attack::Drop => continue,
                Attack::Repeat => frame.write(&mut to)?,
                Attack::Replay => first.write(&mut to)?,
                Attack::Swap => Frame::read(&mut from)?.write(&mut to)?,
                Attack::Inject => {
                    let tag = Tag { operation: Operation::Failed, ..TAG };
                    let header = Header { tag, ..frame.header };
                    Frame { header, codes: frame.codes, payload: b"all is lost".to_vec() }.write(&mut to)?;
                }
            }
            frame.write(&mut to)?;
        }
        Ok(())
    })
}

#[test]
fn an_attack_with_right_checksums_stops_every_rank() {
    let run = |attack| through(|target| attacking_proxy(target, attack), 400_000);
    for result in run(Attack::None) {
        assert!(result.unwrap().iter().all(|x| *x == 3.0));
    }
    for (attack, part, number) in [
        (Attack::Payload, "header", 2),
        (Attack::Collision, "payload", 2),
        (Attack::Header, "header", 2),
        (Attack::Shorten, "header", 2),
        (Attack::Drop, "header", 2),
        (Attack::Repeat, "header", 3),
        (Attack::Replay, "header", 2),
        (Attack::Swap, "header", 2),
        (Attack::Inject, "header", 2),
    ] {
        assert_eq!(fault_of_all(run(attack)), Fault::Forged { peer: 1, part, number }, "{attack:?}");
    }
}
