//! The p99 of every picker against load as hand-written SVG: a small panel for each distribution and number of routers, all with the
//! same scales. It knows lines only; what is simulated is the caller's.

use std::fmt::Write;

/// One line: what it is, and its points, load and p99.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) word: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// One panel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) lines: Vec<Line>,
}

const COLOURS: [&str; 10] = [
    "#9aa7b4", "#0969da", "#bc4c00", "#8250df", "#bf8700", "#cf222e", "#e85aad", "#57606a", "#1a7f37",
    "#000000",
];
const WIDTH: f64 = 270.0;
const HEIGHT: f64 = 200.0;
const COLUMNS: usize = 3;
const TOP: f64 = 96.0;
/// Load at both ends, and the decades of the p99.
const LOADS: (f64, f64) = (0.5, 0.95);
const DECADES: (f64, f64) = (0.0, 3.0);
const STYLE: &str = "text{font:11px system-ui,sans-serif;fill:#24292f}.h{font-size:17px;font-weight:600}.s{fill:#57606a}\
.e{text-anchor:end}polyline{fill:none;stroke-width:1.6}.a{stroke:#d0d7de;stroke-width:1}";

/// Draws the panels in rows of three under a title and a legend.
pub(super) fn draw(title: &str, words: &str, panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64 + 20.0, TOP + rows as f64 * HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text class=\"h\" x=\"20\" y=\"26\">{title}</text>\n<text class=\"s\" x=\"20\" y=\"44\">{words}</text>\n"
    );
    let names = panels.first().map(|panel| panel.lines.as_slice()).unwrap_or_default();
    for (at, (line, colour)) in names.iter().zip(COLOURS).enumerate() {
        let (x, y) = (20.0 + (at % 5) as f64 * 160.0, 62.0 + (at / 5) as f64 * 16.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"14\" height=\"3\" fill=\"{colour}\"/><text x=\"{}\" y=\"{y}\">{}</text>",
            y - 5.0,
            x + 19.0,
            line.word
        );
    }
    for (at, panel) in panels.iter().enumerate() {
        let place = ((at % COLUMNS) as f64 * WIDTH + 20.0, TOP + (at / COLUMNS) as f64 * HEIGHT);
        draw_panel(&mut svg, panel, place);
    }
    svg + "</svg>\n"
}

fn draw_panel(svg: &mut String, panel: &Panel, (left, top): (f64, f64)) {
    let (x_0, y_0, wide, high) = (left + 28.0, top + 24.0, WIDTH - 48.0, HEIGHT - 56.0);
    let x_of = |load: f64| x_0 + (load - LOADS.0) / (LOADS.1 - LOADS.0) * wide;
    let y_of = |p99: f64| {
        let decade = p99.max(1e-9).log10().clamp(DECADES.0, DECADES.1);
        y_0 + high - (decade - DECADES.0) / (DECADES.1 - DECADES.0) * high
    };
    let _ = writeln!(svg, "<text x=\"{x_0}\" y=\"{}\">{}</text>", top + 14.0, panel.title);
    for p99 in [1.0, 10.0, 100.0, 1_000.0] {
        let y = y_of(p99);
        let _ = writeln!(
            svg,
            "<path class=\"a\" d=\"M{x_0} {y:.1}h{wide:.1}\"/><text class=\"s e\" x=\"{}\" y=\"{:.1}\">{p99}</text>",
            x_0 - 4.0,
            y + 4.0
        );
    }
    for load in [0.5, 0.6, 0.7, 0.8, 0.9] {
        let _ = writeln!(
            svg,
            "<text class=\"s\" x=\"{:.1}\" y=\"{}\">{load}</text>",
            x_of(load) - 7.0,
            y_0 + high + 14.0
        );
    }
    for (line, colour) in panel.lines.iter().zip(COLOURS) {
        let points: Vec<String> =
            line.points.iter().map(|(load, p99)| format!("{:.1},{:.1}", x_of(*load), y_of(*p99))).collect();
        let _ = writeln!(svg, "<polyline stroke=\"{colour}\" points=\"{}\"/>", points.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_stands_where_it_belongs() {
        let points = vec![(0.5, 1.0), (0.95, 1_000.0), (0.95, 5_000.0)];
        let panel = Panel { title: "t".into(), lines: vec![Line { word: "p2c", points }] };
        let svg = draw("T", "w", &[panel]);
        let (left, bottom) = (48.0, TOP + 24.0 + HEIGHT - 56.0);
        let (right, top) = (left + WIDTH - 48.0, TOP + 24.0);
        assert!(
            svg.contains(&format!(
                "points=\"{left:.1},{bottom:.1} {right:.1},{top:.1} {right:.1},{top:.1}\""
            ))
        );
    }
}
