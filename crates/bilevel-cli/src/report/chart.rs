//! Charts as inline SVG.
//!
//! Drawn here and not by `plotters`: its backends write every colour as a fixed number, while these charts name CSS
//! classes, so that one file is right in light, in dark and on paper, and text keeps the page's own font.

use std::fmt::Write;

use super::{
    axis::{Axis, Scale},
    page::escape,
};

/// Number of colours; the page's style has a class `s0`, `s1`, … for each.
pub const COLOURS: usize = 8;

/// A line with its band.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// What it is, in the label at its end.
    pub name: String,
    /// Index of its colour.
    pub colour: usize,
    /// (x, y); a y that is not finite, or not positive on a log axis, breaks the line.
    pub points: Vec<(f64, f64)>,
    /// Low and high end of the band at each point; empty for none.
    pub band: Vec<(f64, f64)>,
    /// Drawn dashed.
    pub is_dashed: bool,
}

impl Series {
    /// Low and high end of the band at a point.
    fn edges(&self, index: usize) -> Option<(f64, f64)> {
        self.band.get(index).copied().filter(|(low, high)| low.is_finite() && high.is_finite())
    }
}

/// Lines over one pair of axes.
#[derive(Clone, Debug, Default)]
pub struct LineChart {
    /// What the chart shows, for screen readers.
    pub title: String,
    /// Name and unit of the horizontal axis.
    pub x_label: String,
    /// Name and unit of the vertical axis.
    pub y_label: String,
    /// Horizontal scale.
    pub x_scale: Scale,
    /// Vertical scale.
    pub y_scale: Scale,
    /// The lines.
    pub series: Vec<Series>,
    /// Numbers that the vertical axis must reach.
    pub y_reaches: Vec<f64>,
    /// Places on the horizontal axis marked by a tick at the bottom.
    pub marks: Vec<f64>,
    /// Half the page wide, not all of it.
    pub is_half: bool,
}

/// Width of a character of a label, in the chart's units; a guess that is never much too small.
const CHARACTER: f64 = 6.6;
/// Height of a line of labels.
const LINE: f64 = 15.0;
/// Height of a line of a legend.
const LEGEND_LINE: f64 = 20.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 44.0;

