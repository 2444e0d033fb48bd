//! A run folder that a second process wants, or that goes away.

use std::fs;

use super::job::{
    ENDLESS, Process, assert_line, checkpoints, launch, program, recorded, training, wait_for_steps,
};

fn train(arguments: &[String]) -> Process {
    let mut command = program();
    command.args(arguments);
    Process::start(command)
}

#[test]
fn runs_that_start_in_the_same_second_get_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<_> = (0..3)
        .map(|_| {
            let mut arguments = training("".as_ref(), "--steps 2");
            // The folder is named by the program.
            arguments.truncate(arguments.len() - 2);
            let mut command = program();
            command.args(arguments).current_dir(folder.path());
            Process::start(command)
        })
        .collect();
    for run in runs {
        run.ended_with(0);
    }
    let names: Vec<_> =
        fs::read_dir(folder.path().join("runs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for run in &names {
        assert_eq!((recorded(run).len(), checkpoints(run)), (2, vec!["step-00000002".to_owned()]), "{run:?}");
    }
}

#[test]
fn a_second_resumption_of_a_run_is_refused_until_the_first_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let arguments = |more: &str| training(&run, &format!("{ENDLESS} --save-every-steps 2 {more}"));
    let job = train(&arguments(""));
    wait_for_steps(&run, 3, &job);
    let text = train(&arguments("--resume")).ended_with(1);
    assert_line(&text, &["error: ", "is in use by process ", &format!("{} on ", job.id())]);
    let text = Process::start(launch(2, "", &arguments("--resume"))).ended_with(1);
    assert_line(&text, &["[rank 0] error: ", "is in use by process "]);
    wait_for_steps(&run, recorded(&run).len() + 2, &job);
    job.signal("KILL");
    job.ended_with(-1);
    train(&arguments("--resume")).line(&["resumed", "at step"]);
}

#[test]
fn a_run_folder_that_is_moved_ends_the_training_and_is_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let job = train(&training(&run, &format!("{ENDLESS} --save-every-steps 2")));
    wait_for_steps(&run, 3, &job);
    fs::rename(&run, folder.path().join("moved")).unwrap();
    let text = job.ended_with(1);
    assert_line(&text, &["error: ", &run.display().to_string(), "moved or removed"]);
    assert!(!run.exists());
}

#[test]
fn the_launcher_does_not_restart_a_run_whose_folder_was_moved() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let arguments = training(&run, &format!("{ENDLESS} --save-every-steps 2"));
    let job = Process::start(launch(2, "--max-restarts 3", &arguments));
    wait_for_steps(&run, 3, &job);
    fs::rename(&run, folder.path().join("moved")).unwrap();
    let text = job.ended_with(1);
    assert_line(&text, &["[rank 0] error: ", "moved or removed"]);
    assert_eq!(text.matches("starting 2 ranks").count(), 1, "{text}");
    assert!(!run.exists());
}
