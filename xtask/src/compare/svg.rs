//! Plots as SVG text, with labelled axes and labels that do not overlap.

use std::fmt::Write;

/// Colours that are distinct for any colour vision (Okabe and Ito).
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6a00", "#444444"];
/// Width of an average character of 13 px text.
const CHARACTER: f64 = 7.0;

/// The colour of the n-th item.
pub(super) fn colour(n: usize) -> &'static str {
    COLOURS[n % COLOURS.len()]
}

/// A named point.
pub(super) struct Point {
    pub(super) label: String,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) colour: &'static str,
    /// Whether the point is drawn hollow.
    pub(super) hollow: bool,
}

/// A bar with the range of its measurements.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) text: String,
    pub(super) colour: &'static str,
    pub(super) hollow: bool,
}

/// Bars under a common name.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) bars: Vec<Bar>,
}

/// Points over a logarithmic x axis.
pub(super) fn scatter(title: &str, x_label: &str, y_label: &str, points: &[Point]) -> String {
    let (width, height) = (760.0, 460.0);
    let (left, right, top, bottom) = (70.0, 30.0, 50.0, 64.0);
    let x_ticks = log_ticks(points.iter().map(|p| p.x));
    let y_ticks = linear_ticks(points.iter().map(|p| p.y), false);
    let (x0, x1) = (x_ticks[0].ln(), x_ticks[x_ticks.len() - 1].ln());
    let (y0, y1) = (y_ticks[0], y_ticks[y_ticks.len() - 1]);
    let x = |value: f64| left + (value.ln() - x0) / (x1 - x0) * (width - left - right);
    let y = |value: f64| height - bottom - (value - y0) / (y1 - y0) * (height - top - bottom);
    let mut svg = open(width, height, title);
    for &tick in &x_ticks {
        let at = x(tick);
        line(&mut svg, (at, top), (at, height - bottom), "#e3e3e3", 1.0);
        text(&mut svg, at, height - bottom + 20.0, "middle", "#444", &number(tick));
    }
    for &tick in &y_ticks {
        let at = y(tick);
        line(&mut svg, (left, at), (width - right, at), "#e3e3e3", 1.0);
        text(&mut svg, left - 8.0, at + 4.0, "end", "#444", &number(tick));
    }
    line(&mut svg, (left, height - bottom), (width - right, height - bottom), "#555", 1.2);
    line(&mut svg, (left, top), (left, height - bottom), "#555", 1.2);
    text(&mut svg, (left + width - right) / 2.0, height - 16.0, "middle", "#111", x_label);
    let middle = (top + height - bottom) / 2.0;
    let _ = writeln!(
        svg,
        r##"<text transform="translate(18 {middle:.1}) rotate(-90)" text-anchor="middle" fill="#111">{}</text>"##,
        escape(y_label)
    );
    // Boxes that labels must not overlap: the points, then the labels placed so far.
    let mut taken: Vec<Box4> = points.iter().map(|p| Box4::around(x(p.x), y(p.y), 8.0)).collect();
    let frame = Box4 { x0: left, y0: top - 4.0, x1: width - 2.0, y1: height - bottom - 2.0 };
    for point in points {
        let (at_x, at_y) = (x(point.x), y(point.y));
        let fill = if point.hollow { "#fff" } else { point.colour };
        let _ = writeln!(
            svg,
            r#"<circle cx="{at_x:.1}" cy="{at_y:.1}" r="6.5" fill="{fill}" stroke="{}" stroke-width="2.2"/>"#,
            point.colour
        );
        let wide = point.label.chars().count() as f64 * CHARACTER;
        let (label, anchor, from_x, from_y) = place(at_x, at_y, wide, &taken, &frame);
        taken.push(label);
        text(&mut svg, from_x, from_y, anchor, "#111", &point.label);
    }
    close(svg)
}

