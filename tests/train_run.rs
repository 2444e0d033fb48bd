//! Whole trainings of `nano` through the program: what they leave behind, and that an interruption changes no bit.

use rustix::process::{Pid, Signal, kill_process};
use ssmv_autograd::bf16_available;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const STEPS: &str = "14";

/// `train` of a nano model, short and with everything on that a resumption could get wrong.
fn train(out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args(["train", "--preset", "nano", "--steps", STEPS, "--batch-size", "4", "--accumulate", "2"]);
    command.args(["--sequences", "40", "--eval-sequences", "4", "--clip-norm", "0.5", "--ema", "0.9"]);
    command.args(["--save-every-steps", "3", "--keep-last", "0", "--seed", "3", "--quiet", "--out"]).arg(out);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(mut command: Command) -> Output {
    let output = command.output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    output
}

/// The files of the last checkpoint that bits are compared of.
fn last_checkpoint(run: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = run.join("checkpoints/step-00000014");
    ["model.safetensors", "optimizer.safetensors"]
        .map(|name| (folder.join(name), fs::read(folder.join(name)).expect("a finished run has it")))
        .to_vec()
}

fn assert_same_end(a: &Path, b: &Path) {
    for ((left, x), (right, y)) in last_checkpoint(a).iter().zip(&last_checkpoint(b)) {
        assert!(x == y, "{} and {} differ", left.display(), right.display());
    }
    let metrics = |run: &Path| {
        let text = fs::read_to_string(run.join("metrics.jsonl")).expect("a run has a log");
        let records = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON"));
        records.filter_map(|r| Some((r["step"].as_u64()?, r["loss"].as_f64()?))).collect::<Vec<_>>()
    };
    let (left, right) = (metrics(a), metrics(b));
    assert_eq!(left.len(), 14, "one record a step");
    assert_eq!(left, right, "the log of losses");
}

/// Waits until the run has logged `steps` steps.
fn wait_for_steps(run: &Path, child: &mut Child, steps: usize) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let lines = fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |t| t.lines().count());
        if lines >= steps {
            return;
        }
        if let Some(status) = child.try_wait().expect("a child") {
            panic!("ended with {status} after {lines} records");
        }
        assert!(Instant::now() < deadline, "no {steps} records in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn signal(child: &Child, name: &str) {
    let signal = match name {
        "-KILL" => Signal::KILL,
        "-INT" => Signal::INT,
        _ => Signal::TERM,
    };
    kill_process(Pid::from_child(child), signal).expect("the child is there");
}

fn resume(run: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args(["train", "--quiet", "--out"]).arg(run).arg("--resume");
    finish(command);
}

#[test]
fn an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole");
    finish(train(&whole));

    // Killed without warning: goes on from the last checkpoint.
    let killed = folder.path().join("killed");
    let mut child = train(&killed).spawn().expect("the program starts");
    wait_for_steps(&killed, &mut child, 5);
    signal(&child, "-KILL");
    child.wait().expect("a child");
    resume(&killed);
    assert_same_end(&whole, &killed);

    // Asked to stop: saves where it is. More threads do not change a bit either.
    for (name, code) in [("-TERM", 143), ("-INT", 130)] {
        let asked = folder.path().join(name);
        let mut command = train(&asked);
        command.args(["--threads", "3"]);
        let mut child = command.spawn().expect("the program starts");
        wait_for_steps(&asked, &mut child, 4);
        signal(&child, name);
        let output = child.wait_with_output().expect("a child");
        let stderr = String::from_utf8_lossy(&output.stderr);
        // A signal that comes after the last step finds the run finished.
        if output.status.success() {
            continue;
        }
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains("--resume"), "{stderr}");
        resume(&asked);
        assert_same_end(&whole, &asked);
    }
}

#[test]
fn a_training_in_bf16_has_the_same_bits_with_any_threads_and_after_a_resumption() {
    if !bf16_available() {
        eprintln!("skipped: this processor has no products of bf16 (avx512_bf16)");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let [one, two, killed] = ["one", "two", "killed"].map(|name| folder.path().join(name));
    let in_bf16 = |run: &Path, threads: &str| {
        let mut command = train(run);
        command.args(["--device", "cpu", "--precision", "bf16", "--threads", threads]);
        command
    };
    finish(in_bf16(&one, "1"));
    finish(in_bf16(&two, "2"));
    assert_same_end(&one, &two);
    let in_f32 = folder.path().join("in f32");
    finish(train(&in_f32));
    assert!(last_checkpoint(&one)[0].1 != last_checkpoint(&in_f32)[0].1, "bf16 has the bits of f32");
    let mut child = in_bf16(&killed, "2").spawn().expect("the program starts");
    wait_for_steps(&killed, &mut child, 5);
    signal(&child, "-KILL");
    child.wait().expect("a child");
    resume(&killed);
    assert_same_end(&one, &killed);

    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args(["train", "--steps", "15", "--precision", "f32", "--resume", "--out"]).arg(&two);
    let stderr = String::from_utf8_lossy(&finish(command).stderr).into_owned();
    assert!(stderr.contains("--precision: \"bf16\" → \"f32\""), "{stderr}");
}

#[test]
fn a_run_leaves_its_configuration_log_checkpoint_and_preview() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    let mut command = train(&run);
    command.arg("--json");
    let output = finish(command);
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a summary in JSON");
    assert_eq!(summary["steps"], 14);
    assert!(summary["evaluation"]["next"]["black"]["mean"]["mse"].as_f64().expect("a number") > 1.0);
    let events = fs::read_dir(run.join("tensorboard")).expect("event files").count();
    assert_eq!(events, 1);
    for file in ["config.toml", "metrics.jsonl", "preview.gif", "checkpoints/step-00000014/state.json"] {
        assert!(fs::metadata(run.join(file)).expect(file).len() > 0, "{file}");
    }
    // Its own configuration starts the same run again.
    let again = folder.path().join("again");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args(["train", "--quiet", "--config"]).arg(run.join("config.toml")).arg("--out").arg(&again);
    finish(command);
    assert_same_end(&run, &again);
}

