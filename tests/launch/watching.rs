//! From the start of ranks to the end of the last.

use std::net::TcpListener;
use std::time::Duration;

use ssmv_raw::launch::{Layout, Secret};

use super::shell::{LONG, job, ran};

#[test]
fn ranks_learn_their_place_from_the_environment() {
    let script = "echo $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR $SSMV_RESTART $MINE $SSMV_PORT \
                  $SSMV_TOKEN";
    let mut job = job(2, script);
    job.layout = Layout { local_ranks: 2, nodes: 3, node: 1 };
    job.address = "node-0".to_owned();
    job.port = Some(4321);
    job.environment = vec![("MINE".to_owned(), "x".into())];
    let ran = ran(&job);
    ran.result.as_ref().unwrap();
    let lines = ran.lines();
    let token = lines[0].rsplit(' ').next().unwrap();
    assert!(token.len() == 64 && token.bytes().all(|digit| digit.is_ascii_hexdigit()), "{token}");
    assert_eq!(
        lines,
        [
            format!("[rank 2] 2 0 6 2 node-0 0 x 4321 {token}"),
            format!("[rank 3] 3 1 6 2 node-0 0 x 4321 {token}")
        ]
    );
}

#[test]
fn tokens_come_as_they_are_given_and_are_never_arguments() {
    for (token, expected) in [
        (Some(Secret::Text("abc".to_owned())), "abc,"),
        (Some(Secret::File("/a/token".into())), ",/a/token"),
        (Some(Secret::None), ","),
    ] {
        let mut job = job(1, "echo $SSMV_TOKEN,$SSMV_TOKEN_FILE");
        job.token = token;
        assert_eq!(ran(&job).lines(), [expected]);
    }
    let ran = ran(&job(1, "tr '\\0' ' ' < /proc/$$/cmdline > /dev/stderr; echo $SSMV_TOKEN"));
    let token = &ran.lines()[0];
    assert_eq!(token.len(), 64);
    assert!(!String::from_utf8(ran.stderr).unwrap().contains(token));
}

/// On other addresses than loopback, ranks have MACs whatever SSMV_MAC is.
#[test]
fn macs_are_off_on_loopback_with_a_token_of_the_launcher_only() {
    let file = || Some(Secret::File("/a/token".into()));
    for (token, given, expected) in [
        (None, None, "off"),
        (None, Some("on"), "on"),
        (file(), None, "unset"),
        (file(), Some("off"), "off"),
        (Some(Secret::Text("abc".to_owned())), None, "unset"),
        (Some(Secret::None), None, "unset"),
    ] {
        let mut job = job(1, "echo ${SSMV_MAC-unset}");
        let case = format!("{token:?} {given:?}");
        job.token = token;
        job.environment = given.map(|value| ("SSMV_MAC".to_owned(), value.into())).into_iter().collect();
        assert_eq!(ran(&job).lines(), [expected], "{case}");
    }
}

#[test]
fn the_first_failure_decides() {
    for (end, code, message) in [
        ("exit 7", 7, "rank 1 ended with exit code 7"),
        ("exit 2", 2, "rank 1 ended with exit code 2"),
        ("kill -KILL $$", 137, "rank 1 was ended by signal 9 (SIGKILL)"),
        ("kill -SEGV $$", 139, "rank 1 was ended by signal 11 (SIGSEGV)"),
    ] {
        // The others fail as well, a little later, as ranks do that lost one of theirs.
        let mut job = job(3, &format!("if [ $RANK = 1 ]; then {end}; fi; sleep 0.4; exit 1"));
        job.grace = Duration::from_secs(5);
        let ran = ran(&job);
        assert_eq!(ran.failed(), (code, message.to_owned()), "{end}");
        assert!(!ran.said("SIGTERM"), "{:?}", ran.said);
    }
}

#[test]
fn a_killed_rank_decides_even_if_one_that_noticed_ended_before_it() {
    let ran = ran(&job(2, "if [ $RANK = 1 ]; then sleep 0.1; kill -KILL $$; fi; exit 1"));
    assert_eq!(ran.failed(), (137, "rank 1 was ended by signal 9 (SIGKILL)".to_owned()));
}

#[test]
fn ranks_that_do_not_end_get_sigterm_after_the_grace() {
    let script = format!("if [ $RANK = 2 ]; then exit 5; fi; trap 'echo asked; exit 1' TERM; {LONG}");
    let ran = ran(&job(3, &script));
    assert_eq!(ran.failed().0, 5);
    assert_eq!(ran.lines(), ["[rank 0] asked", "[rank 1] asked"]);
    assert!(ran.said("SIGTERM to ranks 0, 1") && !ran.said("SIGKILL"), "{:?}", ran.said);
    assert!(ran.took >= Duration::from_millis(300) && ran.took < Duration::from_secs(5), "{:?}", ran.took);
}

#[test]
fn a_rank_that_ignores_sigterm_is_killed() {
    let script = format!("if [ $RANK = 0 ]; then exit 3; fi; trap '' TERM; {LONG}");
    let ran = ran(&job(2, &script));
    assert_eq!(ran.failed(), (3, "rank 0 ended with exit code 3".to_owned()));
    assert!(ran.said("SIGKILL to rank 1"), "{:?}", ran.said);
    assert!(ran.took >= Duration::from_secs(5) && ran.took < Duration::from_secs(9), "{:?}", ran.took);
}

#[test]
fn what_a_rank_leaves_behind_is_ended() {
    // The sleep has the outputs open, which must not keep the launcher.
    let ran = ran(&job(2, "sleep 60 & echo $!"));
    ran.result.as_ref().unwrap();
    assert!(ran.took < Duration::from_secs(10), "{:?}", ran.took);
    for line in ran.lines() {
        let process = line.rsplit(' ').next().unwrap().parse().unwrap();
        super::signals::wait_until_gone(process);
    }
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    let mut job = job(2, "");
    job.program = "/no/such/program".into();
    let (code, message) = ran(&job).failed();
    assert_eq!(code, 1);
    assert!(message.starts_with("cannot start rank 0, /no/such/program: "), "{message}");
}

#[test]
fn a_port_in_use_is_named_before_anything_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut job = job(2, "echo started");
    job.port = Some(address.port());
    let ran = ran(&job);
    let message = format!("{address} is in use: give another --master-port");
    assert_eq!(ran.failed(), (1, message));
    assert!(ran.stdout.is_empty());
}
