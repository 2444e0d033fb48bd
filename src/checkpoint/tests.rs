//! Writes that are interrupted at every possible moment.

use super::write::{Point, write_with};
use super::*;
use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

const WEIGHTS: usize = 6;

/// A small checkpoint whose every weight is `value`.
fn contents<'a>(value: f32) -> Contents<'a> {
    let tensor = |name: &str| Entry::f32(name, &[2, 3], move || Cow::Owned(vec![value; WEIGHTS]));
    Contents {
        preset: "nano",
        model: vec![tensor("a.weight"), Entry::i64_scalar("a.num_batches_tracked", 7), tensor("b.weight")],
        optimizer: vec![tensor("m.a.weight")],
    }
}

/// The latest good checkpoint's step and value.
fn latest(parent: &Path) -> (u64, f32) {
    let checkpoint = Checkpoint::open(parent).unwrap();
    let weights = checkpoint.model().read_f32("b.weight", &[2, 3]).unwrap();
    (checkpoint.step().unwrap(), weights[0])
}

fn names(parent: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(parent).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A `checkpoints` folder with checkpoints of steps 1 and 2, whose values are 1 and 2.
fn before() -> (tempfile::TempDir, PathBuf) {
    let run = tempfile::tempdir().unwrap();
    let parent = run.path().join(CHECKPOINTS_FOLDER);
    for step in [1, 2] {
        write(&parent, step, &contents(step as f32), &step, None).unwrap();
    }
    (run, parent)
}

/// One way to write onto [`before`]: the step and how many are kept.
const WRITES: [(u64, Option<usize>); 4] = [(3, None), (2, None), (3, Some(1)), (2, Some(1))];

/// The points that a write with value 9 passes.
fn points(step: u64, keep: Option<usize>) -> Vec<Point> {
    let (_run, parent) = before();
    let mut points = Vec::new();
    let mut note = |point| {
        points.push(point);
        Ok(())
    };
    write_with(&parent, step, &contents(9.0), b"0", keep, &mut note).unwrap();
    points
}

#[test]
fn a_good_checkpoint_survives_a_kill_at_every_point() {
    for (step, keep) in WRITES {
        let count = points(step, keep).len();
        assert!(count > 15, "{count}");
        for last in 0..count {
            let (_run, parent) = before();
            let mut passed = 0;
            let mut kill = |_| {
                if passed == last {
                    // Unwinding skips the error paths, so the process leaves the same files as after a kill.
                    resume_unwind(Box::new("killed"));
                }
                passed += 1;
                Ok(())
            };
            let killed = catch_unwind(AssertUnwindSafe(|| {
                write_with(&parent, step, &contents(9.0), b"0", keep, &mut kill).unwrap();
            }));
            assert!(killed.is_err());
            let found = latest(&parent);
            assert!(found == (2, 2.0) || found == (step, 9.0), "{found:?} after point {last} of {step}");
            write(&parent, 4, &contents(4.0), &0, Some(1)).unwrap();
            assert_eq!((latest(&parent), names(&parent)), ((4, 4.0), vec!["step-00000004".to_string()]));
        }
    }
}

#[test]
fn an_error_at_every_point_leaves_what_was_there() {
    for (step, keep) in WRITES {
        for (bad, point) in points(step, keep).into_iter().enumerate() {
            let (_run, parent) = before();
            let mut passed = 0;
            let mut fail = |_| {
                passed += 1;
                if passed - 1 == bad { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
            };
            match write_with(&parent, step, &contents(9.0), b"0", keep, &mut fail) {
                Ok(_) => assert_eq!(latest(&parent), (step, 9.0)),
                Err(e) => {
                    let found = latest(&parent);
                    // Only the sync after the rename can fail with the new one already in place.
                    assert!(
                        found == (2, 2.0) || (point == Point::Sync && found == (step, 9.0)),
                        "{found:?} at {point:?}"
                    );
                    let message = e.to_string();
                    assert!(
                        message.contains(parent.to_str().unwrap()) && message.contains(" bytes"),
                        "{message}"
                    );
                    assert!(
                        names(&parent).iter().all(|name| !name.contains(".tmp-")),
                        "{:?}",
                        names(&parent)
                    );
                }
            }
            write(&parent, 4, &contents(4.0), &0, Some(1)).unwrap();
            assert_eq!(names(&parent), ["step-00000004"]);
        }
    }
}

#[test]
fn a_disk_that_fills_up_is_named_with_the_bytes_wanted() {
    let (_run, parent) = before();
    let size = |name| std::fs::metadata(parent.join("step-00000002").join(name)).unwrap().len();
    let mut left = size(MODEL_FILE) as usize + 10;
    let mut full = |point| match point {
        Point::Write(bytes) if bytes > left => Err(io::ErrorKind::StorageFull.into()),
        Point::Write(bytes) => {
            left -= bytes;
            Ok(())
        }
        _ => Ok(()),
    };
    let message = write_with(&parent, 3, &contents(3.0), b"0", Some(1), &mut full).unwrap_err().to_string();
    let wanted = size(MODEL_FILE) + size(OPTIMIZER_FILE) + size(STATE_FILE);
    assert!(message.contains(&format!("{wanted} bytes")) && message.contains(OPTIMIZER_FILE), "{message}");
    assert_eq!(names(&parent), ["step-00000001", "step-00000002"]);
}

#[test]
fn a_folder_that_is_removed_during_a_write_is_not_called_intact() {
    let (_run, parent) = before();
    let mut remove = |point| {
        if let Point::Write(_) = point {
            let _ = std::fs::remove_dir_all(&parent);
        }
        Ok(())
    };
    let message = write_with(&parent, 3, &contents(3.0), b"0", None, &mut remove).unwrap_err().to_string();
    assert!(
        message.contains("another process removes files here") && !message.contains("intact"),
        "{message}"
    );
}

#[test]
fn left_over_folders_are_cleaned_up_whatever_process_they_name() {
    let (_run, parent) = before();
    // In a container, other processes than the writers may have these numbers now.
    let alive = format!(".step-00000009.tmp-{}", std::os::unix::process::parent_id());
    let own = format!(".step-00000009.tmp-{}", std::process::id());
    let dead = [".step-00000009.tmp-4194305", ".step-00000001.old-4194305", ".step-00000009.del-1"];
    let strange = [".step-9.tmp-4194305", ".step-00000009.x-4194305", "notes", "step-9"];
    for name in dead.iter().chain(&strange).copied().chain([alive.as_str(), own.as_str()]) {
        std::fs::create_dir(parent.join(name)).unwrap();
    }
    write(&parent, 3, &contents(3.0), &0, None).unwrap();
    let mut want = vec!["step-00000001", "step-00000002", "step-00000003"];
    want.extend(strange);
    want.sort();
    assert_eq!(names(&parent), want);
}

#[test]
fn all_names_are_on_the_disk_before_a_checkpoint_counts() {
    let points = points(3, None);
    let renamed = points.iter().position(|point| *point == Point::Rename).unwrap();
    let syncs = |points: &[Point]| points.iter().filter(|point| **point == Point::Sync).count();
    // The run folder and its parent, four files, the staged folder; then the folder of checkpoints.
    assert_eq!((syncs(&points[..renamed]), syncs(&points[renamed..])), (2 + 4 + 1, 1));
}

#[test]
fn files_with_the_names_of_hidden_folders_stop_no_save() {
    let (_run, parent) = before();
    let strays = [".step-00000003.tmp-4194305", ".step-00000002.old-4194305", ".step-00000001.del-1"];
    for name in strays {
        std::fs::write(parent.join(name), "not a checkpoint").unwrap();
    }
    write(&parent, 3, &contents(3.0), &0, None).unwrap();
    assert_eq!(latest(&parent), (3, 3.0));
    for name in strays {
        assert_eq!(std::fs::read(parent.join(name)).unwrap(), b"not a checkpoint");
    }
}

#[test]
fn a_state_of_another_step_than_the_manifest_is_refused() {
    let (run, parent) = before();
    let state = |step: u64| serde_json::json!({ "step": step });
    let path = write(&parent, 3, &contents(3.0), &state(4), None).unwrap();
    let message = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(message.contains("state.json: is of step 4, but the manifest of step 3"), "{message}");
    assert_eq!(Checkpoint::open(run.path()).unwrap().step(), Some(2));
    write(&parent, 3, &contents(3.0), &state(3), None).unwrap();
    assert_eq!(Checkpoint::open(&path).unwrap().step(), Some(3));
}

#[test]
fn keeps_the_last_and_never_touches_later_ones() {
    let run = tempfile::tempdir().unwrap();
    let parent = run.path().join("a/b");
    // The folder that the checkpoints are in is made, not the one around it.
    write(&parent, 10, &contents(1.0), &0, Some(2)).unwrap_err();
    std::fs::create_dir(run.path().join("a")).unwrap();
    for step in [10, 20, 30, 40] {
        write(&parent, step, &contents(1.0), &0, Some(2)).unwrap();
    }
    assert_eq!(names(&parent), ["step-00000030", "step-00000040"]);
    write(&parent, 35, &contents(1.0), &0, Some(0)).unwrap();
    assert_eq!(names(&parent), ["step-00000035", "step-00000040"]);
}

#[test]
fn refuses_what_could_not_be_read_again() {
    let (_run, parent) = before();
    let model = |entry| Contents { preset: "nano", model: vec![entry], optimizer: vec![] };
    let ones =
        |name: &str, shape: &[usize], count| Entry::f32(name, shape, move || Cow::Owned(vec![1.0; count]));
    let cases = [
        (model(Entry::f32("w", &[2], || Cow::Owned(vec![0.0, f32::NAN]))), "NaN"),
        (model(ones("w", &[2, 2], 3)), "[2, 2]"),
        (model(ones("w", &[usize::MAX, 2], 3)), "too large"),
        (model(ones("__metadata__", &[1], 1)), "already used"),
        (
            Contents { preset: "", model: vec![ones("w", &[], 1), ones("w", &[], 1)], optimizer: vec![] },
            "already used",
        ),
    ];
    for (contents, word) in cases {
        let message = write(&parent, 3, &contents, &0, Some(1)).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
        assert_eq!(names(&parent), ["step-00000001", "step-00000002"]);
    }
}

#[test]
fn passes_over_a_damaged_checkpoint_and_says_so() {
    let (run, parent) = before();
    std::fs::write(parent.join("step-00000002").join(STATE_FILE), "9").unwrap();
    let checkpoint = Checkpoint::open(run.path()).unwrap();
    assert_eq!(checkpoint.step(), Some(1));
    assert!(matches!(checkpoint.warnings(), [line] if line.contains("step-00000002/state.json")));
    std::fs::remove_file(parent.join("step-00000001").join(MODEL_FILE)).unwrap();
    let message = Checkpoint::open(run.path()).unwrap_err().to_string();
    assert!(message.contains("no undamaged checkpoint among 2"), "{message}");
}
