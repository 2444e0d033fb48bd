//! Processes that are ranks of one job and do as they are told.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// The ranks. Each reads orders, a line each, and answers with a line.
pub struct Team {
    ranks: Vec<(Child, BufReader<std::process::ChildStdout>)>,
    /// What rank 0 says once all are connected.
    pub greeting: String,
}

impl Team {
    /// Starts `size` of the processes that `command` makes of a rank and a port.
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

    /// Gives all ranks the order; rank 0's answer.
    pub fn ask(&mut self, order: &str) -> String {
        for (child, _) in &mut self.ranks {
            let input = child.stdin.as_mut().expect("its input is piped");
            writeln!(input, "{order}").and_then(|()| input.flush()).expect("the rank listens");
        }
        self.answer()
    }

    /// Waits for all ranks.
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
            // The end of its orders is the end of a rank.
            drop(child.stdin.take());
        }
        for (child, _) in &mut self.ranks {
            child.wait().expect("the rank ends");
        }
    }
}

/// The orders of a rank: its input, line by line, and its answers.
pub fn obey(greeting: &str, mut work: impl FnMut(&str) -> String) {
    println!("{greeting}");
    for order in std::io::stdin().lines() {
        println!("{}", work(&order.expect("orders are text")));
    }
}
