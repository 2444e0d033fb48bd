//! The sections about the run itself: pictures, configuration, machine, warnings.

use std::fmt::Write;

use super::Run;
use super::html::{data_url, escaped};
use super::page::swatch;
use super::run::Setting;
use crate::config::{ANIMATION_FILE, STRIP_FILE};
use crate::record::Start;
use crate::text::{minute, thousands};

/// Most starts of a run that are shown, the newest.
const SHOWN_STARTS: usize = 5;

/// The animation and the strip of each run.
pub(super) fn pictures(html: &mut String, runs: &[Run], names: &[String]) {
    html.push_str("<section><h2>Predictions</h2>\n");
    let mut drawn = 0;
    for (i, (run, name)) in runs.iter().zip(names).enumerate() {
        let pictures = [(ANIMATION_FILE, "image/gif", "animation"), (STRIP_FILE, "image/png", "strip")];
        let found: Vec<_> = pictures
            .into_iter()
            .filter_map(|(file, mime, kind)| Some((data_url(mime, &run.picture(file)?), kind)))
            .collect();
        if found.is_empty() {
            continue;
        }
        drawn += 1;
        if runs.len() > 1 {
            let _ = writeln!(html, "<h3>{}</h3>", swatch(i, name));
        }
        for (url, kind) in found {
            let _ = writeln!(
                html,
                "<div class=\"scroll picture\"><img class={kind} alt=\"{kind} of test sequences, {}\" src=\"{url}\"></div>",
                escaped(name)
            );
        }
    }
    html.push_str(match drawn {
        0 => {
            "<p class=none>No pictures yet: a training draws them at its end, with --report also at each \
             evaluation.</p></section>\n"
        }
        _ => {
            "<p class=note>Test sequences: input, true next frames, prediction, and its error (red: too bright, blue: \
             too dark).</p></section>\n"
        }
    });
}

/// The options: of one run, those that differ from its preset, then all; of several, those that differ between them.
pub(super) fn configuration(html: &mut String, runs: &[Run], names: &[String]) {
    html.push_str("<section><h2>Configuration</h2>\n");
    for (run, name) in runs.iter().zip(names) {
        if let Some(error) = &run.config_error {
            let _ = writeln!(html, "<p class=none>{}: {}</p>", escaped(name), escaped(error));
        }
    }
    if let [run] = runs {
        single_configuration(html, run);
    } else {
        let all: Vec<Vec<Setting>> = runs.iter().map(Run::settings).collect();
        let mut options: Vec<&str> = Vec::new();
        for setting in all.iter().flatten() {
            if !options.contains(&setting.option.as_str()) {
                options.push(&setting.option);
            }
        }
        let cells = |option: &str| -> Vec<String> {
            let value = |settings: &Vec<Setting>| {
                settings.iter().find(|s| s.option == option).map(|s| s.value.clone())
            };
            all.iter().map(|settings| value(settings).unwrap_or_default()).collect()
        };
        let rows: Vec<(&str, Vec<String>)> =
            options.into_iter().map(|option| (option, cells(option))).collect();
        let (differ, same): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(_, cells)| cells.windows(2).any(|pair| pair[0] != pair[1]));
        let heads: Vec<String> = names.iter().enumerate().map(|(i, name)| swatch(i, name)).collect();
        if differ.is_empty() {
            html.push_str("<p class=none>All runs have the same options.</p>\n");
        } else {
            html.push_str("<p class=note>Options that differ:</p>\n");
            matrix(html, &heads, &differ);
        }
        html.push_str("<details><summary>Options that are the same</summary>\n<dl class=options>");
        for (option, cells) in &same {
            let value = cells.first().map_or("", String::as_str);
            let _ = writeln!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(option), escaped(value));
        }
        html.push_str("</dl></details>\n");
    }
    html.push_str("</section>\n");
}

fn single_configuration(html: &mut String, run: &Run) {
    let settings = run.settings();
    if settings.is_empty() {
        return;
    }
    let preset = run.config.as_ref().map_or("", |config| &config.preset);
    let _ = write!(html, "<p>The preset <b>{}</b>", escaped(preset));
    let changed: Vec<&Setting> = settings.iter().filter(|setting| setting.changed).collect();
    html.push_str(if changed.is_empty() { " without changes." } else { " with " });
    for setting in &changed {
        // A flag has no value.
        let value = if setting.value == "true" { "" } else { &setting.value };
        let _ = write!(html, "<code>{}</code> ", escaped(format!("--{} {value}", setting.option).trim_end()));
    }
    html.push_str("</p>\n<details><summary>All options</summary>\n<dl class=options>");
    for Setting { option, value, changed } in &settings {
        let class = if *changed { " class=changed" } else { "" };
        let _ = writeln!(html, "<div{class}><dt>{}</dt><dd>{}</dd></div>", escaped(option), escaped(value));
    }
    html.push_str("</dl></details>\n");
}

