//! `report` and `train --report`: pages of real runs, and that a report changes no bit of a training.

mod program;

use std::fs;
use std::path::Path;

use program::{done, program, refused, run};
use rustix::process::{Pid, Signal, kill_process};

const NANO: &str =
    "train --preset nano --batch-size 2 --sequences 4 --eval-sequences 2 --warmup 2 --seed 3 --quiet";

/// Six steps, with an evaluation after each second.
fn train(rest: &str) -> String {
    format!("{NANO} --steps 6 --eval-every 1 {rest}")
}

fn read(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.starts_with("<!doctype html>\n<!-- ssmv-raw report -->\n"), "{}", path.display());
    assert!(text.trim_end().ends_with("</html>"), "{}", path.display());
    text
}

#[test]
fn a_training_keeps_its_report_and_ends_with_the_same_bits() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    done(folder, &train("--out plain"));
    done(folder, &train("--out run --report"));
    let weights =
        |run: &str| fs::read(folder.join(run).join("checkpoints/step-00000006/model.safetensors")).unwrap();
    assert!(weights("plain") == weights("run"), "a report changes the weights");
    assert!(!folder.join("plain/report.html").exists());
    let html = read(&folder.join("run/report.html"));
    for part in [
        "<title>run</title>",
        "finished",
        "of 6 · epoch 3",
        "<figcaption>Loss",
        "<figcaption>SSIM ↑",
        "step 6, 2 test sequences",
        "src=\"data:image/gif;base64,R0lG",
        "src=\"data:image/png;base64,iVBOR",
        "--seed 3",
        "f32 on cpu",
    ] {
        assert!(html.contains(part), "{part:?} is not in the report");
    }
    // Six steps and three evaluations, of which the last one's page no longer reloads itself.
    assert!(!html.contains("http-equiv") && !html.contains("class=live"));
    let loss = html.split("<path class=\"line c0 d0\"").nth(1).unwrap();
    let path = loss.split(" d=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(path.matches(['M', 'L']).count(), 6, "{path}");

    // A resumption without the option goes on with it, and says the machine of both starts.
    done(folder, "train --quiet --resume run --steps 8");
    let html = read(&folder.join("run/report.html"));
    for part in ["of 8 · epoch 4", "the training was resumed", "<td>0</td><td>6</td>", "--report"] {
        assert!(html.contains(part), "{part:?} is not in the report");
    }
}

#[test]
fn a_report_of_several_runs_and_of_one_that_a_kill_ended() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    done(folder, &train("--out a"));
    fs::create_dir(folder.join("<b>")).unwrap();
    for file in ["config.toml", "metrics.jsonl", "starts.jsonl"] {
        fs::copy(folder.join("a").join(file), folder.join("<b>").join(file)).unwrap();
    }
    // The last lines: an evaluation, and a step that was cut short.
    let log = fs::read_to_string(folder.join("a/metrics.jsonl")).unwrap();
    let cut = log.rfind("{\"step\":6,").unwrap() - 20;
    fs::write(folder.join("<b>/metrics.jsonl"), &log[..cut]).unwrap();

    let output = run(folder, "report <b>/");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && message == "wrote <b>/report.html\n", "{message}");
    let html = read(&folder.join("<b>/report.html"));
    assert!(html.contains("<title>&lt;b&gt;</title>") && html.contains("not finished"));
    assert!(html.contains("of 6 · epoch 2.5") && html.contains("No pictures yet"), "{html}");

    done(folder, "report a <b> a/checkpoints/step-00000006 --out all.html");
    let html = read(&folder.join("all.html"));
    for part in ["<title>3 runs</title>", "a (2)", "<nav class=legend>", "All runs have the same options"] {
        assert!(html.contains(part), "{part:?} is not in the report");
    }
    assert!(!html.contains("<b>/") && !html.contains(&*folder.to_string_lossy()));
    // A report is replaced; to stdout it goes as it is.
    done(folder, "report a --out all.html");
    assert!(read(&folder.join("all.html")).contains("<title>a</title>"));
    let streamed = done(folder, "report a --out /dev/stdout --quiet");
    assert!(streamed.starts_with("<!doctype html>"));
}

#[test]
fn what_is_no_run_or_no_report_is_refused_in_a_line() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    fs::create_dir(folder.join("empty")).unwrap();
    fs::create_dir(folder.join("run")).unwrap();
    fs::write(folder.join("run/config.toml"), "preset = 'nano'").unwrap();
    fs::write(folder.join("notes.html"), "<html>mine</html>").unwrap();
    refused(&run(folder, "report"), 2, &["<RUN>"]);
    refused(&run(folder, "report empty"), 1, &["empty: is not a run folder", "config.toml", "metrics.jsonl"]);
    refused(&run(folder, "report run none"), 1, &["none: cannot be read"]);
    refused(&run(folder, "report run --out notes.html"), 1, &["notes.html", "it is not overwritten"]);
    refused(&run(folder, "report run --out run/config.toml"), 1, &["config.toml", "it is not overwritten"]);
    refused(&run(folder, "report run --out none/x.html"), 1, &["none/x.html: cannot be written"]);
    refused(&run(folder, "report run --out empty"), 1, &["is a folder"]);
    assert_eq!(fs::read_to_string(folder.join("notes.html")).unwrap(), "<html>mine</html>");
    assert!(!folder.join("run/report.html").exists());
    // A run that has not started has a report too.
    done(folder, "report run");
    assert!(read(&folder.join("run/report.html")).contains("No step is recorded yet"));
}

#[test]
fn an_interrupted_training_ends_the_reloads_of_its_page() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let child =
        program(folder, &format!("{NANO} --steps 100000 --eval-every 0 --save-every 0 --out run --report"))
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
    let report = folder.join("run/report.html");
    while !report.exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let html = read(&report);
    assert!(html.contains("<meta http-equiv=refresh") && html.contains("class=live"));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
    let html = read(&report);
    assert!(!html.contains("http-equiv") && html.contains("not finished"));
}

#[test]
fn a_report_that_cannot_be_written_does_not_end_a_training() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    // A folder in its place, which appears after the start: the run folder must be empty before.
    let mut command =
        program(folder, &format!("{NANO} --steps 400 --eval-every 0 --save-every 0 --out run --report"));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let report = folder.join("run/report.html");
    while !report.exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    fs::remove_file(&report).unwrap();
    fs::create_dir(&report).unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{message}");
    let warnings = message.lines().filter(|line| line.starts_with("warning: the report is not current: "));
    assert_eq!(warnings.count(), 1, "{message}");
    assert!(message.contains("report.html: is a folder"), "{message}");
}
