//! A metric with its values, in the forms of the library.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::tally::Distribution;

/// A value of a metric, and its labels.
pub(super) type Sample = (Vec<(&'static str, String)>, Value);

/// A value.
pub(super) enum Value {
    Number(f64),
    Distribution(Distribution),
}

/// A metric with its values.
pub(super) fn family(
    name: String,
    help: &str,
    kind: MetricType,
    samples: impl IntoIterator<Item = Sample>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name);
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(samples.into_iter().map(|sample| metric(kind, sample)).collect());
    family
}

fn metric(kind: MetricType, (labels, value): Sample) -> Metric {
    let mut metric = Metric::from_label(
        labels
            .into_iter()
            .map(|(name, value)| {
                let mut label = LabelPair::default();
                label.set_name(name.to_owned());
                label.set_value(value);
                label
            })
            .collect(),
    );
    match value {
        Value::Distribution(distribution) => metric.set_histogram(histogram(distribution)),
        Value::Number(value) if kind == MetricType::COUNTER => {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        Value::Number(value) => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }
    metric
}

fn histogram(distribution: Distribution) -> Histogram {
    let mut histogram = Histogram::default();
    histogram.set_sample_count(distribution.count);
    histogram.set_sample_sum(distribution.total.as_secs_f64());
    histogram.set_bucket(
        distribution
            .buckets
            .into_iter()
            .map(|(bound, count)| {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(bound.as_secs_f64());
                bucket.set_cumulative_count(count);
                bucket
            })
            .collect(),
    );
    histogram
}

/// A count.
pub(super) fn number(count: u64) -> Value {
    Value::Number(as_float(count))
}

/// As Prometheus has numbers; exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "no count comes so far")]
pub(super) fn as_float(count: u64) -> f64 {
    count as f64
}
