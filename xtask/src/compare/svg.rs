//! Plots as SVG text, with labelled axes and labels that do not overlap.
//!
//! Lines, text and paper have classes, so that a page can give them other colours.

use std::fmt::Write;

/// Colours that are distinct for any colour vision (Okabe and Ito).
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6a00", "#444444"];
/// Width of an average character of 13 px text.
const CHARACTER: f64 = 7.0;
/// An axis is logarithmic if its values differ by more than this factor.
const LOG_FROM: f64 = 10.0;

/// A colour and its class.
type Ink = (&'static str, &'static str);
const INK: Ink = ("#111", "ink");
const SOFT: Ink = ("#444", "soft");
const AXIS: Ink = ("#555", "axis");
const GRID: Ink = ("#e3e3e3", "grid");

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

/// A line through measurements, with the range of each.
pub(super) struct Series {
    pub(super) label: String,
    pub(super) colour: &'static str,
    /// x, y, and the lowest and highest y.
    pub(super) points: Vec<[f64; 4]>,
    /// Whether the points are marked.
    pub(super) marked: bool,
}

/// The ticks of an axis, which is linear or logarithmic.
struct Axis {
    ticks: Vec<f64>,
    log: bool,
}

impl Axis {
    /// A logarithmic axis.
    fn log(values: impl Iterator<Item = f64>) -> Self {
        Axis { ticks: log_ticks(values), log: true }
    }

    /// An axis that begins at zero, or a logarithmic one if the values differ much.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (low, high) = span(values.clone().filter(|value| *value > 0.0));
        if high > LOG_FROM * low { Axis::log(values) } else { Axis::linear(values) }
    }

    /// A linear axis that begins at zero.
    fn linear(values: impl Iterator<Item = f64>) -> Self {
        Axis { ticks: linear_ticks(values, true), log: false }
    }

    /// The position of a value, from 0 to 1.
    fn at(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.log { value.ln() } else { value };
        let (first, last) = (scale(self.ticks[0]), scale(self.ticks[self.ticks.len() - 1]));
        ((scale(value) - first) / (last - first)).max(0.0)
    }
}

/// The area of a plot with two axes: left, right, top and bottom.
struct Area {
    x: (f64, f64),
    y: (f64, f64),
}

impl Area {
    fn of(&self, axes: (&Axis, &Axis), x: f64, y: f64) -> (f64, f64) {
        let between = |(from, to): (f64, f64), part: f64| from + (to - from) * part;
        (between(self.x, axes.0.at(x)), between((self.y.1, self.y.0), axes.1.at(y)))
    }

    /// Draws both axes with grid, ticks and labels.
    fn draw(&self, svg: &mut String, axes: (&Axis, &Axis), labels: (&str, &str)) {
        let ((left, right), (top, bottom)) = (self.x, self.y);
        for &tick in &axes.0.ticks {
            let (at, _) = self.of(axes, tick, axes.1.ticks[0]);
            line(svg, (at, top), (at, bottom), GRID, 1.0);
            text(svg, at, bottom + 20.0, "middle", SOFT, &number(tick));
        }
        for &tick in &axes.1.ticks {
            let (_, at) = self.of(axes, axes.0.ticks[0], tick);
            line(svg, (left, at), (right, at), GRID, 1.0);
            text(svg, left - 8.0, at + 4.0, "end", SOFT, &number(tick));
        }
        line(svg, (left, bottom), (right, bottom), AXIS, 1.2);
        line(svg, (left, top), (left, bottom), AXIS, 1.2);
        text(svg, (left + right) / 2.0, bottom + 48.0, "middle", INK, labels.0);
        let (middle, (colour, class)) = ((top + bottom) / 2.0, INK);
        let _ = writeln!(
            svg,
            r#"<text transform="translate(18 {middle:.1}) rotate(-90)" text-anchor="middle" class="{class}" fill="{colour}">{}</text>"#,
            escape(labels.1)
        );
    }
}

