//! Medians, and ratios of what was measured side by side.

use serde::Serialize;

/// Several measurements of the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Of values in any order; nothing of nothing. What is not a number is no measurement.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { min, median, max })
    }
}

/// A measurement and the round it was made in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub(crate) round: usize,
    pub(crate) value: f64,
}

/// `samples` in units of `base`: each is divided by the one of the same round, taken within seconds of it, so that the
/// machine's changes of speed cancel out.
pub(crate) fn ratio(samples: &[Sample], base: &[Sample]) -> Option<Summary> {
    let of_round = |round| base.iter().find(|sample| sample.round == round);
    Summary::of(samples.iter().filter_map(|sample| Some(sample.value / of_round(sample.round)?.value)))
}

#[cfg(test)]
mod tests {
    //! Medians are of the values there are, and ratios of pairs from one round only.
    use super::*;

    fn summary(min: f64, median: f64, max: f64) -> Summary {
        Summary { min, median, max }
    }

    #[test]
    fn medians() {
        assert_eq!(Summary::of([]), None);
        assert_eq!(Summary::of([f64::NAN]), None);
        assert_eq!(Summary::of([2.0]), Some(summary(2.0, 2.0, 2.0)));
        assert_eq!(Summary::of([9.0, 1.0, 2.0]), Some(summary(1.0, 2.0, 9.0)));
        assert_eq!(Summary::of([4.0, 1.0, 2.0, f64::INFINITY, 100.0]), Some(summary(1.0, 3.0, 100.0)));
    }

    #[test]
    fn ratios_pair_by_round() {
        let samples = |values: &[(usize, f64)]| -> Vec<Sample> {
            values.iter().map(|&(round, value)| Sample { round, value }).collect()
        };
        // The machine doubled its speed after round 1; the ratio does not see it.
        let fast = samples(&[(0, 3.0), (1, 3.3), (2, 6.0), (7, 1000.0)]);
        let slow = samples(&[(2, 4.0), (1, 2.0), (0, 2.0), (5, 0.1)]);
        assert_eq!(ratio(&fast, &slow), Some(summary(1.5, 1.5, 1.65)));
        assert_eq!(ratio(&fast, &samples(&[(9, 1.0)])), None);
        assert_eq!(ratio(&fast[..1], &samples(&[(0, 0.0)])), None);
    }
}
