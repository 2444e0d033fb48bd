//! Signals to the launcher, and its death. The launcher is this test program, run once more.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ssmv_raw::launch::{Outputs, Restarts, run, watch_parent};

use super::shell::{Heard, LONG, job};

const SCRIPT: &str = "SSMV_TEST_LAUNCH_SCRIPT";
const RANK: &str = "SSMV_TEST_LAUNCH_RANK";

/// From this time after the first signal on, another one is a second request.
const SECOND_REQUEST: Duration = Duration::from_millis(1100);

/// The launcher; does nothing when it is run as a test.
#[test]
fn launcher() {
    let Some(script) = std::env::var_os(SCRIPT) else {
        return;
    };
    let mut job = job(2, script.to_str().unwrap());
    // A signal to the launcher ends the job for good.
    job.restarts = Some(Restarts { most: 3, out: "/no/such/run".into() });
    let result = run(&job, &Outputs::standard(), &Heard::default());
    std::process::exit(result.err().map_or(0, |e| e.exit_code().into()));
}

/// A rank that is tied to its launcher; does nothing when it is run as a test.
#[test]
fn rank() {
    if std::env::var_os(RANK).is_none() {
        return;
    }
    watch_parent().unwrap();
    println!("\nready {}", std::process::id());
    std::thread::sleep(Duration::from_secs(60));
}

struct Launcher {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

impl Launcher {
    /// Runs `script` as two ranks, and waits until both printed a line with `ready`, which are given as well.
    fn start(script: &str) -> (Self, Vec<String>) {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "signals::launcher", "--nocapture"])
            .env(SCRIPT, script)
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut launcher = Self { stdout: BufReader::new(process.stdout.take().unwrap()), process };
        let ready = launcher.lines("ready", 2);
        (launcher, ready)
    }

    /// The next `count` lines with `word` in them.
    fn lines(&mut self, word: &str, count: usize) -> Vec<String> {
        self.stdout
            .by_ref()
            .lines()
            .map(Result::unwrap)
            .filter(|line| line.contains(word))
            .take(count)
            .collect()
    }

    /// As a terminal does at Ctrl-C: to the launcher's whole process group.
    fn signal(&self, name: &str) {
        let signal = if name == "INT" { Signal::INT } else { Signal::TERM };
        kill_process_group(Pid::from_child(&self.process), signal).unwrap();
    }

    /// The rest of the output, and the exit code.
    fn end(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (rest, self.process.wait().unwrap().code())
    }
}

/// Waits until a process has ended, reaped or not.
pub fn wait_until_gone(process: u32) {
    let lives = || {
        // The state stands behind the name, which is in brackets.
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    };
    let end = Instant::now() + Duration::from_secs(5);
    while lives() {
        assert!(Instant::now() < end, "process {process} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn ranks_get_a_signal_once_and_the_launcher_ends_with_it() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        // Ranks save for a while, and are not hurried by the first that is done.
        let script = format!(
            "n=0; trap 'n=$((n+1)); i=1000' INT TERM; echo ready; {LONG}; \
             sleep 0.$((RANK * 8 + 1)); echo signals: $n; exit {code}"
        );
        let (launcher, _) = Launcher::start(&script);
        launcher.signal(name);
        let (rest, ended) = launcher.end();
        assert_eq!(ended, Some(code), "{name}");
        assert_eq!(rest, "[rank 0] signals: 1\n[rank 1] signals: 1\n", "{name}");
    }
}

#[test]
fn a_second_signal_is_passed_on() {
    let script = format!("trap 'trap \"exit 143\" TERM; echo first' INT; echo ready; {LONG}");
    let (mut launcher, _) = Launcher::start(&script);
    launcher.signal("INT");
    assert_eq!(launcher.lines("first", 2).len(), 2);
    std::thread::sleep(SECOND_REQUEST);
    launcher.signal("TERM");
    let (rest, ended) = launcher.end();
    assert_eq!((rest.as_str(), ended), ("", Some(130)));
}

#[test]
fn a_rank_that_ignores_two_signals_is_killed() {
    let script = format!("trap '' TERM; trap 'echo first' INT; echo ready; {LONG}");
    let (mut launcher, _) = Launcher::start(&script);
    launcher.signal("INT");
    assert_eq!(launcher.lines("first", 2).len(), 2);
    std::thread::sleep(SECOND_REQUEST);
    launcher.signal("TERM");
    let start = Instant::now();
    assert_eq!(launcher.end().1, Some(130));
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
}

#[test]
fn a_rank_that_cannot_save_is_not_taken_for_one_that_did() {
    let script = format!("trap 'exit 4' TERM; echo ready; {LONG}");
    let (launcher, _) = Launcher::start(&script);
    launcher.signal("TERM");
    assert_eq!(launcher.end().1, Some(4));
}

#[test]
fn ranks_that_were_done_when_the_signal_came_have_not_failed() {
    let script = format!("trap 'exit 0' TERM; echo ready; {LONG}");
    let (launcher, _) = Launcher::start(&script);
    launcher.signal("TERM");
    assert_eq!(launcher.end().1, Some(0));
}

#[test]
fn no_rank_survives_the_launcher() {
    let program = std::env::current_exe().unwrap();
    let script = format!("export {RANK}=1; exec {} --exact signals::rank --nocapture", program.display());
    let (mut launcher, ready) = Launcher::start(&script);
    launcher.process.kill().unwrap();
    launcher.process.wait().unwrap();
    for line in ready {
        wait_until_gone(line.rsplit(' ').next().unwrap().parse().unwrap());
    }
}

#[test]
fn a_rank_whose_launcher_has_ended_does_not_start() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "signals::rank", "--nocapture"])
        .env(RANK, "1")
        // Some other process: not the parent.
        .env("SSMV_LAUNCHER_PID", "1")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("the launcher, process 1, has ended"), "{text}");
}
