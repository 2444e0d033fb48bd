//! Joins that must fail, and the ranks' messages.

use super::super::acceptor::Acceptor;
use super::super::handshake::Purpose;
use super::*;
use std::time::Instant;

#[test]
fn fingerprints_that_differ_are_an_error_of_all_ranks_with_values() {
    let job = Job::new(4);
    let mut ranks = job.ranks();
    ranks[2].1 = fingerprint("b").with("extra", 1);
    for (rank, error) in errors(job.run(ranks)).iter().enumerate() {
        assert_eq!(
            *error,
            format!(
                "rank {rank} of 4 does not join the others: the ranks do not agree: data is \"a\" on ranks 0, 1 and 3, \
                 \"b\" on rank 2; extra is nothing on ranks 0, 1 and 3, \"1\" on rank 2"
            )
        );
    }
}

#[test]
fn another_number_of_ranks_is_refused_by_all() {
    for (sizes, text) in [
        ([3, 3, 4], "the number of ranks is 3 on rank 0, 4 on rank 2"),
        ([4, 3, 3], "the number of ranks is 4 on rank 0, 3 on ranks 1 and 2"),
        ([2, 3, 3], "the number of ranks is 2 on rank 0, 3 on ranks 1 and 2"),
    ] {
        let job = Job::new(4);
        let mut ranks = job.ranks();
        ranks.truncate(3);
        for (rank, size) in ranks.iter_mut().zip(sizes) {
            (rank.0.size, rank.0.local_size) = (size, size);
        }
        for error in errors(job.run(ranks)) {
            assert!(error.ends_with(text), "{error}");
        }
    }
}

#[test]
fn a_rank_that_joins_twice_is_named_by_all() {
    let job = Job::new(3);
    let mut ranks = job.ranks();
    ranks[2].0 = job.place(1);
    for error in errors(job.run(ranks)) {
        assert!(error.contains("there is more than one rank 1: "), "{error}");
    }
}

#[test]
fn missing_ranks_are_named_by_all_others() {
    let mut job = Job::new(4);
    job.settings.timeout = Duration::from_millis(600);
    job.settings.quiet = Duration::from_millis(300);
    let mut ranks = job.ranks();
    ranks.remove(3);
    ranks.remove(1);
    for error in errors(job.run(ranks)) {
        assert!(error.contains("ranks 1 and 3 are missing after 0.6 s"), "{error}");
    }
    assert_eq!(job.said(), "rank 0 waits for ranks 1 and 3");
}

#[test]
fn a_missing_master_is_named() {
    let mut job = Job::new(2);
    job.settings.timeout = Duration::from_millis(300);
    let error = job.join(&job.place(1), &fingerprint("a"), &trusted()).unwrap_err().to_string();
    let expected = format!("rank 0, the master at 127.0.0.1:{}, cannot be reached for 0.3 s", job.port);
    assert!(error.contains(&expected) && error.contains("refused"), "{error}");
}

#[test]
fn a_rank_with_another_token_cannot_join() {
    let mut job = Job::new(2);
    job.settings.timeout = Duration::from_millis(600);
    let other = Security { token: Some(Token::random().unwrap()), ..trusted() };
    for security in [other, Security::default()] {
        let mut ranks = job.ranks();
        ranks[1].2 = security;
        let errors = errors(job.run(ranks));
        assert!(errors[0].contains("rank 1 is missing"), "{errors:?}");
        let expected = format!("127.0.0.1:{} does not have this job's token", job.port);
        assert!(errors[1].contains(&expected), "{errors:?}");
        assert!(job.said().contains("dropped a connection from 127.0.0.1:"), "{}", job.said());
    }
}

#[test]
fn without_a_token_several_machines_are_refused_at_once() {
    let job = Job::new(2);
    for (rank, master) in [(0, "203.0.113.77"), (1, "203.0.113.77"), (0, "127.0.0.1"), (1, "127.0.0.1")] {
        let place = Place { master: master.into(), local_rank: 0, local_size: 1, ..job.place(rank) };
        let start = Instant::now();
        let error = job.join(&place, &fingerprint("a"), &Security::default()).unwrap_err().to_string();
        for part in ["several machines", "without a token", "SSMV_TOKEN", "--insecure"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    let security = Security { insecure: true, ..Security::default() };
    // An address reserved for documentation: no machine has it.
    let place = Place { master: "203.0.113.77".into(), ..job.place(0) };
    let error = job.join(&place, &fingerprint("a"), &security).unwrap_err().to_string();
    assert!(error.contains("203.0.113.77") && error.contains("not this machine's"), "{error}");
}

#[test]
fn a_port_in_use_is_named_within_a_second() {
    let job = Job::new(2);
    let _taken = TcpListener::bind(job.address()).unwrap();
    let start = Instant::now();
    let error = job.join(&job.place(0), &fingerprint("a"), &trusted()).unwrap_err().to_string();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(error.contains(&format!("127.0.0.1:{}: the port is in use", job.port)), "{error}");
}

#[test]
fn addresses_that_cannot_be_a_masters_are_refused() {
    for (master, text) in [
        ("0.0.0.0", "every interface"),
        ("::", "every interface"),
        ("no host", "cannot be found"),
        ("", "not the address of a master"),
    ] {
        let job = Job::new(2);
        let place = Place { master: master.into(), ..job.place(0) };
        let error = job.join(&place, &fingerprint("a"), &trusted()).unwrap_err().to_string();
        assert!(error.contains(text), "{master}: {error}");
    }
}

#[test]
fn impossible_places_and_cards_are_refused() {
    let job = Job::new(2);
    let place = job.place(1);
    for (place, text) in [
        (Place { rank: 2, ..place.clone() }, "rank 2 is not one of 2 ranks"),
        (Place { size: 70_000, ..place.clone() }, "70000 ranks are more than 65,535"),
        (Place { local_rank: 2, ..place.clone() }, "local rank 2 of 2"),
        (Place { local_size: 3, ..place.clone() }, "local rank 1 of 3"),
        (Place { port: 0, ..place.clone() }, "port 0"),
    ] {
        let error = job.join(&place, &fingerprint("a"), &trusted()).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    let many = (0..65).fold(Fingerprint::new(), |fingerprint, i| fingerprint.with(&i.to_string(), i));
    for (fingerprint, text) in
        [(many, "65 fields"), (fingerprint(&"x".repeat(513)), "field \"data\" is too long: 513 bytes")]
    {
        let error = job.join(&place, &fingerprint, &trusted()).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn a_master_that_dies_is_named() {
    let job = Job::new(2);
    let listener = TcpListener::bind(job.address()).unwrap();
    let mut acceptor = Acceptor::new(listener, Purpose::Join, 0, &trusted(), &job.settings).unwrap();
    thread::scope(|scope| {
        let rank = scope.spawn(|| job.join(&job.place(1), &fingerprint("a"), &trusted()));
        while acceptor.poll().is_empty() {
            thread::sleep(POLL);
        }
        let error = rank.join().unwrap().unwrap_err().to_string();
        assert!(error.contains(&format!("the master at 127.0.0.1:{}, is gone", job.port)), "{error}");
    });
}
