//! The log as its readers find it: lines of JSON, and TensorBoard's records decoded again.

use serde_json::{Value, json};
use ssmv_raw::record::{EvalRecord, EventFile, Recorder, RunFolder, StepRecord};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

fn step(step: u64) -> StepRecord {
    StepRecord {
        step,
        epoch: 0.5,
        loss: 0.25,
        lr: 1e-3,
        grad_norm: f64::INFINITY,
        samples_per_second: 80.0,
        data_wait: 0.0,
        loss_scale: 65536.0,
    }
}

fn lines(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn event_files(run: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(run.join("tensorboard")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

/// The records of an event file, with their checksums checked by a CRC-32C that goes bit by bit.
fn events(path: &Path) -> Vec<Vec<u8>> {
    fn masked_crc(data: &[u8]) -> u32 {
        let crc = !data.iter().fold(!0u32, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
        });
        crc.rotate_right(15).wrapping_add(0xa282_ead8)
    }
    let bytes = fs::read(path).unwrap();
    let (mut rest, mut events) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (length, tail) = rest.split_at(8);
        let (crc, tail) = tail.split_at(4);
        assert_eq!(crc, masked_crc(length).to_le_bytes());
        let (data, tail) = tail.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
        let (crc, tail) = tail.split_at(4);
        assert_eq!(crc, masked_crc(data).to_le_bytes());
        events.push(data.to_vec());
        rest = tail;
    }
    events
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn a_line_is_there_when_its_call_returns() {
    let run = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::create(RunFolder::lock(run.path()).unwrap()).unwrap();
    recorder.log_step(&step(1)).unwrap();
    assert_eq!(
        lines(run.path()),
        [
            json!({ "step": 1, "epoch": 0.5, "loss": 0.25, "lr": 1e-3, "grad_norm": null, "samples_per_second": 80.0,
                 "data_wait": 0.0, "loss_scale": 65536.0 })
        ]
    );
    let figures = json!({ "mse": [80.5, 100.0], "frames": 2 });
    let scalars = [("mse", 90.25), ("ssim", f64::NAN)];
    recorder
        .log_eval(&EvalRecord { step: 2, epoch: 1.0, kind: "eval", figures: &figures, scalars: &scalars })
        .unwrap();
    recorder.log_warning(2, "the predictor has \"collapsed\"\n").unwrap();
    let all = lines(run.path());
    assert_eq!(all[1], json!({ "step": 2, "epoch": 1.0, "eval": figures }));
    assert_eq!(all[2], json!({ "step": 2, "warning": "the predictor has \"collapsed\"\n" }));
    let text = fs::read_to_string(recorder.path()).unwrap();
    assert!(text.lines().all(|line| line.starts_with("{\"step\":")), "{text}");

    let events = events(&event_files(run.path())[0]);
    assert_eq!(events.len(), 3);
    assert!(events[0].ends_with(b"\x1a\x0dbrain.Event:2"));
    // Step 1; a value of tag "train/loss" with simple_value 0.25.
    assert_eq!(events[1][9..11], [0x10, 1]);
    assert!(contains(&events[1], b"\x0a\x0atrain/loss\x15\x00\x00\x80\x3e"));
    assert!(contains(&events[1], b"\x0a\x0ftrain/grad_norm\x15\x00\x00\x80\x7f"));
    assert!(contains(&events[2], b"\x0a\x08eval/mse\x15\x00\x80\xb4\x42"));

    let clash = EvalRecord { step: 2, epoch: 1.0, kind: "step", figures: &0, scalars: &[] };
    assert!(recorder.log_eval(&clash).is_err());
    assert!(recorder.log_image(2, "preview", b"no image").is_err());
}

#[test]
fn a_new_run_never_takes_an_old_ones_log() {
    let run = tempfile::tempdir().unwrap();
    Recorder::create(RunFolder::lock(run.path()).unwrap()).unwrap().log_step(&step(1)).unwrap();
    let message = Recorder::create(RunFolder::lock(run.path()).unwrap()).unwrap_err().to_string();
    assert!(message.contains("metrics.jsonl") && message.contains("--resume"), "{message}");
    assert_eq!(lines(run.path()).len(), 1);
}

#[test]
fn a_resumed_run_has_each_step_once() {
    let run = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::create(RunFolder::lock(run.path()).unwrap()).unwrap();
    (1..=10).for_each(|n| recorder.log_step(&step(n)).unwrap());
    recorder.log_eval(&EvalRecord { step: 10, epoch: 1.0, kind: "eval", figures: &0, scalars: &[] }).unwrap();
    drop(recorder);
    let path = run.path().join("metrics.jsonl");
    // A kill in the middle of a line, of a step that was before the checkpoint as far as its text goes.
    fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"step\":1,\"los").unwrap();

    let mut recorder = Recorder::append(RunFolder::lock(run.path()).unwrap(), 6).unwrap();
    (7..=8).for_each(|n| recorder.log_step(&step(n)).unwrap());
    let steps: Vec<_> = lines(run.path()).iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6, 7, 8]);
    let files = event_files(run.path());
    assert_eq!(files.len(), 2);
    // Step 7, session_log { status: START }.
    assert!(files.iter().any(|file| events(file)[1].ends_with(b"\x10\x07\x3a\x02\x08\x01")));
    assert_eq!(fs::read_dir(run.path()).unwrap().count(), 3, "the log, the events and the lock");
}

