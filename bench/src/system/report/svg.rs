//! Plots, as SVG that stands by itself: colours come from the page's style sheet, so that they fit light and dark.

use std::fmt::Write;

use super::table::figure;

/// A bar, with the least and the most that was measured.
pub(super) struct Bar {
    pub(super) label: String,
    /// Class of the style sheet.
    pub(super) class: &'static str,
    pub(super) value: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// Behind the number.
    pub(super) note: String,
}

/// A line of (x, y), y from 0 to 1.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
/// Where bars begin: system names are left of it.
const LEFT: f64 = 130.0;
/// What is kept for the numbers.
const RIGHT: f64 = 190.0;
const BAR: f64 = 22.0;
const PITCH: f64 = 34.0;

/// Horizontal bars with whiskers.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.max).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + value / most * (WIDTH - LEFT - RIGHT);
    let height = PITCH * bars.iter().map(|_| 1.0).sum::<f64>() + 6.0;
    let mut svg = open(title, height);
    let mut top = 6.0;
    for bar in bars {
        let middle = top + BAR / 2.0;
        let (end, low, high) = (x(bar.value), x(bar.min), x(bar.max));
        let _ = write!(
            svg,
            r#"<text class="label" x="{label}" y="{text}" text-anchor="end">{name}</text>
<rect class="bar {class}" x="{LEFT}" y="{top}" width="{width:.1}" height="{BAR}" rx="2"/>
<path class="whisker" d="M{low:.1} {middle}H{high:.1}M{low:.1} {upper}v8M{high:.1} {upper}v8"/>
<text class="figure" x="{number:.1}" y="{text}">{value}<tspan class="note" dx="8">{note}</tspan></text>"#,
            label = LEFT - 8.0,
            text = middle + 4.5,
            name = escape(&bar.label),
            class = bar.class,
            width = (end - LEFT).max(0.5),
            upper = middle - 4.0,
            number = high.max(end) + 8.0,
            value = figure(bar.value),
            note = escape(&bar.note),
        );
        top += PITCH;
    }
    svg + "</svg>\n"
}

/// Where a curve's plot is.
const PLOT: [f64; 4] = [60.0, 12.0, WIDTH - 20.0, 250.0];

/// Shares over a logarithmic scale: what part of the requests was answered within so many microseconds.
pub(super) fn curves(title: &str, unit: &str, lines: &[Line]) -> String {
    let [left, top, right, bottom] = PLOT;
    let xs = || lines.iter().flat_map(|line| &line.points).map(|(x, _)| *x).filter(|x| *x > 0.0);
    let (least, most) = (xs().fold(f64::MAX, f64::min), xs().fold(f64::MIN_POSITIVE, f64::max));
    // A little more than there is, so that there is a scale also for a single point.
    let (from, to) = ((least * 0.9).log10(), (most * 1.1).log10());
    let x = |value: f64| left + (value.log10() - from) / (to - from) * (right - left);
    let y = |share: f64| bottom - share * (bottom - top);
    let mut svg = open(title, bottom + 46.0);
    for share in [0.0, 0.25, 0.5, 0.75, 0.99] {
        let (at, percent) = (y(share), share * 100.0);
        let _ = write!(
            svg,
            r#"<path class="grid" d="M{left} {at:.1}H{right}"/><text class="tick" x="{text}" y="{below:.1}" text-anchor="end">{percent:.0} %</text>"#,
            text = left - 6.0,
            below = at + 4.0,
        );
    }
    for value in steps(from, to) {
        let at = x(value);
        let _ = write!(
            svg,
            r#"<path class="grid" d="M{at:.1} {top}V{bottom}"/><text class="tick" x="{at:.1}" y="{below}" text-anchor="middle">{value} {unit}</text>"#,
            below = bottom + 16.0,
        );
    }
    let mut legend = left;
    for line in lines {
        let points: Vec<_> = line
            .points
            .iter()
            .filter(|(value, _)| *value > 0.0)
            .map(|(value, share)| format!("{:.1},{:.1}", x(*value), y(*share)))
            .collect();
        let _ = write!(
            svg,
            r#"<polyline class="line {class}" points="{points}"/><rect class="bar {class}" x="{legend}" y="{box_top}" width="12" height="12" rx="2"/><text class="label" x="{text}" y="{base}">{name}</text>"#,
            class = line.class,
            points = points.join(" "),
            box_top = bottom + 26.0,
            text = legend + 17.0,
            base = bottom + 36.0,
            name = escape(&line.label),
        );
        legend += 150.0;
    }
    svg + "</svg>\n"
}

/// Round numbers from 10^`from` to 10^`to`: 1, 2 and 5 of each power of ten.
fn steps(from: f64, to: f64) -> Vec<f64> {
    let mut power = from.floor();
    let mut steps = Vec::new();
    while power <= to {
        steps.extend([1.0, 2.0, 5.0].map(|digit| digit * 10f64.powf(power)));
        power += 1.0;
    }
    steps.retain(|step| (from..=to).contains(&step.log10()));
    steps
}

fn open(title: &str, height: f64) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}" xmlns="http://www.w3.org/2000/svg">"#,
        title = escape(title)
    )
}

/// Text that means itself, in HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    //! Plots hold what they are given, in proportion, and nothing in it is taken for markup.
    use super::*;

    #[test]
    fn bars_are_in_proportion() {
        let bar = |value: f64| Bar {
            label: "a<b".to_owned(),
            class: "ovs",
            value,
            min: value,
            max: value,
            note: String::new(),
        };
        let svg = bars("t", &[bar(1.0), bar(2.0)]);
        let widths: Vec<f64> = svg
            .split("rect class")
            .skip(1)
            .map(|rect| rect.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!((widths[1] / widths[0] - 2.0).abs() < 1e-6, "{widths:?}");
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
    }

    #[test]
    fn curves_stay_inside() {
        let line =
            Line { label: "x".to_owned(), class: "ovs", points: vec![(0.0, 0.0), (12.0, 0.5), (900.0, 1.0)] };
        let svg = curves("t", "µs", &[line]);
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let points: Vec<(f64, f64)> = points
            .split(' ')
            .map(|point| point.split_once(',').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect();
        assert_eq!(points.len(), 2);
        let [left, top, right, bottom] = PLOT;
        assert!(points.iter().all(|(x, y)| (left..=right).contains(x) && (top..=bottom).contains(y)));
        assert!(svg.contains(">20 µs<") && svg.contains(">500 µs<") && !svg.contains(">1000 µs<"));
        assert!(curves("t", "µs", &[]).ends_with("</svg>\n"));
    }
}
