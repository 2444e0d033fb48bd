//! Ranks that stop, that are slow, and a link that goes down.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::job::{
    ENDLESS, Process, TOKEN, assert_gone_within, assert_line, free_address, launch, program, rank, rank_of,
    signal, training, wait_for_steps,
};

#[test]
fn a_stopped_rank_is_warned_of_at_a_quarter_and_named_at_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let arguments = training(&run, &format!("{ENDLESS} --comm-timeout 4"));
    let mut job = Process::start(launch(3, "--grace 2", &arguments));
    wait_for_steps(&run, 3, &job);
    let ranks = job.ranks(3);
    let known = job.lines();
    signal(ranks[1], "STOP");
    let stopped = Instant::now();
    job.line_after(known, &["[rank 2] rank 2: ", "for rank 1 to send", "giving up after 4.0 s"]);
    let warned = stopped.elapsed();
    assert!(warned >= Duration::from_millis(700) && warned < Duration::from_millis(3500), "{warned:?}");
    // Rank 0 waits for rank 2, and knows that it is not the one.
    job.line_after(known, &["[rank 0] rank 0: ", "for rank 2 to send, which waits for rank 1"]);
    assert_gone_within(&[ranks[0], ranks[2]], Duration::from_secs(6));
    let ended = stopped.elapsed();
    assert!(ended >= Duration::from_millis(3700), "{ended:?}");
    // Rank 1 is stopped still: the launcher ends it.
    let text = job.ended_with(1);
    assert_line(&text, &["[rank 2] error: rank 2: ", "rank 1 sends nothing for "]);
    assert_line(&text, &["[rank 0] error: rank 0: ", "rank 1 sends nothing for "]);
    assert_line(&text, &["SIGKILL to rank 1, still running"]);
}

#[test]
fn a_slow_rank_delays_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut job = Process::start(launch(2, "", &training(&run, ENDLESS)));
    wait_for_steps(&run, 1, &job);
    let slow = job.ranks(2)[1];
    let begun = Instant::now();
    // It runs for a fifth of the time.
    while !job.text().contains("rank 1 is slow: it computes ") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", job.text());
        signal(slow, "STOP");
        thread::sleep(Duration::from_millis(40));
        signal(slow, "CONT");
        thread::sleep(Duration::from_millis(10));
    }
    job.line(&["[rank 0] warning: rank 1 is slow", "all wait for it"]);
    job.signal("TERM");
    job.ended_with(143);
}

/// Two ranks on two machines, as far as the network is concerned: each in a network namespace of its own, with a link
/// between them that goes down after the third step. `$1`: the file of the steps; then the command of a rank.
const MACHINES: &str = r#"
steps=$1; shift
ip link set lo up
unshare --net sleep 300 >/dev/null 2>&1 &
other=$!
trap 'kill $other 2>/dev/null' EXIT
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
ip link add near type veth peer name far netns $other
ip addr add 10.77.0.1/24 dev near
ip link set near up
nsenter --net --target $other sh -c 'ip link set lo up; ip addr add 10.77.0.2/24 dev far; ip link set far up'
export SSMV_LAUNCHER_PID=$$ # the ranks end with this script
RANK=0 "$@" &
zero=$!
RANK=1 nsenter --net --target $other "$@" &
one=$!
until [ -f "$steps" ] && [ "$(wc -l < "$steps")" -ge 3 ]; do
    kill -0 $zero || exit 3
    sleep 0.05
done
ip link set near down
echo the link is down
wait $zero $one
"#;

#[test]
fn a_link_that_is_down_is_warned_of_at_a_quarter_and_ends_both_ranks_at_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Where this user may not, in a namespace of users where that user may. What the script needs is tried.
    let ways = [&["--net"][..], &["--net", "--map-root-user"]];
    let needed = "ip link set lo up && ip link add a type veth peer name b && command -v nsenter";
    let allows = |way: &&&[&str]| {
        let tried = Command::new("unshare").args(**way).args(["sh", "-c", needed]).output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    let Some(way) = ways.iter().find(allows) else {
        eprintln!(
            "network namespaces are refused here, or `ip`, `unshare`, `nsenter` are missing: a wire that holds back \
             stands for the link alone (wire.rs)"
        );
        return;
    };
    let mut command = Command::new("unshare");
    command.args(*way);
    command.args(["sh", "-c", MACHINES, "machines"]).arg(run.join("metrics.jsonl"));
    command.arg(program().get_program()).args(training(&run, &format!("{ENDLESS} --comm-timeout 4")));
    command.envs([("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1")]);
    command.envs([("MASTER_ADDR", "10.77.0.1"), ("SSMV_PORT", "29400"), ("SSMV_TOKEN", TOKEN)]);
    let mut job = Process::start(command);
    job.line(&["the link is down"]);
    let known = job.lines();
    let down = Instant::now();
    for (rank, other) in [(0, 1), (1, 0)] {
        job.line_after(
            known,
            &[&format!("rank {rank}: "), "waiting ", &format!("for rank {other}"), "after 4.0 s"],
        );
    }
    assert!(down.elapsed() < Duration::from_millis(3500), "{:?}", down.elapsed());
    let (_, text) = job.end();
    let ended = down.elapsed();
    assert!(ended > Duration::from_millis(3500) && ended < Duration::from_secs(8), "{ended:?}\n{text}");
    for (rank, other) in [(0, 1), (1, 0)] {
        assert_line(&text, &[&format!("error: rank {rank}: "), &format!("rank {other} "), "nothing for "]);
    }
}

#[test]
fn lines_of_ranks_that_share_an_output_stay_whole() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let arguments = training(&run, &format!("{ENDLESS} --comm-timeout 4"));
    let master = free_address();
    // One message for each time that something is written.
    let (output, listener) = UnixDatagram::pair().unwrap();
    let mut command = rank_of(program(), (0, 2), master);
    command.args(&arguments).stderr(Stdio::from(OwnedFd::from(output)));
    let mut zero = command.spawn().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let reader = thread::spawn({
        let ended = Arc::clone(&ended);
        move || all_messages(&listener, &ended)
    });
    // A stranger, who says nothing and goes.
    while TcpStream::connect(master).is_err() {
        thread::sleep(Duration::from_millis(5));
    }
    let one = rank((1, 2), master, &arguments);
    wait_for_steps(&run, 2, &one);
    one.signal("STOP");
    assert!(!zero.wait().unwrap().success());
    ended.store(true, Ordering::SeqCst);
    let written = reader.join().unwrap();
    assert!(written.iter().all(|line| line.ends_with('\n')), "{written:?}");
    let text = written.concat();
    assert_line(&text, &["dropped a connection from"]);
    assert_line(&text, &["for rank 1 to send; giving up after 4.0 s"]);
    assert_line(&text, &["error: rank 0: ", "rank 1 sends nothing for "]);
}

/// What comes until there is nothing more after `ended`.
fn all_messages(socket: &UnixDatagram, ended: &AtomicBool) -> Vec<String> {
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (mut messages, mut message) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let last = ended.load(Ordering::SeqCst);
        match socket.recv(&mut message) {
            Ok(bytes) => messages.push(String::from_utf8(message[..bytes].to_vec()).unwrap()),
            Err(_) if last => return messages,
            Err(_) => {}
        }
    }
}
