//! A chart as HTML: the curves are an SVG that is stretched to the page, the labels around it are text of the page's size.

use std::fmt::Write;

use super::curves::Curves;
use super::html::escaped;
use super::scale::Scale;

/// Width and height of the SVG's own coordinates.
const SIDE: f64 = 1000.0;
/// About how many ticks an axis has.
const TICKS: usize = 5;
/// Highest ratio of a linear axis; values that differ by more are drawn on a logarithmic one.
const LINEAR_RATIO: f64 = 5.0;

/// Choice of the vertical axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Linear, over the values.
    Linear,
    /// Linear, from zero.
    FromZero,
    /// Logarithmic if all values are above zero and differ by more than a factor of 5.
    Auto,
}

/// A place of a curve; `None` is a gap.
type Place = (f64, Option<f64>);

/// A curve of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    /// Name in the legend and at the pointer.
    pub name: String,
    /// Class of its colour.
    pub class: String,
    /// The line.
    line: Vec<Place>,
    /// Smallest and largest value at each place, drawn behind the line; empty without.
    band: Vec<(f64, Option<(f64, f64)>)>,
    /// Where values were not finite.
    not_finite: Vec<f64>,
    /// Whether each place gets a dot.
    dots: bool,
}

impl Line {
    /// Curve `n` of a training: smoothed, over its values as they are.
    pub fn of_steps<const N: usize>(
        name: &str,
        class: &str,
        curves: &Curves<N>,
        n: usize,
        smooth: bool,
    ) -> Self {
        let steps = || curves.points().iter().map(|point| (point.step(), &point.values[n]));
        let means = || steps().map(|(_, summary)| summary.mean()).collect();
        let line = if smooth { curves.smoothed(n) } else { means() };
        let extremes = |(step, summary): (f64, &super::curves::Summary)| {
            (step, summary.mean().map(|_| (summary.low, summary.high)))
        };
        Self {
            name: name.to_owned(),
            class: class.to_owned(),
            line: steps().map(|(step, _)| step).zip(line).collect(),
            band: if smooth || !curves.is_exact() { steps().map(extremes).collect() } else { Vec::new() },
            not_finite: steps().filter(|(_, summary)| summary.not_finite > 0).map(|(step, _)| step).collect(),
            dots: false,
        }
    }

    /// A line with a dot at each of few values.
    pub fn of_values(name: &str, class: &str, values: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let finite = |value: f64| Some(value).filter(|value| value.abs() <= 1e100);
        let line: Vec<Place> = values.into_iter().map(|(x, value)| (x, finite(value))).collect();
        Self {
            name: name.to_owned(),
            class: class.to_owned(),
            not_finite: line.iter().filter(|(_, value)| value.is_none()).map(|(x, _)| *x).collect(),
            band: Vec::new(),
            dots: line.len() <= 60,
            line,
        }
    }
}

/// A value that lines are compared with.
#[derive(Clone, Debug)]
pub struct Level {
    /// Name at the right end of its line.
    pub name: String,
    /// Class of its dashes.
    pub class: &'static str,
    /// The value.
    pub value: f64,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Heading.
    pub title: String,
    /// Unit or explanation beside the heading.
    pub unit: String,
    /// Choice of the vertical axis.
    pub axis: Axis,
    /// What the horizontal axis counts.
    pub across: &'static str,
    /// The curves; the first is drawn last, over the others.
    pub lines: Vec<Line>,
    /// Values that are drawn as dashed lines over the whole width.
    pub levels: Vec<Level>,
    /// Places on the horizontal axis that are marked: where a training was resumed.
    pub marks: Vec<f64>,
}