#[test]
fn a_damaged_newest_checkpoint_is_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    finish(train(&run));
    let whole = last_checkpoint(&run);
    let model = run.join("checkpoints/step-00000014/model.safetensors");
    let mut bytes = whole[0].1.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, bytes).expect("writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args(["train", "--quiet", "--out"]).arg(&run).arg("--resume");
    let output = finish(command);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("model.safetensors"),
        "a warning names the file"
    );
    assert!(last_checkpoint(&run) == whole, "the same end again");
}

#[test]
fn going_on_from_an_earlier_checkpoint_sets_the_later_ones_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    finish(train(&run));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args(["train", "--quiet", "--steps", "8", "--lr", "1e-4", "--resume"]);
    command.arg(run.join("checkpoints/step-00000003"));
    finish(command);
    assert!(run.join("checkpoints/abandoned-step-00000014").is_dir());
    let mut eval = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    eval.args(["eval", "--sequences", "2", "--roll-out", "2", "--json", "--checkpoint"]).arg(&run);
    let report: serde_json::Value = serde_json::from_slice(&finish(eval).stdout).expect("JSON");
    assert_eq!(report["step"], 8);
}

#[test]
fn a_configuration_above_a_loose_checkpoint_is_somebody_elses() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    finish(train(&run));
    let saved = folder.path().join("saved");
    fs::create_dir(&saved).expect("writable");
    fs::rename(run.join("checkpoints/step-00000003"), saved.join("step-00000003")).expect("writable");
    let own = folder.path().join("config.toml");
    fs::write(&own, "preset = 'nano'").expect("writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args(["train", "--quiet", "--resume"]).arg(saved.join("step-00000003"));
    assert_eq!(command.output().expect("the program starts").status.code(), Some(1));
    assert_eq!(fs::read_to_string(own).expect("still there"), "preset = 'nano'");
}

#[test]
fn trains_on_a_file_of_sequences() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, run) = (folder.path().join("s.npy"), folder.path().join("run"));
    let mut make = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    make.args([
        "data",
        "make",
        "--canvas",
        "32",
        "--digit-size",
        "14",
        "--frames",
        "12",
        "--sequences",
        "30",
    ]);
    make.arg("--out").arg(&file);
    finish(make);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args([
        "train",
        "--preset",
        "nano",
        "--epochs",
        "2",
        "--batch-size",
        "4",
        "--eval-sequences",
        "3",
    ]);
    command.arg("--data").arg(&file).arg("--out").arg(&run);
    let output = finish(command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("27 training sequences"), "{stderr}");
}

#[test]
fn refuses_what_cannot_work_before_the_first_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    finish(train(&run));
    let file = folder.path().join("file");
    fs::write(&file, "x").expect("writable");
    let small = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
        command.args(["train", "--steps", "1", "--sequences", "16"]).args(args);
        command
    };
    let few = folder.path().join("few.npy");
    let mut make = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    make.args(["data", "make", "--canvas", "32", "--digit-size", "14", "--frames", "12", "--sequences", "5"]);
    finish({
        make.arg("--out").arg(&few);
        make
    });
    let few = few.to_string_lossy().into_owned();
    let (run_text, file_text) = (run.to_string_lossy(), file.to_string_lossy());
    let inside = format!("{file_text}/run");
    let out = folder.path().join("new").to_string_lossy().into_owned();
    for (arguments, names, code) in [
        (vec!["--preset", "nano", "--out", &run_text], "--resume", 1),
        (vec!["--preset", "nano", "--out", &inside], "file", 1),
        (vec!["--out", &out, "--data", "nowhere.npy"], "nowhere.npy", 1),
        (vec!["--out", &out, "--data", &file_text], "file", 1),
        (vec!["--preset", "nano", "--out", &out, "--data", &few], "one optimiser step takes 8", 2),
        (vec!["--out", &run_text, "--resume", "--preset", "tiny", "--size", "64"], "nano", 1),
        (vec!["--out", &run_text, "--resume", "--frames-out", "5"], "--frames-out 2", 1),
        (vec!["--out", &run_text, "--resume", "--size", "48"], "--size 32", 1),
    ] {
        let output = small(&arguments).output().expect("the program starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> = stderr.lines().filter(|l| l.starts_with("error:")).collect();
        assert_eq!(errors.len(), 1, "{arguments:?}: {stderr}");
        assert!(errors[0].contains(names), "{arguments:?}: {stderr}");
        assert!(
            output.status.code().is_some_and(|c| c == code || c == 1 || c == 2),
            "{arguments:?}: {stderr}"
        );
        assert!(!folder.path().join("new").exists(), "{arguments:?} left a folder behind");
    }
}
