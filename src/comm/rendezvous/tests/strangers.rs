//! Connections of others while the ranks join, and hosts that are no ranks.

use super::super::challenge::{ANSWER, HELLO, Hello, Nonce, PROOF, Purpose, Side};
use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

/// How a host answers a challenge.
type Answer<'a> = dyn Fn(&[u8; 32], &[u8; PROOF]) -> [u8; PROOF] + 'a;

/// Runs rank 0 of two, then `stranger`, then rank 1, and checks that the join succeeds; returns what was logged.
fn among(job: &Job, stranger: impl FnOnce()) -> String {
    thread::scope(|scope| {
        let master = scope.spawn(|| job.join(&job.place(0), &card("a"), &trusted()));
        while TcpStream::connect(job.address()).is_err() {
            thread::sleep(LOOK);
        }
        stranger();
        let rank = job.join(&job.place(1), &card("a"), &trusted());
        assert_works(vec![master.join().unwrap(), rank]);
    });
    job.said()
}

fn connect(job: &Job) -> TcpStream {
    let stream = TcpStream::connect(job.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

/// How many bytes come until the other end closes.
fn read_all(stream: &mut TcpStream) -> usize {
    let mut rest = Vec::new();
    // A close with bytes unread is a reset.
    let _ = stream.read_to_end(&mut rest);
    rest.len()
}

fn hello(size: u16) -> Hello {
    Hello { purpose: Purpose::Join, from: 1, to: 0, size, nonce: [7; 32] }
}

#[test]
fn those_who_speak_otherwise_are_dropped_at_once() {
    for said in [&b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: somebody\r\n\r\n"[..], &[0xa5; 5000]] {
        let job = Job::new(2);
        let log = among(&job, || {
            let mut stream = connect(&job);
            // The rest may find the connection closed.
            let _ = stream.write_all(said);
            assert_eq!(read_all(&mut stream), 0);
        });
        assert!(log.contains("what it sent is no greeting of a rank"), "{log}");
    }
}

#[test]
fn the_silent_and_the_slow_lose_their_place_and_block_nobody() {
    let mut job = Job::new(2);
    job.settings.patience = Duration::from_secs(5);
    let start = Instant::now();
    let mut strangers = Vec::new();
    among(&job, || {
        strangers = (0..8).map(|_| connect(&job)).collect();
        strangers[0].write_all(&hello(2).encode()[..HELLO - 1]).unwrap();
    });
    assert!(start.elapsed() < job.settings.patience, "{:?}", start.elapsed());

    let job = Job::new(2);
    let log = among(&job, || {
        let start = Instant::now();
        assert_eq!(read_all(&mut connect(&job)), 0);
        assert!(start.elapsed() >= job.settings.patience);
    });
    assert!(log.contains("it did not say who it is within 0.5 s"), "{log}");
}

#[test]
fn a_thousand_strangers_do_not_stop_the_ranks_or_fill_the_log() {
    let job = Job::new(2);
    let start = Instant::now();
    let (mut flooded, mut staying) = (start, Vec::new());
    let log = among(&job, || {
        // The system makes some of them wait, so they come from several threads.
        let connect = || {
            let come = (0..125).map(|i| (i, TcpStream::connect(job.address()).unwrap()));
            // Half of them stay until the end.
            come.filter_map(|(i, stream)| (i % 2 == 0).then_some(stream)).collect::<Vec<_>>()
        };
        staying = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(connect)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        flooded = Instant::now();
    });
    assert!(flooded.elapsed() < Duration::from_secs(4), "{:?}", flooded.elapsed());
    drop(staying);
    assert!(log.contains("others have not said yet who they are") || log.contains("before it said"), "{log}");
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
    let log = among(&job, || {
        let attempt = |hello: Hello, proof: &Answer| {
            let mut stream = connect(&job);
            stream.write_all(&hello.encode()).unwrap();
            let mut answer = [0; ANSWER];
            stream.read_exact(&mut answer).unwrap();
            let (nonce, host) = (answer[..32].try_into().unwrap(), answer[32..].try_into().unwrap());
            stream.write_all(&proof(&nonce, &host)).unwrap();
            (nonce, read_all(&mut stream))
        };
        // The host's own proof, sent back.
        let (earlier, welcome) = attempt(hello(2), &|_, host| *host);
        assert_eq!(welcome, 0);
        // One for an earlier connection, for another number of ranks, of another token.
        for (said, nonce, token) in [
            (hello(2), Some(earlier), token.clone()),
            (hello(3), None, token.clone()),
            (Hello { from: 0, ..hello(2) }, None, token.clone()),
            (Hello { purpose: Purpose::Ring, ..hello(2) }, None, token.clone()),
            (hello(2), None, Token::random().unwrap()),
        ] {
            let made =
                |fresh: &Nonce, _: &[u8; PROOF]| said.prove(&token, Side::Caller, &nonce.unwrap_or(*fresh));
            assert_eq!(attempt(hello(2), &made).1, 0);
        }
    });
    assert!(log.contains("it says that it is rank 1 and does not have the token"), "{log}");
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
            // Its own nonce and something that it cannot make up.
            stream.write_all(&[&greeting[HELLO - 32..], &[1; PROOF]].concat()).unwrap();
            assert_eq!(read_all(&mut stream), 0);
        });
        let error = job.join(&job.place(1), &card("a"), &trusted()).unwrap_err();
        assert_eq!(error.reason, Reason::Untrusted { address: job.address() });
    });
}

#[test]
fn a_rank_that_dies_while_the_ranks_meet_ends_the_join() {
    let job = Job::new(3);
    thread::scope(|scope| {
        let master = scope.spawn(|| job.join(&job.place(0), &card("a"), &trusted()));
        let other = scope.spawn(|| job.join(&job.place(2), &card("a"), &trusted()));
        // Rank 1 proves who it is and goes.
        drop(super::super::rank::reach(&job.place(1), &trusted(), &job.settings).unwrap());
        for thread in [master, other] {
            let error = thread.join().unwrap().unwrap_err().to_string();
            assert!(error.contains("rank 1 left while the ranks met"), "{error}");
        }
    });
}

#[test]
fn messages_that_are_too_long_or_none_end_the_join() {
    for (said, text) in [
        (&[0xff; 8][..], "a message of 4294967295 bytes is too long"),
        (&[3, 0, 0, 0, b'"', b'?', b'"'], "it sent no message"),
        (&[0; 4], "it sent an empty message"),
        (&[4, 0, 0, 0, b'"', b'G', b'o', b'"'], "rank 1 speaks out of turn"),
    ] {
        let job = Job::new(2);
        thread::scope(|scope| {
            let master = scope.spawn(|| job.join(&job.place(0), &card("a"), &trusted()));
            let mut stream = super::super::rank::reach(&job.place(1), &trusted(), &job.settings).unwrap();
            stream.write_all(said).unwrap();
            let error = master.join().unwrap().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        });
    }
}
