//! From values to places: scales and ticks.

/// How values are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spacing {
    /// Equal differences look equal.
    Linear,
    /// Equal ratios look equal.
    Log,
}

/// Maps values to places along one direction of a drawing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    spacing: Spacing,
    domain: (f64, f64),
    range: (f64, f64),
}

impl Scale {
    /// Maps `domain` onto `range`. A domain of one point, or none, is widened so that places exist.
    pub(super) fn new(spacing: Spacing, domain: (f64, f64), range: (f64, f64)) -> Self {
        let (low, high) = domain;
        let domain = match spacing {
            Spacing::Log if high <= low => (low / 2.0, low * 2.0),
            Spacing::Linear if high <= low => (low - 0.5, low + 0.5),
            _ => domain,
        };
        Self { spacing, domain, range }
    }

    /// The place of `value`, or `None` where it has none.
    pub(super) fn at(&self, value: f64) -> Option<f64> {
        let warp = |value: f64| if self.spacing == Spacing::Log { value.ln() } else { value };
        let (low, high) = (warp(self.domain.0), warp(self.domain.1));
        let place = self.range.0 + (warp(value) - low) / (high - low) * (self.range.1 - self.range.0);
        place.is_finite().then_some(place)
    }
}

/// The lowest and highest finite value, or `None` where there is none.
pub(super) fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|value| value.is_finite()).fold(None, |extent, value| match extent {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// About `target` round numbers from at or below `low` to at or above `high`, a step of 1, 2 or 5 times a power of ten
/// apart (Heckbert, "Nice numbers for graph labels", 1990).
pub(super) fn nice_ticks((low, high): (f64, f64), target: usize) -> Vec<f64> {
    let span = if high > low { high - low } else { low.abs().max(1.0) * 0.1 };
    let step = nice_step(span / target.max(1) as f64);
    let first = (low / step + 1e-9).floor();
    let last = (high / step - 1e-9).ceil().max(first + 1.0);
    (0..=(last - first).round() as usize)
        .map(|at| (first + at as f64) * step)
        .map(|tick| round_to(tick, step))
        .collect()
}

fn nice_step(raw: f64) -> f64 {
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * power >= raw * 0.999);
    step.unwrap_or(10.0) * power
}

/// Removes what is left of `0.1 + 0.2`.
fn round_to(tick: f64, step: f64) -> f64 {
    let digits = (2.0 - step.log10().floor()).clamp(0.0, 15.0) as i32;
    let power = 10_f64.powi(digits);
    let rounded = (tick * power).round() / power;
    if rounded == 0.0 { 0.0 } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover() {
        assert_eq!(nice_ticks((0.31, 0.84), 5), [0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(nice_ticks((0.0, 3000.0), 6), [0.0, 500.0, 1000.0, 1500.0, 2000.0, 2500.0, 3000.0]);
        for (low, high) in [(0.0, 0.0), (0.5, 0.5), (-3.0, 7.0), (1e-9, 2e-9), (1e9, 1.1e9), (0.8, 0.8000001)] {
            let ticks = nice_ticks((low, high), 5);
            assert!((2..=12).contains(&ticks.len()), "{low} {high}: {ticks:?}");
            assert!(ticks[0] <= low && *ticks.last().unwrap() >= high, "{low} {high}: {ticks:?}");
        }
    }

    #[test]
    fn scales_place_ends_and_refuse_the_rest() {
        let scale = Scale::new(Spacing::Log, (0.01, 1.0), (0.0, 200.0));
        assert!((scale.at(0.1).unwrap() - 100.0).abs() < 1e-9);
        assert_eq!([scale.at(f64::NAN), scale.at(0.0), scale.at(-1.0)], [None; 3]);
        assert_eq!(Scale::new(Spacing::Linear, (3.0, 3.0), (0.0, 10.0)).at(3.0), Some(5.0));
        assert_eq!(extent([f64::NAN, 2.0, 1.0, f64::INFINITY]), Some((1.0, 2.0)));
    }
}