/// A free place for a label near a point: its box, its anchor and the position of the text.
fn place(
    x: f64,
    y: f64,
    wide: f64,
    taken: &[Box4],
    frame: &Box4,
) -> (Box4, &'static str, f64, f64) {
    let spot = |anchor: &'static str, dx: f64, dy: f64| {
        let (at_x, at_y) = (x + dx, y + dy);
        let x0 = match anchor {
            "start" => at_x,
            "end" => at_x - wide,
            _ => at_x - wide / 2.0,
        };
        let label = Box4 { x0, y0: at_y - 12.0, x1: x0 + wide, y1: at_y + 4.0 };
        (label, anchor, at_x, at_y)
    };
    // Try beside the point first, then further and further above and below.
    let mut spots = vec![spot("start", 12.0, 4.0), spot("end", -12.0, 4.0)];
    for step in 0..12 {
        let away = 18.0 * f64::from(step);
        for anchor in ["middle", "start", "end"] {
            spots.push(spot(anchor, 0.0, -14.0 - away));
            spots.push(spot(anchor, 0.0, 24.0 + away));
        }
    }
    let free = |label: &Box4| label.inside(frame) && !taken.iter().any(|box4| label.meets(box4));
    let found = spots.iter().position(|(label, ..)| free(label));
    spots.swap_remove(found.unwrap_or(0))
}

/// Horizontal bars that start at zero, with whiskers, grouped by name.
pub(super) fn bars(title: &str, axis: &str, groups: &[Group]) -> String {
    let all = || groups.iter().flat_map(|group| &group.bars);
    let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0) as f64;
    let names = longest(&mut all().map(|bar| bar.label.chars().count()));
    let texts = longest(&mut all().map(|bar| bar.text.chars().count()));
    let left = 24.0 + names * CHARACTER;
    let right = 24.0 + texts * CHARACTER;
    let width = (left + right + 420.0).max(760.0);
    let (top, bottom, row, between) = (48.0, 56.0, 22.0, 12.0);
    let head = if groups.iter().any(|group| !group.name.is_empty()) { 22.0 } else { 0.0 };
    let rows: f64 = groups.iter().map(|group| head + between + row * group.bars.len() as f64).sum();
    let height = top + rows + bottom;
    let ticks = linear_ticks(all().map(|bar| bar.high.max(bar.value)), true);
    let most = ticks[ticks.len() - 1];
    let x = |value: f64| left + value / most * (width - left - right);
    let mut svg = open(width, height, title);
    for &tick in &ticks {
        line(&mut svg, (x(tick), top), (x(tick), height - bottom), "#e3e3e3", 1.0);
        text(&mut svg, x(tick), height - bottom + 18.0, "middle", "#444", &number(tick));
    }
    let mut y = top;
    for group in groups {
        y += between / 2.0;
        if head > 0.0 {
            let _ = writeln!(
                svg,
                r##"<text x="10" y="{:.1}" font-weight="600" fill="#111">{}</text>"##,
                y + 15.0,
                escape(&group.name)
            );
            y += head;
        }
        for bar in &group.bars {
            let (from, to) = (x(0.0), x(bar.value));
            let style = match bar.hollow {
                true => format!(r##"fill="#fff" stroke="{}" stroke-width="1.6""##, bar.colour),
                false => format!(r#"fill="{}""#, bar.colour),
            };
            let _ = writeln!(
                svg,
                r#"<rect x="{from:.1}" y="{:.1}" width="{:.1}" height="{:.1}" {style}/>"#,
                y + 3.0,
                (to - from).max(0.5),
                row - 6.0
            );
            let middle = y + row / 2.0;
            if bar.high > bar.low {
                let (low, high) = (x(bar.low.max(0.0)), x(bar.high));
                line(&mut svg, (low, middle), (high, middle), "#111", 1.4);
                for end in [low, high] {
                    line(&mut svg, (end, middle - 4.0), (end, middle + 4.0), "#111", 1.4);
                }
            }
            text(&mut svg, left - 8.0, middle + 4.5, "end", "#111", &bar.label);
            let end = x(bar.high.max(bar.value)) + 8.0;
            text(&mut svg, end, middle + 4.5, "start", "#111", &bar.text);
            y += row;
        }
        y += between / 2.0;
    }
    line(&mut svg, (left, top), (left, height - bottom), "#555", 1.2);
    text(&mut svg, (left + width - right) / 2.0, height - 14.0, "middle", "#111", axis);
    close(svg)
}

/// A rectangle on the picture.
struct Box4 {
    x0: f64,
    y0: f64,
    x1: f64,
    y1: f64,
}

impl Box4 {
    fn around(x: f64, y: f64, radius: f64) -> Self {
        Box4 { x0: x - radius, y0: y - radius, x1: x + radius, y1: y + radius }
    }

    fn meets(&self, other: &Box4) -> bool {
        self.x0 < other.x1 && other.x0 < self.x1 && self.y0 < other.y1 && other.y0 < self.y1
    }

    fn inside(&self, other: &Box4) -> bool {
        self.x0 >= other.x0 && self.x1 <= other.x1 && self.y0 >= other.y0 && self.y1 <= other.y1
    }
}

fn open(width: f64, height: f64, title: &str) -> String {
    let title = escape(title);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="13" role="img">
<title>{title}</title>
<rect width="{width:.0}" height="{height:.0}" fill="#fff"/>
<text x="10" y="26" font-size="16" font-weight="600" fill="#111">{title}</text>
"##
    )
}

