//! `bench` through the program: what it measures, on the emulator and on the CPU.

use std::process::Command;

use serde_json::Value;
use ssmv_autograd::bf16_available;

const PHASES: [&str; 9] = [
    "input",
    "encoder",
    "temporal",
    "decoder",
    "loss",
    "decoder backward",
    "temporal backward",
    "encoder backward",
    "optimiser",
];

/// The result of one batch size, from the last line of stdout.
fn bench(args: &[&str]) -> (Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args(["bench", "--preset", "nano", "--frames-in", "3", "--json"]).args(args);
    let output = command.env("SSMV_EMULATOR_CHECKS", "none").output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = stdout.lines().last().expect("a line");
    (serde_json::from_str(line).expect("JSON"), stderr)
}

fn number(json: &Value, key: &str) -> f64 {
    json[key].as_f64().unwrap_or_else(|| panic!("{key} is not in {json}"))
}

#[test]
fn the_emulator_runs_every_phase_and_counts_its_work() {
    let (json, stderr) = bench(&["--device", "emulator", "--batch-size", "2", "--steps", "1"]);
    assert!(stderr.contains("do not predict the speed of a GPU"), "{stderr}");
    assert_eq!((&json["preset"], &json["batch_size"]), (&"nano".into(), &2.into()));
    assert_eq!((&json["device"], &json["driver"]), (&"PTX emulator".into(), &"emulator".into()));
    assert_eq!(json["precision"], "f16");
    assert!(number(&json, "seconds") > 0.0 && number(&json, "samples_per_second") > 0.0);
    // The pool on the emulator rounds no sizes.
    let (peak, predicted) = (number(&json, "peak_bytes"), number(&json, "predicted_bytes"));
    assert!(peak > 0.0 && peak < predicted, "{peak} bytes, {predicted} predicted");
    let phases = json["phases"].as_array().expect("phases");
    assert_eq!(phases.iter().map(|phase| &phase["name"]).collect::<Vec<_>>(), PHASES);
    for phase in phases {
        let floor = number(phase, "floor_seconds");
        assert!(number(phase, "seconds") > 0.0 && number(phase, "launches") > 0.0 && floor > 0.0, "{phase}");
        assert!(number(phase, "bytes") > 0.0, "{phase}");
    }
    let operations = |name| number(phases.iter().find(|p| p["name"] == name).expect("a phase"), "operations");
    // Two multiply-accumulates of the backward pass for each of the forward pass, but for the first convolution's input.
    let ratio = operations("decoder backward") / operations("decoder");
    assert!((1.8..2.3).contains(&ratio), "the decoder's backward pass does {ratio} times its forward pass");
}

#[test]
fn the_cpu_gives_the_step_by_phase() {
    let (json, _) = bench(&["--device", "cpu", "--batch-size", "1,2", "--steps", "2", "--threads", "1"]);
    assert_eq!((&json["batch_size"], &json["driver"]), (&2.into(), &"none".into()));
    assert_eq!(json["precision"], "f32");
    let phases = json["phases"].as_array().expect("phases");
    assert_eq!(phases.iter().map(|phase| &phase["name"]).collect::<Vec<_>>(), PHASES);
    assert!(phases.iter().all(|phase| number(phase, "seconds") > 0.0), "{json}");
    assert!(json["floor_seconds"].is_null() && number(&json, "peak_bytes") > 0.0);
}

#[test]
fn the_cpu_measures_steps_in_bf16() {
    if !bf16_available() {
        eprintln!("skipped: this processor has no products of bf16 (avx512_bf16)");
        return;
    }
    let (json, _) = bench(&["--device", "cpu", "--precision", "bf16", "--batch-size", "1", "--small"]);
    assert!(json["precision"] == "bf16" && number(&json, "seconds") > 0.0, "{json}");
}