/// Lines over an x axis, with a label at the end of each. `y_label` gets a note if the axis is
/// logarithmic.
pub(super) fn lines(title: &str, x_label: &str, y_label: &str, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|one| &one.points);
    // Marked lines have their ticks where they were measured.
    let mut ticks: Vec<f64> = points().map(|point| point[0]).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let x_axis = match series.iter().all(|one| one.marked) && ticks.len() > 1 {
        true => Axis { ticks, log: false },
        false => Axis::linear(ticks.into_iter()),
    };
    let y_axis = Axis::of(points().flat_map(|point| point[1..].iter().copied()));
    let axes = (&x_axis, &y_axis);
    let longest = series.iter().map(|one| one.label.chars().count()).max().unwrap_or(0) as f64;
    let (right, height) = (560.0, 460.0);
    let width = right + 20.0 + longest * CHARACTER;
    let area = Area { x: (70.0, right), y: (50.0, height - 64.0) };
    let mut svg = open(width, height, title);
    let note = if y_axis.log { " (log scale)" } else { "" };
    area.draw(&mut svg, axes, (x_label, &format!("{y_label}{note}")));
    // The labels of the lines, from the highest line to the lowest, at least a line apart.
    let mut ends: Vec<(f64, &Series)> = Vec::new();
    for one in series.iter().filter(|one| !one.points.is_empty()) {
        let places: Vec<_> = one.points.iter().map(|p| area.of(axes, p[0], p[1])).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{}" stroke-width="2"/>"#,
            path.join(" "),
            one.colour
        );
        for (point, (x, y)) in one.points.iter().zip(&places).filter(|_| one.marked) {
            let (_, low) = area.of(axes, point[0], point[2]);
            let (_, high) = area.of(axes, point[0], point[3]);
            line(&mut svg, (*x, low), (*x, high), INK, 1.2);
            let _ =
                writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{}"/>"#, one.colour);
        }
        ends.push((places[places.len() - 1].1, one));
    }
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = 0.0;
    for (end, one) in ends {
        let at = end.max(free);
        free = at + 17.0;
        let _ = writeln!(
            svg,
            r#"<circle cx="{:.1}" cy="{at:.1}" r="4" fill="{}"/>"#,
            right + 10.0,
            one.colour
        );
        text(&mut svg, right + 18.0, at + 4.0, "start", INK, &one.label);
    }
    close(svg)
}

