//! Numbers as people read them. A number that is not finite becomes a dash, never `NaN`.

/// What stands where there is no number.
pub(super) const NONE: &str = "–";

fn finite(value: f64, show: impl FnOnce(f64) -> String) -> String {
    if value.is_finite() { show(value) } else { NONE.to_owned() }
}

/// A score with three decimals.
pub(super) fn score(value: f64) -> String {
    finite(value, |value| format!("{value:.3}"))
}

/// A score, or a dash.
pub(super) fn score_or_none(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), score)
}

/// A difference of scores with its sign.
pub(super) fn difference(value: f64) -> String {
    finite(value, |value| {
        let text = format!("{value:+.3}");
        if text == "-0.000" { "+0.000".to_owned() } else { text.replace('-', "−") }
    })
}

/// A part of a whole in per cent with at most two significant decimals: `10 %`, `0.5 %`.
pub(super) fn percent(part: f64) -> String {
    finite(part * 100.0, |value| {
        let decimals = if value == 0.0 || value.abs() >= 10.0 { 0 } else { 2 };
        format!("{} %", trim_zeros(format!("{value:.decimals$}")))
    })
}

/// A budget in per cent, never rounded to nothing: `10 %`, `0.5 %`, `12.5 %`.
pub(super) fn budget(part: f64) -> String {
    finite(part * 100.0, |value| {
        let decimals = if value >= 1.0 { 1 } else { 3 };
        format!("{} %", trim_zeros(format!("{value:.decimals$}")))
    })
}

fn trim_zeros(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A whole number with commas between thousands.
pub(super) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A whole number with its noun: `1 task`, `4 tasks`.
pub(super) fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A large number with three significant digits and a suffix: `12.3M`.
pub(super) fn compact(value: f64) -> String {
    finite(value, |value| scaled(value, &["", "k", "M", "B", "T"], ""))
}

/// A large number with three significant digits, a metric prefix and a unit: `1.23 PFLOP`.
pub(super) fn metric_prefix(value: f64, unit: &str) -> String {
    finite(value, |value| format!("{}{unit}", scaled(value, &["", "k", "M", "G", "T", "P", "E", "Z"], " ")))
}

fn scaled(value: f64, suffixes: &[&str], gap: &str) -> String {
    let mut rest = value;
    let mut level = 0;
    while rest.abs() >= 999.5 && level + 1 < suffixes.len() {
        rest /= 1000.0;
        level += 1;
    }
    let decimals = if level == 0 && rest.fract() == 0.0 || rest.abs() >= 99.95 {
        0
    } else if rest.abs() >= 9.995 {
        1
    } else {
        2
    };
    format!("{rest:.decimals$}{gap}{}", suffixes[level])
}

/// A span of time: `0.8 s`, `42 s`, `6 min 3 s`, `2 h 14 min`.
pub(super) fn duration(seconds: f64) -> String {
    finite(seconds, |seconds| {
        if seconds < 9.95 {
            return format!("{seconds:.1} s");
        }
        let whole = seconds.round() as u64;
        match whole {
            0..60 => format!("{whole} s"),
            60..3600 => format!("{} min {} s", whole / 60, whole % 60),
            _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        }
    })
}

/// A factor: `4.2×`.
pub(super) fn factor(value: f64) -> String {
    finite(value, |value| format!("{value:.1}×"))
}

/// A metric's name as people write it.
pub(super) fn metric(name: &str) -> String {
    name.split('_').map(|part| if part == "f1" { "F1" } else { part }).collect::<Vec<_>>().join(" ")
}

/// The text of a tick: as many decimals as the distance between ticks needs, large numbers with a suffix.
pub(super) fn tick(value: f64, step: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value.abs() >= 10_000.0 {
        return trim_suffix(&compact(value));
    }
    if step.abs() < 1e-3 && value.abs() < 0.01 {
        return format!("{value:.1e}").replace(".0e", "e").replace('-', "−");
    }
    let decimals = (-step.abs().log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}").replace('-', "−")
}

/// `20.0k` as `20k`.
fn trim_suffix(text: &str) -> String {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    format!("{}{}", trim_zeros(text[..at].to_owned()), &text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([count(0), count(999), count(1_234_567)], ["0", "999", "1,234,567"]);
        assert_eq!([percent(0.1), percent(0.005), percent(0.0)], ["10 %", "0.5 %", "0 %"]);
        assert_eq!([budget(0.125), budget(0.001), budget(1.0)], ["12.5 %", "0.1 %", "100 %"]);
        assert_eq!([compact(12_345_678.0), compact(999_999.0), compact(40.0)], ["12.3M", "1.00M", "40"]);
        assert_eq!(metric_prefix(1.234e15, "FLOP"), "1.23 PFLOP");
        assert_eq!([duration(0.84), duration(363.0), duration(8040.0)], ["0.8 s", "6 min 3 s", "2 h 14 min"]);
        assert_eq!([duration(59.7), difference(-0.0001), difference(-0.02)], ["1 min 0 s", "+0.000", "−0.020"]);
        assert_eq!([metric("macro_f1"), tick(0.25, 0.05), tick(20_000.0, 5000.0)], ["macro F1", "0.25", "20k"]);
        assert_eq!([tick(5e-4, 5e-4), tick(1e-3, 5e-4), tick(0.8001, 1e-4)], ["5e−4", "1e−3", "0.8001"]);
    }

    #[test]
    fn what_is_no_number_is_a_dash() {
        for show in [score, difference, percent, budget, compact, duration, factor] {
            assert_eq!([show(f64::NAN), show(f64::INFINITY)], [NONE, NONE]);
        }
    }
}
