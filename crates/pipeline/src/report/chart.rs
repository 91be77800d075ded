//! Small line charts as inline SVG. Colours come from the page's style sheet by class.

use std::fmt::Write;

use maud::{Markup, html};

use super::format;
use super::scale::{Scale, Spacing, extent, nice_ticks};
use crate::results::Arm;

const MARGIN_LEFT: f64 = 46.0;
const MARGIN_RIGHT: f64 = 16.0;
const MARGIN_TOP: f64 = 28.0;
const MARGIN_BOTTOM: f64 = 40.0;

/// Least distance between the middles of two tick labels, in units of the drawing.
const LABEL_GAP: f64 = 34.0;

/// A chart with two axes and marks, drawn in the order given.
pub(super) struct Chart {
    /// What the chart shows, for those who do not see it.
    pub label: String,
    /// Width and height in units of the drawing, about one pixel each.
    pub size: (f64, f64),
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// What is drawn.
    pub marks: Vec<Mark>,
}

/// A direction of a chart.
pub(super) struct Axis {
    title: String,
    spacing: Spacing,
    domain: (f64, f64),
    ticks: Vec<(f64, String)>,
}

/// Something drawn on a chart. `class` names an arm or a style of the style sheet.
pub(super) enum Mark {
    /// Points joined by lines, with a gap wherever a number is not finite.
    Line {
        /// Style.
        class: String,
        /// Horizontal and vertical values.
        points: Vec<(f64, f64)>,
    },
    /// The area between two lines.
    Band {
        /// Style.
        class: String,
        /// Horizontal, lower and upper values.
        points: Vec<(f64, f64, f64)>,
    },
    /// Single points, each with a text that shows on hover.
    Dots {
        /// Style.
        class: String,
        /// Form.
        shape: Shape,
        /// The points.
        dots: Vec<Dot>,
    },
    /// A vertical line across the chart.
    Rule {
        /// Style.
        class: String,
        /// Horizontal value.
        x: f64,
    },
}

/// One point.
pub(super) struct Dot {
    /// Horizontal value.
    pub x: f64,
    /// Vertical value.
    pub y: f64,
    /// Half its size in units of the drawing.
    pub radius: f64,
    /// What hovering says.
    pub title: String,
}

/// The form of a point, so that arms differ without colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// For the pretrained arm.
    Circle,
    /// For the scratch arm.
    Square,
    /// For the linear arm.
    Triangle,
}

/// The style class of an arm.
pub(super) fn class(arm: Arm) -> &'static str {
    match arm {
        Arm::Pretrained => "pretrained",
        Arm::Scratch => "scratch",
        Arm::Tfidf => "tfidf",
    }
}

/// The form of an arm's points.
pub(super) fn shape(arm: Arm) -> Shape {
    match arm {
        Arm::Pretrained => Shape::Circle,
        Arm::Scratch => Shape::Square,
        Arm::Tfidf => Shape::Triangle,
    }
}

impl Axis {
    /// An axis with round ticks that covers every finite value, or `None` where there is none.
    pub(super) fn nice(title: &str, values: impl IntoIterator<Item = f64>, target: usize) -> Option<Self> {
        let ticks = nice_ticks(extent(values)?, target);
        let (first, last) = (*ticks.first()?, *ticks.last()?);
        Some(Self::with_ticks(title, (first, last), ticks))
    }

    /// An axis with round ticks that ends where the values end, or `None` where there is none.
    pub(super) fn tight(title: &str, values: impl IntoIterator<Item = f64>, target: usize) -> Option<Self> {
        let (low, high) = extent(values)?;
        let ticks = nice_ticks((low, high), target).into_iter().filter(|tick| (low..=high).contains(tick)).collect();
        Some(Self::with_ticks(title, (low, high), ticks))
    }

    fn with_ticks(title: &str, domain: (f64, f64), ticks: Vec<f64>) -> Self {
        let step = ticks.windows(2).map(|pair| pair[1] - pair[0]).next().unwrap_or(1.0);
        let ticks = ticks.into_iter().map(|tick| (tick, format::tick(tick, step))).collect();
        Self { title: title.to_owned(), spacing: Spacing::Linear, domain, ticks }
    }

