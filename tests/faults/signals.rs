//! SIGINT, SIGTERM, SIGHUP and the warnings of batch systems: the first is a checkpoint of all ranks at one step, another
//! at least a second later an end at once.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::job::{
    ENDLESS, Process, assert_gone_within, assert_line, checkpoints, is_gone, launch, program, recorded,
    signal, training, wait_for_steps,
};

/// From this time after the first signal on, another one is a second request.
const SECOND_REQUEST: Duration = Duration::from_millis(1100);

/// `program` by another program that is given its path and arguments.
fn through(wrapper: &[&str], inner: Command) -> Command {
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(inner.get_program()).args(inner.get_args());
    command
}

fn alone(arguments: &[String]) -> Command {
    let mut command = program();
    command.args(arguments);
    command
}

#[test]
fn a_closed_terminal_and_the_warnings_of_batch_systems_save() {
    for (name, number) in [("HUP", 1), ("USR1", 10), ("USR2", 12), ("XCPU", 24)] {
        for ranks in [1, 2] {
            let folder = tempfile::tempdir().unwrap();
            let run = folder.path().join("run");
            let arguments = training(&run, ENDLESS);
            let job =
                Process::start(if ranks == 1 { alone(&arguments) } else { launch(ranks, "", &arguments) });
            wait_for_steps(&run, 2, &job);
            job.signal(name);
            let text = job.ended_with(128 + number);
            assert_line(&text, &[&format!("signal {number}: saved")]);
            assert_eq!(checkpoints(&run), [format!("step-{:08}", recorded(&run).len())], "{text}");
        }
    }
}

#[test]
fn a_closed_terminal_does_not_end_what_nohup_started() {
    for ranks in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let arguments = training(&run, ENDLESS);
        let inner = if ranks == 1 { alone(&arguments) } else { launch(ranks, "", &arguments) };
        let job = Process::start(through(&["nohup"], inner));
        wait_for_steps(&run, 2, &job);
        job.signal("HUP");
        wait_for_steps(&run, recorded(&run).len() + 5, &job);
        job.signal("TERM");
        job.ended_with(143);
    }
}

#[test]
fn the_two_signals_of_timeout_are_one_request() {
    for ranks in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let arguments = training(&run, ENDLESS);
        let inner = if ranks == 1 { alone(&arguments) } else { launch(ranks, "", &arguments) };
        // A signal to `timeout` is sent on as the one after its time is: to the child, then to the group.
        let job = Process::start(through(&["timeout", "600"], inner));
        wait_for_steps(&run, 2, &job);
        job.signal("TERM");
        let (code, text) = job.end();
        // The program may still be writing when `timeout` has ended by the signal that it sent to its own group.
        assert!(code == 124 || code == 143 || code == -1, "{code}: {text}");
        assert_line(&text, &["signal 15: saved"]);
        assert_eq!(checkpoints(&run), [format!("step-{:08}", recorded(&run).len())], "{text}");
    }
}

#[test]
fn a_signal_to_any_rank_or_the_launcher_is_one_checkpoint_of_all() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        for receiver in [Some(0), Some(1), None] {
            let folder = tempfile::tempdir().unwrap();
            let run = folder.path().join("run");
            let job = Process::start(launch(2, "", &training(&run, &format!("{ENDLESS} --zero 1"))));
            wait_for_steps(&run, 2, &job);
            let ranks = job.ranks(2);
            signal(receiver.map_or(job.id(), |rank: usize| ranks[rank]), name);
            let text = job.ended_with(code);
            // Rank 0 has recorded every step that was taken.
            let step = recorded(&run).len();
            assert_eq!(checkpoints(&run), [format!("step-{step:08}")], "{text}");
            assert_line(
                &text,
                &["[rank 0] warning: ", "saved", &format!("at step {step} of"), "--resume", "by 2 ranks"],
            );
            for rank in 0..2 {
                assert_line(&text, &[&format!("[rank {rank}] error: interrupted by signal {}", code - 128)]);
            }
            assert!(!text.contains("SIGKILL"), "{text}");
        }
    }
}

#[test]
fn a_signal_in_an_evaluation_is_heard_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let job = Process::start(launch(2, "", &training(&run, "--steps 1 --eval-sequences 100000")));
    wait_for_steps(&run, 1, &job);
    signal(job.ranks(2)[1], "TERM");
    let text = job.ended_with(143);
    assert_eq!(checkpoints(&run), ["step-00000001"], "{text}");
    assert_line(&text, &["[rank 0] warning: ", "saved", "at step 1 of 1", "--resume"]);
}

#[test]
fn a_second_signal_ends_a_rank_that_cannot_save() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let job = Process::start(launch(2, "", &training(&run, ENDLESS)));
    wait_for_steps(&run, 2, &job);
    let ranks = job.ranks(2);
    // Without rank 1 there is no agreement on a step.
    signal(ranks[1], "STOP");
    signal(ranks[0], "TERM");
    thread::sleep(SECOND_REQUEST);
    assert!(!is_gone(ranks[0]), "{}", job.text());
    signal(ranks[0], "INT");
    assert_gone_within(&ranks[..1], Duration::from_secs(2));
    signal(ranks[1], "CONT");
    let text = job.ended_with(130);
    assert_line(&text, &["[rank 1] error: rank 1: ", "rank 0 closed the connection"]);
    assert!(fs::read_dir(run.join("checkpoints")).is_err(), "nothing was saved");
}

#[test]
fn a_second_signal_to_the_launcher_ends_all_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut job = Process::start(launch(2, "", &training(&run, ENDLESS)));
    wait_for_steps(&run, 2, &job);
    let ranks = job.ranks(2);
    signal(ranks[1], "STOP");
    job.signal("INT");
    job.line(&["signal 2 passed on to ranks 0, 1"]);
    thread::sleep(SECOND_REQUEST);
    job.signal("TERM");
    job.line(&["signal 15 passed on to ranks 0, 1"]);
    // Both signals are waiting for rank 1.
    signal(ranks[1], "CONT");
    let begun = Instant::now();
    let text = job.ended_with(130);
    assert!(begun.elapsed() < Duration::from_secs(2) && !text.contains("SIGKILL"), "{text}");
    assert!(fs::read_dir(run.join("checkpoints")).is_err(), "nothing was saved");
}
