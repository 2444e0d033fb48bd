//! The command line as a user meets it: help, wrong usage, configuration layers, completions.

mod program;

use std::io::Read;
use std::path::Path;
use std::process::{Output, Stdio};

use program::{program, refused, run};
use ssmv_autograd::cuda::{self, Backend};

fn here(arguments: &str) -> Output {
    run(Path::new("."), arguments)
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The printed configuration of a run that must succeed.
fn printed(folder: &Path, arguments: &str) -> String {
    let output = run(folder, &format!("train --print-config {arguments}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    stdout(&output).to_owned()
}

#[test]
fn every_command_has_help_with_examples() {
    for command in [
        "",
        "train",
        "eval",
        "predict",
        "report",
        "data make",
        "data show",
        "info",
        "verify",
        "kernels",
        "doctor",
        "selftest",
        "completions",
    ] {
        let output = here(&format!("{command} --help"));
        assert!(output.status.success(), "{command}");
        assert!(stdout(&output).contains("Examples:\n  ssmv-raw "), "{command}: {}", stdout(&output));
        assert!(!stdout(&output).contains('\x1b'), "{command}: colour without a terminal");
        assert!(output.stderr.is_empty());
    }
    assert!(stdout(&here("--version")).starts_with("ssmv-raw 0."));
    assert!(stdout(&here("data --help")).contains("make"));
}

#[test]
fn the_help_of_train_shows_what_the_presets_set() {
    let output = here("train --help");
    let table = stdout(&output).split("Defaults of the presets:\n").nth(1).unwrap();
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["option", "nano", "tiny", "small", "base", "large"]);
    let wanted = [
        ("sequences", "10000"),
        ("batch-size", "16"),
        ("lr", "2e-4"),
        ("schedule", "cosine-epoch"),
        ("loss", "l1"),
    ];
    for (option, value) in wanted {
        let row = rows.iter().find(|row| row[0] == option).unwrap();
        assert_eq!(row[4], value, "{row:?}");
    }
    // A line that a terminal of 80 columns would wrap.
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

#[test]
fn wrong_usage_is_one_line_and_code_2() {
    for (arguments, parts) in [
        ("train --batchsize 3", &["--batchsize", "--batch-size"][..]),
        ("train --preset tinny", &["tinny", "nano, tiny, small, base, large", "'tiny'"]),
        ("train --device gpu", &["--device", "gpu", "auto, cpu, cuda, emulator"]),
        ("doctor --xml", &["--xml"]),
        ("train --rule fast", &["--rule", "fast", "standard, ssm-video"]),
        ("train --lr 0", &["--lr is 0.0", "above 0"]),
        ("train --lr -1", &["--lr is -1.0"]),
        ("train --lr nan", &["--lr is nan"]),
        ("train --lr inf", &["--lr is inf"]),
        ("train --lr fast", &["--lr", "fast"]),
        ("train --batch-size 0", &["--batch-size is 0", "1 to 65536"]),
        ("train --batch-size -4", &["--batch-size is -4"]),
        ("train --batch-size 65537", &["--batch-size is 65537"]),
        ("train --batch-size 99999999999999999999", &["--batch-size", "99999999999999999999"]),
        ("train --frames-in 2", &["--frames-in is 2", "3 to 1000"]),
        ("train --threads 0", &["--threads is 0", "1 to 1024"]),
        ("train --ema 1", &["--ema is 1.0"]),
        ("train --accumulate 0", &["--accumulate is 0"]),
        ("train --steps 0", &["--steps is 0"]),
        ("train --seed 9223372036854775808", &["--seed"]),
        ("train --size 40", &["--size is 40", "tiny", "multiple of 16 from 32 to 256"]),
        ("train --canvas 16", &["--size is 16", "32 to 256"]),
        ("train --frames-out 21", &["--frames-out is 21", "1 to 20"]),
        ("info --size 40", &["tiny", "multiple of 16"]),
        ("info --frames-out 0", &["--frames-out", "0"]),
        ("train --digit-size 100", &["--digit-size is 100", "64"]),
        ("train --sequences 7", &["--sequences is 7", "8 (batch-size)"]),
        ("train --epochs 1 --steps 1", &["--epochs", "--steps"]),
        ("train --resume", &["--resume", "--out"]),
        ("train --config", &["--config"]),
        ("eval", &["--checkpoint"]),
        ("eval --checkpoint . --ssim-range 3", &["--ssim-range", "3"]),
        ("eval --checkpoint . --roll-out 0", &["--roll-out", "0"]),
        ("eval --checkpoint . --sequences 0", &["--sequences"]),
        ("predict --checkpoint .", &["--input", "--output"]),
        ("predict --checkpoint . --input . --output x --frames -1", &["--frames"]),
        ("report", &["<RUN>"]),
        ("report . --force", &["--force"]),
        ("data make --out x.gif", &["--out x.gif", ".npy"]),
        ("data make --out x.npy --digit-size 65", &["--digit-size is 65", "64"]),
        ("data make --out x.npy --split all", &["--split", "train, test"]),
        ("data show Cargo.toml --out x.txt", &["--out x.txt", ".gif or .png"]),
        ("info --preset bas", &["bas", "'base'"]),
        ("verify", &["PATH"]),
        ("verify . --dtype f8", &["--dtype", "f64, f32, f16, bf16"]),
        ("verify . --dtype f16", &["--dtype", "--device emulator"]),
        ("kernels --target sm_70", &["sm_70", "sm_80, sm_90a, all"]),
        ("kernels --filter conv9d", &["conv9d", "pointwise", "gemm"]),
        ("kernels --check", &["--ptxas"]),
        ("kernels --force", &["--dump"]),
        ("kernels --dump x --json", &["--dump", "--json"]),
        ("kernels --ptxas x --update --filter silu", &["--update", "--filter"]),
        ("kernels --ptxas x --update --one-per-family", &["--update", "--one-per-family"]),
        ("completions tcsh", &["tcsh", "bash"]),
        ("tarin", &["tarin", "'train'"]),
    ] {
        refused(&here(arguments), 2, parts);
    }
    assert_eq!(here("").status.code(), Some(2));
    assert_eq!(here("data").status.code(), Some(2));
}

#[test]
fn a_wrong_configuration_file_is_named_with_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    for (text, parts) in [
        ("lr = 1e-3\nbatch_size = 4\n", &["c.toml, line 2", "`batch_size`", "`batch-size`"][..]),
        ("preset = 'huge'", &["preset in c.toml, line 1", "huge", "nano, tiny, small, base, large"]),
        ("lr = 'high'", &["c.toml, line 1", "lr", "high"]),
        ("lr = -1.0", &["lr in c.toml, line 1 is -1.0", "above 0"]),
        ("lr = nan", &["lr in c.toml, line 1 is nan"]),
        ("\nthreads = 0", &["threads in c.toml, line 2 is 0"]),
        ("epochs = 1\nsteps = 1", &["steps in c.toml, line 2", "epochs in c.toml, line 1"]),
        ("lr = = 2", &["c.toml, line 1"]),
        ("lr = 1\nlr = 2", &["c.toml, line 2"]),
        ("[training]\nlr = 1", &["c.toml, line 1", "`training`"]),
    ] {
        std::fs::write(folder.path().join("c.toml"), text).unwrap();
        refused(&run(folder.path(), "train --config c.toml --print-config"), 2, parts);
    }
    std::fs::write(folder.path().join("c.toml"), b"lr = \xff").unwrap();
    refused(&run(folder.path(), "train --config c.toml"), 1, &["c.toml", "UTF-8"]);
    refused(&run(folder.path(), "train --config none.toml"), 1, &["none.toml", "cannot be read"]);
    refused(&run(folder.path(), "train --config ."), 1, &["folder"]);
    #[cfg(unix)]
    refused(&run(folder.path(), "train --config /dev/zero"), 1, &["/dev/zero", "1 MiB"]);
}

#[test]
fn a_printed_configuration_reads_back_as_itself() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        "",
        "--preset nano",
        "--preset base --clip-norm 1 --ema 0.999 --threads 2 --out x",
        "--preset large --steps 5000 --save-every 0 --save-every-steps 100 --lr 1.2345678901234567e-5",
        "--data FILE.npy --layout ntchw --rule ssm-video --loss mse --seed 9223372036854775807",
    ] {
        let first = printed(folder.path(), arguments);
        std::fs::write(folder.path().join("first.toml"), &first).unwrap();
        assert_eq!(printed(folder.path(), "--config first.toml"), first, "{arguments}");
    }
}

