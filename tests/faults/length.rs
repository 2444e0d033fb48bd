//! Trainings whose lengths do not fit each other, and pictures that fail.

use std::fs;

use super::job::{Process, assert_line, program, training};

fn train(out: &std::path::Path, more: &str) -> (i32, String) {
    let mut command = program();
    command.args(training(out, more));
    Process::start(command).end()
}

#[test]
fn a_warm_up_longer_than_the_training_is_shortened() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (code, text) = train(&run, "--steps 20 --warmup 100 --schedule constant --lr 0.01");
    assert_eq!(code, 0, "{text}");
    assert_line(&text, &["the warm-up of 100 steps is longer than the training of 20", "shortened to 2"]);
    let log = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert_eq!(log.matches("\"lr\":0.01,").count(), 19, "{log}");
}

/// In so few steps a mean with a constant decay of 0.999 is still near the first parameters.
#[test]
fn the_running_mean_of_a_short_training_predicts_as_its_last_parameters_do() {
    let folder = tempfile::tempdir().unwrap();
    let [without, with] = ["0", "0.999"].map(|decay| {
        let run = folder.path().join(decay);
        let (code, text) =
            train(&run, &format!("--steps 60 --batch-size 2 --eval-sequences 8 --ema {decay}"));
        assert_eq!(code, 0, "{text}");
        let log = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let records = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let of_eval = |record: serde_json::Value| record["eval"]["next"]["model"]["mean"]["mse"].as_f64();
        records.filter_map(of_eval).next_back().unwrap()
    });
    assert!(with < 1.1 * without, "{with} with, {without} without");
}

#[test]
fn an_epoch_smaller_than_the_file_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (run, file) = (folder.path().join("run"), folder.path().join("s.npy"));
    let mut command = program();
    command
        .args("data make --canvas 32 --digit-size 14 --frames 12 --sequences 30 --out".split(' '))
        .arg(&file);
    Process::start(command).ended_with(0);
    let data = format!("--steps 1 --data {}", file.display());
    let (code, text) = train(&run, &format!("{data} --sequences 5"));
    assert_eq!(code, 0, "{text}");
    assert_line(&text, &["an epoch is 5 of the data's 27 training sequences", "--sequences"]);
    let (_, text) = train(&folder.path().join("whole"), &format!("{data} --sequences 27"));
    assert!(!text.contains("an epoch is"), "{text}");
}

#[test]
fn a_preview_of_many_frames_is_shortened_and_said_before_the_training() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (code, text) = train(&run, "--steps 1 --frames-in 600 --eval-sequences 1");
    assert_eq!(code, 0, "{text}");
    assert_line(&text, &["the preview shows the last 64 of 600 input frames"]);
    assert!(run.join("preview.gif").is_file());
}

#[test]
fn a_preview_that_cannot_be_written_does_not_fail_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_eq!(train(&run, "--steps 1").0, 0);
    fs::remove_file(run.join("preview.gif")).unwrap();
    fs::create_dir(run.join("preview.gif")).unwrap();
    let (code, text) = train(&run, "--steps 2 --resume");
    assert_eq!(code, 0, "{text}");
    assert_line(&text, &["warning: the preview is missing: ", "preview.gif"]);
}

#[test]
fn a_data_file_that_is_shortened_during_training_is_named_after_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (run, file) = (folder.path().join("run"), folder.path().join("s.npy"));
    let mut command = program();
    command
        .args("data make --canvas 32 --digit-size 14 --frames 12 --sequences 300 --out".split(' '))
        .arg(&file);
    Process::start(command).ended_with(0);
    let mut command = program();
    command.args(training(&run, &format!("{} --data {}", super::job::ENDLESS, file.display())));
    let job = Process::start(command);
    super::job::wait_for_steps(&run, 2, &job);
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(1000).unwrap();
    let text = job.ended_with(1);
    assert_line(&text, &["error: ", "s.npy", "was changed while it was in use"]);
    let step = super::job::recorded(&run).len();
    assert_eq!(super::job::checkpoints(&run), [format!("step-{step:08}")], "{text}");
}
