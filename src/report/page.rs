//! The page: its frame, its heading and the figures of each run at a glance.

use std::fmt::Write;

use super::html::escaped;
use super::log::{LOSS, Log};
use super::{Run, details, sections};
use crate::text::{clock, figure, minute, now, thousands};

/// How every report starts; no other file of the program starts so.
pub const PAGE_START: &str = "<!doctype html>\n<!-- ssmv-raw report -->\n";

const STYLE: &str = include_str!("style.css");
/// Shows the values at the pointer; all else needs no script.
const SCRIPT: &str = include_str!("pointer.js");
/// Seconds after which the page of a training that goes on is loaded again.
const RELOAD: u32 = 15;
/// Number of colours of runs.
const COLOURS: usize = 8;

/// The report of runs, at least one, as HTML. With `goes_on` it is the page of a training that goes on, which reloads itself.
pub fn page(runs: &[Run], goes_on: bool) -> String {
    let names = names(runs);
    let title = match names.as_slice() {
        [name] => name.clone(),
        names => format!("{} runs", names.len()),
    };
    let mut html = String::from(PAGE_START);
    // Writing to a string cannot fail, here and below.
    let _ = write!(
        html,
        "<html lang=en><head><meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta name=color-scheme content=\"light dark\">\n"
    );
    if goes_on {
        let _ = writeln!(html, "<meta http-equiv=refresh content={RELOAD}>");
    }
    let _ =
        write!(html, "<title>{}</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n", escaped(&title));
    heading(&mut html, runs, &names, goes_on);
    sections::curves(&mut html, runs, &names);
    sections::errors(&mut html, runs, &names);
    details::pictures(&mut html, runs, &names);
    details::configuration(&mut html, runs, &names);
    details::machine(&mut html, runs, &names);
    details::warnings(&mut html, runs, &names);
    let _ = write!(
        html,
        "<footer>Written by ssmv-raw {} on {}.</footer>\n</main>\n<script>\n{SCRIPT}</script>\n</body></html>\n",
        env!("CARGO_PKG_VERSION"),
        minute(now())
    );
    html
}

/// The classes of a run's colour and dashes.
pub(super) fn class(run: usize) -> String {
    format!("c{} d{}", run % COLOURS, (run / COLOURS).min(2))
}

/// The names of the runs; of those with the same name, with a number.
fn names(runs: &[Run]) -> Vec<String> {
    let numbered = |(i, run): (usize, &Run)| {
        let same = |other: &&Run| other.name == run.name;
        match runs[..i].iter().filter(same).count() {
            0 => run.name.clone(),
            before => format!("{} ({})", run.name, before + 1),
        }
    };
    runs.iter().enumerate().map(numbered).collect()
}

fn heading(html: &mut String, runs: &[Run], names: &[String], goes_on: bool) {
    let ([run], [name]) = (runs, names) else {
        let _ = writeln!(html, "<header><h1>{} runs</h1></header>", runs.len());
        return comparison(html, runs, names);
    };
    let _ = write!(html, "<header><h1>{}</h1>\n<p class=state>", escaped(name));
    let what = [
        run.config.as_ref().map(|config| format!("<b>{}</b>", escaped(&config.preset))),
        run.starts.last().map(|start| escaped(&format!("{} on {}", start.precision, start.device))),
    ];
    what.into_iter().flatten().for_each(|part| {
        let _ = write!(html, "{part} · ");
    });
    let _ = writeln!(html, "{}</p>", state(run, goes_on));
    if let Some(total) = run.total_steps().filter(|_| !run.is_finished()) {
        let share = 100.0 * run.log.step as f64 / total.max(1) as f64;
        let _ = writeln!(html, "<div class=progress><div style=\"width:{share:.1}%\"></div></div>");
    }
    html.push_str("<dl class=facts>\n");
    for Fact { label, value, note } in facts(run, goes_on) {
        let _ = writeln!(
            html,
            "<div><dt>{label}</dt><dd>{}</dd><dd class=note>{}</dd></div>",
            escaped(&value),
            escaped(&note)
        );
    }
    html.push_str("</dl></header>\n");
}

/// Several runs: a table, whose first column is the legend of all charts.
fn comparison(html: &mut String, runs: &[Run], names: &[String]) {
    html.push_str("<div class=scroll><table class=runs><thead><tr><th>run</th>");
    let all: Vec<Vec<Fact>> = runs.iter().map(|run| facts(run, false)).collect();
    for fact in all.first().into_iter().flatten() {
        let _ = write!(html, "<th class=number>{}</th>", fact.label);
    }
    html.push_str("<th>state</th></tr></thead><tbody>\n");
    for (i, ((run, name), facts)) in runs.iter().zip(names).zip(&all).enumerate() {
        let preset = run.config.as_ref().map_or("", |config| &config.preset);
        let _ = write!(html, "<tr><th>{}<small>{}</small></th>", swatch(i, name), escaped(preset));
        for Fact { value, note, .. } in facts {
            let _ = write!(html, "<td class=number>{}<small>{}</small></td>", escaped(value), escaped(note));
        }
        let _ = writeln!(html, "<td>{}</td></tr>", state(run, false));
    }
    html.push_str("</tbody></table></div>\n<nav class=legend>");
    names.iter().enumerate().for_each(|(i, name)| html.push_str(&swatch(i, name)));
    html.push_str("</nav>\n");
}

