//! Metric families whose values are looked up at each scrape.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// Families in the order in which they are shown.
#[derive(Default)]
pub struct MetricFamilies(Vec<MetricFamily>);

/// Names and values of labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl MetricFamilies {
    /// Adds a metric that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl MetricValue) {
        self.labelled_gauge(name, help).add(&[], value);
    }

    /// Adds a metric that only goes up.
    pub fn counter(&mut self, name: &str, help: &str, value: impl MetricValue) {
        self.labelled_counter(name, help).add(&[], value);
    }

    /// Adds a metric that goes up and down, with one value for each set of labels.
    pub fn labelled_gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.push(name, help, MetricType::GAUGE)
    }

    /// Adds a metric that only goes up, with one value for each set of labels.
    pub fn labelled_counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.push(name, help, MetricType::COUNTER)
    }

    /// All families that have a value.
    pub fn into_families(mut self) -> Vec<MetricFamily> {
        self.0.retain(|family| !family.get_metric().is_empty());
        self.0
    }

    fn push(&mut self, name: &str, help: &str, kind: MetricType) -> Family<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        let index = self.0.len();
        self.0.push(family);
        Family(&mut self.0[index])
    }
}

/// Takes the values of one family.
pub struct Family<'a>(&'a mut MetricFamily);

impl Family<'_> {
    /// Adds the value for these labels.
    pub fn add(&mut self, labels: Labels<'_>, value: impl MetricValue) -> &mut Self {
        let Some(value) = value.into_f64() else {
            return self;
        };
        let mut metric = Metric::default();
        let labels = labels.iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        metric.set_label(labels.collect());
        if self.0.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.0.mut_metric().push(metric);
        self
    }
}

/// A value as Prometheus stores it: a 64-bit float. An unknown one is left out.
pub trait MetricValue {
    fn into_f64(self) -> Option<f64>;
}

impl MetricValue for f64 {
    fn into_f64(self) -> Option<f64> {
        Some(self)
    }
}

impl MetricValue for u64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact up to 2^53, and the format has no integers"
    )]
    fn into_f64(self) -> Option<f64> {
        Some(self as f64)
    }
}

impl MetricValue for &AtomicU64 {
    fn into_f64(self) -> Option<f64> {
        self.load(Ordering::Relaxed).into_f64()
    }
}

impl MetricValue for bool {
    fn into_f64(self) -> Option<f64> {
        Some(f64::from(u8::from(self)))
    }
}

impl<T: MetricValue> MetricValue for Option<T> {
    fn into_f64(self) -> Option<f64> {
        self?.into_f64()
    }
}