impl Chart {
    /// The chart as a `figure`.
    pub fn html(&self) -> String {
        let title = escaped(&self.title);
        let (Some(x), Some(y)) = (self.horizontal(), self.vertical()) else {
            return format!(
                "<figure><figcaption>{title}</figcaption><p class=none>no finite value yet</p></figure>\n"
            );
        };
        let unit = match (y.is_log(), escaped(&self.unit)) {
            (true, unit) if unit.is_empty() => "log".to_owned(),
            (true, unit) => format!("{unit}, log"),
            (false, unit) => unit,
        };
        let mut html = format!("<figure><figcaption>{title} <small>{unit}</small></figcaption>\n");
        let ((left, right), (low, high)) = (x.limits(), y.limits());
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            html,
            "<div class=plot data-x=\"{left} {right}\" data-y=\"{low} {high} {}\" data-across=\"{}\">",
            u8::from(y.is_log()),
            self.across
        );
        let _ = write!(
            html,
            "<svg viewBox=\"0 0 {SIDE} {SIDE}\" preserveAspectRatio=none role=img aria-label=\"{title} over {}s\">",
            self.across
        );
        let (across, up) = (x.whole_ticks(TICKS), y.ticks(TICKS));
        let down = |value: f64| SIDE * (1.0 - y.place(value));
        let along = |value: f64| SIDE * x.place(value);
        for tick in &up {
            let _ = write!(html, "<path class=grid d=\"M0 {:.1}H{SIDE}\"/>", down(tick.value));
        }
        for mark in &self.marks {
            let _ = write!(html, "<path class=mark d=\"M{:.1} 0V{SIDE}\"/>", along(*mark));
        }
        for Level { class, value, .. } in &self.levels {
            let _ = write!(html, "<path class=\"level {class}\" d=\"M0 {:.1}H{SIDE}\"/>", down(*value));
        }
        for line in self.lines.iter().rev() {
            line.draw_band(&mut html, &along, &down);
        }
        for line in self.lines.iter().rev() {
            line.draw(&mut html, &along, &down);
        }
        html.push_str("</svg>\n");
        for tick in &up {
            let _ =
                write!(html, "<i class=up style=\"top:{:.2}%\">{}</i>", down(tick.value) / 10.0, tick.label);
        }
        for tick in &across {
            let _ = write!(
                html,
                "<i class=across style=\"left:{:.2}%\">{}</i>",
                along(tick.value) / 10.0,
                tick.label
            );
        }
        for (name, place, below) in self.level_labels(&down) {
            let class = if below { "name below" } else { "name" };
            let top = place / 10.0;
            let _ = write!(html, "<i class=\"{class}\" style=\"top:{top:.2}%\">{}</i>", escaped(name));
        }
        html.push_str("</div></figure>\n");
        html
    }

    /// Names of the levels, their places, and whether the name is below its line: where the name of the next higher level is
    /// too near to it.
    fn level_labels(&self, down: &dyn Fn(f64) -> f64) -> Vec<(&str, f64, bool)> {
        /// Height of a line of text in a small chart.
        const TEXT: f64 = 75.0;
        let mut levels: Vec<(&str, f64)> =
            self.levels.iter().map(|level| (level.name.as_str(), down(level.value))).collect();
        levels.sort_by(|a, b| a.1.total_cmp(&b.1));
        // Where the name above ends.
        let mut end = f64::NEG_INFINITY;
        let mut labels = Vec::new();
        for (name, line) in levels {
            let below = line - TEXT < end;
            let place = if below { line.max(end) } else { line };
            end = if below { place + TEXT } else { place };
            labels.push((name, place, below));
        }
        labels
    }

    fn horizontal(&self) -> Option<Scale> {
        let all = self.lines.iter().flat_map(|line| &line.line).map(|(x, _)| *x);
        let (low, high) = extremes(all)?;
        Some(if low == high { Scale::linear(low - 1.0, high + 1.0) } else { Scale::linear(low, high) })
    }

    /// The axis over all lines and levels. Of the bands, single outliers may be cut off.
    fn vertical(&self) -> Option<Scale> {
        let lines = || self.lines.iter().flat_map(|line| &line.line).filter_map(|(_, value)| *value);
        let levels = || self.levels.iter().map(|level| level.value);
        extremes(lines())?;
        let (mut low, mut high) = extremes(lines().chain(levels()))?;
        let bands = || self.lines.iter().flat_map(|line| &line.band).filter_map(|(_, value)| *value);
        let at = |mut values: Vec<f64>, share: f64| {
            values.sort_by(f64::total_cmp);
            let last = values.len().checked_sub(1)?;
            values.get((last as f64 * share).round() as usize).copied()
        };
        low = at(bands().map(|(low, _)| low).collect(), 0.01).map_or(low, |value| low.min(value));
        high = at(bands().map(|(_, high)| high).collect(), 0.99).map_or(high, |value| high.max(value));
        Some(match self.axis {
            Axis::Auto if low > 0.0 && high > LINEAR_RATIO * low => Scale::log(low, high).with_margin(0.04),
            Axis::FromZero if low >= 0.0 && high > 0.0 => Scale::linear(0.0, high * 1.06),
            _ => Scale::linear(low, high).with_margin(0.05),
        })
    }
}

