//! Metrics in the text format of Prometheus, read from the counters when somebody asks: what is gone has none.

mod flows;
mod function;
mod nodes;
mod process;
mod serving;
mod table;

use std::collections::BTreeMap;
use std::fmt;

use millstream_host::Host;
use millstream_serve::Repository;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::function::Function;

pub use table::{METRICS, Metric, page};

/// What [`text`] is, for the header of an answer.
pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// All metrics of what is served and of this process.
pub fn text_of_serving(repository: &Repository) -> String {
    let mut samples = Samples::default();
    process::collect(&mut samples);
    serving::collect(repository, &mut samples);
    samples.into_text()
}

/// All metrics of a function and of this process.
pub fn text_of_function(function: &Function) -> String {
    let mut samples = Samples::default();
    process::collect(&mut samples);
    function::collect(function, &mut samples);
    samples.into_text()
}

/// All metrics of a host and of this process.
pub fn text(host: &Host) -> String {
    let mut samples = Samples::default();
    process::collect(&mut samples);
    process::collect_disk(host, &mut samples);
    host.all().iter().for_each(|flow| flows::collect(&flow.status, &mut samples));
    samples.into_text()
}

/// The samples of each metric, in the order in which they were found.
#[derive(Debug, Default)]
struct Samples(BTreeMap<&'static str, Vec<Sample>>);

#[derive(Debug)]
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: f64,
}

impl Samples {
    /// Adds one; the labels are in the order of the table. What is no number is left out.
    fn add<const N: usize>(&mut self, metric: &'static Metric, labels: [&str; N], value: f64) {
        debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
        if value.is_finite() {
            let labels = metric.labels.iter().zip(labels).map(|(name, value)| (*name, value.to_owned())).collect();
            self.0.entry(metric.name).or_default().push(Sample { labels, value });
        }
    }

    fn into_text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // A text takes everything.
        let _ = prometheus_text::encode(&mut text, &registry);
        text
    }
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in METRICS {
            let Some(samples) = self.0.get(metric.name) else { continue };
            let mut family = encoder.encode_descriptor(metric.base_name(), metric.help, None, metric.kind)?;
            for sample in samples {
                sample.encode(metric, family.encode_family(&sample.labels)?)?;
            }
        }
        Ok(())
    }
}

impl Sample {
    fn encode(&self, metric: &Metric, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match metric.kind {
            MetricType::Counter => ConstCounter::new(self.value).encode(encoder),
            _ => ConstGauge::new(self.value).encode(encoder),
        }
    }
}

#[cfg(test)]
mod tests;