fn close(mut svg: String) -> String {
    svg += "</svg>\n";
    svg
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="{width}"/>"#
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, colour: &str, text: &str) {
    let _ = writeln!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{colour}">{}</text>"#,
        escape(text)
    );
}

/// Escapes text for use between tags.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// About six round numbers that enclose the values; with `zero`, they start at 0.
fn linear_ticks(values: impl Iterator<Item = f64>, zero: bool) -> Vec<f64> {
    let (mut low, mut high) = span(values);
    if zero {
        low = 0.0;
    }
    if high <= low {
        (low, high) = if zero { (0.0, low.max(1.0)) } else { (low - 1.0, low + 1.0) };
    }
    let rough = (high - low) / 5.0;
    let decade = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * decade).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * decade);
    let (first, last) = ((low / step).floor(), (high / step).ceil());
    (0..=(last - first) as usize).map(|n| (first + n as f64) * step).collect()
}

/// Powers of ten that enclose the values, with 2 and 5 times these if there are few.
fn log_ticks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let (low, high) = span(values.filter(|value| *value > 0.0));
    let (low, high) = (low.max(1e-9) * 0.9, high.max(1e-9) * 1.1);
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let steps: &[f64] = if last - first > 3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = (first..=last).map(|power| 10f64.powi(power));
    let all: Vec<f64> = powers.flat_map(|power| steps.iter().map(move |n| n * power)).collect();
    let from = all.iter().rposition(|tick| *tick <= low).unwrap_or(0);
    let to = all.iter().position(|tick| *tick >= high).unwrap_or(all.len() - 1);
    all[from..=to].to_vec()
}

/// The smallest and the largest value; 1 and 1 if there are none.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut found: Option<(f64, f64)> = None;
    for value in values.filter(|value| value.is_finite()) {
        let (low, high) = found.unwrap_or((value, value));
        found = Some((low.min(value), high.max(value)));
    }
    found.unwrap_or((1.0, 1.0))
}

/// The value of a tick with as few digits as needed.
fn number(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    let text = format!("{rounded}");
    // Separate thousands for legibility.
    let Some((sign, digits)) = text.find(|c: char| c.is_ascii_digit()).map(|at| text.split_at(at))
    else {
        return text;
    };
    let (whole, rest) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_enclose() {
        assert_eq!(
            linear_ticks([3.0, 47.0].into_iter(), true),
            [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
        );
        assert_eq!(linear_ticks([31.0, 42.0].into_iter(), false), [30.0, 35.0, 40.0, 45.0]);
        assert_eq!(linear_ticks([5.0].into_iter(), false), [4.0, 4.5, 5.0, 5.5, 6.0]);
        assert_eq!(log_ticks([2.4, 2600.0].into_iter()), [1.0, 10.0, 100.0, 1000.0, 10000.0]);
        assert_eq!(log_ticks([29.0, 65.0].into_iter()), [20.0, 50.0, 100.0]);
        assert!(!linear_ticks(std::iter::empty(), true).is_empty());
        assert_eq!([1e6, 0.05, -1500.5].map(number), ["1,000,000", "0.05", "-1,500.5"]);
    }

    #[test]
    fn labels_of_close_points_do_not_meet() {
        let frame = Box4 { x0: 0.0, y0: 0.0, x1: 700.0, y1: 400.0 };
        let points = [(650.0, 200.0), (652.0, 203.0), (648.0, 198.0), (640.0, 200.0)];
        let mut taken: Vec<Box4> = points.iter().map(|p| Box4::around(p.0, p.1, 8.0)).collect();
        for (x, y) in points {
            let (label, ..) = place(x, y, 150.0, &taken, &frame);
            assert!(label.inside(&frame));
            assert!(!taken.iter().any(|other| label.meets(other)));
            taken.push(label);
        }
    }

    #[test]
    fn names_are_escaped() {
        let point = Point { label: "<a & b>".into(), x: 1.0, y: 2.0, colour: "#000", hollow: true };
        let svg = scatter("t", "x", "y", &[point]);
        assert!(svg.contains("&lt;a &amp; b&gt;") && !svg.contains("<a"));
    }
}
