//! Axes: ranges, round ticks, numbers in few characters.

/// How numbers become places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps are equal differences.
    #[default]
    Linear,
    /// Equal steps are equal ratios; numbers that are not positive have no place.
    Log,
}

/// A range of numbers with its ticks.
#[derive(Clone, Debug)]
pub struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    /// Where the ticks stand, and their labels.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that shows all of these numbers; `None` when none of them has a place on it.
    pub fn new(values: impl IntoIterator<Item = f64>, scale: Scale, wanted: usize) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|v| v.is_finite() && (scale == Scale::Linear || *v > 0.0)) {
            low = low.min(value);
            high = high.max(value);
        }
        (low <= high).then(|| match scale {
            Scale::Linear => Self::linear(low, high, wanted),
            Scale::Log => Self::log(low, high, wanted),
        })
    }

    fn linear(mut low: f64, mut high: f64, wanted: usize) -> Self {
        if high - low <= 1e-12 * low.abs().max(high.abs()) {
            // One value only: a tenth of it to either side.
            let margin = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
            (low, high) = (low - margin, high + margin);
        }
        let step = round_step((high - low) / wanted as f64);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        let ticks = (0..=(last - first) as usize)
            .map(|i| (first + i as f64) * step)
            .map(|tick| (tick, short_number(tick, step)))
            .collect();
        Self { scale: Scale::Linear, low: first * step, high: last * step, ticks }
    }

    fn log(low: f64, high: f64, wanted: usize) -> Self {
        let power = |x: f64| x.log10().floor() as i32;
        if high / low < 100.0 {
            // A narrow range: between two of the numbers 1, 2, 5 in each decade.
            let all: Vec<f64> = (power(low) - 1..=power(high) + 1)
                .flat_map(|p| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(p)))
                .collect();
            let first = all.iter().rposition(|tick| *tick <= low).unwrap_or(0);
            let last =
                all.iter().position(|tick| *tick >= high && *tick > all[first]).unwrap_or(all.len() - 1);
            let ticks = all[first..=last].iter().map(|tick| (*tick, significant(*tick, 1))).collect();
            return Self { scale: Scale::Log, low: all[first], high: all[last], ticks };
        }
        let (first, last) = (power(low), high.log10().ceil() as i32);
        let every = ((last - first) as usize).div_ceil(wanted.max(1)).max(1);
        let ticks = (first..=last).step_by(every).map(|p| (10f64.powi(p), power_of_ten(p))).collect();
        Self { scale: Scale::Log, low: 10f64.powi(first), high: 10f64.powi(last), ticks }
    }

    /// Place of a number, 0 at the low end and 1 at the high end; `None` when it has none.
    pub fn place(&self, value: f64) -> Option<f64> {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log if value > 0.0 => (value / self.low).ln() / (self.high / self.low).ln(),
            Scale::Log => return None,
        };
        share.is_finite().then_some(share)
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|step| *step >= 0.999_999 * rough)
        .unwrap_or(10.0 * power)
}

/// A tick of a linear axis with this step: thousands and millions by letter, no more decimals than the step needs.
fn short_number(value: f64, step: f64) -> String {
    let largest = value.abs().max(step);
    let (unit, letter) = match largest {
        l if l >= 1e13 => return format!("{value:.1e}"),
        l if l >= 1e9 => (1e9, "G"),
        l if l >= 1e6 => (1e6, "M"),
        l if l >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    if step < 1e-6 {
        return significant(value, 4);
    }
    let decimals = (-(step / unit).log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{:.decimals$}", value / unit);
    // "-0" and "0k" are zero
    if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
        "0".into()
    } else {
        minus(&text) + letter
    }
}

/// With a true minus sign.
fn minus(text: &str) -> String {
    text.replace('-', "−")
}

fn power_of_ten(power: i32) -> String {
    if (-2..=3).contains(&power) {
        return format!("{}", 10f64.powi(power));
    }
    let digits = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raised = power.to_string();
    let raised = raised.chars().map(|c| c.to_digit(10).map_or('⁻', |digit| digits[digit as usize]));
    ['1', '0'].into_iter().chain(raised).collect()
}

/// A number with so many significant digits, in powers of ten when it is very large or small; "–" when there is none.
pub fn significant(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    if value == 0.0 {
        return "0".into();
    }
    let size = value.abs().log10().floor();
    if !(-4.0..7.0).contains(&size) {
        return minus(&format!("{value:.*e}", digits.saturating_sub(1)));
    }
    minus(&format!("{value:.*}", (digits as f64 - 1.0 - size).max(0.0) as usize))
}

/// A count with thin spaces between groups of three digits.
pub fn count(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("−{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], scale: Scale) -> Vec<String> {
        Axis::new(values.iter().copied(), scale, 5)
            .unwrap()
            .ticks
            .into_iter()
            .map(|(_, label)| label)
            .collect()
    }

    #[test]
    fn linear_ticks_are_round_and_enclose_the_data() {
        assert_eq!(labels(&[0.03, 0.97], Scale::Linear), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&[-3.0, 4.0], Scale::Linear), ["−4", "−2", "0", "2", "4"]);
        assert_eq!(labels(&[0.0, 2.4e6], Scale::Linear), ["0", "500k", "1.0M", "1.5M", "2.0M", "2.5M"]);
        let axis = Axis::new([1.234, 5.678], Scale::Linear, 5).unwrap();
        assert!(axis.place(1.234).unwrap() >= 0.0 && axis.place(5.678).unwrap() <= 1.0);
    }

    #[test]
    fn log_ticks_are_powers_of_ten_or_one_two_five_between_them() {
        assert_eq!(labels(&[2e-7, 3.0], Scale::Log), ["10⁻⁷", "10⁻⁵", "10⁻³", "0.1", "10"]);
        assert_eq!(labels(&[2.0, 30.0], Scale::Log), ["2", "5", "10", "20", "50"]);
    }

    #[test]
    fn one_value_no_value_and_values_without_a_place() {
        assert!(Axis::new([3.0], Scale::Linear, 5).unwrap().place(3.0).unwrap() > 0.0);
        assert!(Axis::new([0.0], Scale::Linear, 5).is_some());
        assert!(Axis::new([1.0], Scale::Log, 5).is_some());
        assert!(Axis::new([], Scale::Linear, 5).is_none());
        assert!(Axis::new([f64::NAN, -1.0, 0.0], Scale::Log, 5).is_none());
        assert_eq!(Axis::new([1.0, 10.0], Scale::Log, 5).unwrap().place(-1.0), None);
        assert_eq!(Axis::new([1.0, 10.0], Scale::Linear, 5).unwrap().place(f64::NAN), None);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(significant(0.012345, 3), "0.0123");
        assert_eq!(significant(-1234.5, 4), "−1234");
        assert_eq!(significant(1.5e-9, 2), "1.5e−9");
        assert_eq!(significant(f64::NAN, 3), "–");
        assert_eq!(count(1234567.0), "1\u{202f}234\u{202f}567");
    }
}
