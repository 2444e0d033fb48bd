//! kill -9: no rank waits for a dead one, and none outlives the launcher.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ssmv_raw::checkpoint::Checkpoint;

use super::job::{
    ENDLESS, Process, assert_gone_within, assert_line, checkpoints, is_gone, launch, signal, training,
    wait_for_steps,
};

/// What every survivor is promised.
const LIMIT: Duration = Duration::from_secs(5);

/// Stops rank `stopped` so that `waiting` waits inside an all-reduce, as it says itself; gives the collective's number.
fn wait_inside_an_all_reduce(job: &mut Process, waiting: usize, stopped: u32) -> String {
    let said = format!("rank {waiting}: all-reduce (sum) ");
    for _ in 0..10 {
        let known = job.text().len();
        signal(stopped, "STOP");
        let begun = Instant::now();
        // A warning comes at a quarter of eight seconds.
        while begun.elapsed() < Duration::from_secs(3) {
            if let Some((_, rest)) = job.text()[known..].split_once(&said) {
                return rest.split(':').next().unwrap().to_owned();
            }
            thread::sleep(Duration::from_millis(20));
        }
        // It was stopped in another collective.
        signal(stopped, "CONT");
        thread::sleep(Duration::from_millis(137));
    }
    panic!("rank {waiting} never waits in an all-reduce:\n{}", job.text());
}

#[test]
fn survivors_of_a_rank_killed_in_an_all_reduce_end_and_name_it() {
    for victim in [1, 0] {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let arguments = training(&run, &format!("{ENDLESS} --comm-timeout 8"));
        let mut job = Process::start(launch(3, "", &arguments));
        wait_for_steps(&run, 3, &job);
        let ranks = job.ranks(3);
        let sequence = wait_inside_an_all_reduce(&mut job, victim, ranks[2]);
        signal(ranks[victim], "KILL");
        signal(ranks[2], "CONT");
        let killed = Instant::now();
        assert_gone_within(&ranks, LIMIT);
        let launcher = job.id();
        let text = job.ended_with(137);
        assert!(killed.elapsed() < LIMIT, "{:?}", killed.elapsed());
        for survivor in (0..3).filter(|&rank| rank != victim) {
            // What the victim had sent before it died may let a survivor finish this all-reduce; the next collective needs more.
            let next = format!("{}: ", sequence.parse::<u64>().unwrap() + 1);
            let mut errors = text
                .lines()
                .filter_map(|line| line.strip_prefix(&format!("[rank {survivor}] error: rank {survivor}: ")));
            let error = errors.next().unwrap_or_else(|| panic!("rank {survivor} says nothing:\n{text}"));
            let in_this = error.starts_with(&format!("all-reduce (sum) {sequence}: "));
            let in_next = error.split_once(&next).is_some_and(|(operation, _)| !operation.contains(':'));
            assert!(in_this || in_next, "neither in collective {sequence} nor in the next: {error}");
            assert!(error.contains(&format!("rank {victim} closed the connection")), "{error}");
        }
        assert_line(&text, &[&format!("error: rank {victim} was ended by signal 9 (SIGKILL)")]);
        // Reaped, not only ended.
        assert!(
            ranks.iter().chain([&launcher]).all(|process| !fs::exists(format!("/proc/{process}")).unwrap())
        );
    }
}

#[test]
fn no_rank_survives_the_launcher_even_one_that_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let job = Process::start(launch(3, "", &training(&run, ENDLESS)));
    wait_for_steps(&run, 3, &job);
    let ranks = job.ranks(3);
    signal(ranks[1], "STOP");
    job.signal("KILL");
    assert_gone_within(&ranks, LIMIT);
}

#[test]
fn ranks_killed_in_a_checkpoint_leave_the_one_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let is_temporary = |name: &String| name.contains(".tmp-");
    let (mut steps, mut cut_short) = (0, 0);
    for round in 0..12 {
        let more = if round == 0 { "" } else { "--resume" };
        let arguments =
            training(&run, &format!("{ENDLESS} --zero 1 --save-every-steps 1 --keep-last 2 {more}"));
        let job = Process::start(launch(2, "", &arguments));
        let ranks = job.ranks(2);
        let begun = Instant::now();
        // From the second checkpoint of this start on.
        let newest = |names: &[String]| names.iter().filter(|name| name.starts_with("step-")).max().cloned();
        let at_least = Some(format!("step-{:08}", steps + 2));
        loop {
            let names = checkpoints(&run);
            if newest(&names) >= at_least && names.iter().any(is_temporary) {
                break;
            }
            assert!(!is_gone(job.id()) && begun.elapsed() < Duration::from_secs(90), "{}", job.text());
            thread::yield_now();
        }
        rustix_kill(ranks[round % 2]);
        job.ended_with(137);
        // Rank 0 may have lived to finish what it was writing; killed itself, it leaves what it had.
        cut_short += usize::from(checkpoints(&run).iter().any(is_temporary));
        let checkpoint = Checkpoint::open(run.join("checkpoints")).unwrap();
        assert!(checkpoint.warnings().is_empty(), "{:?}", checkpoint.warnings());
        let step = checkpoint.step().unwrap();
        assert!(step >= steps + 2, "step {step} after {steps}");
        steps = step;
        if cut_short == 2 {
            break;
        }
    }
    assert!(cut_short > 0, "no checkpoint was cut short in twelve rounds");
    let last = training(&run, &format!("--steps {} --save-every-steps 1 --keep-last 2 --resume", steps + 2));
    let text = Process::start(launch(2, "", &last)).ended_with(0);
    assert_line(&text, &["resumed", &format!("at step {steps}")]);
    let names = checkpoints(&run);
    let kept = [steps + 1, steps + 2].map(|step| format!("step-{step:08}"));
    assert_eq!(names, kept, "what was cut short is cleaned up");
}

/// Without the moments that it takes to start `kill`.
fn rustix_kill(process: u32) {
    use rustix::process::{Pid, Signal, kill_process};
    kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), Signal::KILL).unwrap();
}