/// Points over a logarithmic x axis.
pub(super) fn scatter(title: &str, x_label: &str, y_label: &str, points: &[Point]) -> String {
    let (width, height) = (760.0, 460.0);
    let x_axis = Axis::log(points.iter().map(|p| p.x));
    let y_axis = Axis { ticks: linear_ticks(points.iter().map(|p| p.y), false), log: false };
    let axes = (&x_axis, &y_axis);
    let area = Area { x: (70.0, width - 30.0), y: (50.0, height - 64.0) };
    let mut svg = open(width, height, title);
    area.draw(&mut svg, axes, (x_label, y_label));
    // Boxes that labels must not overlap: the points, then the labels placed so far.
    let places: Vec<(f64, f64)> = points.iter().map(|p| area.of(axes, p.x, p.y)).collect();
    let mut taken: Vec<Box4> = places.iter().map(|&(x, y)| Box4::around(x, y, 8.0)).collect();
    let frame = Box4 { x0: area.x.0, y0: area.y.0 - 4.0, x1: width - 2.0, y1: area.y.1 - 2.0 };
    for (point, &(at_x, at_y)) in points.iter().zip(&places) {
        let fill = fill(point.colour, point.hollow);
        let _ = writeln!(
            svg,
            r#"<circle cx="{at_x:.1}" cy="{at_y:.1}" r="6.5" {fill} stroke="{}" stroke-width="2.2"/>"#,
            point.colour
        );
        let wide = point.label.chars().count() as f64 * CHARACTER;
        let (label, anchor, from_x, from_y) = place(at_x, at_y, wide, &taken, &frame);
        taken.push(label);
        text(&mut svg, from_x, from_y, anchor, INK, &point.label);
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

/// The fill of a measured or a hollow mark.
fn fill(colour: &str, hollow: bool) -> String {
    match hollow {
        true => r##"class="paper" fill="#fff""##.to_owned(),
        false => format!(r#"fill="{colour}""#),
    }
}

/// Horizontal bars with whiskers, grouped by name. They start at zero; with `log`, their axis is
/// logarithmic if their values differ much.
pub(super) fn bars(title: &str, axis: &str, groups: &[Group], log: bool) -> String {
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
    let values = all().flat_map(|bar| [bar.value, bar.high.max(bar.value)]);
    let scale = if log { Axis::of(values) } else { Axis::linear(values) };
    let x = |value: f64| left + scale.at(value) * (width - left - right);
    let mut svg = open(width, height, title);
    for &tick in &scale.ticks {
        line(&mut svg, (x(tick), top), (x(tick), height - bottom), GRID, 1.0);
        text(&mut svg, x(tick), height - bottom + 18.0, "middle", SOFT, &number(tick));
    }
    let mut y = top;
    for group in groups {
        y += between / 2.0;
        if head > 0.0 {
            let _ = writeln!(
                svg,
                r#"<text x="10" y="{:.1}" font-weight="600" class="{}" fill="{}">{}</text>"#,
                y + 15.0,
                INK.1,
                INK.0,
                escape(&group.name)
            );
            y += head;
        }
        for bar in &group.bars {
            let (from, to) = (left, x(bar.value));
            let mut style = fill(bar.colour, bar.hollow);
            if bar.hollow {
                let _ = write!(style, r#" stroke="{}" stroke-width="1.6""#, bar.colour);
            }
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
                line(&mut svg, (low, middle), (high, middle), INK, 1.4);
                for end in [low, high] {
                    line(&mut svg, (end, middle - 4.0), (end, middle + 4.0), INK, 1.4);
                }
            }
            text(&mut svg, left - 8.0, middle + 4.5, "end", INK, &bar.label);
            let end = x(bar.high.max(bar.value)) + 8.0;
            text(&mut svg, end, middle + 4.5, "start", INK, &bar.text);
            y += row;
        }
        y += between / 2.0;
    }
    line(&mut svg, (left, top), (left, height - bottom), AXIS, 1.2);
    let note = if scale.log { " (log scale)" } else { "" };
    let axis = format!("{axis}{note}");
    text(&mut svg, (left + width - right) / 2.0, height - 14.0, "middle", INK, &axis);
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
    let (title, (colour, class)) = (escape(title), INK);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="13" role="img">
<title>{title}</title>
<rect width="{width:.0}" height="{height:.0}" class="paper" fill="#fff"/>
<text x="10" y="26" font-size="16" font-weight="600" class="{class}" fill="{colour}">{title}</text>
"##
    )
}

fn close(mut svg: String) -> String {
    svg += "</svg>\n";
    svg
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), (colour, class): Ink, width: f64) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}" stroke="{colour}" stroke-width="{width}"/>"#
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, (colour, class): Ink, text: &str) {
    let _ = writeln!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}" fill="{colour}">{}</text>"#,
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
    fn an_axis_is_logarithmic_if_its_values_differ_much() {
        let linear = Axis::of([2.0, 8.0].into_iter());
        assert!(!linear.log && linear.at(0.0) == 0.0 && linear.at(8.0) == 1.0);
        let log = Axis::of([0.0, 1.0, 50.0, 100.0].into_iter());
        assert!(
            log.log && (log.at(10.0) - log.at(1.0) - (log.at(100.0) - log.at(10.0))).abs() < 1e-9
        );
        assert_eq!(log.at(0.0), 0.0);
    }

    #[test]
    fn names_are_escaped() {
        let point = Point { label: "<a & b>".into(), x: 1.0, y: 2.0, colour: "#000", hollow: true };
        let svg = scatter("t", "x", "y", &[point]);
        assert!(svg.contains("&lt;a &amp; b&gt;") && !svg.contains("<a"));
    }
}
