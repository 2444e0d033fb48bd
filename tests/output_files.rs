//! What the commands do to files that exist already: inputs, other files, and outputs of an earlier call.

mod program;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use program::{done, program, run};
use rustix::process::{Pid, Signal, kill_process};
use ssmv_autograd::DType;
use ssmv_raw::checkpoint::{self, Contents};
use ssmv_raw::config::TrainConfig;
use ssmv_raw::data::npy;
use ssmv_raw::media::{Image, write_png_folder};
use ssmv_raw::model::{Predictor, Preset, state};

/// Checks that the call fails with one line on stderr that has all of `parts`.
fn refused(folder: &Path, arguments: &str, parts: &[&str]) {
    let output = run(folder, &format!("--quiet {arguments}"));
    let code = output.status.code().filter(|&code| code != 0).expect("an exit code of an error");
    program::refused(&output, code, parts);
}

/// A folder with a run of `nano` that has learnt nothing, `a.npy` and a folder `frames` of three PNGs.
fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = Predictor::new(Preset::find("nano").unwrap(), 1, DType::F32).unwrap();
    let contents = Contents { preset: "nano", model: state::export(&model).unwrap(), optimizer: Vec::new() };
    let run = folder.path().join("run");
    fs::create_dir(&run).unwrap();
    checkpoint::write(&run.join("checkpoints"), 7, &contents, &0, None).unwrap();
    fs::write(run.join("config.toml"), TrainConfig::preset("nano").unwrap().to_toml().unwrap()).unwrap();
    npy::write_f32(&folder.path().join("a.npy"), &[5, 32, 32], &[0.5; 5 * 1024]).unwrap();
    let frames = vec![Image::new(32, 32, [9; 3]); 3];
    write_png_folder(&folder.path().join("frames"), &frames, false).unwrap();
    folder
}

/// All files under a folder with their content.
fn content(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path))
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()))
        }
    }
    found.sort();
    found
}

#[test]
fn no_input_and_no_foreign_file_is_overwritten_even_with_force() {
    let temporary = workplace();
    let folder = temporary.path();
    let weights = folder.join("run/checkpoints/step-00000007/model.safetensors");
    symlink("a.npy", folder.join("link.npy")).unwrap();
    fs::hard_link(folder.join("a.npy"), folder.join("hard.npy")).unwrap();
    fs::hard_link(&weights, folder.join("weights.json")).unwrap();
    symlink("frames", folder.join("same")).unwrap();
    fs::write(folder.join("notes.json"), "{\"mine\": 1}").unwrap();
    fs::write(folder.join("notes.npy"), "not an array").unwrap();
    npy::write_u8(&folder.join("set.npy"), &[5, 1, 32, 32], &[1; 5 * 1024]).unwrap();
    fs::create_dir(folder.join("mixed")).unwrap();
    fs::write(folder.join("mixed/frame-000.png"), "").unwrap();
    fs::write(folder.join("mixed/frame-x.png"), "").unwrap();
    fs::create_dir(folder.join("album")).unwrap();
    fs::write(folder.join("album/notes.txt"), "").unwrap();
    done(folder, "data show a.npy --out run/preview.gif");
    let before = content(folder);

    let predict = |rest: &str| format!("predict --checkpoint run --force {rest}");
    for (rest, parts) in [
        ("--input frames --output frames", &["--output frames", "which is read"][..]),
        ("--input frames --output same", &["which is read"]),
        ("--input same --output frames", &["which is read"]),
        ("--input frames --output frames/frame-001.png", &["frames/frame-001.png", "which is read"]),
        ("--input a.npy --output a.npy", &["which is read"]),
        ("--input a.npy --output ./run/../a.npy", &["which is read"]),
        ("--input a.npy --output link.npy", &["which is read"]),
        ("--input link.npy --output a.npy", &["which is read"]),
        ("--input a.npy --output hard.npy", &["which is read"]),
        ("--input a.npy --output set.npy", &["set.npy", "float32, 3 axes"]),
        ("--input a.npy --output notes.npy", &["notes.npy", "--force does not"]),
        ("--input a.npy --output run/preview.gif", &["preview.gif", "which is read"]),
        ("--input a.npy --output mixed", &["frame-x.png"]),
        ("--input a.npy --output album", &["notes.txt"]),
        ("--input a.npy --output run", &["which is read"]),
    ] {
        refused(folder, &predict(rest), parts);
    }
    for (arguments, parts) in [
        (
            "eval --checkpoint run --out run/checkpoints/step-00000007/model.safetensors",
            &["model.safetensors"][..],
        ),
        ("eval --checkpoint run --force --out run/checkpoints/step-00000007/state.json", &["which is read"]),
        ("eval --checkpoint run --force --out run/config.toml", &["which is read"]),
        ("eval --checkpoint run --force --out weights.json", &["which is read"]),
        ("eval --checkpoint run --force --data set.npy --out set.npy", &["which is read"]),
        ("eval --checkpoint run --force --out notes.json", &["notes.json", "--force does not"]),
        ("eval --checkpoint run --out notes.json", &["exists already", "--force"]),
        ("data make --sequences 1 --force --out a.npy", &["a.npy", "uint8, 4 axes"]),
        ("data show frames --force --out frames/frame-000.png", &["which is read"]),
        ("data show a.npy --force --out notes.json", &[".gif or .png"]),
        ("kernels --filter silu --dump a.npy --force", &["a.npy", "folder"]),
    ] {
        refused(folder, arguments, parts);
    }
    assert!(content(folder) == before, "a file was changed");
}

