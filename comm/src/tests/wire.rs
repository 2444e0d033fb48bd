//! Invalid frames, and bytes that change on the way.

use super::super::Fault;
use super::super::frame::{HEADER, Header, MOST_PAYLOAD, Operation, Tag};
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
    let error = comm.all_reduce(&mut [1f32; 4], Reduction::Sum).unwrap_err();
    // The right neighbour gets the reason, and then nothing.
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
    assert_eq!(comm.barrier().unwrap_err().fault, Fault::Told { text: told });
}

/// Forwards one connection to `target` and flips a bit of byte `at`.
fn flipping_proxy(target: SocketAddr, at: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut from, _) = listener.accept().unwrap();
        let mut to = TcpStream::connect(target).unwrap();
        let (mut buffer, mut done) = (vec![0; 1 << 16], 0);
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            if (done..done + bytes).contains(&at) {
                buffer[at - done] ^= 0x10;
            }
            done += bytes;
            if to.write_all(&buffer[..bytes]).is_err() {
                break;
            }
        }
    });
    address
}

#[test]
fn a_byte_that_flips_on_the_wire_stops_every_rank() {
    // The connection starts with a greeting of 24 bytes, then a header. The last position is in the payload of a later frame.
    for (at, part) in [(24 + 20, "header"), (24 + HEADER + 5, "payload"), (600_000, "payload")] {
        let (listeners, mut addresses) = listeners(3);
        addresses[2] = flipping_proxy(addresses[2], at);
        let errors = each(listeners, |rank, listener| {
            let (options, _) = options(Duration::from_secs(20));
            let mut comm = tcp::join(rank, &listener, &addresses, options).unwrap();
            let mut data = vec![rank as f32; 3_000_000];
            comm.all_reduce(&mut data, Reduction::Sum).unwrap_err()
        });
        for (rank, error) in errors.iter().enumerate() {
            assert_names(error, rank, Operation::AllReduceSum, 1);
        }
        assert!(
            matches!(errors[2].fault, Fault::Checksum { peer: 1, part: p, .. } if p == part),
            "{}",
            errors[2]
        );
        for error in &errors[..2] {
            assert_eq!(error.fault, Fault::Told { text: errors[2].to_string() });
        }
    }
}