    /// A logarithmic axis with a tick at each budget, or `None` without budgets. Budgets rise.
    pub(super) fn budgets(budgets: &[f64]) -> Option<Self> {
        let (first, last) = (*budgets.first()?, *budgets.last()?);
        let ticks = budgets.iter().map(|&budget| (budget, format::budget(budget))).collect();
        let title = "labels used (logarithmic)".to_owned();
        Some(Self { title, spacing: Spacing::Log, domain: (first, last), ticks })
    }

    /// An axis from 0 to 1 with ticks at quarters.
    pub(super) fn unit(title: &str) -> Self {
        let ticks = [(0.0, "0"), (0.25, ""), (0.5, "0.5"), (0.75, ""), (1.0, "1")];
        let ticks = ticks.into_iter().map(|(at, text)| (at, text.to_owned())).collect();
        Self { title: title.to_owned(), spacing: Spacing::Linear, domain: (0.0, 1.0), ticks }
    }

    fn scale(&self, range: (f64, f64)) -> Scale {
        Scale::new(self.spacing, self.domain, range)
    }
}

impl Chart {
    /// The chart as an SVG element that takes the width it is given.
    pub(super) fn svg(&self) -> Markup {
        let (width, height) = self.size;
        let x = self.x.scale((MARGIN_LEFT, width - MARGIN_RIGHT));
        let y = self.y.scale((height - MARGIN_BOTTOM, MARGIN_TOP));
        html! {
            svg.chart viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(self.label) {
                (self.y_axis(&y))
                (self.x_axis(&x))
                @for mark in &self.marks { (mark.draw(&x, &y, self.size)) }
            }
        }
    }

    fn y_axis(&self, y: &Scale) -> Markup {
        let right = self.size.0 - MARGIN_RIGHT;
        html! {
            text.axis-title x="2" y="12" { (self.y.title) }
            @for (value, text) in &self.y.ticks {
                @if let Some(place) = y.at(*value) {
                    line.grid x1=(MARGIN_LEFT) x2=(right) y1=(unit(place)) y2=(unit(place)) {}
                    text.tick.end x=(MARGIN_LEFT - 8.0) y=(unit(place + 3.5)) { (text) }
                }
            }
        }
    }

    fn x_axis(&self, x: &Scale) -> Markup {
        let (width, height) = self.size;
        let bottom = height - MARGIN_BOTTOM;
        html! {
            line.axis x1=(MARGIN_LEFT) x2=(width - MARGIN_RIGHT) y1=(bottom) y2=(bottom) {}
            @for (place, text) in self.x_labels(x) {
                line.axis x1=(unit(place)) x2=(unit(place)) y1=(bottom) y2=(bottom + 4.0) {}
                text.tick.middle x=(unit(place)) y=(bottom + 17.0) { (text) }
            }
            text.axis-title.end x=(width - MARGIN_RIGHT) y=(height - 4.0) { (self.x.title) }
        }
    }

    /// Tick places with their texts; a text too near to the one on its right is left out.
    fn x_labels(&self, x: &Scale) -> Vec<(f64, &str)> {
        let mut last = f64::INFINITY;
        let mut labels = Vec::new();
        for (value, text) in self.x.ticks.iter().rev() {
            let Some(place) = x.at(*value) else { continue };
            let is_free = last - place >= LABEL_GAP;
            labels.push((place, if is_free { text.as_str() } else { "" }));
            if is_free {
                last = place;
            }
        }
        labels
    }
}

impl Mark {
    fn draw(&self, x: &Scale, y: &Scale, (_, height): (f64, f64)) -> Markup {
        match self {
            Self::Line { class, points } => html! { path.line.(class) d=(line_path(points, x, y)) {} },
            Self::Band { class, points } => html! { path.band.(class) d=(band_path(points, x, y)) {} },
            Self::Dots { class, shape, dots } => html! {
                g.dots.(class) { @for dot in dots { (dot.draw(*shape, x, y)) } }
            },
            Self::Rule { class, x: value } => html! {
                @if let Some(place) = x.at(*value).map(unit) {
                    line.rule.(class) x1=(place) x2=(place) y1=(MARGIN_TOP) y2=(height - MARGIN_BOTTOM) {}
                }
            },
        }
    }
}

