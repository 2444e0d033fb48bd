//! A process that writes checkpoints without end is killed, again and again; the last good one always opens.

use ssmv_raw::checkpoint::{Checkpoint, Contents, Entry, write};
use std::borrow::Cow;
use std::process::{Command, Stdio};
use std::time::Duration;

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
        std::thread::sleep(Duration::from_millis(60 + round * 17 % 41));
        child.kill().unwrap();
        child.wait().unwrap();
        let checkpoint = match Checkpoint::open(folder.path()) {
            Ok(checkpoint) => checkpoint,
            // Before the first is written there is none.
            Err(e) if last == 0 => {
                assert!(e.to_string().contains("holds no checkpoint"), "{e}");
                continue;
            }
            Err(e) => panic!("{e}"),
        };
        let step = checkpoint.step().unwrap();
        assert!(checkpoint.warnings().is_empty(), "{:?}", checkpoint.warnings());
        assert!(step >= last);
        assert_eq!(checkpoint.model().read_f32("w", &[WEIGHTS]).unwrap(), vec![step as f32; WEIGHTS]);
        assert_eq!(checkpoint.state::<u64>().unwrap(), step);
        last = step;
    }
    assert!(last > 0, "no child wrote anything");
}
