//! The sections with charts: the training, and the errors of the predictions.

use std::fmt::Write;

use super::Run;
use super::chart::{Axis, Chart, Level, Line};
use super::html::escaped;
use super::log::{GRADIENT, LOSS, LoggedEvaluation, RATE, SCALE, SPEED};
use super::page::{class, swatch};
use crate::eval::{Comparison, Horizons, Score};
use crate::text::{figure, thousands};

/// A metric: its name, with an arrow to its better end, and its value.
type Metric = (&'static str, fn(&Score) -> f64);

const METRICS: [Metric; 4] =
    [("MSE ↓", |s| s.mse), ("MAE ↓", |s| s.mae), ("PSNR ↑", |s| s.psnr), ("SSIM ↑", |s| s.ssim)];

/// Least number of predicted frames whose errors are drawn over the frames; fewer are only in the table.
const DRAWN_FRAMES: usize = 3;
/// Most baselines in a chart: those of runs on two kinds of data.
const MOST_LEVELS: usize = 4;

/// Loss, learning rate, gradient norm, speed and, if it is used, loss scale over the steps.
pub(super) fn curves(html: &mut String, runs: &[Run], names: &[String]) {
    html.push_str("<section><h2>Training</h2>\n");
    if runs.iter().all(|run| run.log.steps == 0) {
        html.push_str("<p class=none>No step is recorded yet.</p></section>\n");
        return;
    }
    let single = match runs {
        [run] => Some(run),
        _ => None,
    };
    let config = single.and_then(|run| run.config.as_ref());
    // Resumptions of several runs over each other would only confuse.
    let marks: Vec<f64> = single
        .into_iter()
        .flat_map(|run| &run.starts)
        .filter(|start| start.step > 0 && start.step < run_length(runs))
        .map(|start| start.step as f64)
        .collect();
    let chart = |title: &str, unit: &str, quantity: usize, axis: Axis, smooth: bool| Chart {
        title: title.to_owned(),
        unit: unit.to_owned(),
        axis,
        across: "step",
        lines: (0..runs.len())
            .map(|i| Line::of_steps(&names[i], &class(i), &runs[i].log.curves, quantity, smooth))
            .collect(),
        levels: Vec::new(),
        marks: marks.clone(),
    };
    let loss = config.map_or(String::new(), |config| config.loss.to_string());
    let scales = runs.iter().any(|run| run.log.scales_loss());
    let _ = write!(
        html,
        "<div class=wide>{}</div>\n<div class=\"charts{}\">",
        chart("Loss", &loss, LOSS, Axis::Auto, true).html(),
        if scales { " four" } else { "" }
    );
    html.push_str(&chart("Learning rate", "", RATE, Axis::FromZero, false).html());
    let mut gradient = chart("Gradient norm", "before clipping", GRADIENT, Axis::Auto, true);
    let clip = |value: f64| Level { name: "clip".to_owned(), class: "copy", value };
    gradient.levels.extend(config.and_then(|config| config.clip_norm).map(clip));
    html.push_str(&gradient.html());
    html.push_str(&chart("Samples/s", "", SPEED, Axis::FromZero, true).html());
    if scales {
        html.push_str(&chart("Loss scale", "", SCALE, Axis::Auto, false).html());
    }
    html.push_str("</div>\n<p class=note>Bold: smoothed. Faint: the steps");
    let exact = runs.iter().all(|run| run.log.curves.is_exact());
    html.push_str(if exact {
        " themselves."
    } else {
        ", from the smallest to the largest value of neighbours."
    });
    let not_finite: u64 =
        runs.iter().flat_map(|run| run.log.curves.points()).map(|point| point.values[LOSS].not_finite).sum();
    if not_finite > 0 {
        let _ = write!(
            html,
            " Red marks at the top: values that are not finite ({} of the loss).",
            thousands(not_finite)
        );
    }
    if !marks.is_empty() {
        html.push_str(" Vertical lines: the training was resumed.");
    }
    html.push_str("</p></section>\n");
}

/// The last step of all runs.
fn run_length(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.log.step).max().unwrap_or(0)
}

