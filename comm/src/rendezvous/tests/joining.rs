//! Joins that succeed.

use super::*;
use std::net::{Ipv6Addr, TcpStream};

#[test]
fn one_two_and_four_ranks_join() {
    for size in [1, 2, 3, 4] {
        let job = Job::new(size);
        assert_works(job.run(job.ranks()));
        assert_eq!(job.said(), "");
    }
}

#[test]
fn names_and_version_six_lead_to_the_master() {
    let mut masters = vec!["localhost", "127.0.0.2"];
    // Machines without IPv6 exist.
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        masters.extend(["::1", "[::1]"]);
    }
    for master in masters {
        let mut job = Job::at(master.trim_matches(['[', ']']), 2);
        job.master = master.into();
        assert_works(job.run(job.ranks()));
    }
}

#[test]
fn loopback_needs_no_token() {
    let job = Job::new(2);
    let ranks = (0..2).map(|rank| (job.place(rank), fingerprint("a"), Security::default())).collect();
    assert_works(job.run(ranks));
}

#[test]
fn a_rank_waits_for_the_master_and_says_so_once() {
    let mut job = Job::new(2);
    job.settings.quiet = Duration::from_millis(100);
    thread::scope(|scope| {
        let early = scope.spawn(|| job.join(&job.place(1), &fingerprint("a"), &trusted()));
        thread::sleep(Duration::from_millis(400));
        let late = job.join(&job.place(0), &fingerprint("a"), &trusted());
        assert_works(vec![late, early.join().unwrap()]);
    });
    let expected = format!("rank 1 waits for rank 0, the master at 127.0.0.1:{}, to answer: ", job.port);
    assert_eq!(job.said().matches(&expected).count(), 1, "{}", job.said());
}

#[test]
fn listeners_close_once_the_ring_stands() {
    let job = Job::new(2);
    let ranks = job.run(job.ranks());
    assert!(TcpStream::connect(job.address()).is_err());
    // The port is free for the next job, though connections of this one are open.
    assert_works(job.run(job.ranks()));
    assert_works(ranks);
}
