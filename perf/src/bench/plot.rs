//! Bars with their values beside them, as SVG: a panel for each wire, each on a scale of its own, so
//! that 100 Mbit/s can be read beside an unshaped wire. The colours follow the reader's light or dark
//! theme. Hand-written, because it is less than what would configure a plotting crate.

use std::fmt::Write;

/// Sizes in pixels of the SVG's own scale.
const WIDTH: f64 = 860.0;
const PANEL_WIDTH: f64 = 420.0;
const BAR_HEIGHT: f64 = 20.0;
const BAR_STEP: f64 = 27.0;
const HEAD: f64 = 64.0;
const PANEL_HEAD: f64 = 34.0;
const PANEL_GAP: f64 = 22.0;
const LABEL_WIDTH: f64 = 104.0;
const VALUE_WIDTH: f64 = 64.0;
const MARGIN: f64 = 14.0;

/// Panels beside each other.
const COLUMNS: usize = 2;

/// One hue for what is ours, one for the others, none for the bare wire. Text has a contrast of 4.5 at
/// least on both grounds (WCAG 2.1 §1.4.3).
const STYLE: &str = "
  svg { font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; }
  .ground { fill: #ffffff; } text { fill: #1f2328; } .dim { fill: #59636e; font-size: 11.5px; }
  .title { font-size: 17px; font-weight: 600; } .panel { font-weight: 600; }
  .axis { stroke: #d1d9e0; } .span { stroke: #1f2328; stroke-opacity: 0.55; }
  .reference { fill: #afb8c1; } .own { fill: #2f7de1; } .other { fill: #e0a458; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; } text { fill: #e6edf3; } .dim { fill: #9198a1; }
    .axis { stroke: #3d444d; } .span { stroke: #e6edf3; }
    .reference { fill: #656c76; } .own { fill: #4493f8; } .other { fill: #c58a3d; }
  }
";

/// Whose bar it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// What all are compared with.
    Reference,
    /// The product.
    Own,
    /// A peer.
    Other,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Own => "own",
            Self::Other => "other",
        }
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Whose it is.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// The least of the runs.
    pub least: f64,
    /// The most of the runs.
    pub most: f64,
    /// Its colour.
    pub tone: Tone,
}

/// Bars on one scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What they have in common.
    pub title: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

impl Panel {
    fn height(&self) -> f64 {
        PANEL_HEAD + BAR_STEP * self.bars.len() as f64 + PANEL_GAP
    }
}

/// Draws the panels.
#[must_use]
pub fn svg(title: &str, caption: &str, panels: &[Panel]) -> String {
    let rows: Vec<&[Panel]> = panels.chunks(COLUMNS).collect();
    let heights: Vec<f64> =
        rows.iter().map(|row| row.iter().map(Panel::height).fold(0.0, f64::max)).collect();
    let height = HEAD + heights.iter().sum::<f64>() + MARGIN;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"28\">{0}</text>\n\
         <text class=\"dim\" x=\"{MARGIN}\" y=\"48\">{1}</text>\n",
        escaped(title),
        escaped(caption)
    );
    let mut y = HEAD;
    for (row, row_height) in rows.iter().zip(&heights) {
        for (column, panel) in row.iter().enumerate() {
            draw(&mut text, panel, (MARGIN + PANEL_WIDTH * column as f64, y));
        }
        y += row_height;
    }
    text + "</svg>\n"
}

fn draw(text: &mut String, panel: &Panel, (x, y): (f64, f64)) {
    let longest = panel.bars.iter().map(|bar| bar.most).fold(f64::MIN_POSITIVE, f64::max);
    let room = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH - MARGIN;
    let (left, top) = (x + LABEL_WIDTH, y + PANEL_HEAD);
    let bottom = top + BAR_STEP * panel.bars.len() as f64 - (BAR_STEP - BAR_HEIGHT);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "<text class=\"panel\" x=\"{left}\" y=\"{:.1}\">{}</text>\n\
         <line class=\"axis\" x1=\"{left}\" x2=\"{left}\" y1=\"{top}\" y2=\"{bottom:.1}\"/>",
        y + 22.0,
        escaped(&panel.title)
    );
    for (place, bar) in panel.bars.iter().enumerate() {
        let top = top + BAR_STEP * place as f64;
        let (middle, baseline) = (top + BAR_HEIGHT / 2.0, top + BAR_HEIGHT / 2.0 + 4.5);
        let at = |value: f64| room * value / longest;
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\">{}</text>\n\
             <rect class=\"{}\" x=\"{left}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\"/>\n\
             <line class=\"span\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\n\
             <text x=\"{:.1}\" y=\"{baseline:.1}\">{}</text>",
            left - 8.0,
            escaped(&bar.label),
            bar.tone.class(),
            at(bar.value),
            left + at(bar.least),
            left + at(bar.most),
            left + at(bar.most.max(bar.value)) + 7.0,
            number(bar.value)
        );
    }
}

/// Three digits, which is more than such figures have.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: f64) -> Bar {
        let (least, most) = (value * 0.9, value * 1.1);
        Bar { label: label.to_owned(), value, least, most, tone: Tone::Own }
    }

    #[test]
    fn bars_are_as_long_as_their_values_and_stay_in_their_panel() {
        let panel =
            Panel { title: "1000 Mbit/s".to_owned(), bars: vec![bar("a", 50.0), bar("b", 100.0)] };
        let text = svg("goodput", "", &[panel]);
        let widths: Vec<f64> = text
            .lines()
            .filter_map(|line| line.strip_prefix("<rect class=\"own\""))
            .filter_map(|line| line.split_once("width=\"")?.1.split('"').next()?.parse().ok())
            .collect();
        assert!((widths[1] - 2.0 * widths[0]).abs() < 0.2, "{widths:?}");
        assert!(widths[1] * 1.1 <= PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH);
    }

    #[test]
    fn every_panel_is_inside_the_picture() {
        let panel = |n: usize| Panel { title: n.to_string(), bars: vec![bar("x", 1.0); n] };
        let text = svg("t", "c", &[panel(2), panel(6), panel(3)]);
        let number = |line: &str, key: &str| -> Option<f64> {
            line.split_once(key)?.1.split('"').next()?.parse().ok()
        };
        let height: f64 = text
            .split_once("viewBox=\"0 0 860 ")
            .unwrap()
            .1
            .split('"')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let lowest = text.lines().filter_map(|line| number(line, " y2=\"")).fold(0.0, f64::max);
        assert!(lowest < height, "{lowest} of {height}");
    }

    #[test]
    fn what_is_written_into_it_is_escaped() {
        assert!(svg("a < b & c", "", &[]).contains("a &lt; b &amp; c"));
        assert_eq!([number(1234.6), number(12.34), number(0.456)], ["1235", "12.3", "0.46"]);
    }
}
