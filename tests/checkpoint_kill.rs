//! A process that writes checkpoints without end is killed, again and again; the last good one always opens.

use ssmv_raw::checkpoint::{Checkpoint, Contents, Entry, write};
use std::borrow::Cow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FOLDER: &str = "SSMV_TEST_KILL_FOLDER";
const WEIGHTS: usize = 100_000;

/// The process that is killed; does nothing when it is run as a test.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let first = Checkpoint::open(&folder).map_or(0, |c| c.step().unwrap());
    for turn in 2.. {
        // Each step is written twice: as a new one and onto itself.
        let step = first + turn / 2;
        let tensor = || Entry::f32("w", &[WEIGHTS], move || Cow::Owned(vec![step as f32; WEIGHTS]));
        let contents = Contents { preset: "nano", model: vec![tensor()], optimizer: vec![tensor()] };
        write(folder.as_ref(), step, &contents, &step, Some(1)).unwrap();
    }
}

fn second_is_there(folder: &Path) -> bool {
    Checkpoint::open(folder).is_ok_and(|checkpoint| checkpoint.step() >= Some(2))
}

#[test]
fn a_killed_process_leaves_a_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // However slow the machine is, the first child gets to its second checkpoint.
        let patience = Instant::now() + Duration::from_secs(30);
        while last == 0 && Instant::now() < patience && !second_is_there(folder.path()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(60 + round * 17 % 41));
        child.kill().unwrap();
        child.wait().unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let step = checkpoint.step().unwrap();
        assert!(checkpoint.warnings().is_empty(), "{:?}", checkpoint.warnings());
        assert!(step >= last);
        assert_eq!(checkpoint.model().read_f32("w", &[WEIGHTS]).unwrap(), vec![step as f32; WEIGHTS]);
        assert_eq!(checkpoint.state::<u64>().unwrap(), step);
        last = step;
    }
}