#[test]
fn force_replaces_what_the_command_wrote_before() {
    let temporary = workplace();
    let folder = temporary.path();
    for output in ["p.npy", "p.gif", "p.png", "next"] {
        for (frames, force) in [(4, ""), (2, "--force")] {
            done(
                folder,
                &format!(
                    "predict --checkpoint run --input a.npy --output {output} --frames {frames} {force}"
                ),
            );
        }
    }
    assert_eq!(fs::read_dir(folder.join("next")).unwrap().count(), 2, "old frames are gone");
    // A result in the run folder itself, as the notes of a run are kept.
    let eval = "eval --checkpoint run --sequences 1 --roll-out 2 --out run/result.json";
    done(folder, eval);
    refused(folder, eval, &["exists already"]);
    done(folder, &format!("{eval} --force"));
    done(folder, "data make --sequences 1 --out s.npy");
    done(folder, "data make --sequences 2 --out s.npy --force");
    done(folder, "data show s.npy");
    done(folder, "data show s.npy --force");
}

#[test]
fn a_signal_during_data_make_leaves_no_file() {
    for signal in [Signal::TERM, Signal::INT] {
        let temporary = tempfile::tempdir().unwrap();
        let mut command = program(temporary.path(), "data make --out a.npy --sequences 100000 --canvas 256");
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        let is_written = || fs::read_dir(temporary.path()).unwrap().count() > 0;
        while !is_written() {
            assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(128 + signal.as_raw()));
        assert!(!is_written(), "{signal:?}");
    }
}

#[test]
fn names_from_files_and_arguments_do_not_control_the_terminal() {
    let temporary = workplace();
    let folder = temporary.path();
    let output = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"))
        .args(["predict", "--checkpoint", "run", "--input", "a.npy", "--output", "x\u{1b}]0;owned\u{7}.npy"])
        .current_dir(folder)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.contains("x\\u001b]0;owned\\u0007.npy"), "{stderr:?}");
    assert!(!stderr.contains(['\u{1b}', '\u{7}']), "{stderr:?}");
    // A checkpoint from a stranger, which fits its own digest.
    let preset = "\u{1b}[31mnano";
    let contents = Contents { preset, model: Vec::new(), optimizer: Vec::new() };
    checkpoint::write(&folder.join("stranger"), 1, &contents, &0, None).unwrap();
    let output = run(folder, "predict --checkpoint stranger --input a.npy --output y.npy");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("[31mnano"), "{stderr:?}");
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
    let header = "{'descr': '\u{1b}[2J', 'fortran_order': False, 'shape': (3, 32, 32)}";
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    fs::write(folder.join("bad.npy"), bytes).unwrap();
    let output = run(folder, "predict --checkpoint run --input bad.npy --output y.npy");
    assert!(!output.stderr.contains(&0x1b) && !output.status.success());
}
