//! Going on after a fault: to the bits of a run that nothing happened to, and with another number of ranks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::job::{
    Process, assert_line, checkpoints, launch, program, recorded, signal, training, wait_for_steps,
};

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

/// The value of `field` in every record of the log that has it, with its step.
fn logged(run: &Path, field: &str) -> Vec<(u64, f64)> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    records.filter_map(|record| Some((record["step"].as_u64()?, record.get(field)?.as_f64()?))).collect()
}

fn train(out: &Path, more: &str) -> (i32, String) {
    let mut command = program();
    command.args(training(out, more));
    Process::start(command).end()
}

/// Every file of a folder with its bytes, without the lock, which names its last holder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with(".lock"));
    entries
        .flat_map(|path| {
            if path.is_dir() { files(&path) } else { [(path.clone(), fs::read(&path).unwrap())].into() }
        })
        .collect()
}

#[test]
fn a_run_that_is_over_is_not_resumed_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert_eq!(train(&run, "--steps 4 --sequences 2").0, 0);
    let before = files(&run);
    for (more, part) in [
        ("--resume", "has finished its 4 steps"),
        ("--resume --steps 4", "has finished its 4 steps"),
        ("--resume --steps 3", "has trained 4 steps, and a training of 3 is asked for"),
        ("--resume --epochs 1", "has trained 4 steps, and a training of 2 is asked for"),
    ] {
        let (code, text) = train(&run, more);
        assert_eq!(code, 2, "{text}");
        assert_line(&text, &["error: --resume: the run", part, "--steps or --epochs"]);
        assert!(files(&run) == before, "{more}");
    }
}

#[test]
fn what_a_resumption_changes_is_said_and_epochs_and_rates_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Half of ten epochs of four steps.
    let begin = "--epochs 10 --sequences 8 --batch-size 2 --schedule cosine --save-every-steps 1 --keep-last 0 --lr 0.01";
    assert_eq!(train(&run, begin).0, 0);
    let half = run.join("checkpoints/step-00000020");
    let (code, text) = train(&run, &format!("--batch-size 1 --frames-in 4 --resume {}", half.display()));
    assert_eq!(code, 0, "{text}");
    assert_line(&text, &["--batch-size: 2 → 1"]);
    assert_line(&text, &["--frames-in: ", " → 4"]);
    assert!(!text.contains("--steps:") && !text.contains("learning rate of step"), "{text}");
    let epochs = logged(&run, "epoch");
    assert!(epochs.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{epochs:?}");
    assert_eq!(epochs.last(), Some(&(60, 10.0)));
    let rates = logged(&run, "lr");
    assert!(rates.windows(2).all(|pair| pair[0].1 >= pair[1].1 && pair[0].1 - pair[1].1 < 1e-3), "{rates:?}");
    assert_eq!(logged(&run, "loss").len(), 60);

    // A new schedule is said as such, and a run of two changes goes on at the same places.
    let half = run.join("checkpoints/step-00000050");
    let (code, text) = train(&run, &format!("--epochs 20 --resume {}", half.display()));
    assert_eq!(code, 0, "{text}");
    assert_line(&text, &["--epochs: 10 → 20"]);
    assert_line(&text, &["learning rate of step 51: ", " → "]);
    let epochs = logged(&run, "epoch");
    assert!(epochs.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{epochs:?}");
    assert_eq!(epochs.last(), Some(&(140, 20.0)));
}

#[test]
fn an_evaluation_that_was_interrupted_is_made_up_for_and_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut command = program();
    command.args(training(&run, "--steps 1 --eval-sequences 100000"));
    let job = Process::start(command);
    wait_for_steps(&run, 1, &job);
    job.signal("TERM");
    job.ended_with(143);
    let (code, text) = train(&run, "--eval-sequences 2 --resume");
    assert_eq!(code, 0, "{text}");
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert_eq!(text.matches("\"eval\":").count(), 1, "{text}");
}
