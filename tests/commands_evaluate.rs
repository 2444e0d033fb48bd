//! `data`, `eval`, `predict` and `info` as a user runs them, on a model that has not learnt anything.

mod program;

use std::path::Path;

use program::{done, run};
use serde_json::Value;
use ssmv_autograd::DType;
use ssmv_raw::checkpoint::{self, Checkpoint, Contents};
use ssmv_raw::clips::{Cache, ClipOptions, Clips};
use ssmv_raw::config::TrainConfig;
use ssmv_raw::data::npy;
use ssmv_raw::eval;
use ssmv_raw::media::{Clip, read_png};
use ssmv_raw::model::{Predictor, Preset, state};

/// Checks that a quiet call failed with `code`, and one line on stderr that has all of `parts`.
fn refused(folder: &Path, arguments: &str, code: i32, parts: &[&str]) {
    program::refused(&run(folder, &format!("--quiet {arguments}")), code, parts);
}

/// The first clip of a path, as it is.
fn clip(path: &Path) -> Clip {
    let clips =
        Clips::open(path, &ClipOptions::default(), None, 0..1, Cache::Memory, &mut |_, _| ()).unwrap();
    Clip::read(&clips, 0).unwrap()
}

/// A run folder with a checkpoint of a model as it begins.
fn make_run(folder: &Path, preset: &str) {
    let model = Predictor::new(Preset::find(preset).unwrap(), 1, DType::F32).unwrap();
    let contents = Contents { preset, model: state::export(&model).unwrap(), optimizer: Vec::new() };
    std::fs::create_dir_all(folder).unwrap();
    checkpoint::write(&folder.join("checkpoints"), 7, &contents, &0, None).unwrap();
    std::fs::write(folder.join("config.toml"), TrainConfig::preset(preset).unwrap().to_toml().unwrap())
        .unwrap();
}

#[test]
fn sequences_are_made_shown_evaluated_and_predicted() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    make_run(&folder.join("run"), "nano");
    done(folder, "data make --out a.npy --canvas 32 --digit-size 14 --sequences 6 --frames 14 --split test");
    let array = npy::read(&folder.join("a.npy")).unwrap();
    assert_eq!(array.shape, [14, 6, 32, 32]);
    done(folder, "data show a.npy");
    assert_eq!(clip(&folder.join("a.gif")).frames, 14);
    done(folder, "data show a.npy --out a.png --sequences 2");
    read_png(&folder.join("a.png")).unwrap();

    // A file that holds the sequences which eval makes for itself gives the same numbers.
    let json = |arguments: &str| -> Value {
        serde_json::from_str(&done(folder, &format!("eval --checkpoint run --json {arguments}"))).unwrap()
    };
    let made = json("--sequences 6 --roll-out 4 --out result.json --threads 2");
    let read = json("--sequences 6 --roll-out 4 --data a.npy --threads 1");
    for part in ["next", "roll_out", "brightness"] {
        assert_eq!(made[part], read[part], "{part}");
    }
    let written: Value = serde_json::from_slice(&std::fs::read(folder.join("result.json")).unwrap()).unwrap();
    assert_eq!(written, made);
    assert_eq!((&made["preset"], &made["step"]), (&Value::from("nano"), &Value::from(7)));
    assert_eq!(made["roll_out"]["model"]["frames"].as_array().unwrap().len(), 4);

    // Fewer frames than asked for are said, and the table has a row each.
    let output = run(folder, "eval --checkpoint run --data a.npy --roll-out 10");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("4 frames instead of 10"), "{stderr}");
    assert!(stderr.contains("6 sequences instead of 1000"), "{stderr}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(table.lines().filter(|line| line.starts_with('+')).count(), 2 + 4, "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");

    for (output, frames) in [("p.gif", 4), ("p.png", 4), ("frames", 3), ("p.npy", 5)] {
        done(
            folder,
            &format!("predict --checkpoint run --input a.npy --index 3 --output {output} --frames {frames}"),
        );
    }
    assert_eq!(clip(&folder.join("p.gif")).frames, 10 + 4);
    read_png(&folder.join("p.png")).unwrap();
    let pictures = clip(&folder.join("frames"));
    assert_eq!((pictures.frames, pictures.width), (3, 32));
    let predicted = npy::read(&folder.join("p.npy")).unwrap();
    assert_eq!(predicted.shape, [5, 32, 32]);

    // What was written can be gone on from, and a bare file of weights, its preset known by its shapes, does the same.
    done(folder, "predict --checkpoint run --input frames --output next.npy");
    done(folder, "data show p.npy --out p-npy.gif");
    let weights = folder.join("run/checkpoints/step-00000007/model.safetensors");
    std::fs::copy(&weights, folder.join("bare.safetensors")).unwrap();
    done(folder, "predict --checkpoint bare.safetensors --input a.npy --index 3 --output q.npy --frames 5");
    assert_eq!(npy::read(&folder.join("q.npy")).unwrap(), predicted);
    done(folder, "predict --checkpoint run --input a.npy --output r.npy --frames-in 14");
    assert_eq!(npy::read(&folder.join("r.npy")).unwrap().shape, [6, 2, 32, 32]);
}

