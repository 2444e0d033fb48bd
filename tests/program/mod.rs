//! Runs the program as a user does, for the tests of its commands.
#![allow(dead_code)]

use std::{
    path::Path,
    process::{Command, Output},
};

/// The program with arguments that are separated by spaces, in a folder.
pub fn program(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args(arguments.split_whitespace()).current_dir(folder);
    command
}

/// The output of a call, whether it succeeds or not.
pub fn run(folder: &Path, arguments: &str) -> Output {
    program(folder, arguments).output().unwrap()
}

/// stdout of a call that must succeed.
pub fn done(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Checks that a call failed with `code`, nothing on stdout, and one line on stderr with all of `parts` in it.
pub fn refused(output: &Output, code: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{stderr}");
    parts.iter().for_each(|part| assert!(stderr.contains(part), "{part:?} is not in: {stderr}"));
}
