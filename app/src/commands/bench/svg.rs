//! Graphs as inline SVG.

use std::fmt::Write as _;

use super::html::escape;
use super::parts::Row;

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 220.0;
/// Room for the labels of the axis.
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 22.0;
/// Lines across.
const GRID: usize = 4;

/// A named series with the class that colours it.
pub struct Line<'a> {
    pub class: &'a str,
    pub values: &'a [f64],
}

/// Milliseconds over frames; all lines share the axis.
pub fn lines(lines: &[Line<'_>]) -> String {
    let top = lines.iter().flat_map(|l| l.values).copied().fold(0.0, f64::max);
    let top = nice(top.max(1e-3));
    let mut svg = format!(
        "<svg class=\"graph\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Milliseconds over frames\">"
    );
    for step in 0..=GRID {
        let value = top * step as f64 / GRID as f64;
        let y = y_of(value, top);
        let digits = if top < 4.0 { 2 } else { usize::from(top < 40.0) };
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{WIDTH}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.digits$}</text>",
            LEFT - 8.0,
            y + 4.0
        );
    }
    for line in lines {
        let last = line.values.len().max(2) - 1;
        let x = |ix: usize| LEFT + (WIDTH - LEFT) * ix as f64 / last as f64;
        let points: Vec<String> = line
            .values
            .iter()
            .enumerate()
            .map(|(ix, v)| format!("{:.1},{:.1}", x(ix), y_of(*v, top)))
            .collect();
        let _ = write!(svg, "<polyline class=\"{}\" points=\"{}\"/>", line.class, points.join(" "));
    }
    let middle = f64::midpoint(LEFT, WIDTH);
    let _ = write!(svg, "<text x=\"{middle:.1}\" y=\"{HEIGHT}\" text-anchor=\"middle\">frame</text></svg>");
    svg
}

fn y_of(value: f64, top: f64) -> f64 {
    let room = HEIGHT - BOTTOM - 8.0;
    8.0 + room * (1.0 - value / top)
}

/// The next of 1, 2, 4, 5, 8 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let factors = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0];
    factors.iter().map(|f| f * power).find(|n| *n >= value).unwrap_or(value)
}

/// One bar of all rows side by side.
pub fn stacked(rows: &[Row]) -> String {
    let mut svg = String::from(
        "<svg class=\"stack\" viewBox=\"0 0 920 36\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"Parts of a frame\">",
    );
    let mut x = 0.0;
    for (ix, row) in rows.iter().enumerate() {
        let width = row.share * WIDTH;
        let (name, share) = (escape(&row.name), 100.0 * row.share);
        let _ = write!(
            svg,
            "<rect class=\"c{}\" x=\"{x:.2}\" y=\"0\" width=\"{width:.2}\" height=\"36\">\
             <title>{name}: {share:.1} %</title></rect>",
            ix % 12
        );
        x += width;
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let cases = [(0.9, 1.0), (1.0, 1.0), (1.1, 2.0), (37.0, 40.0), (410.0, 500.0), (9.5, 10.0)];
        for (value, expected) in cases {
            assert!((nice(value) - expected).abs() < 1e-9, "{value}: {}", nice(value));
        }
    }

    #[test]
    fn short_lines_are_drawn() {
        for values in [&[][..], &[1.0], &[1.0, 2.0]] {
            let svg = lines(&[Line { class: "gpu", values }]);
            assert!(svg.contains("<polyline") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