#[test]
fn a_log_that_is_missing_or_damaged_is_no_obstacle() {
    let run = tempfile::tempdir().unwrap();
    Recorder::append(RunFolder::lock(run.path()).unwrap(), 3).unwrap().log_step(&step(4)).unwrap();
    assert_eq!(lines(run.path()).len(), 1);
    let path = run.path().join("metrics.jsonl");
    fs::write(&path, b"\xff\xfe\n{\"step\":-1}\n[]\n\n{\"step\":9}\n").unwrap();
    Recorder::append(RunFolder::lock(run.path()).unwrap(), 3).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"\xff\xfe\n{\"step\":-1}\n[]\n\n");
    fs::write(&path, vec![b'x'; 2 << 20]).unwrap();
    assert!(
        Recorder::append(RunFolder::lock(run.path()).unwrap(), 3)
            .unwrap_err()
            .to_string()
            .contains("too long")
    );
    assert_eq!(fs::metadata(&path).unwrap().len(), 2 << 20);
}

#[test]
fn event_files_never_overwrite_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = (0..5).map(|_| EventFile::create(folder.path()).unwrap()).collect();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    assert!(files.iter().all(|file| events(file.path()).len() == 1));
}

/// TensorBoard reads the files of a folder in the order of their names.
#[test]
fn event_files_sort_in_order_when_the_clock_is_behind() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Written by a machine whose clock was a day ahead, under a name that sorts last.
    let mut names = vec![format!("events.out.tfevents.{:010}.zzz.99999", now + 86_400)];
    fs::write(folder.path().join(&names[0]), "").unwrap();
    // None of these is a time to sort after.
    for other in ["events.out.tfevents.99999999999.a.1", "events.out.tfevents.x", "notes.9999999998"] {
        fs::write(folder.path().join(other), "").unwrap();
    }
    for _ in 0..3 {
        let file = EventFile::create(folder.path()).unwrap();
        names.push(file.path().file_name().unwrap().to_str().unwrap().to_owned());
        assert!(names.is_sorted_by(|before, after| before < after), "{names:?}");
    }
}

#[test]
fn images_and_later_values_are_events_too() {
    let run = tempfile::tempdir().unwrap();
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, 4, 3);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[128; 12]).unwrap();
    let mut recorder = Recorder::create(RunFolder::lock(run.path()).unwrap()).unwrap();
    (1..=10).for_each(|n| recorder.log_step(&step(n)).unwrap());
    recorder.log_image(10, "preview", &png).unwrap();
    drop(recorder);
    let mut recorder = Recorder::append(RunFolder::lock(run.path()).unwrap(), 6).unwrap();
    (7..=8).for_each(|n| recorder.log_step(&StepRecord { loss: 0.125, ..step(n) }).unwrap());
    let record = EvalRecord { step: 8, epoch: 1.0, kind: "eval", figures: &0, scalars: &[("mse", 80.5)] };
    recorder.log_eval(&record).unwrap();
    recorder.log_image(8, "preview", &png).unwrap();

    let mut files = event_files(run.path()).iter().map(|file| events(file)).collect::<Vec<_>>();
    // The second file has fewer events: the version, the start at step 7, two steps, the evaluation, the image.
    files.sort_by_key(Vec::len);
    let [second, first] = &files[..] else { panic!("{} files", files.len()) };
    assert_eq!((first.len(), second.len()), (12, 6));
    for (event, step) in [(&first[11], 10), (&second[5], 8)] {
        assert_eq!(event[9..11], [0x10, step]);
        // Height 3, width 4, one channel, then the picture itself.
        assert!(contains(event, b"\x08\x03\x10\x04\x18\x01\x22") && contains(event, &png));
        assert!(contains(event, b"preview"));
    }
    // 0.125 in the second file alone.
    assert!(contains(&second[3], b"train/loss\x15\x00\x00\x00\x3e"));
    assert!(!first.iter().any(|event| contains(event, b"train/loss\x15\x00\x00\x00\x3e")));
    assert!(contains(&second[4], b"eval/mse\x15\x00\x00\xa1\x42"));
}