#[test]
fn the_command_line_wins_over_the_file_and_the_file_over_the_preset() {
    let folder = tempfile::tempdir().unwrap();
    let text = "preset = 'base'\nlr = 0.5\nsteps = 7\nbatch-size = 4\nclip-norm = 2\n";
    std::fs::write(folder.path().join("c.toml"), text).unwrap();
    let has = |arguments: &str, lines: &[&str]| {
        let config = printed(folder.path(), arguments);
        lines
            .iter()
            .for_each(|line| assert!(config.lines().any(|l| l == *line), "{line} is not in:\n{config}"));
        config
    };
    let file_only = has(
        "--config c.toml",
        &["preset = \"base\"", "lr = 0.5", "steps = 7", "batch-size = 4", "schedule = \"cosine-epoch\""],
    );
    assert!(!file_only.contains("\nepochs"));
    let both = has(
        "--config c.toml --preset tiny --lr 0.25 --epochs 3 --clip-norm 0",
        &[
            "preset = \"tiny\"",
            "lr = 0.25",
            "epochs = 3",
            "batch-size = 4",
            "clip-norm = 0.0",
            "schedule = \"cosine\"",
        ],
    );
    assert!(!both.contains("\nsteps"));
    has("--preset nano", &["size = 32", "digit-size = 14", "frames-out = 2"]);
    has("--preset nano --size 48 --frames-out 5", &["size = 48", "digit-size = 21", "frames-out = 5"]);
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let run_folder = folder.path().join("run");
    std::fs::create_dir(&run_folder).unwrap();
    std::fs::write(run_folder.join("config.toml"), "preset = 'nano'\nsteps = 9\nout = 'elsewhere'\n")
        .unwrap();
    refused(&run(folder.path(), "train --out run"), 1, &["run", "not empty", "--resume"]);
    refused(&run(folder.path(), "train --resume none"), 1, &["none", "cannot be read"]);

    // Going on takes the run's own configuration, and its folder from where it lies now.
    for arguments in ["--out run --resume", "--resume run"] {
        let config = printed(folder.path(), &format!("{arguments} --lr 0.125"));
        for line in ["preset = \"nano\"", "steps = 9", "lr = 0.125"] {
            assert!(config.lines().any(|l| l == line), "{config}");
        }
        assert!(config.lines().any(|l| l.starts_with("out = ") && l.ends_with("run\"")), "{config}");
    }
}

