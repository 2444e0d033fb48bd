//! Others at the master's port while it waits for a rank.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use super::job::{Process, assert_line, free_address, program, rank, rank_of, training};

#[test]
fn strangers_at_the_masters_port_are_dropped_and_the_job_finishes() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = training(&folder.path().join("run"), "--steps 2");
    let master = free_address();
    let mut zero = rank((0, 2), master, &arguments);
    zero.line(&["rank 0 waits for rank 1"]);
    let connect = || TcpStream::connect(master).unwrap();

    // Random bytes and HTTP.
    let noise: Vec<u8> = (0u32..4096).map(|i| (i.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
    for bytes in
        [&noise[..], b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nUser-Agent: curious\r\n\r\n"]
    {
        let mut stranger = connect();
        stranger.write_all(bytes).unwrap();
        stranger.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut answer = Vec::new();
        // The master closes at once, perhaps before it has read all.
        let _ = stranger.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{answer:?}");
    }
    zero.line(&["dropped a connection from 127.0.0.1:", "it did not send the greeting of a rank"]);

    // A rank of another job.
    let mut other = program();
    other.args(&arguments);
    let mut other = rank_of(other, (1, 2), master);
    other.env("SSMV_TOKEN", "f".repeat(64));
    let text = Process::start(other).ended_with(1);
    assert_line(&text, &["error: rank 1 of 2 ", &master.to_string(), "does not have this job's token"]);

    // A thousand, of whom many stay and say nothing.
    let mut silent = Vec::new();
    for i in 0..1000 {
        let stranger = connect();
        if i % 4 == 0 {
            silent.push(stranger);
        }
    }
    let one = rank((1, 2), master, &arguments);
    one.ended_with(0);
    let text = zero.ended_with(0);
    assert_line(&text, &["dropped ", " more connections"]);
    assert_line(&text, &["checkpoint"]);
    assert!(
        text.lines().filter(|line| line.contains("dropped")).count() < 80,
        "few lines about many:\n{text}"
    );
}

#[test]
fn ranks_of_one_user_share_a_token_and_another_user_cannot_join() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = training(&folder.path().join("run"), "--steps 2");
    let master = free_address();
    let start = |rank, runtime: &Path| {
        let mut command = program();
        command.args(&arguments);
        let mut command = rank_of(command, (rank, 2), master);
        command.env_remove("SSMV_TOKEN").env("XDG_RUNTIME_DIR", runtime);
        Process::start(command)
    };
    let [ours, theirs] = ["ours", "theirs"].map(|name| folder.path().join(name));
    for runtime in [&ours, &theirs] {
        DirBuilder::new().mode(0o700).create(runtime).unwrap();
    }
    let mut zero = start(0, &ours);
    zero.line(&["rank 0 waits for rank 1"]);
    // Another user cannot open the first folder and has another one.
    let text = start(1, &theirs).ended_with(1);
    assert_line(&text, &["error: rank 1 of 2 ", &master.to_string(), "does not have this job's token"]);
    start(1, &ours).ended_with(0);
    zero.ended_with(0);

    let file = ours.join(format!("ssmv-raw-{}.token", master.port()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let text = start(0, &ours).ended_with(1);
    assert_line(&text, &["error: rank 0 of 2 ", &file.display().to_string(), "0644", "chmod 600"]);
}

#[test]
fn ranks_on_several_machines_are_refused_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(training(&folder.path().join("run"), ""));
    let mut command = rank_of(command, (1, 2), free_address());
    command.env_remove("SSMV_TOKEN").env("LOCAL_RANK", "0").env("LOCAL_WORLD_SIZE", "1");
    let text = Process::start(command).ended_with(1);
    assert_line(&text, &["error: rank 1 of 2 ", "several machines", "set SSMV_TOKEN", "SSMV_TOKEN_FILE"]);
}