/// The machine of each run's last start; of one run, of its last starts.
pub(super) fn machine(html: &mut String, runs: &[Run], names: &[String]) {
    let starts: Vec<(String, &Start)> = match runs {
        [run] => {
            let newest = run.starts.iter().rev().take(SHOWN_STARTS).rev();
            newest.map(|start| (format!("started {}", minute(start.time)), start)).collect()
        }
        _ => {
            let head = |i: usize, start: &Start| {
                format!("{}<small>{}</small>", swatch(i, &names[i]), minute(start.time))
            };
            let of_run = |i: usize| runs[i].starts.last().map(|start| (head(i, start), start));
            (0..runs.len()).filter_map(of_run).collect()
        }
    };
    html.push_str("<section><h2>Machine</h2>\n");
    if starts.is_empty() {
        html.push_str("<p class=none>Not recorded by this run.</p></section>\n");
        return;
    }
    type Row = (&'static str, fn(&Start) -> String);
    let rows: [Row; 9] = [
        ("from step", |start| thousands(start.step)),
        ("device", |start| start.device.clone()),
        ("precision", |start| start.precision.clone()),
        ("ranks", |start| start.ranks.to_string()),
        ("processor", |start| start.processor.clone().unwrap_or_default()),
        ("threads", |start| start.threads.to_string()),
        ("memory", |start| start.memory_bytes.map_or(String::new(), |b| format!("{:.1} GB", b as f64 / 1e9))),
        ("name", |start| start.host.clone()),
        ("ssmv-raw", |start| start.version.clone()),
    ];
    let cells = |of: fn(&Start) -> String| starts.iter().map(|(_, start)| of(start)).collect();
    let rows: Vec<(&str, Vec<String>)> = rows.into_iter().map(|(name, of)| (name, cells(of))).collect();
    let heads: Vec<String> = starts.into_iter().map(|(head, _)| head).collect();
    matrix(html, &heads, &rows);
    html.push_str("</section>\n");
}

/// A table with a row for each name; `heads` are HTML, names and cells are text.
fn matrix(html: &mut String, heads: &[String], rows: &[(&str, Vec<String>)]) {
    html.push_str("<div class=scroll><table><thead><tr><th></th>");
    heads.iter().for_each(|head| {
        let _ = write!(html, "<th>{head}</th>");
    });
    html.push_str("</tr></thead><tbody>\n");
    for (name, cells) in rows {
        let _ = write!(html, "<tr><th>{}</th>", escaped(name));
        cells.iter().for_each(|cell| {
            let _ = write!(html, "<td>{}</td>", escaped(cell));
        });
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
}

/// The newest warnings of each run, and damage of its log; nothing without any.
pub(super) fn warnings(html: &mut String, runs: &[Run], names: &[String]) {
    if runs.iter().all(|run| run.log.warning_count == 0 && run.log.damaged == 0) {
        return;
    }
    html.push_str("<section><h2>Warnings</h2>\n");
    for (i, (run, name)) in runs.iter().zip(names).enumerate() {
        let log = &run.log;
        if log.warning_count == 0 && log.damaged == 0 {
            continue;
        }
        if runs.len() > 1 {
            let _ = writeln!(html, "<h3>{}</h3>", swatch(i, name));
        }
        if log.damaged > 0 {
            let _ = writeln!(
                html,
                "<p class=note>Lines of metrics.jsonl that are damaged and left out: {}.</p>",
                thousands(log.damaged)
            );
        }
        let hidden = log.warning_count - log.warnings.len() as u64;
        if hidden > 0 {
            let _ = writeln!(
                html,
                "<p class=note>{} earlier warnings are in metrics.jsonl.</p>",
                thousands(hidden)
            );
        }
        html.push_str("<ul>\n");
        for (step, text) in &log.warnings {
            let _ = writeln!(
                html,
                "<li><span class=step>step {}</span> {}</li>",
                thousands(*step),
                escaped(text)
            );
        }
        html.push_str("</ul>\n");
    }
    html.push_str("</section>\n");
}
