//! Disks that take no more: full, or read-only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ssmv_raw::checkpoint::Checkpoint;

use super::job::{Process, assert_line, checkpoints, launch, recorded, training};

/// A file system in memory, as large as `mount` was told.
struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    /// Of a mebibyte; none where this user may not mount, which it says.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => return Some(Self { folder }),
            Ok(output) => eprint!("mount: {}", String::from_utf8_lossy(&output.stderr)),
            Err(e) => eprintln!("mount: {e}"),
        }
        eprintln!(
            "this user may not mount: the other ways to be full or read-only stand in for a file system"
        );
        None
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn make_read_only(&self) {
        let options = ["-o", "remount,ro"];
        assert!(Command::new("mount").args(options).arg(self.path()).status().unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Checks that two ranks end since the checkpoint of step 4 does not fit, and that the one of step 2 is whole.
fn assert_full(job: Process, run: &Path, system: &str) {
    let text = job.ended_with(1);
    let own = [
        "[rank 0] error: ",
        &run.display().to_string(),
        "cannot write a checkpoint of",
        "bytes",
        system,
        "intact",
    ];
    assert_line(&text, &own);
    // Rank 1 ends in rank 0's words.
    assert_line(&text, &["[rank 1] error: rank 1: ", "rank 0: ", "cannot write a checkpoint of", system]);
    assert_eq!(checkpoints(run), ["step-00000002"], "temporaries are gone");
    let checkpoint = Checkpoint::open(run).unwrap();
    assert!(checkpoint.warnings().is_empty() && checkpoint.step() == Some(2));
}

#[test]
fn a_full_disk_ends_all_ranks_and_keeps_the_checkpoint_before() {
    let Some(disk) = Mounted::new() else { return file_limit() };
    // A checkpoint has 0.9 MB.
    let run = disk.path().join("run");
    let arguments = training(&run, "--steps 9 --save-every-steps 2 --keep-last 0");
    assert_full(Process::start(launch(2, "", &arguments)), &run, "No space left on device");
    file_limit();
}

/// The same where a file may not grow beyond 400 kB: enough for the model, not for the optimiser's moments.
fn file_limit() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    Process::start(launch(2, "", &training(&run, "--steps 2"))).ended_with(0);
    let inner = launch(2, "", &training(&run, "--steps 9 --save-every-steps 2 --keep-last 0 --resume"));
    let mut command = Command::new("bash");
    command.args(["-c", "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\""]);
    command.arg(inner.get_program()).args(inner.get_args());
    assert_full(Process::start(command), &run, "File too large");
}

#[test]
fn an_output_that_cannot_be_written_is_found_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let (disk, full) = (Mounted::new(), Mounted::new());
    let mut places: Vec<(PathBuf, &str)> =
        vec![(file.join("run"), ""), ("/sys/run".into(), ""), ("/proc/run".into(), "")];
    if let Some(disk) = &disk {
        let run = disk.path().join("run");
        Process::start(launch(2, "", &training(&run, "--steps 1"))).end();
        disk.make_read_only();
        places.extend([(disk.path().join("other"), ""), (run, "--resume")]);
    }
    if let Some(full) = &full {
        // As much of it as there is room for.
        let _ = fs::write(full.path().join("others"), vec![1; 1 << 20]);
        places.push((full.path().join("run"), ""));
    }
    for (out, resume) in places {
        let before = recorded(&out);
        let text =
            Process::start(launch(2, "", &training(&out, &format!("--steps 3 {resume}")))).ended_with(1);
        assert_line(&text, &["[rank 0] error: ", &out.display().to_string()]);
        assert_line(&text, &["[rank 1] error: ", &out.display().to_string()]);
        assert!(!text.contains("loss") && recorded(&out) == before, "{text}");
    }
}
