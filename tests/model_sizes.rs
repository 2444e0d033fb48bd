//! Models beside the presets' sizes: other numbers of predicted frames and other sides, from training to prediction, and the
//! start of a training from weights.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn program(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ssmv-raw"))
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .output()
        .expect("the program starts")
}

/// The standard output and error of a command that succeeds.
fn done(folder: &Path, arguments: &str) -> [String; 2] {
    let output = program(folder, arguments);
    let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{arguments}: {error}");
    [out, error]
}

/// The error of a command that fails.
fn fails(folder: &Path, arguments: &str) -> String {
    let output = program(folder, arguments);
    assert!(!output.status.success(), "{arguments} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const TRAIN: &str =
    "train --preset nano --steps 2 --sequences 16 --batch-size 4 --eval-sequences 4 --warmup 0 --threads 2";

fn json(folder: &Path, arguments: &str) -> Value {
    serde_json::from_str(&done(folder, arguments)[0]).unwrap()
}

#[test]
fn frames_and_size_go_from_training_to_prediction() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    done(folder, &format!("{TRAIN} --frames-out 5 --size 48 --out run"));
    let config = std::fs::read_to_string(folder.join("run/config.toml")).unwrap();
    assert!(config.contains("size = 48") && config.contains("frames-out = 5"), "{config}");
    assert!(config.contains("digit-size = 21"), "{config}");

    // From the run, and from the weights alone.
    let weights = "run/checkpoints/step-00000002/model.safetensors";
    std::fs::copy(folder.join(weights), folder.join("bare.safetensors")).unwrap();
    let results = ["run", "bare.safetensors"].map(|checkpoint| {
        json(folder, &format!("eval --checkpoint {checkpoint} --sequences 4 --roll-out 7 --json"))
    });
    assert_eq!(results[0]["next"], results[1]["next"]);
    let frames = |part: &str| results[0][part]["model"]["frames"].as_array().unwrap().len();
    assert_eq!((frames("next"), frames("roll_out")), (5, 7));

    done(folder, "data make --out a.npy --canvas 48 --digit-size 21 --sequences 2 --frames 12 --split test");
    done(
        folder,
        "predict --checkpoint bare.safetensors --input a.npy --output next.npy --layout tnhw --index 0",
    );
    done(folder, "predict --checkpoint run --input a.npy --output more.npy --frames 8 --index 0");
    let [next, more] = ["next.npy", "more.npy"].map(|name| std::fs::read(folder.join(name)).unwrap());
    // A header of 128 bytes, then float32.
    assert_eq!((next.len(), more.len()), (128 + 5 * 48 * 48 * 4, 128 + 8 * 48 * 48 * 4));
    assert_eq!(next[128..], more[128..next.len()]);

    done(folder, "train --out run --resume --steps 3");
    let error = fails(folder, "train --out run --resume --steps 4 --frames-out 2");
    assert!(error.contains("--frames-out 5") && error.contains("--init"), "{error}");

    let info = json(folder, "info --preset nano --size 48 --frames-out 5 --json");
    assert_eq!((info["size"].as_u64(), info["frames_out"].as_u64()), (Some(48), Some(5)));
}

#[test]
fn a_training_starts_from_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    done(folder, &format!("{TRAIN} --out first --seed 1"));
    let [_, same] = done(folder, &format!("{TRAIN} --out second --init first"));
    let taken = |text: &str| -> [usize; 2] {
        let line = text.lines().find(|line| line.contains("tensors are taken")).expect("a line");
        let numbers: Vec<usize> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        [numbers[0], numbers[1]]
    };
    let [some, all] = taken(&same);
    assert_eq!(some, all);
    assert!(!same.contains("is not taken") && all > 50, "{same}");

    let [_, frames] = done(folder, &format!("{TRAIN} --out third --init first --frames-out 3"));
    assert_eq!(taken(&frames), [all, all]);
    assert!(
        frames.contains("temporal.out_proj.bias is taken for 2 of 3 frames: [256] in the file, [384]"),
        "{frames}"
    );

    let [_, size] = done(folder, &format!("{TRAIN} --out fourth --init first --size 48"));
    assert_eq!(taken(&size), [all - 5, all]);
    assert!(size.contains("encoder.head.bias is not taken: [128] in the file, [288] in the model"), "{size}");

    // Two ranks start with the same bits.
    let ranks = done(folder, &format!("launch --nproc 2 {TRAIN} --out fifth --init first --frames-out 3"));
    assert!(ranks[1].contains("tensors are taken"), "{}", ranks[1]);

    for (arguments, expected) in [
        ("train --out first --resume --init first", "--init"),
        ("train --preset nano --out sixth --init nowhere", "nowhere"),
    ] {
        let error = fails(folder, arguments);
        assert!(error.contains(expected), "{error}");
    }
    // A resumption keeps its own weights.
    let [_, resumed] = done(folder, "train --out second --resume --steps 3");
    assert!(!resumed.contains("are taken"), "{resumed}");
}

/// The first two steps from weights have the loss of these weights, not of the seed.
#[test]
fn the_first_loss_is_that_of_the_given_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    done(folder, &format!("{TRAIN} --out a --seed 1"));
    for (out, seed) in [("b", 1), ("c", 2)] {
        done(folder, &format!("{TRAIN} --out {out} --seed {seed} --init a/checkpoints/step-00000002"));
    }
    let losses = ["a", "b", "c"].map(|run| {
        let text = std::fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
        let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        first["loss"].as_f64().unwrap()
    });
    // The same batch: only the weights differ.
    assert!(losses[1] < losses[0], "{losses:?}");
    assert!((losses[2] - losses[1]).abs() < (losses[0] - losses[1]).abs(), "{losses:?}");
}