impl Dot {
    fn draw(&self, shape: Shape, x: &Scale, y: &Scale) -> Markup {
        let Some((x, y)) = x.at(self.x).zip(y.at(self.y)) else { return html! {} };
        html! {
            g {
                title { (self.title) }
                circle.hit cx=(unit(x)) cy=(unit(y)) r=(self.radius + 6.0) {}
                (shape.draw(x, y, self.radius))
            }
        }
    }
}

impl Shape {
    /// The form with its middle at a place.
    pub(super) fn draw(self, x: f64, y: f64, radius: f64) -> Markup {
        match self {
            Self::Circle => html! { circle cx=(unit(x)) cy=(unit(y)) r=(unit(radius)) {} },
            Self::Square => {
                let side = radius * 1.8;
                html! { rect x=(unit(x - side / 2.0)) y=(unit(y - side / 2.0)) width=(unit(side)) height=(unit(side)) {} }
            }
            Self::Triangle => {
                let (wide, low, high) = (radius * 1.15, y + radius * 0.85, y - radius * 1.15);
                let path = format!("M{x:.1},{high:.1}L{:.1},{low:.1}L{:.1},{low:.1}Z", x + wide, x - wide);
                html! { path d=(path) {} }
            }
        }
    }
}

/// A place with one decimal.
pub(super) fn unit(place: f64) -> String {
    format!("{place:.1}")
}

fn line_path(points: &[(f64, f64)], x: &Scale, y: &Scale) -> String {
    let mut path = String::new();
    let mut is_broken = true;
    for &(own_x, own_y) in points {
        let place = x.at(own_x).zip(y.at(own_y));
        if let Some((x, y)) = place {
            let command = if is_broken { 'M' } else { 'L' };
            write!(path, "{command}{x:.1},{y:.1}").expect("a string takes all");
        }
        is_broken = place.is_none();
    }
    path
}

fn band_path(points: &[(f64, f64, f64)], x: &Scale, y: &Scale) -> String {
    let places = |&(own_x, low, high): &(f64, f64, f64)| Some((x.at(own_x)?, y.at(low)?, y.at(high)?));
    let places: Vec<(f64, f64, f64)> = points.iter().filter_map(places).collect();
    let upper = places.iter().map(|place| (place.0, place.2));
    let lower = places.iter().rev().map(|place| (place.0, place.1));
    let mut path = String::new();
    for (x, y) in upper.chain(lower) {
        let command = if path.is_empty() { 'M' } else { 'L' };
        write!(path, "{command}{x:.1},{y:.1}").expect("a string takes all");
    }
    if !path.is_empty() {
        path.push('Z');
    }
    path
}

/// The arms with their colours and forms.
pub(super) fn legend(arms: &[Arm]) -> Markup {
    html! {
        ul.legend {
            @for &arm in arms { li { (key(arm)) (arm.label()) } }
        }
    }
}

/// The small sign of an arm.
pub(super) fn key(arm: Arm) -> Markup {
    html! {
        svg.key viewBox="0 0 26 12" aria-hidden="true" {
            path.line.(class(arm)) d="M1,6L25,6" {}
            g.dots.(class(arm)) { (shape(arm).draw(13.0, 6.0, 4.0)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_leave_gaps() {
        let scale = Scale::new(Spacing::Linear, (0.0, 1.0), (0.0, 10.0));
        let points = [(0.0, 0.0), (0.5, f64::NAN), (0.6, 0.5), (1.0, 1.0)];
        assert_eq!(line_path(&points, &scale, &scale), "M0.0,0.0M6.0,5.0L10.0,10.0");
        let band = [(0.0, 0.0, 0.1), (0.5, f64::NAN, 1.0), (1.0, 0.5, 1.0)];
        assert_eq!(band_path(&band, &scale, &scale), "M0.0,1.0L10.0,10.0L10.0,5.0L0.0,0.0Z");
        assert_eq!(band_path(&[], &scale, &scale), "");
    }

    #[test]
    fn crowded_labels_give_way() {
        let axis = Axis::budgets(&[0.001, 0.9, 1.0]).unwrap();
        let y = Axis::unit("");
        let chart = Chart { label: String::new(), size: (400.0, 200.0), x: axis, y, marks: Vec::new() };
        let x = chart.x.scale((MARGIN_LEFT, 400.0 - MARGIN_RIGHT));
        let texts: Vec<&str> = chart.x_labels(&x).into_iter().map(|label| label.1).collect();
        assert_eq!(texts, ["100 %", "", "0.1 %"]);
    }
}
