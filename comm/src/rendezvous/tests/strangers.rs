//! Connections of other processes while the ranks join, and hosts that are not ranks.

use super::super::client::{Channel, Message, TO_RANK};
use super::super::handshake::{CHALLENGE, HELLO, Hello, PROOF, Purpose, Side};
use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

/// Runs rank 0 of two, then `stranger`, then rank 1, and checks that the join succeeds; returns the log.
fn among(job: &Job, stranger: impl FnOnce()) -> String {
    thread::scope(|scope| {
        let master = scope.spawn(|| job.join(&job.place(0), &fingerprint("a"), &trusted()));
        while TcpStream::connect(job.address()).is_err() {
            thread::sleep(POLL);
        }
        stranger();
        let rank = job.join(&job.place(1), &fingerprint("a"), &trusted());
        assert_works(vec![master.join().unwrap(), rank]);
    });
    job.said()
}

fn connect(job: &Job) -> TcpStream {
    let stream = TcpStream::connect(job.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

/// The number of bytes until the other end closes.
fn read_all(stream: &mut TcpStream) -> usize {
    let mut rest = Vec::new();
    // A close with bytes unread is a reset.
    let _ = stream.read_to_end(&mut rest);
    rest.len()
}

fn hello(size: u16) -> Hello {
    Hello { purpose: Purpose::Join, from: 1, to: 0, size, macs: true, nonce: [7; 32] }
}

#[test]
fn connections_without_a_greeting_are_dropped_at_once() {
    for said in [&b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: somebody\r\n\r\n"[..], &[0xa5; 5000]] {
        let job = Job::new(2);
        let log = among(&job, || {
            let mut stream = connect(&job);
            // The rest may find the connection closed.
            let _ = stream.write_all(said);
            assert_eq!(read_all(&mut stream), 0);
        });
        assert!(log.contains("it did not send the greeting of a rank"), "{log}");
    }
}

#[test]
fn the_silent_and_the_slow_lose_their_place_and_block_nobody() {
    let mut job = Job::new(2);
    job.settings.handshake_timeout = Duration::from_secs(5);
    let start = Instant::now();
    let mut strangers = Vec::new();
    among(&job, || {
        strangers = (0..8).map(|_| connect(&job)).collect();
        strangers[0].write_all(&hello(2).encode()[..HELLO - 1]).unwrap();
    });
    assert!(start.elapsed() < job.settings.handshake_timeout, "{:?}", start.elapsed());

    let job = Job::new(2);
    let log = among(&job, || {
        let start = Instant::now();
        assert_eq!(read_all(&mut connect(&job)), 0);
        assert!(start.elapsed() >= job.settings.handshake_timeout);
    });
    assert!(log.contains("it did not complete the handshake within 0.5 s"), "{log}");
}

#[test]
fn a_thousand_strangers_do_not_stop_the_ranks_or_fill_the_log() {
    let mut job = Job::new(2);
    job.settings.quiet = Duration::from_secs(60);
    let start = Instant::now();
    let (mut flooded, mut staying) = (start, Vec::new());
    let log = among(&job, || {
        for i in 0..1000 {
            let stream = TcpStream::connect(job.address()).unwrap();
            // Half of them stay until the end.
            if i % 2 == 0 {
                staying.push(stream);
            }
            // The system's queue of connections is limited.
            if i % 50 == 0 {
                thread::sleep(2 * POLL);
            }
        }
        flooded = Instant::now();
    });
    assert!(flooded.elapsed() < Duration::from_secs(4), "{:?}", flooded.elapsed());
    drop(staying);
    assert!(
        log.contains("other connections are waiting") || log.contains("before it completed the handshake"),
        "{log}"
    );
    let seconds = start.elapsed().as_secs() as usize + 1;
    assert!(log.lines().count() <= (job.settings.lines + 1) * seconds, "{log}");
    let more =
        log.lines().filter_map(|line| line.strip_prefix("dropped ")?.strip_suffix(" more connections"));
    assert!(more.map(|count| count.parse::<usize>().unwrap()).sum::<usize>() > 400, "{log}");
}

#[test]
fn a_proof_serves_only_its_side_its_greeting_and_its_connection() {
    let job = Job::new(2);
    let token = Token::from_hex(TOKEN).unwrap();
    let mut earlier = [0; CHALLENGE];
    let log = among(&job, || {
        // The host's own proof sent back; then proofs for another greeting, of another token, for the connection before.
        for (said, of) in [
            (None, token.clone()),
            (Some(hello(3)), token.clone()),
            (Some(Hello { from: 0, ..hello(2) }), token.clone()),
            (Some(Hello { purpose: Purpose::Ring, ..hello(2) }), token.clone()),
            (Some(hello(2)), Token::random().unwrap()),
            (Some(hello(2)), token.clone()),
        ] {
            let mut stream = connect(&job);
            stream.write_all(&hello(2).encode()).unwrap();
            let (mut nonce, mut host) = ([0; CHALLENGE], [0; PROOF]);
            stream.read_exact(&mut nonce).unwrap();
            stream.read_exact(&mut host).unwrap();
            assert!(hello(2).verify(&token, Side::Host, &nonce, &host));
            let over = if said == Some(hello(2)) && of.to_hex() == TOKEN { earlier } else { nonce };
            let proof = said.map_or(host, |said| said.prove(&of, Side::Caller, &over));
            stream.write_all(&proof).unwrap();
            assert_eq!(read_all(&mut stream), 0);
            earlier = nonce;
        }
    });
    assert!(log.contains("it claims to be rank 1 and does not have the token"), "{log}");
}

#[test]
fn a_rank_leaves_a_host_that_has_no_token() {
    let job = Job::new(2);
    let host = TcpListener::bind(job.address()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = host.accept().unwrap();
            let mut greeting = [0; HELLO];
            stream.read_exact(&mut greeting).unwrap();
            // Its own nonce, and a code that it cannot compute.
            stream.write_all(&[&greeting[HELLO - CHALLENGE..], &[1; PROOF]].concat()).unwrap();
            assert_eq!(read_all(&mut stream), 0);
        });
        let error = job.join(&job.place(1), &fingerprint("a"), &trusted()).unwrap_err();
        assert_eq!(error.reason, Reason::Untrusted { address: job.address() });
    });
}

