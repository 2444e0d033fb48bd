//! A device's memory through the program: what `info` counts, and what a training says when it has run out.

use std::{
    path::Path,
    process::{Command, Output},
};

fn run(args: &[&str], memory: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args(args).env("SSMV_EMULATOR_CHECKS", "none").env("SSMV_EMULATOR_MEMORY", memory.unwrap_or(""));
    command.output().expect("the program starts")
}

/// Two steps of nano on an emulated device of 6 MiB, and its evaluation.
fn train(batch: &str, out: &Path) -> Output {
    let out = out.to_str().expect("a path");
    let steps = ["train", "--preset", "nano", "--device", "emulator", "--steps", "4", "--frames-in", "3"];
    let rest = ["--eval-sequences", "2", "--quiet", "--batch-size", batch, "--out", out];
    run(&[&steps[..], &rest].concat(), Some("6"))
}

#[test]
fn a_batch_too_large_names_one_that_trains() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = train("64", &folder.path().join("large"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let words =
        ["out of memory", "bytes asked for", "of 6291456 free", "held by this process", "--accumulate"];
    words.iter().for_each(|word| assert!(stderr.contains(word), "{word:?} is not in: {stderr}"));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let named =
        stderr.split("--batch-size ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a batch");
    assert!((1..64).contains(&named.parse::<usize>().expect("a number")), "{stderr}");
    let output = train(named, &folder.path().join("named"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn info_counts_a_training_step() {
    let options = ["info", "--preset", "base", "--device", "cuda", "--batch-size", "16"];
    let output = run(&[&options[..], &["--json"]].concat(), None);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let memory = &json["memory"];
    let peak = memory["peak_bytes"].as_u64().expect("a number");
    let parts = memory["parts"].as_array().expect("parts");
    assert_eq!(parts.iter().filter_map(|part| part["bytes"].as_u64()).sum::<u64>(), peak);
    // Four f32 numbers and one f16 a parameter are the least.
    let parameters = json["parameters"].as_u64().expect("a number");
    assert!((18 * parameters..10_000_000_000).contains(&peak), "{peak}");
    let table = run(&options, None);
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.status.success() && text.contains("at the peak") && text.contains("moments"), "{text}");
    assert_eq!(run(&["info", "--device", "cpu"], None).status.code(), Some(2));
}