/// A run's colour and name.
pub(super) fn swatch(run: usize, name: &str) -> String {
    format!(
        "<span class=key><svg class=swatch viewBox=\"0 0 20 4\"><path class=\"line {}\" d=\"M0 2H20\"/></svg>{}</span>",
        class(run),
        escaped(name)
    )
}

fn state(run: &Run, goes_on: bool) -> &'static str {
    match (goes_on, run.is_finished()) {
        (true, _) => "<span class=live>training</span>",
        (false, true) => "finished",
        (false, false) => "not finished",
    }
}

/// A figure of a run at a glance.
struct Fact {
    label: &'static str,
    value: String,
    note: String,
}

fn facts(run: &Run, goes_on: bool) -> Vec<Fact> {
    let log = &run.log;
    let fact = |label, value: String, note: String| Fact { label, value, note };
    let total = run.total_steps().map_or(String::new(), |total| format!("of {} · ", thousands(total)));
    let mut facts =
        vec![fact("steps", thousands(log.step), format!("{total}epoch {}", decimals(log.epoch, 2)))];
    let (first, last) = first_and_last_loss(log);
    facts.push(fact("loss", figure(last), format!("smoothed; first {}", figure(first))));
    let evaluated = log.evaluations.last().map(|evaluation| &evaluation.next);
    let means = evaluated.map(|next| [&next.model.mean, &next.copy.mean, &next.black.mean]);
    let metric = |label, of: fn(&crate::eval::Score) -> f64| {
        let [model, copy, black] = means.map_or([f64::NAN; 3], |scores| scores.map(of));
        let note = match means {
            Some(_) => format!("copy {} · black {}", figure(copy), figure(black)),
            None => "not evaluated yet".to_owned(),
        };
        fact(label, figure(model), note)
    };
    facts.push(metric("MSE ↓", |score| score.mse));
    facts.push(metric("SSIM ↑", |score| score.ssim));
    let speed = log.steps as f64 / log.seconds_per_sequence;
    facts.push(fact("samples/s", figure(speed), "mean".to_owned()));
    let (seconds, steps) = (run.seconds(), log.steps);
    let left = run
        .total_steps()
        .filter(|_| goes_on && steps > 0)
        .and_then(|total| Some(seconds? / steps as f64 * total.saturating_sub(log.step) as f64));
    facts.push(fact(
        "time",
        seconds.map_or("–".to_owned(), clock),
        left.map_or("of training".to_owned(), |left| format!("about {} left", clock(left))),
    ));
    facts
}

/// The smoothed loss at both ends; NaN without one.
fn first_and_last_loss(log: &Log) -> (f64, f64) {
    let smoothed = log.curves.smoothed(LOSS);
    let mut finite = smoothed.iter().flatten();
    let first = finite.next().copied();
    (first.unwrap_or(f64::NAN), finite.next_back().copied().or(first).unwrap_or(f64::NAN))
}