/// The errors of the evaluations over the steps, and those of the last evaluation by frame, beside the baselines.
pub(super) fn errors(html: &mut String, runs: &[Run], names: &[String]) {
    html.push_str("<section><h2>Errors of the predictions</h2>\n");
    let last: Vec<(usize, &LoggedEvaluation)> =
        runs.iter().enumerate().filter_map(|(i, run)| Some((i, run.log.evaluations.last()?))).collect();
    if last.is_empty() {
        html.push_str("<p class=none>Not evaluated yet.</p></section>\n");
        return;
    }
    let baselines = baselines(&last, names);
    // More would hide the curves; they are in the table.
    let drawn = if baselines.len() <= MOST_LEVELS { &baselines[..] } else { &[] };
    html.push_str(
        "<p class=note>Mean over the predicted frames. MSE and MAE are sums over the pixels of a frame. Dashed: \
         copies of the last input frame. Dotted: black frames.</p>\n<div class=\"charts four\">",
    );
    for (name, metric) in METRICS {
        let line = |i: usize| {
            let values = runs[i].log.evaluations.iter();
            let values =
                values.map(|evaluation| (evaluation.step as f64, metric(&evaluation.next.model.mean)));
            Line::of_values(&names[i], &class(i), values)
        };
        let level = |Baseline { name, class, horizons }: &Baseline| Level {
            name: name.clone(),
            class,
            value: metric(&horizons.mean),
        };
        html.push_str(
            &Chart {
                title: name.to_owned(),
                unit: String::new(),
                axis: Axis::Linear,
                across: "step",
                lines: last.iter().map(|(i, _)| line(*i)).collect(),
                levels: drawn.iter().map(level).filter(|level| level.value.is_finite()).collect(),
                marks: Vec::new(),
            }
            .html(),
        );
    }
    html.push_str("</div>\n");
    if last.iter().any(|(_, evaluation)| evaluation.next.model.frames.len() >= DRAWN_FRAMES) {
        by_frame(html, &last, drawn, names);
    }
    table(html, &last, &baselines, names);
    html.push_str("</section>\n");
}

/// A baseline of the last evaluations.
struct Baseline<'a> {
    name: String,
    class: &'static str,
    horizons: &'a Horizons,
}

