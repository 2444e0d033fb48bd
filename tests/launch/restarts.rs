//! Ranks that are started again after a failure.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use ssmv_raw::launch::{Job, Restarts, restart};

use super::shell::{self, Heard, ran};

fn job(ranks: u32, script: &str, restarts: u32, out: &Path) -> Job {
    let mut job = shell::job(ranks, script);
    job.restarts = Some(Restarts { most: restarts, out: out.to_owned() });
    job
}

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

#[test]
fn a_restart_goes_on_from_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let script =
        "if [ $SSMV_RESTART = 0 ]; then mkdir -p $OUT/checkpoints/step-00000010; exit 9; fi; echo $*";
    let mut job = job(1, script, 1, &out);
    job.environment = vec![("OUT".to_owned(), out.clone().into())];
    job.arguments.extend(words("train --resume old --lr 1"));
    let ran = ran(&job);
    ran.result.as_ref().unwrap();
    assert_eq!(ran.lines(), [format!("train --lr 1 --resume {}", out.display())]);
    assert!(ran.said("restart 1 of 1"), "{:?}", ran.said);
}

#[test]
fn a_run_without_a_checkpoint_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    fs::create_dir(folder.path().join("run.failed-1")).unwrap();
    let script = "if [ $SSMV_RESTART = 0 ]; then mkdir -p $OUT/checkpoints/.step-00000010.tmp-1; exit 9; fi; \
                  ls $OUT || true; echo $*";
    let mut job = job(1, script, 1, &out);
    job.environment = vec![("OUT".to_owned(), out.clone().into())];
    job.arguments.extend(words("train --resume old --lr 1"));
    let ran = ran(&job);
    ran.result.as_ref().unwrap();
    assert_eq!(ran.lines(), ["train --resume old --lr 1"]);
    assert!(folder.path().join("run.failed-2/checkpoints/.step-00000010.tmp-1").is_dir());
    assert!(ran.said("run.failed-2"), "{:?}", ran.said);
}

#[test]
fn only_the_first_machine_moves_the_run_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = words("train --lr 1");
    let mut run = restart::Folder::of(&first, folder.path(), false).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let arguments = run.arguments(&first, false, &Heard::default()).unwrap();
    assert_eq!(arguments, first);
    assert!(folder.path().join("file").is_file());
}

#[test]
fn a_run_folder_that_was_moved_is_not_begun_again() {
    for (action, began) in
        [("mv $OUT $OUT.moved", "$OUT/checkpoints/step-00000010"), ("rm -r $OUT", "$OUT/tensorboard")]
    {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let mut job = job(1, &format!("echo started; mkdir -p {began}; {action}; exit 9"), 3, &out);
        job.environment = vec![("OUT".to_owned(), out.clone().into())];
        let ran = ran(&job);
        let message = format!("{}: the run folder was moved or removed during the training", out.display());
        assert_eq!(ran.failed(), (1, message), "{action}");
        assert_eq!(ran.lines(), ["started"]);
        assert!(!out.exists() && !ran.said("restart"), "{:?}", ran.said);
    }
    // A rank that fails before it begins leaves nothing behind.
    let folder = tempfile::tempdir().unwrap();
    let ran = ran(&job(1, "exit 9", 2, &folder.path().join("a/run")));
    assert_eq!(ran.failed().0, 9);
    assert!(!folder.path().join("a/run").exists());
}

#[test]
fn restarts_are_counted_and_each_has_its_own_port_and_token() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo $SSMV_RESTART $SSMV_TOKEN; exit $((20 + SSMV_RESTART))";
    let ran = ran(&job(1, script, 2, &folder.path().join("run")));
    assert_eq!(ran.failed().0, 22);
    let lines = ran.lines();
    let mut tokens: Vec<_> = lines.iter().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(tokens.iter().map(|(restart, _)| *restart).collect::<Vec<_>>(), ["0", "1", "2"]);
    tokens.dedup_by_key(|(_, token)| *token);
    assert_eq!(tokens.len(), 3);
}

#[test]
fn what_would_fail_again_is_not_restarted() {
    let folder = tempfile::tempdir().unwrap();
    // Wrong usage; a rank that saved and ended since it was asked to.
    for (code, end) in [(2, "exit 2"), (130, "exit 130"), (143, "exit 143"), (143, "kill -TERM $$")] {
        let script = format!("echo started; {end}");
        let ran = ran(&job(1, &script, 5, &folder.path().join("run")));
        assert_eq!(ran.failed().0, code);
        assert_eq!(ran.lines(), ["started"]);
    }
}

#[test]
fn arguments_of_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut run = restart::Folder::of(&words("train"), &out, true).unwrap();
    fs::create_dir_all(out.join("checkpoints/step-00000001")).unwrap();
    for (first, kept) in [
        ("train --lr 1", "train --lr 1"),
        ("train --resume --lr 1", "train --lr 1"),
        ("train --resume a/b --lr 1", "train --lr 1"),
        ("train --resume=a/b --lr 1 --resume", "train --lr 1"),
        ("train --resumed x", "train --resumed x"),
    ] {
        let next = run.arguments(&words(first), true, &Heard::default()).unwrap();
        let expected = [words(kept), vec!["--resume".into(), out.clone().into()]].concat();
        assert_eq!(next, expected, "{first}");
    }
}

#[test]
fn a_folder_that_is_not_the_jobs_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    fs::create_dir_all(out.join("checkpoints/step-00000001")).unwrap();
    let ran = ran(&job(1, "echo started; exit 1", 3, &out));
    let error = ran.result.as_ref().unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
    assert!(ran.lines().is_empty() && out.join("checkpoints/step-00000001").is_dir());
    // Its own run it may go on with.
    let out_text = out.display();
    for first in [format!("train --resume {out_text}"), format!("train --out {out_text} --resume")] {
        restart::Folder::of(&words(&first), &out, true).unwrap();
    }
    assert!(restart::Folder::of(&words("train --resume elsewhere"), &out, true).is_err());
    // Another machine may see what the first one has begun.
    restart::Folder::of(&words("train"), &out, false).unwrap();
}

#[test]
fn options_are_found_in_both_spellings() {
    for (arguments, value) in [
        ("train --out a --lr 1", Some("a")),
        ("train --out=a", Some("a")),
        ("train --out=a --out b", Some("b")),
        ("train --out=", Some("")),
        ("train --out", None),
        ("train --output a", None),
    ] {
        let found =
            restart::value_of(&words(arguments), "--out").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(found.as_deref(), value, "{arguments}");
    }
    assert!(restart::has(&words("a --insecure"), "--insecure"));
    assert!(restart::has(&words("a --threads=2"), "--threads"));
    assert!(!restart::has(&words("a --threadsx"), "--threads"));
}