/// A number with at most `most` decimals.
fn decimals(number: f64, most: usize) -> String {
    let text = format!("{number:.most$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::json;

    use super::super::log::tests::figures;
    use super::*;
    use crate::record::Start;

    /// A run folder with `steps` steps, and evaluations of `frames` predicted frames after each tenth.
    fn run(parent: &Path, name: &str, steps: u64, frames: usize) -> Run {
        let folder = parent.join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.toml"), "preset = 'nano'\nsteps = 40\nlr = 0.5\ndata = '<x>.npy'")
            .unwrap();
        let start = Start { step: 0, total_steps: 40, device: "cpu".into(), ..Start::default() };
        start.append(&folder).unwrap();
        Start { step: 15, host: "second & last".into(), ..start }.append(&folder).unwrap();
        let mut log = String::new();
        for step in 1..=steps {
            let loss = if step == 5 { None } else { Some(1.0 / step as f64) };
            log += &format!(
                "{}\n",
                json!({ "step": step, "epoch": step as f64 / 8.0, "loss": loss, "lr": 0.5,
                "grad_norm": 2.0, "samples_per_second": 16.0, "loss_scale": 1.0 })
            );
            if frames > 0 && step.is_multiple_of(10) {
                let mse: Vec<f64> = (0..frames).map(|t| 90.0 - step as f64 + t as f64).collect();
                log += &format!(
                    "{}\n",
                    json!({ "step": step, "epoch": step as f64 / 8.0, "eval": figures(&mse) })
                );
            }
        }
        log += "{\"step\":3,\"warning\":\"<script>alert(1)</script>\"}\nno record\n{\"step\":9,\"lo";
        fs::write(folder.join("metrics.jsonl"), log).unwrap();
        Run::open(&folder).unwrap()
    }

    /// Checks that the tags of a page are closed in their order, and that nothing is loaded from elsewhere.
    fn check(html: &str) {
        const VOID: [&str; 3] = ["meta", "img", "path"];
        let body = &html[html.find("<html").unwrap()..];
        let script = body.find("<script>").unwrap();
        let mut open = Vec::new();
        for tag in body[..script].split('<').skip(1) {
            let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '/').collect();
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop().as_deref(), Some(name), "</{tag}"),
                None if VOID.contains(&name.as_str()) => {}
                None => open.push(name),
            }
        }
        assert_eq!(open, ["html", "body"]);
        for part in ["http://", "https://", "@import", "url("] {
            assert!(!html.contains(part), "{part}");
        }
        assert!(html.split("src=\"").skip(1).all(|source| source.starts_with("data:image/")));
        assert!(!html.contains("NaN") && !html.contains("inf%"));
    }

    #[test]
    fn a_page_has_all_of_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path(), "first", 40, 2);
        fs::write(run.folder().join("preview.gif"), b"GIF89a").unwrap();
        let html = page(&[run], false);
        check(&html);
        assert!(html.starts_with(PAGE_START));
        for part in [
            "<title>first</title>",
            "finished",
            "of 40 · epoch 5",
            "<figcaption>Loss <small>l1+mse, log</small>",
            "<figcaption>Learning rate",
            "<figcaption>Gradient norm",
            "<i class=\"name\" style=\"top:",
            "<figcaption>Samples/s",
            "Red marks at the top: values that are not finite (1 of the loss)",
            "the training was resumed",
            "<figcaption>SSIM ↑",
            "step 40, 8 test sequences",
            "<td class=number><b>50.00</b></td>",
            "src=\"data:image/gif;base64,R0lGODlh\"",
            "<code>--lr 0.5</code>",
            "second &amp; last",
            "are damaged and left out: 1.",
            "&lt;script&gt;alert(1)",
            "&lt;x&gt;.npy",
        ] {
            assert!(html.contains(part), "{part:?} is not in the page");
        }
        for part in ["http-equiv", "Loss scale", "<script>alert", "<x>", "by predicted frame"] {
            assert!(!html.contains(part), "{part:?} is in the page");
        }
    }

    #[test]
    fn a_training_that_goes_on_reloads_its_page() {
        let folder = tempfile::tempdir().unwrap();
        let html = page(&[run(folder.path(), "first", 10, 0)], true);
        check(&html);
        for part in
            ["<meta http-equiv=refresh content=", "class=live", "of 40 · epoch 1.25", "width:25.0%", " left<"]
        {
            assert!(html.contains(part), "{part:?} is not in the page");
        }
    }

    #[test]
    fn a_run_without_steps_or_evaluations_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        for (steps, parts) in [
            (0, &["No step is recorded yet", "Not evaluated yet", "No pictures yet"][..]),
            (1, &["<path class=\"dots c0 d0\"", "not evaluated yet", "not finished"]),
        ] {
            let html = page(&[run(folder.path(), &format!("run{steps}"), steps, 0)], false);
            check(&html);
            parts.iter().for_each(|part| assert!(html.contains(part), "{part:?} is not in the page"));
        }
        let bare = folder.path().join("bare");
        fs::create_dir(&bare).unwrap();
        fs::write(bare.join("metrics.jsonl"), "").unwrap();
        let html = page(&[Run::open(&bare).unwrap()], false);
        check(&html);
        assert!(html.contains("config.toml: cannot be read") && html.contains("Not recorded by this run"));
    }

    #[test]
    fn several_runs_share_charts_and_a_legend() {
        let folder = tempfile::tempdir().unwrap();
        let mut runs: Vec<Run> = (1..=9).map(|n| run(folder.path(), &format!("<{n}>"), 4 * n, 4)).collect();
        runs[8].name = "<1>".into();
        fs::write(runs[1].folder().join("config.toml"), "preset = 'nano'\nsteps = 40\nseed = 7").unwrap();
        runs[1].read_on().unwrap();
        let html = page(&runs, false);
        check(&html);
        let loss = html.split("<figure>").nth(1).unwrap();
        assert_eq!(loss.matches("class=\"line ").count(), 9);
        for part in [
            "<title>9 runs</title>",
            "&lt;1&gt; (2)",
            "class=\"line c0 d1\"",
            "<nav class=legend>",
            "Options that differ",
            "<th>seed</th><td>0</td><td>7</td>",
            "by predicted frame",
            "<td>black, &lt;3&gt;</td>",
        ] {
            assert!(html.contains(part), "{part:?} is not in the page");
        }
        // Where baselines differ, they have the names of their runs.
        assert!(html.contains("copy, &lt;3&gt;"), "baselines by run");
        assert!(!html.contains("resumed"));
    }
}