#[test]
fn bad_input_is_one_line_and_nothing_is_written() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    make_run(&folder.join("run"), "nano");
    let write = |name: &str, shape: &[usize], value: f32| {
        let values = vec![value; shape.iter().product()];
        npy::write_f32(&folder.join(name), shape, &values).unwrap();
    };
    write("good.npy", &[5, 32, 32], 0.5);
    write("short.npy", &[2, 32, 32], 0.5);
    write("nan.npy", &[5, 32, 32], f32::NAN);
    write("wide.npy", &[5, 32, 32], 4095.0);
    write("signed.npy", &[5, 32, 32], -1.0);
    write("flat.npy", &[32, 32], 0.5);
    std::fs::write(folder.join("cut.npy"), &std::fs::read(folder.join("good.npy")).unwrap()[..999]).unwrap();
    std::fs::write(folder.join("bad.gif"), b"GIF89a").unwrap();
    std::fs::create_dir(folder.join("empty")).unwrap();

    let predict = |rest: &str| format!("predict --checkpoint run {rest}");
    for (rest, code, parts) in [
        ("--input none.npy --output o.npy", 1, &["none.npy"][..]),
        ("--input short.npy --output o.npy", 1, &["short.npy", "2 frames", "at least 3"]),
        ("--input nan.npy --output o.npy", 1, &["nan.npy", "NaN"]),
        ("--input wide.npy --output o.npy", 1, &["wide.npy", "4095", "--range 0,4095"]),
        ("--input signed.npy --output o.npy", 1, &["signed.npy", "-1", "--range=-1,1"]),
        ("--input flat.npy --output o.npy", 1, &["flat.npy", "[32, 32]"]),
        ("--input cut.npy --output o.npy", 1, &["cut.npy"]),
        ("--input bad.gif --output o.npy", 1, &["bad.gif"]),
        ("--input empty --output o.npy", 1, &["empty"]),
        ("--input good.npy --output o.npy --index 1", 1, &["good.npy", "1 sequences", "--index"]),
        ("--input good.npy --output o.npy --frames-in 6", 1, &["good.npy", "5 frames", "--frames-in 6"]),
        ("--input good.npy --output o.npy --layout nthw", 1, &["good.npy", "[5, 32, 32]", "--layout nthw"]),
        ("--input good.npy --output o.mp4", 2, &["o.mp4", ".npy, .gif or .png"]),
        ("--input good.npy --output none/o.npy", 1, &["none/o.npy"]),
    ] {
        refused(folder, &predict(rest), code, parts);
    }
    for (arguments, code, parts) in [
        ("eval --checkpoint empty", 1, &["empty", "no checkpoint"][..]),
        ("eval --checkpoint good.npy", 1, &["good.npy", "safetensors"]),
        ("eval --checkpoint run --canvas 64", 2, &["--canvas is 64", "`nano`", "32"]),
        ("eval --checkpoint run --data none", 1, &["none", "--data"]),
        ("eval --checkpoint run --data good.npy", 1, &["good.npy", "at most 5 frames", "12 are needed"]),
        ("eval --checkpoint run --digit-size 33", 2, &["33", "--digit-size"]),
        ("eval --checkpoint run --sequences 1 --out none/r.json", 1, &["none/r.json"]),
        ("data make --out o.npy --data good.npy", 2, &["good.npy"]),
        ("data make --out o.npy --data empty", 2, &["empty"]),
        ("data make --out none/o.npy", 1, &["none/o.npy"]),
        ("data show nan.npy --out o.gif", 1, &["nan.npy", "NaN"]),
        ("data show bad.gif --force", 2, &["bad.gif", "--out"]),
    ] {
        refused(folder, arguments, code, parts);
    }
    for file in std::fs::read_dir(folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with('o') && !name.starts_with('.'), "{name} was written");
    }
}