#[test]
fn a_rank_that_dies_while_the_ranks_meet_ends_the_join() {
    let job = Job::new(3);
    thread::scope(|scope| {
        let master = scope.spawn(|| job.join(&job.place(0), &fingerprint("a"), &trusted()));
        let other = scope.spawn(|| job.join(&job.place(2), &fingerprint("a"), &trusted()));
        // Rank 1 authenticates and then leaves.
        drop(client::reach(&job.place(1), &trusted(), &job.settings).unwrap());
        for thread in [master, other] {
            let error = thread.join().unwrap().unwrap_err().to_string();
            assert!(error.contains("rank 1 left while the ranks met"), "{error}");
        }
    });
}

#[test]
fn messages_that_are_too_long_or_none_end_the_join() {
    for (said, text) in [
        (&vec![b'?'; 600_000][..], "a message of 600000 bytes is too long"),
        (b"\"?\"", "it sent an invalid message"),
        (b"", "it sent an empty message"),
        (b"\"Go\"", "rank 1 sent an unexpected message"),
    ] {
        let job = Job::new(2);
        thread::scope(|scope| {
            let master = scope.spawn(|| job.join(&job.place(0), &fingerprint("a"), &trusted()));
            let mut channel = reach(&job);
            // The master may close before it has read all of a long message.
            let _ = channel.send_text(said);
            let error = master.join().unwrap().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        });
    }
}

/// Rank 1 after the handshake with the master.
fn reach(job: &Job) -> Channel {
    Channel::new(client::reach(&job.place(1), &trusted(), &job.settings).unwrap(), TO_RANK)
}

/// Rank 1 after it received all addresses; its own is a port without a listener.
fn arrive(job: &Job) -> (Channel, Vec<SocketAddr>) {
    let mut channel = reach(job);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    channel.send(&Message::Here { fingerprint: fingerprint("a"), address }).unwrap();
    loop {
        match channel.poll().unwrap() {
            Some(Message::Table(addresses)) => return (channel, addresses),
            Some(other) => panic!("{other:?}"),
            None => thread::sleep(POLL),
        }
    }
}

#[test]
fn strangers_in_the_ring_are_dropped_as_well() {
    let job = Job::new(2);
    thread::scope(|scope| {
        let master = scope.spawn(|| job.join(&job.place(0), &fingerprint("a"), &trusted()));
        let (channel, addresses) = arrive(&job);
        for (hello, token) in [
            (hello(2), Token::from_hex(TOKEN).unwrap()),
            (Hello { purpose: Purpose::Ring, ..hello(2) }, Token::random().unwrap()),
        ] {
            let mut stream = TcpStream::connect(addresses[0]).unwrap();
            stream.write_all(&hello.encode()).unwrap();
            let mut nonce = [0; CHALLENGE];
            if stream.read_exact(&mut nonce).is_ok() {
                let mut host = [0; PROOF];
                stream.read_exact(&mut host).unwrap();
                stream.write_all(&hello.prove(&token, Side::Caller, &nonce)).unwrap();
            }
            assert_eq!(read_all(&mut stream), 0);
        }
        drop(channel);
        let error = master.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("rank 1 left while the ranks met"), "{error}");
    });
    for why in [
        "rank 1 called another rank or for another purpose",
        "it claims to be rank 1 and does not have the token",
    ] {
        assert!(job.said().contains(why), "{}", job.said());
    }
}

#[test]
fn a_neighbour_that_cannot_be_reached_is_named_by_all() {
    let mut job = Job::new(2);
    job.settings.ring = Duration::from_millis(300);
    thread::scope(|scope| {
        let master = scope.spawn(|| job.join(&job.place(0), &fingerprint("a"), &trusted()));
        let (mut channel, addresses) = arrive(&job);
        let error = master.join().unwrap().unwrap_err().reason.to_string();
        let expected = format!("rank 1 at {} cannot be reached for 0.3 s: ", addresses[1]);
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(channel.poll().unwrap(), Some(Message::Refused(error)));
    });
}