impl LineChart {
    /// The chart as an SVG element.
    pub fn svg(&self) -> String {
        let (width, height) = if self.is_half { (440.0, 280.0) } else { (900.0, 330.0) };
        let values = self.series.iter().flat_map(|s| {
            s.points.iter().enumerate().flat_map(|(i, (_, y))| {
                let (low, high) = s.edges(i).unwrap_or((*y, *y));
                // A band must not blow up a log axis, nor take numbers that are never negative below zero.
                let low = match self.y_scale {
                    Scale::Log => *y,
                    Scale::Linear if *y >= 0.0 => low.max(0.0),
                    Scale::Linear => low,
                };
                [low, high]
            })
        });
        let y_axis = Axis::new(values.chain(self.y_reaches.iter().copied()), self.y_scale, 5);
        let drawn = |y: f64| y.is_finite() && (self.y_scale == Scale::Linear || y > 0.0);
        let xs = self.series.iter().flat_map(|s| s.points.iter().filter(|p| drawn(p.1)).map(|p| p.0));
        // Steps and tokens are counted from zero; on a logarithmic axis zero has no place and is passed over.
        let mut xs = xs.peekable();
        let zero = xs.peek().map(|_| 0.0);
        let x_axis = Axis::new(xs.chain(zero), self.x_scale, if self.is_half { 4 } else { 7 });
        let (Some(x_axis), Some(y_axis)) = (x_axis, y_axis) else {
            return no_data(&self.title, width);
        };

        let longest = |labels: &mut dyn Iterator<Item = usize>| labels.max().unwrap_or(0) as f64 * CHARACTER;
        let left = 14.0 + longest(&mut y_axis.ticks.iter().map(|(_, label)| label.chars().count()));
        let names = self.series.len() > 1 && self.series.iter().any(|s| !s.name.is_empty());
        let right = if names {
            22.0 + longest(&mut self.series.iter().map(|s| s.name.chars().count()))
        } else {
            16.0
        };
        let frame = Frame { left, right: width - right, top: TOP, bottom: height - BOTTOM };
        let mut svg = open(&self.title, width, height);
        frame.draw(&mut svg, &x_axis, &y_axis, &self.x_label, &self.y_label, true);

        let place = |x: f64, y: f64| Some((frame.x(x_axis.place(x)?), frame.y(y_axis.place(y)?)));
        let floor = frame.bottom;
        for series in &self.series {
            let colour = series.colour % COLOURS;
            for run in runs(&series.points, |i, (x, _)| {
                let (low, high) = series.edges(i)?;
                let (px, top) = place(x, high)?;
                let low = place(x, low).map_or(floor, |(_, low)| low.min(floor));
                Some((px, top, low))
            }) {
                let upper = run.iter().map(|(x, top, _)| format!("{x:.1},{top:.1}"));
                let lower = run.iter().rev().map(|(x, _, low)| format!("{x:.1},{low:.1}"));
                let outline: Vec<String> = upper.chain(lower).collect();
                let _ = writeln!(svg, r#"<polygon class="band s{colour}" points="{}"/>"#, outline.join(" "));
            }
            let dashed = if series.is_dashed { " dashed" } else { "" };
            for run in runs(&series.points, |_, (x, y)| place(x, y)) {
                if let [(x, y)] = run[..] {
                    let _ = writeln!(svg, r#"<circle class="dot s{colour}" cx="{x:.1}" cy="{y:.1}" r="3"/>"#);
                    continue;
                }
                let path: Vec<String> = run.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                let _ = writeln!(
                    svg,
                    r#"<polyline class="line s{colour}{dashed}" points="{}"/>"#,
                    path.join(" ")
                );
            }
        }
        for x in self.marks.iter().filter_map(|&x| x_axis.place(x)) {
            let (x, y) = (frame.x(x), frame.bottom);
            let _ = writeln!(
                svg,
                r#"<line class="mark" x1="{x:.1}" x2="{x:.1}" y1="{y:.1}" y2="{:.1}"/>"#,
                y - 9.0
            );
        }
        if names {
            self.draw_names(&mut svg, &frame, place);
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Each line's name at the right, at the height of its last point as far as the others leave room.
    fn draw_names(&self, svg: &mut String, frame: &Frame, place: impl Fn(f64, f64) -> Option<(f64, f64)>) {
        let mut labels: Vec<(f64, f64, f64, &Series)> = self
            .series
            .iter()
            .filter_map(|s| {
                let (x, y) = s.points.iter().rev().find_map(|&(x, y)| place(x, y))?;
                Some((y, x, y, s))
            })
            .collect();
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut lowest = frame.top - LINE;
        for label in &mut labels {
            label.0 = label.0.max(lowest + LINE);
            lowest = label.0;
        }
        let mut highest = frame.bottom + LINE;
        for label in labels.iter_mut().rev() {
            label.0 = label.0.min(highest - LINE);
            highest = label.0;
        }
        for (y, x_end, y_end, series) in labels {
            let (colour, at) = (series.colour % COLOURS, frame.right + 8.0);
            let _ = writeln!(
                svg,
                r#"<path class="leader" d="M{:.1} {y_end:.1}L{:.1} {y:.1}"/><circle class="dot s{colour}" cx="{x_end:.1}" cy="{y_end:.1}" r="2.5"/><text class="name s{colour}" x="{at:.1}" y="{:.1}">{}</text>"#,
                x_end + 3.0,
                at - 2.0,
                y + 4.0,
                escape(&series.name)
            );
        }
    }
}

/// Stretches of points that have a place, each at least one long.
fn runs<T>(points: &[(f64, f64)], place: impl Fn(usize, (f64, f64)) -> Option<T>) -> Vec<Vec<T>> {
    let mut runs = vec![Vec::new()];
    for (index, &point) in points.iter().enumerate() {
        match place(index, point) {
            Some(placed) => runs.last_mut().expect("there is always one run").push(placed),
            None => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

/// A number with its spread, of one of the groups that a row compares.
#[derive(Clone, Debug)]
pub struct Dot {
    /// Index of the group, which gives colour and legend.
    pub group: usize,
    /// The number; without it there is no dot.
    pub value: f64,
    /// Half width of its bar; not finite for none.
    pub spread: f64,
    /// Single observations behind it.
    pub singles: Vec<f64>,
}

/// Rows of dots with bars: numbers compared within named rows.
#[derive(Clone, Debug, Default)]
pub struct DotChart {
    /// What the chart shows, for screen readers.
    pub title: String,
    /// Name and unit of the numbers.
    pub x_label: String,
    /// Names of the groups; no legend when there is one at most.
    pub groups: Vec<String>,
    /// Names of the rows and their dots.
    pub rows: Vec<(String, Vec<Dot>)>,
    /// Numbers that the axis must reach.
    pub x_reaches: Vec<f64>,
    /// The largest number that there can be: bars end there.
    pub x_most: Option<f64>,
}

/// The class of a group's dots: after as many groups as there are colours, dots are hollow.
pub fn group_class(group: usize) -> String {
    let hollow = if (group / COLOURS).is_multiple_of(2) { "" } else { " hollow" };
    format!("s{}{hollow}", group % COLOURS)
}

impl DotChart {
    /// Where the legend's entries begin: distance from the left, and line.
    fn legend(&self, left: f64, right: f64) -> Vec<(f64, usize)> {
        let (mut x, mut line) = (left, 0);
        let mut places = Vec::new();
        for name in &self.groups {
            let wide = 38.0 + CHARACTER * 1.05 * name.chars().count() as f64;
            if x > left && x + wide > right {
                (x, line) = (left, line + 1);
            }
            places.push((x, line));
            x += wide;
        }
        places
    }

    /// The chart as an SVG element.
    pub fn svg(&self) -> String {
        let width = 900.0;
        let values = self.rows.iter().flat_map(|(_, dots)| dots).flat_map(|dot| {
            let spread = if dot.spread.is_finite() { dot.spread } else { 0.0 };
            let low = if dot.value >= 0.0 { (dot.value - spread).max(0.0) } else { dot.value - spread };
            let high = self.x_most.map_or(dot.value + spread, |most| most.min(dot.value + spread));
            [low, high].into_iter().chain(dot.singles.iter().copied())
        });
        let Some(axis) = Axis::new(values.chain(self.x_reaches.iter().copied()), Scale::Linear, 7) else {
            return no_data(&self.title, width);
        };
        let longest = self.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let (left, right) = (20.0 + CHARACTER * 1.05 * longest as f64, width - 24.0);
        let legend = if self.groups.len() > 1 { self.legend(left, right) } else { Vec::new() };
        let top = legend.last().map_or(TOP - 8.0, |(_, line)| TOP + 22.0 + LEGEND_LINE * *line as f64);
        let row_height = |dots: &[Dot]| 18.0 + 13.0 * dots.len().max(1) as f64;
        let rows_height: f64 = self.rows.iter().map(|(_, dots)| row_height(dots)).sum();
        let height = top + rows_height + BOTTOM;
        let frame = Frame { left, right, top, bottom: top + rows_height };
        let mut svg = open(&self.title, width, height);
        for ((group, name), (x, line)) in self.groups.iter().enumerate().zip(legend) {
            let (class, colour, y) = (group_class(group), group % COLOURS, 14.0 + LEGEND_LINE * line as f64);
            let _ = writeln!(
                svg,
                r#"<circle class="dot {class}" cx="{:.1}" cy="{y:.1}" r="4.5"/><text class="name s{colour}" x="{:.1}" y="{:.1}">{}</text>"#,
                x + 5.0,
                x + 15.0,
                y + 4.0,
                escape(name)
            );
        }
        let no_rows = Axis::new([0.0, 1.0], Scale::Linear, 1).expect("two finite numbers");
        frame.draw(&mut svg, &axis, &no_rows, &self.x_label, "", false);
        let mut y = top;
        for (index, (name, dots)) in self.rows.iter().enumerate() {
            let tall = row_height(dots);
            if index > 0 {
                let _ = writeln!(
                    svg,
                    r#"<line class="grid" x1="0" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/>"#,
                    frame.right
                );
            }
            let _ = writeln!(
                svg,
                r#"<text class="row" x="{:.1}" y="{:.1}">{}</text>"#,
                left - 10.0,
                y + tall / 2.0 + 4.0,
                escape(name)
            );
            for (place, dot) in dots.iter().enumerate() {
                let (cy, colour) = (y + 16.0 + 13.0 * place as f64, dot.group % COLOURS);
                for x in dot.singles.iter().filter_map(|&v| axis.place(v)) {
                    let x = frame.x(x);
                    let _ = writeln!(
                        svg,
                        r#"<circle class="single s{colour}" cx="{x:.1}" cy="{cy:.1}" r="2.2"/>"#
                    );
                }
                let Some(x) = axis.place(dot.value).map(|share| frame.x(share)) else { continue };
                let ends = (axis.place(dot.value - dot.spread), axis.place(dot.value + dot.spread));
                if let (Some(low), Some(high)) = ends {
                    let (low, high) = (frame.x(low.max(0.0)), frame.x(high.min(1.0)));
                    let _ = writeln!(
                        svg,
                        r#"<path class="whisker s{colour}" d="M{low:.1} {:.1}v7M{low:.1} {cy:.1}H{high:.1}M{high:.1} {:.1}v7"/>"#,
                        cy - 3.5,
                        cy - 3.5
                    );
                }
                let class = group_class(dot.group);
                let _ = writeln!(svg, r#"<circle class="dot {class}" cx="{x:.1}" cy="{cy:.1}" r="4.5"/>"#);
            }
            y += tall;
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// The rectangle in which data is drawn.
#[derive(Clone, Copy, Debug)]
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    fn x(&self, share: f64) -> f64 {
        self.left + share * (self.right - self.left)
    }
    fn y(&self, share: f64) -> f64 {
        self.bottom - share * (self.bottom - self.top)
    }
    /// Grid, ticks and names of the axes.
    fn draw(
        &self,
        svg: &mut String,
        x_axis: &Axis,
        y_axis: &Axis,
        x_label: &str,
        y_label: &str,
        has_y: bool,
    ) {
        let Self { left, right, top, bottom } = *self;
        for (value, label) in y_axis.ticks.iter().filter(|_| has_y) {
            let Some(y) = y_axis.place(*value).map(|share| self.y(share)) else { continue };
            let _ = writeln!(
                svg,
                r#"<line class="grid" x1="{left:.1}" x2="{right:.1}" y1="{y:.1}" y2="{y:.1}"/><text class="ytick" x="{:.1}" y="{:.1}">{label}</text>"#,
                left - 7.0,
                y + 4.0
            );
        }
        for (value, label) in &x_axis.ticks {
            let Some(x) = x_axis.place(*value).map(|share| self.x(share)) else { continue };
            let grid = if has_y { bottom + 4.0 } else { top };
            let class = if has_y { "axis" } else { "grid" };
            let _ = writeln!(
                svg,
                r#"<line class="{class}" x1="{x:.1}" x2="{x:.1}" y1="{bottom:.1}" y2="{grid:.1}"/><text class="xtick" x="{x:.1}" y="{:.1}">{label}</text>"#,
                bottom + 18.0
            );
        }
        let _ = writeln!(
            svg,
            r#"<line class="axis" x1="{left:.1}" x2="{right:.1}" y1="{bottom:.1}" y2="{bottom:.1}"/><text class="xlabel" x="{:.1}" y="{:.1}">{}</text><text class="ylabel" x="0" y="13">{}</text>"#,
            f64::midpoint(left, right),
            bottom + 37.0,
            escape(x_label),
            escape(y_label)
        );
    }
}

fn open(title: &str, width: f64, height: f64) -> String {
    let title = escape(title);
    format!(
        "<svg viewBox=\"0 0 {width:.0} {height:.0}\" style=\"max-width:{width:.0}px\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>\n"
    )
}

fn no_data(title: &str, width: f64) -> String {
    format!(
        "{}<text class=\"row empty\" x=\"{:.0}\" y=\"36\">no data</text></svg>\n",
        open(title, width, 60.0),
        width / 2.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>, y_scale: Scale) -> String {
        let series = vec![Series { name: "a < b".into(), points, ..Series::default() }];
        LineChart { title: "T".into(), y_scale, series, ..LineChart::default() }.svg()
    }

    #[test]
    fn a_number_that_is_missing_breaks_the_line() {
        let svg = chart(vec![(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, 2.0)], Scale::Linear);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_single_point_is_a_dot_and_no_point_says_so() {
        assert!(chart(vec![(1.0, 2.0)], Scale::Linear).contains("<circle"));
        assert!(chart(vec![], Scale::Linear).contains("no data"));
        assert!(chart(vec![(1.0, 0.0), (2.0, -1.0)], Scale::Log).contains("no data"));
    }

    #[test]
    fn a_band_that_reaches_zero_stays_inside_a_log_axis() {
        let series = Series {
            points: vec![(0.0, 1.0), (1.0, 1.0)],
            band: vec![(-1.0, 3.0), (0.5, 1.5)],
            ..Series::default()
        };
        let svg = LineChart { y_scale: Scale::Log, series: vec![series], ..LineChart::default() }.svg();
        assert!(svg.contains("<polygon") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn names_are_escaped_and_do_not_cover_each_other() {
        let line = |name: &str, y| Series {
            name: name.into(),
            points: vec![(0.0, y), (1.0, y)],
            ..Series::default()
        };
        let series = vec![line("a < b", 1.0), line("c", 1.0), line("d", 2.0)];
        let svg = LineChart { series, ..LineChart::default() }.svg();
        assert!(svg.contains("a &lt; b"));
        let heights: Vec<f64> = svg
            .split("class=\"name")
            .skip(1)
            .map(|part| part.split(" y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(heights.len(), 3);
        for (i, a) in heights.iter().enumerate() {
            assert!(heights[..i].iter().all(|b| (a - b).abs() >= LINE - 0.2), "{heights:?}");
        }
    }

    #[test]
    fn a_legend_of_many_groups_goes_on_in_the_next_line_and_repeats_colours_hollow() {
        let groups: Vec<String> = (0..12).map(|i| format!("a method of a long name {i}")).collect();
        let dots = (0..12).map(|group| Dot { group, value: 0.5, spread: 0.1, singles: vec![] }).collect();
        let svg = DotChart { groups, rows: vec![("row".into(), dots)], ..DotChart::default() }.svg();
        let places: Vec<(f64, f64)> = svg
            .split("class=\"name")
            .skip(1)
            .map(|part| {
                let number = |key: &str| {
                    part.split(key).nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap()
                };
                (number(" x=\""), number(" y=\""))
            })
            .collect();
        assert_eq!(places.len(), 12);
        let wide = 25.0 * CHARACTER;
        assert!(places.iter().all(|(x, _)| x + wide < 900.0), "{places:?}");
        assert!(places.windows(2).all(|w| w[0].1 < w[1].1 || w[0].0 + wide <= w[1].0), "{places:?}");
        // four of the legend, four of the row
        assert_eq!(svg.matches("hollow").count(), 8);
    }

    #[test]
    fn bars_end_where_numbers_end() {
        let dot = Dot { group: 0, value: 0.8, spread: 0.5, singles: vec![] };
        let rows = vec![("row".into(), vec![dot])];
        let free = DotChart { rows: rows.clone(), ..DotChart::default() }.svg();
        let bound = DotChart { rows, x_most: Some(1.0), x_reaches: vec![0.0], ..DotChart::default() }.svg();
        assert!(free.contains(">1.2<") && !bound.contains(">1.2<") && bound.contains(">1.0<"), "{bound}");
    }

    #[test]
    fn dots_without_a_spread_have_no_whisker() {
        let dot = |value, spread| Dot { group: 0, value, spread, singles: vec![] };
        let rows = vec![("row".into(), vec![dot(0.5, f64::NAN), dot(0.2, 0.1), dot(f64::NAN, 0.1)])];
        let svg = DotChart { rows, ..DotChart::default() }.svg();
        assert_eq!((svg.matches("whisker").count(), svg.matches("class=\"dot").count()), (1, 2));
        assert!(!svg.contains("NaN"));
    }
}