/// The baselines of the last evaluations. Runs that were evaluated on the same sequences have the same.
fn baselines<'a>(last: &[(usize, &'a LoggedEvaluation)], names: &[String]) -> Vec<Baseline<'a>> {
    type Kind = (&'static str, fn(&Comparison) -> &Horizons);
    let kinds: [Kind; 2] = [("copy", |next| &next.copy), ("black", |next| &next.black)];
    let of_kind = |(class, of): Kind| {
        let mut distinct: Vec<(usize, &'a Horizons)> = Vec::new();
        for (i, evaluation) in last {
            let horizons = of(&evaluation.next);
            if !distinct.iter().any(|(_, other)| other.mean == horizons.mean) {
                distinct.push((*i, horizons));
            }
        }
        let alone = distinct.len() == 1;
        let name = move |i: usize| if alone { class.to_owned() } else { format!("{class}, {}", names[i]) };
        distinct.into_iter().map(move |(i, horizons)| Baseline { name: name(i), class, horizons })
    };
    kinds.into_iter().flat_map(of_kind).collect()
}

/// The errors of the last evaluation over the predicted frames.
fn by_frame(
    html: &mut String,
    last: &[(usize, &LoggedEvaluation)],
    baselines: &[Baseline],
    names: &[String],
) {
    html.push_str("<h3>Last evaluation, by predicted frame</h3>\n<div class=\"charts four\">");
    for (name, metric) in METRICS {
        let line = |name: &str, class: &str, horizons: &Horizons| {
            let values = horizons.frames.iter().enumerate();
            Line::of_values(name, class, values.map(|(t, score)| (t as f64 + 1.0, metric(score))))
        };
        let models = last.iter().map(|(i, evaluation)| line(&names[*i], &class(*i), &evaluation.next.model));
        let others = baselines
            .iter()
            .map(|Baseline { name, class, horizons }| line(name, &format!("level {class}"), horizons));
        html.push_str(
            &Chart {
                title: name.to_owned(),
                unit: String::new(),
                axis: Axis::Linear,
                across: "frame",
                lines: models.chain(others).collect(),
                levels: Vec::new(),
                marks: Vec::new(),
            }
            .html(),
        );
    }
    html.push_str("</div>\n");
}

/// The numbers of the last evaluation: for each predicted frame and for the mean, the models and the baselines below each
/// other; the best of each metric is bold.
fn table(html: &mut String, last: &[(usize, &LoggedEvaluation)], baselines: &[Baseline], names: &[String]) {
    let single = last.len() == 1 && names.len() == 1;
    let models = last.iter().map(|(i, evaluation)| {
        let name = if single { "model".to_owned() } else { swatch(*i, &names[*i]) };
        (name, &evaluation.next.model)
    });
    let rows: Vec<(String, &Horizons)> =
        models.chain(baselines.iter().map(|baseline| (escaped(&baseline.name), baseline.horizons))).collect();
    let frames = last.iter().map(|(_, evaluation)| evaluation.next.model.frames.len()).max().unwrap_or(0);
    // Many frames are in the charts by frame; their numbers would fill the page.
    let folded = frames >= DRAWN_FRAMES;
    if folded {
        html.push_str("<details><summary>Numbers of the last evaluation</summary>\n");
    }
    html.push_str("<div class=scroll><table class=errors><caption>Last evaluation");
    if let [(_, evaluation)] = last {
        let _ = write!(
            html,
            ": step {}, {} test sequences",
            thousands(evaluation.step),
            thousands(evaluation.sequences)
        );
    }
    html.push_str("</caption>\n<thead><tr><th>frame</th><th></th>");
    METRICS.iter().for_each(|(name, _)| {
        let _ = write!(html, "<th class=number>{name}</th>");
    });
    html.push_str("</tr></thead>\n");
    for t in (0..frames).map(Some).chain([None]) {
        let label = t.map_or("mean".to_owned(), |t| format!("+{}", t + 1));
        let score = |horizons: &'_ Horizons| match t {
            Some(t) => horizons.frames.get(t).copied(),
            None => Some(horizons.mean),
        };
        let scores: Vec<(&str, Score)> =
            rows.iter().filter_map(|(name, horizons)| Some((name.as_str(), score(horizons)?))).collect();
        let best = METRICS.map(|(name, metric)| {
            let finite = scores.iter().map(|(_, score)| metric(score)).filter(|value| value.is_finite());
            if name.ends_with('↓') { finite.reduce(f64::min) } else { finite.reduce(f64::max) }
        });
        let _ = write!(html, "<tbody{}>", if t.is_none() { " class=mean" } else { "" });
        for (row, (name, score)) in scores.iter().enumerate() {
            html.push_str("<tr>");
            if row == 0 {
                let _ = write!(html, "<th rowspan={}>{label}</th>", scores.len());
            }
            let _ = write!(html, "<td>{name}</td>");
            for ((_, metric), best) in METRICS.iter().zip(best) {
                let value = metric(score);
                let tag = if Some(value) == best { "b" } else { "span" };
                let _ = write!(html, "<td class=number><{tag}>{}</{tag}></td>", figure(value));
            }
            html.push_str("</tr>");
        }
        html.push_str("</tbody>\n");
    }
    html.push_str("</table></div>\n");
    if folded {
        html.push_str("</details>\n");
    }
}
