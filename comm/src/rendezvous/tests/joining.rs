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
fn ranks_of_one_machine_share_a_token_file() {
    let job = Job::new(4);
    for _ in 0..2 {
        let ranks =
            job.ranks().into_iter().map(|(place, fingerprint, _)| (place, fingerprint, Security::default()));
        assert_works(job.run(ranks.collect()));
        let names = std::fs::read_dir(job.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), [format!("ssmv-raw-{}.token", job.port).as_str()]);
    }
}

#[test]
fn a_connection_has_macs_if_one_end_wants_them() {
    let address = "127.0.0.1:1".parse().unwrap();
    let without = Security { macs: false, ..trusted() };
    assert!(trusted().wants_macs(address) && !without.wants_macs(address));
    assert!(without.wants_macs("10.0.0.1:1".parse().unwrap()));
    assert!(!Security { token: None, ..trusted() }.wants_macs(address), "the key would be known");
    let job = Job::new(3);
    let mut ranks = job.ranks();
    ranks[1].2 = without;
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