/// Smallest and largest number; `None` without one.
fn extremes(mut numbers: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let first = numbers.next()?;
    Some(numbers.fold((first, first), |(low, high), number| (low.min(number), high.max(number))))
}

impl Line {
    fn draw_band(&self, html: &mut String, along: &dyn Fn(f64) -> f64, down: &dyn Fn(f64) -> f64) {
        let class = escaped(&self.class);
        let exact = self.band.iter().all(|(_, extremes)| extremes.is_none_or(|(low, high)| low == high));
        let mut path = String::new();
        for part in self.band.split(|(_, extremes)| extremes.is_none()).filter(|part| part.len() > 1) {
            let places = || part.iter().filter_map(|(x, extremes)| Some((along(*x), (*extremes)?)));
            let mut command = 'M';
            for (x, (_, high)) in places() {
                let _ = write!(path, "{command}{x:.1} {:.1}", down(high));
                command = 'L';
            }
            if !exact {
                places().rev().for_each(|(x, (low, _))| {
                    let _ = write!(path, "L{x:.1} {:.1}", down(low));
                });
                path.push('Z');
            }
        }
        if !path.is_empty() {
            let kind = if exact { "raw" } else { "band" };
            let _ = write!(html, "<path class=\"{kind} {class}\" d=\"{path}\"/>");
        }
        let mut marks = String::new();
        for x in &self.not_finite {
            let _ = write!(marks, "M{:.1} 0v30", along(*x));
        }
        if !marks.is_empty() {
            let _ = write!(html, "<path class=bad d=\"{marks}\"/>");
        }
    }

    fn draw(&self, html: &mut String, along: &dyn Fn(f64) -> f64, down: &dyn Fn(f64) -> f64) {
        let (class, name) = (escaped(&self.class), escaped(&self.name));
        let (mut path, mut dots) = (String::new(), String::new());
        for part in self.line.split(|(_, value)| value.is_none()) {
            let mut command = 'M';
            for (x, value) in part {
                let (x, y) = (along(*x), down(value.unwrap_or_default()));
                let _ = write!(path, "{command}{x:.1} {y:.1}");
                command = 'L';
                // A line without length is drawn as a dot.
                if self.dots || part.len() == 1 {
                    let _ = write!(dots, "M{x:.1} {y:.1}h0");
                }
            }
        }
        let _ = write!(html, "<path class=\"line {class}\" data-name=\"{name}\" d=\"{path}\"/>");
        if !dots.is_empty() {
            let _ = write!(html, "<path class=\"dots {class}\" d=\"{dots}\"/>");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(lines: Vec<Line>) -> Chart {
        Chart {
            title: "Loss <&>".into(),
            unit: String::new(),
            axis: Axis::Auto,
            across: "step",
            lines,
            levels: Vec::new(),
            marks: Vec::new(),
        }
    }

    fn line(values: &[Option<f64>], smooth: bool) -> Line {
        let mut curves = Curves::<1>::default();
        values.iter().enumerate().for_each(|(i, value)| curves.add(i as u64 + 1, [*value]));
        Line::of_steps("a \"run\"", "c0", &curves, 0, smooth)
    }

    /// The `d` of the path of a class.
    fn path<'a>(html: &'a str, class: &str) -> Option<&'a str> {
        let path = html.split("<path ").find(|path| path.starts_with(&format!("class=\"{class}")))?;
        path.split(" d=\"").nth(1)?.split('"').next()
    }

