//! Going on after a fault: to the bits of a run that nothing happened to, and with another number of ranks.

use std::fs;
use std::path::{Path, PathBuf};

use super::job::{Process, assert_line, checkpoints, launch, recorded, signal, training, wait_for_steps};

const STEPS: u64 = 60;

/// A run with everything on that a resumption could get wrong.
fn arguments(out: &Path, more: &str) -> Vec<String> {
    let steps =
        format!("--steps {STEPS} --save-every-steps 5 --keep-last 0 --seed 3 --accumulate 2 --sequences 32");
    training(out, &format!("{steps} --ema 0.9 --clip-norm 0.5 --check-ranks-every 7 {more}"))
}

/// Checks that two runs ended with the same bits, having taken the same steps.
fn assert_same_end(whole: &Path, other: &Path, what: &str) {
    let folder = format!("checkpoints/step-{STEPS:08}");
    for name in ["model.safetensors", "optimizer.safetensors"] {
        let [a, b] = [whole, other].map(|run| fs::read(run.join(&folder).join(name)).unwrap());
        assert!(a == b, "{what}: {name} differs");
    }
    let losses = recorded(whole);
    assert_eq!(losses.iter().map(|(step, _)| *step).collect::<Vec<_>>(), (1..=STEPS).collect::<Vec<_>>());
    assert_eq!(losses, recorded(other), "{what}");
}

/// Starts a run and kills its last rank in the middle. Gives the run's folder and the job.
fn killed_midway(folder: &Path, ranks: usize, options: &str, more: &str) -> (PathBuf, Process) {
    // On a busy machine the run may end before this process gets to kill it.
    for attempt in 0..10 {
        let run = folder.join(format!("killed-{attempt}"));
        let job = Process::start(launch(ranks, options, &arguments(&run, more)));
        wait_for_steps(&run, 7, &job);
        signal(*job.ranks(ranks).last().unwrap(), "KILL");
        if recorded(&run).len() < STEPS as usize {
            return (run, job);
        }
    }
    panic!("every run ended before it was killed");
}

fn case(ranks: usize, zero: &str) {
    let what = format!("{ranks} ranks {zero}");
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    Process::start(launch(ranks, "", &arguments(&whole, zero))).ended_with(0);

    let (killed, job) = killed_midway(folder.path(), ranks, "", zero);
    job.ended_with(137);
    assert!(!checkpoints(&killed).is_empty());
    Process::start(launch(ranks, "", &arguments(&killed, &format!("{zero} --resume")))).ended_with(0);
    assert_same_end(&whole, &killed, &what);
}

#[test]
fn one_rank_goes_on_to_the_same_bits() {
    case(1, "");
}

#[test]
fn two_ranks_go_on_to_the_same_bits() {
    case(2, "");
}

#[test]
fn four_ranks_go_on_to_the_same_bits() {
    case(4, "");
}

#[test]
fn ranks_with_shares_of_the_update_go_on_to_the_same_bits_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    Process::start(launch(2, "", &arguments(&whole, "--zero 1"))).ended_with(0);
    let (killed, job) = killed_midway(folder.path(), 2, "--max-restarts 1", "--zero 1");
    let text = job.ended_with(0);
    assert_line(&text, &["warning: rank 1 was ended by signal 9 (SIGKILL)"]);
    assert_line(&text, &["restart 1 of 1"]);
    assert_line(&text, &["[rank 0] resumed", "at step"]);
    assert_same_end(&whole, &killed, "restarted");
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut before = 2;
    for (turn, ranks) in [2, 1, 2, 4].into_iter().enumerate() {
        let resume = if turn == 0 { "" } else { "--resume" };
        let steps = 2 * (turn + 1);
        let text = Process::start(launch(ranks, "", &training(&run, &format!("--steps {steps} {resume}"))))
            .ended_with(0);
        if turn > 0 {
            let line = format!("the run had {before} ranks and continues with {ranks}");
            let line = line.replace("had 1 ranks", "had 1 rank");
            let sizes = format!("a step takes {ranks} sequences instead of {before}")
                .replace(" 1 sequences", " 1 sequence");
            assert_line(&text, &[&line, &sizes]);
            assert_line(&text, &["resumed", &format!("at step {}", steps - 2)]);
        }
        assert_eq!(checkpoints(&run).last().unwrap(), &format!("step-{steps:08}"));
        before = ranks;
    }
    let steps: Vec<_> = recorded(&run).iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (1..=8).collect::<Vec<_>>());
}
