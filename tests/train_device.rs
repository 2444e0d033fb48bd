//! Trainings of `nano` through the program on the emulator: the kernels, launches and captured step of a GPU.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn train(out: &Path, options: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args(["train", "--preset", "nano", "--batch-size", "2", "--eval-sequences", "2", "--quiet"]);
    // Memory is checked in the kernels' own tests; here it would double the time.
    command.env("SSMV_EMULATOR_CHECKS", "none");
    command.args(options.split_whitespace()).arg("--out").arg(out);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The log's records that have a loss.
fn steps(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["loss"].is_number()).collect()
}

fn losses(run: &Path) -> Vec<f64> {
    steps(run).iter().map(|record| record["loss"].as_f64().unwrap()).collect()
}

#[test]
fn nano_follows_the_cpus_loss_curve() {
    let folder = tempfile::tempdir().unwrap();
    let [cpu, device] = ["cpu", "emulator"].map(|device| {
        let out = folder.path().join(device);
        finish(train(&out, &format!("--device {device} --steps 30 --lr 3e-3 --warmup 30")));
        losses(&out)
    });
    assert_eq!((cpu.len(), device.len()), (30, 30));
    for (step, (want, got)) in cpu.iter().zip(&device).enumerate() {
        assert!(
            (got / want - 1.0).abs() < 0.02,
            "step {}: {got} on the emulator, {want} on the CPU",
            step + 1
        );
    }
    assert!(device[29] < device[0], "and it learns");
}

#[test]
fn a_run_is_resumed_to_the_same_bits_and_evaluated_where_it_was_trained() {
    let folder = tempfile::tempdir().unwrap();
    let options = "--device emulator --frames-in 3 --accumulate 2 --ema 0.9";
    let [whole, cut] = ["whole", "cut"].map(|name| folder.path().join(name));
    finish(train(&whole, &format!("{options} --steps 5 --save-every-steps 3 --keep-last 0")));
    let earlier = whole.join("checkpoints/step-00000003");
    finish(train(&cut, &format!("--resume {}", earlier.display())));
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let read = |run: &Path| fs::read(run.join("checkpoints/step-00000005").join(file)).unwrap();
        assert!(read(&whole) == read(&cut), "{file}");
    }
    assert_eq!(losses(&whole)[3..], losses(&cut));
    assert!(steps(&whole).iter().all(|step| step["loss_scale"] == 65536.0));

    // The checkpoint serves the CPU too, and both see the same model.
    let mse = |device: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
        command.args([
            "eval",
            "--json",
            "--sequences",
            "2",
            "--batch-size",
            "2",
            "--roll-out",
            "2",
            "--device",
            device,
        ]);
        command.env("SSMV_EMULATOR_CHECKS", "none").arg("--checkpoint").arg(&whole);
        let report: Value = serde_json::from_slice(&finish(command).stdout).unwrap();
        report["next"]["model"]["mean"]["mse"].as_f64().unwrap()
    };
    let (cpu, device) = (mse("cpu"), mse("emulator"));
    approx::assert_relative_eq!(device, cpu, max_relative = 0.01);
}

#[test]
fn the_first_output_that_is_not_finite_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = |options: &str| train(&out, options).output().unwrap();
    // A rate at which the first update already throws the weights out of f16.
    let options =
        "--device emulator --frames-in 3 --lr 10 --warmup 0 --weight-decay 0 --clip-norm 0 --steps 40";
    let output = run(&format!("{options} --check-finite"));
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    let line = message.lines().find(|line| line.contains("outputs are not finite"));
    assert!(line.is_some_and(|line| line.contains("element")), "{message}");
}
