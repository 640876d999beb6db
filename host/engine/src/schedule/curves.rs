//! Curves: other ways for the noise to fall between the two ends of a run than the trained one.
//!
//! They know the ends only; which timestep a level then belongs to is the caller's. The beta curve needs the quantiles of a
//! distribution, which are computed here from its continued fraction, in f64.

use super::{Curve, real};

/// `count` levels from `high` down to `low`.
pub(super) fn curved(curve: Curve, high: f64, low: f64, count: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let at = |share: f64| match curve {
        Curve::Karras => {
            let (from, to) = (high.powf(1.0 / RHO), low.powf(1.0 / RHO));
            (from + share * (to - from)).powf(RHO)
        }
        Curve::Exponential | Curve::Trained => (high.ln() + share * (low.ln() - high.ln())).exp(),
        Curve::Beta => low + beta_quantile(1.0 - share) * (high - low),
    };
    (0..count).map(|i| at(if count < 2 { 0.0 } else { real(i) / real(count - 1) })).collect()
}

/// Both parameters of the beta distribution whose quantiles the curve follows.
const SHAPE: f64 = 0.6;

/// The value below which the share `share` of the distribution lies.
///
/// Bisection: the distribution rises without end at both sides, where Newton's method would leave the interval. 60 halvings
/// leave less than the distance of two neighbouring f64 near 1.
fn beta_quantile(share: f64) -> f64 {
    if share <= 0.0 || share >= 1.0 {
        return share.clamp(0.0, 1.0);
    }
    // Symmetric: the lower half is enough, and keeps small values exact.
    if share > 0.5 {
        return 1.0 - beta_quantile(1.0 - share);
    }
    let (mut low, mut high) = (0.0, 0.5);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if beta_share(middle) < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The share of the distribution below `x` (at most 0.5): the regularised incomplete beta function, by its continued
/// fraction as Lentz evaluates it.
fn beta_share(x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    /// The beta function of [`SHAPE`] and [`SHAPE`].
    const BETA: f64 = 2.415_344_208_002_472_3;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (a, b) = (SHAPE, SHAPE);
    let mut lower = away_from_zero(1.0 - (a + b) * x / (a + 1.0)).recip();
    let (mut upper, mut fraction) = (1.0, lower);
    // Below one half each pair of terms adds more than a decimal digit.
    for m in 1..100 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        for term in [even, odd] {
            lower = away_from_zero(1.0 + term * lower).recip();
            upper = away_from_zero(1.0 + term / upper);
            fraction *= lower * upper;
        }
        if (lower * upper - 1.0).abs() < 1e-16 {
            break;
        }
    }
    (x * (1.0 - x)).powf(SHAPE) * fraction / (a * BETA)
}

#[cfg(test)]
mod tests {
    use super::{Curve, beta_quantile, curved};

    #[test]
    fn the_quantiles_are_those_of_the_beta_distribution() {
        for (share, want) in QUANTILES {
            let got = beta_quantile(*share);
            assert!((got / want - 1.0).abs() < 1e-9, "{share}: {got} not {want}");
            assert!((beta_quantile(1.0 - share) - (1.0 - want)).abs() < 1e-9, "{share}");
        }
        assert_eq!((beta_quantile(0.0), beta_quantile(1.0)), (0.0, 1.0));
    }

    #[test]
    fn every_curve_runs_from_end_to_end_and_never_rises() {
        for curve in [Curve::Karras, Curve::Exponential, Curve::Beta] {
            let levels = curved(curve, 14.6, 0.03, 30);
            assert!((levels[0] - 14.6).abs() < 1e-9 && (levels[29] - 0.03).abs() < 1e-9, "{curve:?}");
            assert!(levels.windows(2).all(|pair| pair[0] > pair[1]), "{curve:?}");
            assert_eq!(curved(curve, 2.0, 1.0, 1).len(), 1);
        }
    }

    /// `scipy.stats.beta.ppf(share, 0.6, 0.6)` of SciPy 1.17.1.
    const QUANTILES: &[(f64, f64)] = &[
        (0.0001, 3.998_377_158_137_721e-07),
        (0.01, 0.000_861_238_821_542_905_9),
        (0.034_482_758_620_689_655, 0.006_768_365_908_747_951),
        (0.1, 0.039_584_405_588_780_85),
        (0.25, 0.175_680_378_652_694_98),
        (0.4, 0.362_700_990_753_214_3),
        (0.5, 0.5),
    ];
}
