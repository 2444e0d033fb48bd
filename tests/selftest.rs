//! `selftest` on the emulator: it passes, it reaches every kind of kernel, and it can fail.

use std::{
    collections::BTreeSet,
    process::{Command, Output},
    sync::Arc,
};

use serde_json::Value;
use ssmv_autograd::cuda::{self, Backend, Cuda, Emulated, EmulatorOptions};
use ssmv_kernels::{Target, catalogue};
use ssmv_raw::check::selftest::{self, Extent, Options, Part};

/// Kinds of kernels that neither an operator nor a training step launches. Their own tests have them.
const ELSEWHERE: [&str; 10] = [
    "digest",
    "gemm_ok",
    "max_abs_rows",
    "reduce_copy_copy",
    "reduce_copy_sum",
    "reduce_copy_sum_both",
    "reduce_copy_sum_forward",
    "repeat",
    "repeat_backward",
    "spread_all",
];

/// A kernel's name up to the first word with a number in it: what it does, without sizes and element types.
fn kind(name: &str) -> String {
    let words = name.split('_').take_while(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.collect::<Vec<_>>().join("_")
}

#[test]
fn the_emulator_passes_and_every_kind_of_kernel_has_run() {
    // Memory is checked in the kernels' own tests; here it would double the time.
    let checks = ssmv_emulator::Checks::NONE;
    let emulator = EmulatorOptions { reports: 1 << 20, checks, ..EmulatorOptions::default() };
    let cuda = Cuda::over(Arc::new(Emulated::new(&emulator))).unwrap();
    assert_eq!(Extent::of(&cuda), Extent::Small);
    let mut notes = Vec::new();
    let options = Options { extent: Extent::Small, ..Options::default() };
    let report = selftest::run(&cuda, &options, &mut |note| notes.push(note.to_owned())).unwrap();
    let failures: Vec<_> = report.failures().collect();
    assert!(report.passed() && failures.is_empty(), "{failures:?}");
    for part in [Part::Operators, Part::Golden, Part::Determinism, Part::Training] {
        assert!(report.checks.iter().any(|check| check.part == part), "no check of {part}");
    }
    assert!(notes.len() >= 4, "{notes:?}");

    let launched: BTreeSet<String> =
        cuda.driver().take_reports().iter().map(|report| kind(&report.kernel)).collect();
    assert!(ELSEWHERE.iter().all(|kind| !launched.contains(*kind)), "{launched:?}");
    let there = catalogue(Target::Sm80).into_iter().filter(|kernel| kernel.family != "isa_test");
    let missed: BTreeSet<String> = there
        .map(|kernel| kind(&kernel.name))
        .filter(|kind| !launched.contains(kind) && !ELSEWHERE.contains(&kind.as_str()))
        .collect();
    assert!(missed.is_empty(), "no case launches {missed:?}");
}

#[test]
fn the_emulator_passes_with_the_worst_approximations() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.args(["selftest", "--device", "emulator", "--quiet"]);
    let output = command
        .env("SSMV_EMULATOR_CHECKS", "none")
        .env("SSMV_EMULATOR_APPROXIMATION", "worst")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

fn program(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.arg("selftest").args(arguments).env("SSMV_EMULATOR_CHECKS", "none").output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_wrong_expectation_fails() {
    for (case, part) in [
        ("layer_norm many rows", "operators"),
        ("adamw, clipping, loss scale", "operators"),
        ("max_pool2d", "golden"),
        ("two trainings", "determinism"),
        ("training of nano, 5 steps", "training"),
    ] {
        let right = ["--device", "emulator", "--json", "--filter", case];
        if part != "training" {
            let output = program(&right);
            assert!(output.status.success(), "{case}: {}", stderr(&output));
            assert!(stderr(&output).lines().last().unwrap().contains("comparisons passed on"), "{case}");
        }
        let wrong = program(&[&right[..], &["--fault", case]].concat());
        assert_eq!(wrong.status.code(), Some(1), "{case}: {}", stderr(&wrong));
        assert!(stderr(&wrong).lines().last().unwrap().starts_with("error: "), "{case}");
        let json: Value = serde_json::from_slice(&wrong.stdout).unwrap();
        let checks = json["checks"].as_array().unwrap();
        let failed: Vec<&Value> = checks.iter().filter(|check| check["verdict"] == "fail").collect();
        assert!(!failed.is_empty() && failed.iter().all(|check| check["case"] == case), "{json:#}");
        assert!(failed.iter().all(|check| check["part"] == part), "{json:#}");
        assert!(stderr(&wrong).contains(&format!("{} of {} comparisons failed", failed.len(), checks.len())));
    }
}

#[test]
fn a_table_has_a_line_a_case() {
    let output = program(&["--device", "emulator", "--quiet", "--filter", "concat"]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 5, "{table}");
    assert!(lines[0].starts_with("case ") && lines[2].starts_with("operators"), "{table}");
    assert!(lines[3..].iter().all(|line| line.starts_with("  concat") && line.ends_with("pass")), "{table}");
}

#[test]
fn what_cannot_be_checked_says_what_to_do() {
    let mut cases = vec![
        (vec!["--device", "cpu"], 2, "--device emulator"),
        (vec!["--device", "emulator", "--filter", "no such case"], 2, "\"no such case\""),
        (vec!["--device", "emulator", "--filter", "slice", "--fault", "silu"], 2, "\"silu\""),
    ];
    if cuda::devices(Backend::Nvidia).is_err() {
        cases.extend([(vec![], 1, "--device emulator"), (vec!["--device", "cuda"], 1, "--device")]);
    }
    for (arguments, code, part) in cases {
        let output = program(&[&arguments[..], &["--quiet"]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        let said = stderr(&output);
        assert!(said.lines().count() == 1 && said.contains(part), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}
