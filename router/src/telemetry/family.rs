//! Metric families under construction, with a bound on their label sets, and their text form. Knows no metric by
//! name.

use ekiden_core::stats::{BOUNDS_US, HistogramSnapshot};
use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// Label names with their values, in the order they are printed.
pub(super) type Labels<'a> = [(&'a str, &'a str)];

/// One family.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    help: &'static str,
    kind: MetricType,
    metrics: Vec<Metric>,
    max: usize,
    /// Label sets beyond `max`.
    pub(super) left_out: u64,
}

fn labels(pairs: &Labels<'_>) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    pairs.iter().map(pair).collect()
}

impl Family {
    fn new(name: &'static str, help: &'static str, kind: MetricType, max: usize) -> Self {
        Self { name, help, kind, metrics: Vec::new(), max, left_out: 0 }
    }

    /// A family of counters. Its name ends in `_total`.
    pub(super) fn counters(max: usize, name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, MetricType::COUNTER, max)
    }

    /// A family of gauges.
    pub(super) fn gauges(max: usize, name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, MetricType::GAUGE, max)
    }

    /// A family of histograms of durations. Its name ends in `_seconds`.
    pub(super) fn histograms(max: usize, name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, MetricType::HISTOGRAM, max)
    }

    fn push(&mut self, pairs: &Labels<'_>, fill: impl FnOnce(&mut Metric)) {
        if self.metrics.len() >= self.max {
            self.left_out += 1;
            return;
        }
        let mut metric = Metric::from_label(labels(pairs));
        fill(&mut metric);
        self.metrics.push(metric);
    }

    /// Adds a counter.
    pub(super) fn count(&mut self, pairs: &Labels<'_>, value: u64) {
        self.count_float(pairs, value as f64);
    }

    /// Adds a counter of a unit that has fractions.
    pub(super) fn count_float(&mut self, pairs: &Labels<'_>, value: f64) {
        self.push(pairs, |metric| {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        });
    }

    /// Adds a gauge.
    pub(super) fn gauge(&mut self, pairs: &Labels<'_>, value: f64) {
        self.push(pairs, |metric| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        });
    }

    /// Adds a histogram; microseconds become seconds.
    pub(super) fn histogram(&mut self, pairs: &Labels<'_>, snapshot: &HistogramSnapshot) {
        self.durations(pairs, (&BOUNDS_US, &snapshot.buckets), (snapshot.count(), snapshot.sum_us));
    }

    /// As [`Family::histogram`], of other bounds, with the count and the sum.
    pub(super) fn durations(
        &mut self,
        pairs: &Labels<'_>,
        (bounds_us, buckets): (&[u64], &[u64]),
        (count, sum_us): (u64, u64),
    ) {
        self.push(pairs, |metric| {
            let mut sum = 0u64;
            let bucket = |(bound, count): (&u64, &u64)| {
                sum = sum.wrapping_add(*count);
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound as f64 / 1e6);
                bucket.set_cumulative_count(sum);
                bucket
            };
            let buckets = bounds_us.iter().zip(buckets).map(bucket).collect();
            let mut histogram = Histogram::default();
            histogram.set_bucket(buckets);
            histogram.set_sample_count(count);
            histogram.set_sample_sum(sum_us as f64 / 1e6);
            metric.set_histogram(histogram);
        });
    }
}

/// Appends families in the Prometheus text format. One without metrics is not written: that is how a family says
/// that there is nothing to count yet.
pub(super) fn write(families: Vec<Family>, out: &mut String) -> Result<(), prometheus::Error> {
    for family in families.into_iter().filter(|family| !family.metrics.is_empty()) {
        let mut proto = MetricFamily::default();
        proto.set_name(family.name.to_owned());
        proto.set_help(family.help.to_owned());
        proto.set_field_type(family.kind);
        proto.set_metric(family.metrics);
        // One by one, so that one family at a time is held in both forms.
        TextEncoder::new().encode_utf8(&[proto], out)?;
    }
    Ok(())
}
