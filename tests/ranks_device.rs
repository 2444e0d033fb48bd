//! Trainings of several ranks on emulated devices as processes: every way that gradients travel gives the same bits, and
//! NCCL's failures end all ranks. NCCL is the stand-in of `comm/standin-nccl`.

#[path = "../comm/standin-nccl/built.rs"]
mod built;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

/// Two ranks that train nano for a few steps on the emulator, captured after the second.
fn train(out: &Path, options: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args([
        "launch", "--nproc", "2", "--grace", "20", "--", "train", "--preset", "nano", "--device", "emulator",
    ]);
    command.args([
        "--steps",
        "5",
        "--batch-size",
        "1",
        "--frames-in",
        "3",
        "--eval-sequences",
        "2",
        "--bucket-mib",
        "1",
    ]);
    command.args(["--check-ranks-every", "2", "--out"]).arg(out).args(options);
    for name in ["RANK", "WORLD_SIZE", "SSMV_NCCL", "STANDIN_FAIL", "STANDIN_HANG", "STANDIN_LOSE"] {
        command.env_remove(name);
    }
    // What the kernels do to memory is checked by their own tests.
    command.env("SSMV_EMULATOR_CHECKS", "none").envs(environment.iter().copied());
    command.output().expect("the program starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn checkpoint(out: &Path) -> [Vec<u8>; 2] {
    ["model.safetensors", "optimizer.safetensors"].map(|name| {
        fs::read(out.join("checkpoints/step-00000005").join(name)).expect("a finished run has it")
    })
}

#[test]
fn every_way_of_the_gradients_gives_the_same_bits() {
    let library = built::standin();
    let library = library.to_str().expect("a path in UTF-8");
    let folder = tempfile::tempdir().expect("a folder");
    let run = |name: &str, options: &[&str], environment: &[(&str, &str)], way: &str| {
        let out = folder.path().join(name);
        let output = train(&out, options, environment);
        assert!(output.status.success(), "{name}: {}", said(&output));
        assert!(said(&output).contains(way), "{name}: {}", said(&output));
        checkpoint(&out)
    };
    let staged = run("staged", &[], &[("SSMV_NCCL", "/none")], "by pinned memory and TCP");
    let ring = run("ring", &[], &[("SSMV_NCCL", library)], "by NCCL's sends and receives");
    assert!(staged == ring, "the ring adds up in one order, whatever carries it");
    // The sum of two does not depend on the order.
    let own = run("nccl", &["--comm", "nccl"], &[("SSMV_NCCL", library)], "by NCCL's all-reduce");
    assert!(staged == own, "NCCL's all-reduce of two ranks");
    let shared = run("shared", &["--zero", "1"], &[("SSMV_NCCL", "/none")], "by pinned memory and TCP");
    let own = run(
        "nccl-shared",
        &["--zero", "1", "--comm", "nccl"],
        &[("SSMV_NCCL", library)],
        "by NCCL's all-reduce",
    );
    assert!(shared == own, "shares of the update, by the ring and by NCCL");
    let launched = run("launched", &["--no-graph"], &[("SSMV_NCCL", "/none")], "by pinned memory and TCP");
    assert!(staged == launched, "captured in parts or launched one by one");
}

#[test]
fn ranks_end_nccl_in_good_order_and_abort_it_where_one_failed() {
    let library = built::standin();
    let library = library.to_str().expect("a path in UTF-8");
    let folder = tempfile::tempdir().expect("a folder");
    // How the communicators ended, in the order of the ranks.
    let ends = |name: &str, options: &[&str], order: (&str, &str)| {
        let log = folder.path().join(format!("{name}.log"));
        let log_path = log.to_str().expect("a path in UTF-8");
        let environment = [("SSMV_NCCL", library), ("STANDIN_LOG", log_path), order];
        let output = train(&folder.path().join(name), options, &environment);
        let log = fs::read_to_string(log).expect("both ranks ended a communicator");
        let mut lines: Vec<_> = log.lines().map(str::to_owned).collect();
        lines.sort();
        (output, lines)
    };
    for comm in ["ring", "nccl"] {
        let (output, ends) = ends(comm, &["--comm", comm], ("STANDIN_FAIL", ""));
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(ends, ["destroy 0", "destroy 1", "finalize 0", "finalize 1"], "{comm}");
    }
    // The rank that does not fail itself would leave work behind that spins.
    let options = ["--comm", "nccl", "--comm-timeout", "4"];
    let (output, ends) = ends("failed", &options, ("STANDIN_FAIL", "allreduce:9@1"));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(ends, ["abort 0", "abort 1"], "{}", said(&output));
}

#[test]
fn failures_of_nccl_end_all_ranks() {
    let library = built::standin();
    let library = library.to_str().expect("a path in UTF-8");
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        // Two all-reduces in the trial, two a step: the gradients and the loss. Two rounds of a send each for one of the ring's.
        ("fail", "nccl", ("STANDIN_FAIL", "allreduce:9@1"), "ncclSystemError"),
        ("hang", "nccl", ("STANDIN_HANG", "allreduce:9@1"), "all-reduce"),
        ("hang-trial", "nccl", ("STANDIN_HANG", "allreduce:2@1"), "all-reduce"),
        ("hang-ring", "ring", ("STANDIN_HANG", "send:8@0"), "send"),
        ("lose", "nccl", ("STANDIN_LOSE", "allreduce:5@1"), "all-reduce"),
    ];
    for (name, comm, order, words) in cases {
        let start = Instant::now();
        let options = ["--comm", comm, "--comm-timeout", "4"];
        let output = train(&folder.path().join(name), &options, &[("SSMV_NCCL", library), order]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        assert!(start.elapsed() < Duration::from_secs(60), "{name} took {:?}: {text}", start.elapsed());
        for rank in 0..2 {
            assert!(text.contains(&format!("[rank {rank}] error: ")), "{name}: {text}");
        }
        let errors: String = text.lines().filter(|line| line.contains("] error: ")).collect();
        assert!(errors.contains(words), "{name}: {text}");
    }
    let missing =
        train(&folder.path().join("none"), &["--comm", "nccl"], &[("SSMV_NCCL", "/none/libnccl.so")]);
    assert!(said(&missing).contains("/none/libnccl.so"), "{}", said(&missing));
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn a_resumed_training_of_shares_has_the_bits_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let none = [("SSMV_NCCL", "/none")];
    let (whole, halted) = (folder.path().join("whole"), folder.path().join("halted"));
    let output = train(&whole, &["--zero", "1", "--save-every-steps", "3", "--keep-last", "0"], &none);
    assert!(output.status.success(), "{}", said(&output));
    let third = whole.join("checkpoints/step-00000003");
    let output =
        train(&halted, &["--zero", "1", "--resume", third.to_str().expect("a path in UTF-8")], &none);
    assert!(output.status.success(), "{}", said(&output));
    assert!(checkpoint(&whole) == checkpoint(&halted), "resumed after step 3 of 5");
}
