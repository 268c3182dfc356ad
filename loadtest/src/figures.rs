//! Medians, ranges and bootstrap intervals of a handful of rounds, and numbers written for people.
//! It knows nothing of requests or processes.

/// Median of some figures with their range and a 95 % bootstrap interval of the median.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// Middle value; of an even count the mean of the middle two.
    pub(crate) median: f64,
    /// Smallest.
    pub(crate) min: f64,
    /// Largest.
    pub(crate) max: f64,
    /// Lower end of the interval.
    pub(crate) low: f64,
    /// Upper end of the interval.
    pub(crate) high: f64,
}

/// Resamples of the bootstrap.
const RESAMPLES: usize = 2_000;

impl Spread {
    /// Spread of `values`; none when there are none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = interval(&sorted);
        Some(Self { median: middle(&sorted), min, max, low, high })
    }

    /// For a JSON report.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "median": self.median, "min": self.min, "max": self.max, "ci95": [self.low, self.high],
        })
    }
}

/// Median of `values`, NaN when empty (written as "-").
pub(crate) fn median(values: &[f64]) -> f64 {
    Spread::of(values).map_or(f64::NAN, |spread| spread.median)
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

/// Percentile bootstrap with a fixed seed, so that the same rounds always give the same interval.
fn interval(sorted: &[f64]) -> (f64, f64) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut index = || {
        // xorshift64 (Marsaglia 2003); ample for resampling a dozen values.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % sorted.len()
    };
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut sample: Vec<f64> = sorted.iter().map(|_| sorted[index()]).collect();
            sample.sort_by(f64::total_cmp);
            middle(&sample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    (medians[RESAMPLES / 40], medians[RESAMPLES - 1 - RESAMPLES / 40])
}

/// Ratios of two rows of rounds, skipping rounds where either failed.
pub(crate) fn ratios(of: &[Option<f64>], to: &[Option<f64>]) -> Vec<f64> {
    of.iter().zip(to).filter_map(|(of, to)| Some((*of)? / (*to)?)).collect()
}

/// A whole number with commas between thousands.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0.0 { format!("-{text}") } else { text }
}

/// A figure with `places` decimals, "-" when there is none.
pub(crate) fn fixed(number: f64, places: usize) -> String {
    if number.is_finite() { format!("{number:.places$}") } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_of_known_values() {
        let spread = Spread::of(&[3.0, 1.0, 2.0, 5.0, 4.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (3.0, 1.0, 5.0));
        assert!(spread.low >= 1.0 && spread.low <= 3.0 && spread.high >= 3.0 && spread.high <= 5.0);
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn interval_of_equal_values_is_a_point() {
        let spread = Spread::of(&[0.9; 7]).unwrap();
        assert_eq!((spread.low, spread.high), (0.9, 0.9));
    }

    #[test]
    fn failed_rounds_are_left_out_of_ratios() {
        assert_eq!(ratios(&[Some(1.0), None, Some(3.0)], &[Some(2.0), Some(2.0), None]), [0.5]);
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(-1_000.0), "-1,000");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(fixed(f64::NAN, 2), "-");
        assert_eq!(fixed(1.005, 1), "1.0");
    }
}
