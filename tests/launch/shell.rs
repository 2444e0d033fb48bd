//! Jobs whose ranks are shell scripts.

use std::ffi::OsString;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ssmv_raw::Result;
use ssmv_raw::launch::{Job, Layout, Outputs, Reporter, run};

/// Runs for twenty seconds, ready for signals: ranks of a test that fails end as well.
pub const LONG: &str = "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); sleep 0.02; done";

/// A job of `ranks` ranks on this machine, each of which runs `script`.
pub fn job(ranks: u32, script: &str) -> Job {
    Job {
        program: "/bin/sh".into(),
        arguments: ["-c", script, "rank"].map(OsString::from).to_vec(),
        layout: Layout { local_ranks: ranks, nodes: 1, node: 0 },
        address: "127.0.0.1".to_owned(),
        port: None,
        token: None,
        environment: Vec::new(),
        grace: Duration::from_millis(300),
        restarts: None,
    }
}

/// What the launcher said.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Vec<String>>);

impl Reporter for Heard {
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }

    fn warn(&self, line: &str) {
        self.note(line);
    }
}

/// How a job went.
#[derive(Debug)]
pub struct Ran {
    pub result: Result<()>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub said: Vec<String>,
    pub took: Duration,
}

impl Ran {
    /// The lines on stdout, sorted, as ranks print in any order.
    pub fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.stdout.clone()).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The exit code and the message of a job that must have failed.
    pub fn failed(&self) -> (u8, String) {
        let error = self.result.as_ref().expect_err("the job succeeded");
        (error.exit_code(), error.to_string())
    }

    /// Whether the launcher said this.
    pub fn said(&self, part: &str) -> bool {
        self.said.iter().any(|line| line.contains(part))
    }
}

/// Runs a job to its end.
pub fn ran(job: &Job) -> Ran {
    let (stdout, stderr) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let outputs = Outputs { stdout: stdout.clone(), stderr: stderr.clone() };
    let (heard, start) = (Heard::default(), Instant::now());
    let result = run(job, &outputs, &heard);
    let took = start.elapsed();
    let bytes = |sink: Arc<Mutex<Vec<u8>>>| sink.lock().unwrap().clone();
    Ran { result, stdout: bytes(stdout), stderr: bytes(stderr), said: heard.0.into_inner().unwrap(), took }
}
