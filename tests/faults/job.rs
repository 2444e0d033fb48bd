//! Jobs of the program: started, watched and ended.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that is promised no limit, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// What ranks that were started by hand have in common.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What a training here is, unless a test says otherwise.
const SMALL: [(&str, &str); 6] = [
    ("--preset", "nano"),
    ("--batch-size", "1"),
    ("--eval-sequences", "2"),
    ("--save-every", "0"),
    ("--warmup", "0"),
    ("--threads", "1"),
];

/// A short training of the smallest model into `out`, with these further arguments.
pub fn training(out: &Path, more: &str) -> Vec<String> {
    let more: Vec<_> = more.split_whitespace().collect();
    let small = SMALL
        .iter()
        .filter(|(option, _)| !more.contains(option))
        .flat_map(|&(option, value)| [option, value]);
    let words = ["train"].into_iter().chain(small).chain(more.iter().copied()).map(str::to_owned);
    words.chain(["--out".into(), out.display().to_string()]).collect()
}

/// As many steps as no test waits for.
pub const ENDLESS: &str = "--steps 100000";

/// The program with nothing of a job in its environment.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.env_remove("SSMV_TOKEN").env_remove("SSMV_TOKEN_FILE");
    command
}

/// `launch` of so many ranks, with options of its own, of a training.
pub fn launch(ranks: usize, options: &str, training: &[String]) -> Command {
    let mut command = program();
    command.args(["launch", "--nproc", &ranks.to_string()]);
    command.args(options.split_whitespace()).arg("--").args(training);
    command
}

/// Rank `rank` of `size`, as a user starts it by hand: `command` with rank 0's address in its environment.
pub fn rank_of(mut command: Command, (rank, size): (usize, usize), master: SocketAddr) -> Command {
    let (rank, size) = (rank.to_string(), size.to_string());
    command.envs([
        ("RANK", &rank),
        ("LOCAL_RANK", &rank),
        ("WORLD_SIZE", &size),
        ("LOCAL_WORLD_SIZE", &size),
    ]);
    command.env("MASTER_ADDR", master.ip().to_string()).env("SSMV_PORT", master.port().to_string());
    command.env("SSMV_TOKEN", TOKEN);
    command
}

/// A rank of a training on this machine, started by hand.
pub fn rank(place: (usize, usize), master: SocketAddr, training: &[String]) -> Process {
    let mut command = program();
    command.args(training);
    Process::start(rank_of(command, place, master))
}

/// An address of this machine without a listener.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A process of the program, whose lines on both outputs are kept. It ends with this value.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers = vec![keep(stdout, Arc::clone(&lines)), keep(stderr, Arc::clone(&lines))];
        Self { child, lines, readers }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// How many lines there are so far.
    pub fn lines(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// Waits for a line with all of `parts`.
    pub fn line(&mut self, parts: &[&str]) -> String {
        self.line_after(0, parts)
    }

    /// The same, of the lines after the first `known`.
    pub fn line_after(&mut self, known: usize, parts: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let found = find(&self.lines.lock().unwrap()[known..], parts);
            if let Some(line) = found {
                return line;
            }
            let over =
                self.child.try_wait().unwrap().is_some() && self.readers.iter().all(JoinHandle::is_finished);
            assert!(!over && begun.elapsed() < PATIENCE, "no line with {parts:?} in:\n{}", self.text());
            thread::sleep(LOOK);
        }
    }

    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// The processes of the ranks of this launcher, once there are `count`.
    pub fn ranks(&self, count: usize) -> Vec<u32> {
        let begun = Instant::now();
        loop {
            let found = ranks_of(self.id());
            if found.len() == count && found.keys().copied().eq(0..count) {
                return found.into_values().collect();
            }
            assert!(begun.elapsed() < PATIENCE, "{found:?} are not {count} ranks:\n{}", self.text());
            thread::sleep(LOOK);
        }
    }

    /// Waits for the end. Gives the exit code, -1 after a signal, and all lines.
    pub fn end(mut self) -> (i32, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.text());
            thread::sleep(LOOK);
        };
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        (status.code().unwrap_or(-1), self.text())
    }

    /// Waits for an end with this code; gives all lines.
    pub fn ended_with(self, code: i32) -> String {
        let (ended, text) = self.end();
        assert_eq!(ended, code, "{text}");
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep(output: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    })
}

fn find(lines: &[String], parts: &[&str]) -> Option<String> {
    lines.iter().find(|line| parts.iter().all(|part| line.contains(part))).cloned()
}

/// Checks that there is a line with all of `parts`.
pub fn assert_line(text: &str, parts: &[&str]) {
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    assert!(find(&lines, parts).is_some(), "no line with {parts:?} in:\n{text}");
}

pub fn signal(process: u32, name: &str) {
    let signal = match name {
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        "INT" => Signal::INT,
        "TERM" => Signal::TERM,
        "KILL" => Signal::KILL,
        "HUP" => Signal::HUP,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "XCPU" => Signal::XCPU,
        other => panic!("no signal {other}"),
    };
    let process = Pid::from_raw(process.try_into().unwrap()).unwrap();
    kill_process(process, signal).unwrap();
}

/// Ranks by their number: the processes that have this launcher in their environment.
fn ranks_of(launcher: u32) -> BTreeMap<usize, u32> {
    let owner = format!("SSMV_LAUNCHER_PID={launcher}");
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let rank = |process: &u32| {
        let environment = fs::read(format!("/proc/{process}/environ")).ok()?;
        let variables: Vec<_> = environment.split(|&byte| byte == 0).collect();
        let rank = variables.iter().find_map(|variable| variable.strip_prefix(b"RANK="))?;
        variables.contains(&owner.as_bytes()).then(|| String::from_utf8_lossy(rank).parse().unwrap())
    };
    processes.filter_map(|process: u32| Some((rank(&process)?, process))).collect()
}

/// Whether a process has ended, reaped or not.
pub fn is_gone(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    state.is_empty() || state.starts_with(['Z', 'X'])
}

/// Waits until these processes have ended, which must be within `limit`.
pub fn assert_gone_within(processes: &[u32], limit: Duration) {
    let begun = Instant::now();
    while !processes.iter().all(|&process| is_gone(process)) {
        assert!(begun.elapsed() < limit, "of {processes:?} some are there after {limit:?}");
        thread::sleep(LOOK);
    }
}

/// Waits until a run has recorded so many steps.
pub fn wait_for_steps(run: &Path, steps: usize, job: &Process) {
    let begun = Instant::now();
    while recorded(run).len() < steps {
        assert!(!is_gone(job.id()), "{}", job.text());
        assert!(begun.elapsed() < PATIENCE, "no {steps} steps in time:\n{}", job.text());
        thread::sleep(LOOK);
    }
}

/// Each recorded step with its loss.
pub fn recorded(run: &Path) -> Vec<(u64, f64)> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    // The last line may be half written.
    let records = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    records.filter_map(|record| Some((record["step"].as_u64()?, record["loss"].as_f64()?))).collect()
}

/// The names in a run's folder of checkpoints, sorted; hidden ones as well.
pub fn checkpoints(run: &Path) -> Vec<String> {
    let entries = fs::read_dir(run.join("checkpoints")).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
