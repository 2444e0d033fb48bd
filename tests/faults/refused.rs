//! Jobs that cannot work: every rank says why and ends.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::job::{Process, assert_line, free_address, launch, program, rank, rank_of, training};

#[test]
fn a_port_in_use_is_named_with_its_address_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let master = taken.local_addr().unwrap();
    let arguments = training(&folder.path().join("run"), "--steps 2");
    let attempt = || {
        let begun = Instant::now();
        let text = rank((0, 2), master, &arguments).ended_with(1);
        assert_line(&text, &["error: rank 0 of 2 ", &format!("cannot listen on {master}"), "in use"]);
        begun.elapsed()
    };
    // The best of three, for other tests keep the machine busy.
    let took = (0..3).map(|_| attempt()).min().unwrap();
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// Checks that both ranks end with a line that has all of `parts`.
fn both_refuse(ranks: [Process; 2], parts: &[&str]) {
    for (number, process) in ranks.into_iter().enumerate() {
        let text = process.ended_with(1);
        let own = format!("error: rank {number} of 2 does not join the others");
        assert_line(&text, &[&[own.as_str()], parts].concat());
    }
}

#[test]
fn ranks_with_another_configuration_program_or_number_are_refused_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let arguments = training(&run, "--steps 2");
    for (more, field) in [
        ("--seed 4", "seed is \"0\" on rank 0, \"4\" on rank 1"),
        ("--zero 1", "zero is \"0\" on rank 0, \"1\" on rank 1"),
        ("--lr 0.5", "lr is \"0.01\" on rank 0, \"0.5\" on rank 1"),
    ] {
        let master = free_address();
        let other = training(&run, &format!("--steps 2 {more}"));
        both_refuse([rank((0, 2), master, &arguments), rank((1, 2), master, &other)], &[field]);
    }

    // A byte behind its end makes another program of it that does the same.
    let other = folder.path().join("program");
    let mut bytes = fs::read(program().get_program()).unwrap();
    bytes.push(0);
    fs::write(&other, bytes).unwrap();
    Command::new("chmod").arg("+x").arg(&other).status().unwrap();
    let master = free_address();
    let mut command = Command::new(&other);
    command.args(&arguments);
    let one = Process::start(rank_of(command, (1, 2), master));
    both_refuse([rank((0, 2), master, &arguments), one], &["binary is ", "on rank 0, ", "on rank 1"]);

    let master = free_address();
    let ranks = [rank((0, 2), master, &arguments), rank((1, 3), master, &arguments)];
    let texts = ranks.map(|process| process.ended_with(1));
    texts.iter().for_each(|text| assert_line(text, &["the number of ranks is 2 on rank 0, 3 on rank 1"]));
    assert!(!run.exists());
}

/// A file of sequences for nano.
fn sequences(path: &Path) -> Vec<u8> {
    let mut command = program();
    command
        .args("data make --canvas 32 --digit-size 14 --frames 12 --sequences 30 --out".split(' '))
        .arg(path);
    Process::start(command).ended_with(0);
    fs::read(path).unwrap()
}

#[test]
fn a_data_file_that_is_damaged_on_one_rank_ends_all_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let [good, bad] = ["good", "bad"].map(|name| folder.path().join(name).join("s.npy"));
    [&good, &bad].iter().for_each(|path| fs::create_dir(path.parent().unwrap()).unwrap());
    let whole = sequences(&good);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let size = format!("{} bytes", whole.len());
    for (bytes, parts) in [
        (Some(flipped), vec!["data is \"s.npy", &size, "on rank 0, ", "on rank 1"]),
        (
            Some(whole[..whole.len() - 1000].to_vec()),
            vec!["data is \"s.npy", &size, "on rank 0, ", "on rank 1"],
        ),
        (None, vec!["data is \"s.npy", "on rank 0, ", "bad/s.npy: does not exist", "on rank 1"]),
    ] {
        match bytes {
            Some(bytes) => fs::write(&bad, bytes).unwrap(),
            None => fs::remove_file(&bad).unwrap(),
        }
        let master = free_address();
        let of = |data: &Path| training(&run, &format!("--steps 2 --data {}", data.display()));
        both_refuse([rank((0, 2), master, &of(&good)), rank((1, 2), master, &of(&bad))], &parts);
    }
    assert!(!run.exists());
}

#[test]
fn a_data_file_that_is_damaged_on_all_ranks_is_named_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let (run, file) = (folder.path().join("run"), folder.path().join("s.npy"));
    let whole = sequences(&file);
    fs::write(&file, &whole[..whole.len() - 1000]).unwrap();
    let arguments = training(&run, &format!("--steps 2 --data {}", file.display()));
    let text = Process::start(launch(2, "", &arguments)).ended_with(1);
    for rank in 0..2 {
        assert_line(&text, &[&format!("[rank {rank}] error: "), &file.display().to_string()]);
    }
}

#[test]
fn memory_that_does_not_suffice_on_one_rank_ends_all_with_the_sizes() {
    let folder = tempfile::tempdir().unwrap();
    // In KiB: far too little for the step; about enough by the estimate; too little for the data.
    for (limit, batch) in [(75_000, 64), (200_000, 64), (55_000, 1)] {
        let run = folder.path().join(format!("run-{limit}"));
        let arguments = training(&run, &format!("--steps 2 --batch-size {batch}"));
        let master = free_address();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {limit}; exec \"$0\" \"$@\"")]);
        command.arg(program().get_program()).args(&arguments);
        let one = Process::start(rank_of(command, (1, 2), master));
        let zero = rank((0, 2), master, &arguments);
        let ((code, text), (other, heard)) = (one.end(), zero.end());
        let all = format!("{limit} KiB, batches of {batch}:\n{text}\n{heard}");
        assert!(code != 0 && other == 1 && !text.contains("panicked"), "{all}");
        // What rank 1 says rank 0 repeats; where an allocation fails rank 1 ends without a word to others.
        let refused = ["GB of memory are free", "bytes do not fit into memory"]
            .map(|part| (text.contains(part), heard.contains(part)));
        if !refused.contains(&(true, true)) {
            assert!(limit > 75_000 || batch == 1, "{all}");
            assert_line(&text, &["memory allocation of ", " bytes failed"]);
            assert_line(&heard, &["error: rank 0: ", "rank 1 closed the connection"]);
        }
    }
}
