//! SIGINT and SIGTERM: the first is a checkpoint of all ranks at one step, the second an end at once.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::job::{
    ENDLESS, Process, assert_gone_within, assert_line, checkpoints, is_gone, launch, recorded, signal,
    training, wait_for_steps,
};

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
    thread::sleep(Duration::from_millis(500));
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
    job.signal("TERM");
    job.line(&["signal 15 passed on to ranks 0, 1"]);
    // Both signals are waiting for rank 1.
    signal(ranks[1], "CONT");
    let begun = Instant::now();
    let text = job.ended_with(130);
    assert!(begun.elapsed() < Duration::from_secs(2) && !text.contains("SIGKILL"), "{text}");
    assert!(fs::read_dir(run.join("checkpoints")).is_err(), "nothing was saved");
}