    #[test]
    fn a_curve_is_drawn_from_the_first_step_to_the_last() {
        let html = chart(vec![line(&[Some(1.0), Some(2.0), Some(3.0)], false)]).html();
        // A margin of 5 percent below and above: 1 is at 0.05/1.1 of the height.
        assert_eq!(path(&html, "line c0"), Some("M0.0 954.5L500.0 500.0L1000.0 45.5"));
        assert!(
            html.contains("Loss &lt;&amp;&gt;") && html.contains("data-name=\"a &quot;run&quot;\""),
            "{html}"
        );
        assert!(path(&html, "raw").is_none() && !html.contains("class=bad"));
    }

    #[test]
    fn a_value_that_is_not_finite_is_a_gap_and_a_mark() {
        let html = chart(vec![line(&[Some(1.0), Some(1.5), None, Some(2.0), None], false)]).html();
        let drawn = path(&html, "line c0").unwrap();
        assert_eq!(drawn.matches('M').count(), 2, "{drawn}");
        assert_eq!(drawn.matches('L').count(), 1, "{drawn}");
        assert_eq!(path(&html, "dots c0").unwrap().matches("h0").count(), 1, "a value alone is a dot");
        assert!(html.contains("<path class=bad d=\"M500.0 0v30M1000.0 0v30\"/>"), "{html}");
    }

    #[test]
    fn one_value_is_a_dot_and_no_value_is_said() {
        let html = chart(vec![line(&[Some(7.0)], true)]).html();
        assert_eq!(path(&html, "dots c0"), Some("M500.0 500.0h0"));
        for lines in [vec![], vec![line(&[], true)], vec![line(&[None, None], true)]] {
            assert!(chart(lines).html().contains("no finite value yet"));
        }
    }

    #[test]
    fn many_steps_are_a_band_with_a_line_through_it_of_bounded_length() {
        let values: Vec<_> = (0..200_000).map(|i| Some(f64::from(i % 10) + 1.0)).collect();
        let html = chart(vec![line(&values, true)]).html();
        assert!(path(&html, "band c0").unwrap().ends_with('Z'));
        assert!(html.len() < 60_000, "{}", html.len());
        let few = chart(vec![line(&values[..50], true)]).html();
        assert!(path(&few, "raw c0").is_some() && path(&few, "band c0").is_none());
    }

    #[test]
    fn the_axis_is_logarithmic_where_values_differ_by_much() {
        let html = |values: &[Option<f64>], axis| Chart { axis, ..chart(vec![line(values, false)]) }.html();
        let falling = [Some(1.0), Some(0.1), Some(0.01)];
        assert!(html(&falling, Axis::Auto).contains("<small>log</small>"));
        assert!(!html(&falling, Axis::Linear).contains("<small>log</small>"));
        assert!(!html(&[Some(1.0), Some(0.5)], Axis::Auto).contains("<small>log</small>"));
        assert!(!html(&[Some(1.0), Some(0.0)], Axis::Auto).contains("<small>log</small>"));
        assert!(html(&falling, Axis::FromZero).contains("data-y=\"0 "));
    }

    #[test]
    fn an_outlier_does_not_flatten_the_rest() {
        let mut values: Vec<_> = (0..1000).map(|i| Some(1.0 + f64::from(i % 3) * 0.1)).collect();
        values[500] = Some(50.0);
        let html = chart(vec![line(&values, true)]).html();
        let high: f64 = html.split("data-y=\"").nth(1).unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        assert!(high < 6.0, "{high}");
    }

    #[test]
    fn levels_have_names_that_do_not_overlap() {
        let mut chart = chart(vec![Line::of_values("a", "c1", [(1.0, 90.0), (2.0, f64::NAN), (3.0, 80.0)])]);
        let level = |name: &str, value: f64| Level { name: name.into(), class: "copy", value };
        chart.levels = vec![level("low", 143.0), level("high", 144.0), level("far", 100.0)];
        let html = chart.html();
        let names: Vec<(&str, &str)> = html
            .split("<i class=\"name")
            .skip(1)
            .map(|rest| (rest.split('"').next().unwrap(), rest.split(['>', '<']).nth(1).unwrap()))
            .collect();
        assert_eq!(names, [("", "high"), (" below", "low"), ("", "far")]);
        assert_eq!(path(&html, "dots c1").unwrap().matches("h0").count(), 2);
    }
}
