//! `ssmv-raw launch` as a user meets it.

use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::signals::wait_until_gone;

fn program(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args(arguments.split_whitespace());
    for name in ["SSMV_TOKEN", "SSMV_TOKEN_FILE"] {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &str) -> Output {
    program(arguments).output().unwrap()
}

/// Checks that the run failed with `code`, nothing on stdout, and one line on stderr with all of `parts` in it.
fn refused(output: &Output, code: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    parts.iter().for_each(|part| assert!(stderr.contains(part), "{part:?} is not in: {stderr}"));
}

#[test]
fn ranks_print_what_the_command_prints() {
    let plain = String::from_utf8(run("train --print-config").stdout).unwrap();
    assert!(plain.lines().count() > 5, "{plain}");
    let one = run("launch --nproc 1 -- train --print-config");
    assert_eq!(one.status.code(), Some(0));
    assert_eq!(String::from_utf8(one.stdout).unwrap(), plain);
    let two = run("-q launch --nproc 2 -- train --print-config");
    assert_eq!(two.status.code(), Some(0));
    assert!(two.stderr.is_empty(), "{}", String::from_utf8_lossy(&two.stderr));
    let two = String::from_utf8(two.stdout).unwrap();
    for rank in 0..2 {
        let prefix = format!("[rank {rank}] ");
        let lines: Vec<_> = two.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
        assert_eq!(lines, plain.lines().collect::<Vec<_>>());
    }
}

#[test]
fn without_a_gpu_auto_is_a_single_rank() {
    let output = program("launch --nproc auto -- info").env("CUDA_VISIBLE_DEVICES", "").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, run("info").stdout);
}

#[test]
fn the_command_needs_no_dashes_before_it() {
    let [with, without] = ["launch --nproc 1 -- info --json", "launch --nproc 1 info --json"].map(run);
    assert_eq!(without.status.code(), Some(0), "{}", String::from_utf8_lossy(&without.stderr));
    assert!(!without.stdout.is_empty());
    assert_eq!(without.stdout, with.stdout);
}

#[test]
fn wrong_usage_is_one_line() {
    for (arguments, parts) in [
        ("launch -- info", &["--nproc"][..]),
        ("launch --nproc 0 -- info", &["--nproc", "1 to 1024"]),
        ("launch --nproc 2", &["COMMAND"]),
        ("launch --nproc 2 --bogus info", &["--bogus"]),
        ("launch --nproc 2 launch --nproc 2 info", &["launch cannot start launch"]),
        ("launch --nproc 2 tarin", &["the command of a rank", "'tarin'", "'train'"]),
        ("launch --nproc 2 train --batchsize 3", &["the command of a rank", "'--batch-size'"]),
        ("launch --nproc 2 -- tarin", &["the command of a rank", "'tarin'", "'train'"]),
        ("launch --nproc 2 -- train --batchsize 3", &["the command of a rank", "'--batch-size'"]),
        ("launch --nproc 2 -- launch --nproc 2 -- info", &["launch cannot start launch"]),
        ("launch --nproc 2 --master-port 0 -- info", &["--master-port"]),
        ("launch --nproc 2 --max-restarts 1 -- train", &["--max-restarts", "--out"]),
        ("launch --nproc 2 --max-restarts 1 -- info", &["--max-restarts", "train"]),
        ("launch --nproc 2 --node-rank 1 -- info", &["--node-rank 1", "--nnodes 1"]),
        ("launch --nproc 2 --nnodes 2 -- info", &["--node-rank"]),
        ("launch --nproc 2 --nnodes 2 --node-rank 1 -- info", &["--master-addr"]),
        ("launch --nproc 2 --nnodes 2 --node-rank 1 --master-addr a -- info", &["--master-port"]),
        (
            "launch --nproc 2 --nnodes 2 --node-rank 1 --master-addr a --master-port 29400 -- info",
            &["token", "openssl rand -hex 32", "--token-file"],
        ),
    ] {
        refused(&run(arguments), 2, parts);
    }
}

#[test]
fn a_token_file_must_be_there() {
    refused(&run("launch --nproc 1 --token-file /no/such/token -- info"), 1, &["/no/such/token", "token"]);
}

#[test]
fn a_second_machine_starts_its_ranks_with_a_token_from_the_environment() {
    let arguments = "launch --nproc 1 --nnodes 2 --node-rank 1 --master-addr a --master-port 29400 -- info";
    let output = program(arguments).env("SSMV_TOKEN", "0".repeat(64)).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(output.stdout.starts_with(b"[rank 1] "));
    assert!(stderr.contains("1 of 2 ranks, node 1 of 2, rank 0 at a:29400"), "{stderr}");
}

#[test]
fn a_ranks_exit_code_is_the_launchers() {
    // Wrong usage that only the command itself can see.
    let output = run("launch --nproc 2 -- train --resume");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("] error: --resume needs a PATH"), "{stderr}");
    assert!(stderr.lines().last().unwrap().ends_with("ended with exit code 2"), "{stderr}");
}

#[test]
fn a_port_in_use_is_an_error_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let start = Instant::now();
    let output = run(&format!("launch --nproc 2 --master-port {} -- info", address.port()));
    refused(&output, 1, &[&address.to_string(), "in use", "--master-port"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// A training of one rank under the launcher, once it has made its run folder; and the rank's process.
fn training(out: &Path) -> (Child, u32) {
    let train = "train --steps 100000 --warmup 0 --save-every 0 --batch-size 1";
    let launcher = program(&format!("launch --nproc 1 -- {train} --out {}", out.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while !out.join("config.toml").exists() {
        assert!(Instant::now() < end, "the training did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let children = format!("/proc/{0}/task/{0}/children", launcher.id());
    let rank = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    (launcher, rank)
}

#[test]
fn a_training_does_not_survive_the_launcher() {
    let folder = tempfile::tempdir().unwrap();
    let (mut launcher, rank) = training(&folder.path().join("run"));
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    wait_until_gone(rank);
}

#[test]
fn a_training_saves_when_the_launcher_is_asked_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let (mut launcher, rank) = training(&out);
    kill_process(Pid::from_child(&launcher), Signal::TERM).unwrap();
    assert_eq!(launcher.wait().unwrap().code(), Some(143));
    wait_until_gone(rank);
    let checkpoints = std::fs::read_dir(out.join("checkpoints")).unwrap();
    assert_eq!(checkpoints.count(), 1);
}
