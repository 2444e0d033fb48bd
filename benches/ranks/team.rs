//! Processes that are the ranks of a job and run commands of the benchmark.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// The ranks. Each reads commands from its input and answers each with a line.
pub struct Team {
    ranks: Vec<(Child, BufReader<std::process::ChildStdout>)>,
    /// Rank 0's first line, after all ranks are connected.
    pub greeting: String,
}

impl Team {
    /// Starts `size` processes; `command` makes the command of a rank and the port.
    pub fn start(size: usize, command: impl Fn(usize, u16) -> Command) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let start = |rank| {
            let mut child = command(rank, port)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the rank starts");
            let answers = BufReader::new(child.stdout.take().expect("its output is piped"));
            (child, answers)
        };
        let mut team = Self { ranks: (0..size).map(start).collect(), greeting: String::new() };
        team.greeting = team.answer();
        team
    }

    /// Sends all ranks a command, waits for all, and returns rank 0's answer.
    pub fn ask(&mut self, command: &str) -> String {
        for (child, _) in &mut self.ranks {
            let input = child.stdin.as_mut().expect("its input is piped");
            writeln!(input, "{command}").and_then(|()| input.flush()).expect("the rank listens");
        }
        self.answer()
    }

    /// Waits for a line of each rank and returns rank 0's.
    fn answer(&mut self) -> String {
        let mut lines = self.ranks.iter_mut().map(|(_, answers)| {
            let mut line = String::new();
            answers.read_line(&mut line).expect("the rank answers");
            assert!(line.ends_with('\n'), "a rank ended early");
            line.trim().to_owned()
        });
        let first = lines.next().expect("there is a rank");
        lines.for_each(drop);
        first
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        for (child, _) in &mut self.ranks {
            // A rank ends at the end of its input.
            drop(child.stdin.take());
        }
        for (child, _) in &mut self.ranks {
            child.wait().expect("the rank ends");
        }
    }
}

/// Answers each line of the input by `work`, after a greeting.
pub fn serve(greeting: &str, mut work: impl FnMut(&str) -> String) {
    println!("{greeting}");
    for command in std::io::stdin().lines() {
        println!("{}", work(&command.expect("commands are text")));
    }
}
