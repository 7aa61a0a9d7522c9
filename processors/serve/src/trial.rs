//! Versions on trial: which of the requests that ask for no version are answered by another one than usual, and which it predicts besides,
//! unseen.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use axum::http::{HeaderMap, HeaderName};
use twox_hash::XxHash3_64;

use crate::refusal::Refusal;
use crate::repository::Repository;
use crate::request_log::{Ids, RequestLog};
use crate::served::Served;
use crate::tensor::Tensor;

/// A version of a model on trial.
#[derive(Debug)]
pub struct Trial {
    /// An alias, a number, or `latest`.
    version: String,
    /// How many of the requests it answers, of 1.
    share: f64,
    /// The header that says who asks. Who asks again is answered by the same version.
    by: Option<HeaderName>,
    /// Whether it also predicts what the usual version answers.
    shadow: bool,
    /// How many requests have come that don't say who asks.
    turn: AtomicU64,
}

/// Versions on trial, by the names of their models.
pub type Trials = BTreeMap<String, Trial>;

impl Trial {
    /// A version that answers a share of the requests. Those with the same value of a header are all answered by it, or none is.
    pub fn new(version: impl Into<String>, share: f64, by: Option<HeaderName>) -> Self {
        Self { version: version.into(), share, by, shadow: false, turn: AtomicU64::new(0) }
    }

    /// The same, that also predicts the rows of the other requests if so.
    pub fn with_shadow(self, shadow: bool) -> Self {
        Self { shadow, ..self }
    }

    /// Whether it answers a request to its model. A larger share takes those as well that a smaller one takes.
    fn takes(&self, model: &str, headers: &HeaderMap) -> bool {
        let place = match self.by.as_ref().and_then(|by| headers.get(by)) {
            Some(who) => XxHash3_64::oneshot(&[model.as_bytes(), &[0], who.as_bytes()].concat()),
            // By the golden ratio, the requests of any stretch have nearly their share.
            None => self.turn.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        };
        (place >> 11) as f64 / ((1_u64 << 53) as f64) < self.share
    }
}

/// What answers a request.
#[derive(Debug)]
pub struct Chosen {
    served: Arc<Served>,
    /// What predicts the same rows, unseen.
    shadow: Option<Arc<Served>>,
    /// Where it is noted what was predicted.
    log: Option<Arc<RequestLog>>,
}

impl Chosen {
    /// The version that a request asks for; or else, as the trials have it, the usual one or the one on trial. As long as there is no such version as is to be
    /// tried, the usual one answers.
    ///
    /// # Errors
    /// If there is none, or it can't be read.
    pub async fn of(
        repository: &Arc<Repository>,
        trials: &Trials,
        model: &str,
        version: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Self, Refusal> {
        let trial = trials.get(model).filter(|_| version.is_none_or(str::is_empty));
        let Some(trial) = trial else {
            return Ok(Self { served: repository.resolve(model, version).await?, shadow: None, log: None });
        };
        let takes = trial.takes(model, headers);
        let tried =
            if takes || trial.shadow { repository.resolve(model, Some(&trial.version)).await.ok() } else { None };
        match tried {
            Some(served) if takes => Ok(Self { served, shadow: None, log: None }),
            tried => {
                let served = repository.resolve(model, None).await?;
                let shadow = tried.filter(|tried| tried.version != served.version);
                Ok(Self { served, shadow, log: None })
            }
        }
    }

    /// The same, which notes in a log what was predicted, if there is one.
    pub fn with_log(self, log: Option<Arc<RequestLog>>) -> Self {
        Self { log, ..self }
    }

    /// Answers a request as [`Served::answer`] does. The shadow predicts the same rows behind that, and nobody waits for it.
    ///
    /// # Errors
    /// If the request is wrong, or can't be answered now.
    pub async fn answer<T>(
        &self,
        read: impl FnOnce(&Served) -> Result<RecordBatch, Refusal>,
        write: impl FnOnce(&Served, Vec<Tensor>, Option<Ids>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let log = self.log.as_deref();
        let Some(shadow) = &self.shadow else { return self.served.answer(log, read, write).await };
        let (mut rows, mut predicted) = (None, None);
        let answered = self.served.answer(
            log,
            |served| read(served).inspect(|read| rows = Some(read.clone())),
            |served, tensors, ids| {
                predicted = tensors.first().map(|tensor| tensor.values.clone());
                write(served, tensors, ids)
            },
        );
        let answered = answered.await?;
        if let Some((rows, predicted)) = rows.zip(predicted) {
            let shadow = shadow.clone();
            tokio::spawn(async move { shadow.compare(rows, &predicted).await });
        }
        Ok(answered)
    }
}

impl Deref for Chosen {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn who(name: usize) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static("x-user"), name.to_string().parse().unwrap())])
    }

    #[test]
    fn a_share_is_a_share_however_few_ask() {
        let trial = Trial::new("challenger", 0.1, None);
        let taken: Vec<bool> = (0..1000).map(|_| trial.takes("fraud", &HeaderMap::new())).collect();
        for some in taken.windows(100) {
            let count = some.iter().filter(|taken| **taken).count();
            assert!((8..=12).contains(&count), "{count}");
        }
        for (share, all) in [(0.0, false), (1.0, true)] {
            let trial = Trial::new("challenger", share, None);
            assert!((0..100).all(|_| trial.takes("fraud", &HeaderMap::new()) == all));
        }
    }

    #[test]
    fn who_asks_again_gets_the_same_also_of_a_larger_share() {
        let by = Some(HeaderName::from_static("x-user"));
        let [few, more] = [0.1, 0.3].map(|share| Trial::new("challenger", share, by.clone()));
        let taken =
            |trial: &Trial| -> Vec<usize> { (0..10_000).filter(|name| trial.takes("fraud", &who(*name))).collect() };
        let (of_few, of_more) = (taken(&few), taken(&more));
        assert_eq!(of_few, taken(&few));
        assert!((900..1100).contains(&of_few.len()) && (2800..3200).contains(&of_more.len()));
        assert!(of_few.iter().all(|name| of_more.contains(name)));
        let other = (0..10_000).filter(|name| few.takes("flower", &who(*name))).count();
        assert!((900..1100).contains(&other));
    }
}