#[test]
fn a_damaged_or_foreign_checkpoint_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    make_run(&folder.join("run"), "nano");
    npy::write_f32(&folder.join("x.npy"), &[5, 32, 32], &[0.5; 5 * 1024]).unwrap();
    let step = folder.join("run/checkpoints/step-00000007");
    let weights = step.join("model.safetensors");
    let good = std::fs::read(&weights).unwrap();

    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    std::fs::write(&weights, &flipped).unwrap();
    refused(folder, "eval --checkpoint run", 1, &["model.safetensors", "SHA-256"]);
    refused(
        folder,
        "predict --checkpoint run --input x.npy --output y.npy",
        1,
        &["model.safetensors", "damaged"],
    );
    std::fs::write(&weights, &good[..good.len() - 4]).unwrap();
    refused(folder, "eval --checkpoint run", 1, &["model.safetensors", "damaged"]);
    std::fs::write(&weights, &good).unwrap();

    // A manifest that names another preset than the weights are of.
    let nano = Predictor::new(Preset::find("nano").unwrap(), 1, DType::F32).unwrap();
    for (preset, parts) in
        [("tiny", &["preset `tiny`", "has shape"][..]), ("giant", &["`giant`", "does not have"])]
    {
        let contents = Contents { preset, model: state::export(&nano).unwrap(), optimizer: Vec::new() };
        let path = checkpoint::write(&folder.join("other"), 1, &contents, &0, None).unwrap();
        refused(folder, "eval --checkpoint other", 1, parts);
        assert!(Checkpoint::open(path).is_ok());
    }

    // Weights of no preset; a configuration that is not of this model is left out with a warning.
    let mut entries = state::export(&nano).unwrap();
    entries.retain(|entry| entry.name != "temporal.norm.bias");
    let contents = Contents { preset: "nano", model: entries, optimizer: Vec::new() };
    let path = checkpoint::write(&folder.join("third"), 1, &contents, &0, None).unwrap();
    refused(folder, "eval --checkpoint third", 1, &["\"temporal.norm.bias\" of preset `nano` is missing"]);
    std::fs::copy(path.join("model.safetensors"), folder.join("bare.safetensors")).unwrap();
    refused(folder, "eval --checkpoint bare.safetensors", 1, &["bare.safetensors", "temporal.norm.bias"]);
    std::fs::write(folder.join("run/config.toml"), TrainConfig::preset("tiny").unwrap().to_toml().unwrap())
        .unwrap();
    let (_, loaded) = eval::load(&folder.join("run")).unwrap();
    assert!(loaded.config.is_none() && loaded.warnings[0].contains("`tiny`"), "{:?}", loaded.warnings);
}

#[test]
fn info_says_what_papers_say() {
    let here = Path::new(".");
    let text = done(here, "info --preset base");
    assert!(text.contains("230.0 M parameters") && text.contains("4.66 GMACs a sample"), "{text}");
    assert!(text.contains("230,046,051") && text.contains("4,657,283,072"), "{text}");
    let json: Value = serde_json::from_str(&done(here, "info --preset large --json --batch-size 4")).unwrap();
    assert_eq!(json["parameters"], 559_803_875);
    assert_eq!(json["macs"], 12_452_298_752_u64);
    assert_eq!(json["parts"][0]["output"], serde_json::json!([40, 32, 32, 96]));
    done(here, "info --preset nano --frames-in 1000 --batch-size 65536");
}
