//! Quantiles of a number that estimators predict.

use millstream_core::Problem;

use super::checks::check_inside;

/// How many there may be.
pub(crate) const MOST_QUANTILES: usize = 16;

/// Which quantiles are predicted: shares of the labels that lie below, in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quantiles {
    shares: [f64; MOST_QUANTILES],
    count: usize,
}

impl Quantiles {
    /// Of these shares, of which those behind the most that there may be are left out.
    pub(crate) fn of(shares: &[f64]) -> Self {
        let mut quantiles = Self { count: shares.len().min(MOST_QUANTILES), ..Self::default() };
        quantiles.shares.iter_mut().zip(shares).for_each(|(own, share)| *own = *share);
        quantiles
    }

    /// The shares.
    pub fn shares(&self) -> &[f64] {
        &self.shares[..self.count]
    }

    /// Which of them stands for the number itself: the nearest to the median, and the lower of two.
    pub(crate) fn central(&self) -> usize {
        let distance = |at: usize| (self.shares[at] - 0.5).abs();
        (0..self.count).fold(0, |best, at| if distance(at) < distance(best) { at } else { best })
    }

    /// How wrong predicted quantiles are, summed up: a number that is too low costs the share, one that is too high the rest of 1, times
    /// the distance. That is least for the quantiles themselves (Koenker and Bassett 1978, "Regression Quantiles").
    pub(crate) fn loss(&self, target: f64, predicted: &[f64]) -> f64 {
        let of_one = |(share, predicted): (&f64, &f64)| {
            let above = target - predicted;
            (share * above).max((share - 1.0) * above)
        };
        self.shares().iter().zip(predicted).map(of_one).sum()
    }
}

/// Says which of the shares is none, or does not follow on the one before it.
pub(super) fn check_quantiles(shares: &[f64]) -> Result<(), Problem> {
    if shares.len() > MOST_QUANTILES {
        let problem = format!("there are {} quantiles; {MOST_QUANTILES} are the most", shares.len());
        return Err(Problem::new(problem).under("quantiles"));
    }
    for (index, share) in shares.iter().enumerate() {
        let name = format!("quantiles[{index}]");
        check_inside(&[(&name, *share)])
            .map_err(|problem| Problem::new(problem.message).under(index).under("quantiles"))?;
    }
    match shares.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => {
            let problem = format!("the quantile {} stands before {}", pair[0], pair[1]);
            Err(Problem::new(problem).help("list them in ascending order, each once").under("quantiles"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_central_one_is_the_nearest_to_the_median() {
        let central = |shares: &[f64]| Quantiles::of(shares).central();
        assert_eq!(
            [central(&[0.9]), central(&[0.1, 0.5, 0.9]), central(&[0.25, 0.75]), central(&[0.05, 0.6])],
            [0, 1, 0, 1]
        );
    }

    #[test]
    fn the_loss_is_least_at_the_quantile() {
        let labels: Vec<f64> = (0..100).map(f64::from).collect();
        let loss = |predicted: f64| -> f64 {
            labels.iter().map(|label| Quantiles::of(&[0.9]).loss(*label, &[predicted])).sum()
        };
        assert!((0..100).map(f64::from).all(|other| loss(89.5) <= loss(other) + 1e-9));
        assert_eq!(Quantiles::of(&[0.25, 0.75]).loss(3.0, &[1.0, 4.0]), 0.5 + 0.25);
    }
}
