//! A bar chart as hand-written SVG: groups of labelled bars on a light ground, readable without its text.
//! It knows bars and words only; what they mean is the caller's.

use crate::figures::fixed;
use std::fmt::Write;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    /// Name at its left.
    pub(crate) label: String,
    /// Its length; not finite draws no bar.
    pub(crate) value: f64,
    /// Words after the value.
    pub(crate) note: String,
    /// Drawn in the strong colour.
    pub(crate) ours: bool,
}

/// Bars under one title, with a scale of their own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    /// Title above the bars.
    pub(crate) title: String,
    /// The bars, top to bottom.
    pub(crate) bars: Vec<Bar>,
}

const WIDTH: f64 = 860.0;
const LABEL_X: f64 = 130.0;
const BAR_X: f64 = 140.0;
const BAR_WIDTH: f64 = 460.0;
const ROW: f64 = 24.0;
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#24292f}.h{font-size:18px;font-weight:600}\
.g{font-size:14px;font-weight:600}.s{font-size:12px;fill:#57606a}.e{text-anchor:end}";

/// Draws the chart: `title`, a line of small `words` under it, then the groups.
pub(crate) fn draw(title: &str, words: &[String], unit: &str, groups: &[Group]) -> String {
    let rows: usize = groups.iter().map(|group| group.bars.len()).sum();
    let top = 46.0 + 18.0 * words.len() as f64;
    let height = top + rows as f64 * ROW + groups.len() as f64 * 44.0 + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{0}\">\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<text class=\"h\" x=\"20\" y=\"32\">{0}</text>\n",
        escaped(title)
    );
    for (line, text) in words.iter().enumerate() {
        let y = 54.0 + 18.0 * line as f64;
        let _ = writeln!(svg, "<text class=\"s\" x=\"20\" y=\"{y}\">{}</text>", escaped(text));
    }
    let mut y = top;
    for group in groups {
        y += 34.0;
        let _ = writeln!(svg, "<text class=\"g\" x=\"20\" y=\"{y}\">{}</text>", escaped(&group.title));
        y += 10.0;
        let longest =
            group.bars.iter().map(|bar| bar.value).filter(|value| value.is_finite()).fold(0.0, f64::max);
        for bar in &group.bars {
            draw_bar(&mut svg, bar, y, longest, unit);
            y += ROW;
        }
    }
    svg + "</svg>\n"
}

fn draw_bar(svg: &mut String, bar: &Bar, y: f64, longest: f64, unit: &str) {
    let colour = if bar.ours { "#0969da" } else { "#9aa7b4" };
    let finite = bar.value.is_finite() && longest > 0.0;
    let width = if finite { BAR_WIDTH * bar.value / longest } else { 0.0 };
    let value = if finite { format!("{} {unit}", fixed(bar.value, 1)) } else { "not measured".to_owned() };
    let text_y = y + 15.0;
    let _ = writeln!(svg, "<text class=\"e\" x=\"{LABEL_X}\" y=\"{text_y}\">{}</text>", escaped(&bar.label));
    let _ = writeln!(
        svg,
        "<rect x=\"{BAR_X}\" y=\"{}\" width=\"{width:.1}\" height=\"17\" rx=\"2\" fill=\"{colour}\"/>",
        y + 2.0
    );
    let note = if bar.note.is_empty() { String::new() } else { format!("  ({})", bar.note) };
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{text_y}\">{}</text>",
        BAR_X + width + 8.0,
        escaped(&format!("{value}{note}"))
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_text_is_escaped() {
        let bar =
            |label: &str, value: f64| Bar { label: label.into(), value, note: String::new(), ours: false };
        let bars = vec![bar("a<b", 5.0), bar("c", 10.0), bar("d", f64::NAN)];
        let svg = draw("T & U", &[], "us", &[Group { title: "g".into(), bars }]);
        assert!(
            svg.contains("width=\"230.0\"")
                && svg.contains("width=\"460.0\"")
                && svg.contains("width=\"0.0\"")
        );
        assert!(svg.contains("a&lt;b") && svg.contains("T &amp; U") && svg.contains("not measured"));
    }
}