#[test]
fn outputs_that_exist_need_force() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["x.npy", "x.gif"] {
        std::fs::write(folder.path().join(name), "precious").unwrap();
    }
    for arguments in
        ["data make --out x.npy", "data show x.npy", "predict --checkpoint . --input x.npy --output x.gif"]
    {
        refused(&run(folder.path(), arguments), 1, &["exists already", "--force"]);
    }
    refused(&run(folder.path(), "data show none.npy"), 1, &["none.npy", "cannot be read"]);
    refused(&run(folder.path(), "eval --checkpoint none"), 1, &["none", "cannot be read"]);
    refused(&run(folder.path(), "verify none"), 1, &["none", "cannot be read"]);
}

#[test]
fn a_device_that_is_not_there_is_refused_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "train --preset nano --steps 1 --out run",
        "eval --checkpoint none",
        "predict --checkpoint none --input none --output x.gif",
        "verify none",
    ] {
        if cuda::devices(Backend::Nvidia).is_err() {
            // It is the first thing to know, before the files that are not there either.
            refused(&run(folder.path(), &format!("{command} --device cuda")), 1, &["--device cpu"]);
        }
    }
    let train = "train --preset nano --steps 1 --out run";
    for (options, code, parts) in [
        ("--device emulator --precision f32", 2, ["--precision f32", "f16"]),
        ("--device emulator --precision bf16", 2, ["--precision bf16", "take --precision f16"]),
        ("--device cpu --precision f16", 2, ["--precision f16", "--device cuda"]),
    ] {
        refused(&run(folder.path(), &format!("{train} {options}")), code, &parts);
    }
    refused(&run(folder.path(), "verify none --dtype f16"), 2, &["--dtype f16", "--device emulator"]);
    refused(&run(folder.path(), "verify none --dtype bf16 --device emulator"), 2, &["--dtype bf16", "cpu"]);
    refused(&run(folder.path(), "verify none --dtype f64 --device emulator"), 2, &["--dtype f64", "f16"]);
    assert!(folder.path().read_dir().unwrap().next().is_none(), "nothing is left behind");
    let config = printed(folder.path(), "--device emulator");
    assert!(config.lines().any(|line| line == "device = \"emulator\""), "{config}");
}

#[test]
fn doctor_tells_what_this_machine_has() {
    let output = here("doctor");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = stdout(&output);
    for what in ["processor", "instructions", "memory", "driver", "nccl", "emulator", "--device auto"] {
        assert_eq!(text.lines().filter(|line| line.starts_with(what)).count(), 1, "{what}: {text}");
    }
    let output = here("doctor --json");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && json["cpu"]["threads"].as_u64().unwrap() > 0, "{json}");
    assert_eq!(json["auto"], "cpu");
    // Either the driver says why there are no devices, or it has a version.
    let (error, devices) = (&json["driver"]["error"], json["devices"].as_array().unwrap());
    assert_eq!(error.is_string(), devices.is_empty(), "{json}");

    let mut broken = program(Path::new("."), "doctor");
    let output = broken.env("SSMV_EMULATOR_MEMORY", "much").output().unwrap();
    assert!(output.status.success(), "what is wrong is told, not an error");
    assert!(stdout(&output).contains("SSMV_EMULATOR_MEMORY is `much`"), "{}", stdout(&output));
}

#[test]
fn shells_get_their_completions() {
    for (shell, part) in
        [("bash", "complete -F _ssmv"), ("zsh", "#compdef ssmv-raw"), ("fish", "complete -c ssmv-raw")]
    {
        let output = here(&format!("completions {shell}"));
        assert!(output.status.success());
        assert!(stdout(&output).contains(part), "{shell}");
        assert!(stdout(&output).contains("batch-size"), "{shell}");
    }
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    for arguments in ["completions bash", "train --help", "train --print-config"] {
        let mut child =
            program(Path::new("."), arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Closed before the program writes its first byte.
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = child.wait().unwrap().code();
        assert!(stderr.is_empty(), "{arguments}: {stderr}");
        assert!(matches!(code, Some(0 | 141)), "{arguments}: {code:?}");
    }
}
