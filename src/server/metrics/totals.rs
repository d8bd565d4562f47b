//! Counters over all processes of a daemon. A restart passes a file in memory to the new process,
//! with the totals. Each process adds what it has counted since it last did so: at each scrape, and
//! when it has drained. So a counter continues at a restart, and requests of the drain count.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use serde::{Deserialize, Serialize};

use crate::sys::{lock_within, memory_file, reopen};

/// Belongs to one process.
const NOT_SUMMED: &str = "process_cpu_seconds_total";
/// Each process counts all restarts before it, so the total is the largest value.
const LARGEST: &str = "fullon_restarts_total";
/// Shows the dependencies that are configured now.
const CURRENT_SERIES_ONLY: &str = "fullon_check_probes_total";
/// The maximum length of the encoded totals. A series takes about 150 bytes.
const MAX_LEN: usize = 1024 * 1024;
/// Bytes before the two places for totals: which one has them, and their length.
const HEADER_LEN: usize = 16;
/// How long another process may hold the lock. It needs less than a millisecond.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
const NANOS_PER_SECOND: f64 = 1e9;

/// The counters of this process, and of the others that share the file.
#[derive(Debug, Default)]
pub struct CounterTotals(Mutex<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// `None` before the first restart: the counters of this process are the totals.
    file: Option<File>,
    /// The counters of this process that are in the file.
    added: HashMap<Series, Values>,
    /// The totals when they were last read.
    totals: Totals,
}

type Totals = BTreeMap<Series, Values>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
struct Series {
    name: String,
    labels: Vec<(String, String)>,
    /// The upper bounds of the buckets of a histogram, in nanoseconds.
    bounds: Vec<u64>,
}

/// The value of a counter; or of a histogram the sum in nanoseconds, the count, and the cumulative
/// counts of the buckets.
type Values = Vec<u64>;

impl CounterTotals {
    /// Continues the totals that the old process passed on, if it did.
    pub fn inherited(file: Option<&File>) -> Self {
        let totals = Self::default();
        // An own open file, because locks belong to it.
        match file.map(reopen).transpose() {
            Ok(file) => totals.lock().file = file,
            Err(error) => tracing::warn!(%error, "counters start at 0"),
        }
        totals
    }

    /// The file for the new process. From now on, this process adds its counters to it.
    ///
    /// # Errors
    ///
    /// There is no memory, or no descriptor is free.
    pub fn share(&self) -> io::Result<File> {
        let mut shared = self.lock();
        if let Some(file) = &shared.file {
            return file.try_clone();
        }
        let file = memory_file("fullon-counters")?;
        let copy = file.try_clone()?;
        shared.file = Some(file);
        Ok(copy)
    }

    /// Adds the counters of this process, and replaces them by the totals. May wait for another
    /// process.
    pub fn update(&self, families: &mut [MetricFamily]) {
        let mut shared = self.lock();
        if shared.file.is_none() {
            return;
        }
        let own: Vec<_> = families.iter().flat_map(summed_series).collect();
        // Nothing is lost: the next update adds them.
        if let Err(error) = shared.add(&own) {
            tracing::warn!(%error, "cannot pass counters to the other process of the restart");
        }
        let mut totals = shared.totals.clone();
        shared.add_rest(&own, &mut totals);
        drop(shared);
        for family in families.iter_mut().filter(|family| is_summed(family)) {
            show(family, &totals);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Adds to the file what is not in it yet.
    fn add(&mut self, own: &[(Series, Values)]) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let Some(_lock) = lock_within(file, true, LOCK_TIMEOUT)? else {
            return Err(io::ErrorKind::TimedOut.into());
        };
        let mut totals = read(file)?;
        self.add_rest(own, &mut totals);
        write(file, &totals)?;
        for (series, values) in own {
            let added = self.added.entry(series.clone()).or_default();
            added.resize(values.len(), 0);
            for (added, value) in added.iter_mut().zip(values) {
                // These counters may have been read before those of another scrape.
                *added = (*added).max(*value);
            }
        }
        self.totals = totals;
        Ok(())
    }

    /// Adds the part of these counters that is not in the file.
    fn add_rest(&self, own: &[(Series, Values)], totals: &mut Totals) {
        for (series, values) in own {
            let added = self.added.get(series);
            let total = totals.entry(series.clone()).or_default();
            total.resize(values.len(), 0);
            for (index, value) in values.iter().enumerate() {
                if series.name == LARGEST {
                    total[index] = total[index].max(*value);
                    continue;
                }
                let added = added.map_or(0, |added| added[index]);
                total[index] += value.saturating_sub(added);
            }
        }
    }
}

fn is_summed(family: &MetricFamily) -> bool {
    let kind = family.get_field_type();
    matches!(kind, MetricType::COUNTER | MetricType::HISTOGRAM) && family.name() != NOT_SUMMED
}

/// The series of a family and their values; none if they are not summed.
fn summed_series(family: &MetricFamily) -> impl Iterator<Item = (Series, Values)> {
    let metrics = if is_summed(family) {
        family.get_metric()
    } else {
        &[]
    };
    let is_counter = family.get_field_type() == MetricType::COUNTER;
    metrics.iter().map(move |metric| {
        let (bounds, values) = if is_counter {
            (Vec::new(), vec![whole(metric.get_counter().get_value())])
        } else {
            histogram_values(metric.get_histogram())
        };
        let label = |pair: &LabelPair| (pair.name().to_owned(), pair.value().to_owned());
        let series = Series {
            name: family.name().to_owned(),
            labels: metric.get_label().iter().map(label).collect(),
            bounds,
        };
        (series, values)
    })
}

fn histogram_values(histogram: &Histogram) -> (Vec<u64>, Values) {
    let buckets = histogram.get_bucket();
    let nanos = |seconds: f64| whole(seconds * NANOS_PER_SECOND);
    let mut values = vec![
        nanos(histogram.get_sample_sum()),
        histogram.get_sample_count(),
    ];
    values.extend(buckets.iter().map(Bucket::cumulative_count));
    let bounds = buckets.iter().map(|bucket| nanos(bucket.upper_bound()));
    (bounds.collect(), values)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters are not negative, and exact up to 2^53"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53, and the format has no integers"
)]
fn float(value: u64) -> f64 {
    value as f64
}

/// Replaces the values of a family by the totals. Adds the series that only other processes have.
fn show(family: &mut MetricFamily, totals: &Totals) {
    let own: Vec<_> = summed_series(family).map(|(series, _)| series).collect();
    let shown: HashSet<_> = own.iter().collect();
    for (metric, series) in family.mut_metric().iter_mut().zip(&own) {
        if let Some(values) = totals.get(series) {
            set_values(metric, &series.bounds, values);
        }
    }
    if family.name() == CURRENT_SERIES_ONLY {
        return;
    }
    // Another version of the program may have other buckets.
    let bounds = own.first().map(|series| series.bounds.clone());
    let missing = totals.iter().filter(|(series, _)| {
        series.name == family.name()
            && bounds
                .as_ref()
                .is_none_or(|bounds| *bounds == series.bounds)
            && !shown.contains(series)
    });
    let mut missing: Vec<_> = missing
        .map(|(series, values)| new_metric(series, values))
        .collect();
    if missing.is_empty() {
        return;
    }
    let metrics = family.mut_metric();
    metrics.append(&mut missing);
    metrics.sort_by_cached_key(|metric| {
        let labels = metric.get_label().iter();
        labels
            .map(|pair| pair.value().to_owned())
            .collect::<Vec<_>>()
    });
}

fn new_metric(series: &Series, values: &Values) -> Metric {
    let labels = series.labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.clone());
        pair.set_value(value.clone());
        pair
    });
    let mut metric = Metric::from_label(labels.collect());
    set_values(&mut metric, &series.bounds, values);
    metric
}

fn set_values(metric: &mut Metric, bounds: &[u64], values: &Values) {
    match values[..] {
        [value] => {
            let mut counter = Counter::default();
            counter.set_value(float(value));
            metric.set_counter(counter);
        }
        [sum, count, ref buckets @ ..] => {
            let buckets = bounds.iter().zip(buckets).map(|(bound, count)| {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(float(*bound) / NANOS_PER_SECOND);
                bucket.set_cumulative_count(*count);
                bucket
            });
            let mut histogram = Histogram::default();
            histogram.set_bucket(buckets.collect());
            histogram.set_sample_sum(float(sum) / NANOS_PER_SECOND);
            histogram.set_sample_count(count);
            metric.set_histogram(histogram);
        }
        [] => {}
    }
}

/// Reads the totals; none from a new file.
fn read(file: &File) -> io::Result<Totals> {
    let mut header = [0; HEADER_LEN];
    if file.read_at(&mut header, 0)? < HEADER_LEN {
        return Ok(Totals::new());
    }
    let (place, len) = split_header(header);
    if len > MAX_LEN {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; len];
    file.read_exact_at(&mut text, offset(place))?;
    let totals: Vec<(Series, Values)> = serde_json::from_slice(&text)?;
    Ok(totals.into_iter().collect())
}

/// Writes the totals to the other place, and then the header. So a process that is killed meanwhile
/// leaves the former totals.
fn write(file: &File, totals: &Totals) -> io::Result<()> {
    let totals: Vec<_> = totals.iter().collect();
    let text = serde_json::to_vec(&totals)?;
    if text.len() > MAX_LEN {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut header = [0; HEADER_LEN];
    // A new file has no header.
    file.read_at(&mut header, 0)?;
    let place = 1 - split_header(header).0.min(1);
    file.write_all_at(&text, offset(place))?;
    let (first, second) = header.split_at_mut(HEADER_LEN / 2);
    first.copy_from_slice(&place.to_le_bytes());
    second.copy_from_slice(&(text.len() as u64).to_le_bytes());
    file.write_all_at(&header, 0)
}

/// The place of the totals, 0 or 1, and their length.
fn split_header(header: [u8; HEADER_LEN]) -> (u64, usize) {
    let number = |half: &[u8]| half.try_into().map_or(0, u64::from_le_bytes);
    let (place, len) = header.split_at(HEADER_LEN / 2);
    (
        number(place),
        usize::try_from(number(len)).unwrap_or(usize::MAX),
    )
}

fn offset(place: u64) -> u64 {
    (HEADER_LEN + MAX_LEN * usize::from(place != 0)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::metrics::MetricFamilies;

    fn families(requests: u64, probes: Option<u64>) -> Vec<MetricFamily> {
        let mut families = MetricFamilies::default();
        let mut family = families.labelled_counter("fullon_http_requests_total", "");
        family.add(&[("route", "/")], requests);
        let mut family = families.labelled_counter(CURRENT_SERIES_ONLY, "");
        family.add(&[("check", "redis")], probes);
        families.counter(NOT_SUMMED, "", 5_u64);
        families.counter(LARGEST, "", 6_u64);
        families.gauge("fullon_log_followers", "", 7_u64);
        families.into_families()
    }

    fn shown(totals: &CounterTotals, mut families: Vec<MetricFamily>) -> String {
        totals.update(&mut families);
        let text = prometheus::TextEncoder::new().encode_to_string(&families);
        let text = text.unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn both_processes_show_the_same_totals() {
        let old = CounterTotals::default();
        let alone = shown(&old, families(3, Some(2)));
        assert!(
            alone.starts_with("fullon_http_requests_total{route=\"/\"} 3\n"),
            "{alone}"
        );

        let new = CounterTotals::inherited(Some(&old.share().unwrap()));
        shown(&old, families(3, Some(2)));
        assert_eq!(
            shown(&new, families(1, Some(1))),
            "fullon_http_requests_total{route=\"/\"} 4
fullon_check_probes_total{check=\"redis\"} 3
process_cpu_seconds_total 5
fullon_restarts_total 6
fullon_log_followers 7"
        );
        // The old process drains.
        assert!(shown(&old, families(10, Some(2))).contains("{route=\"/\"} 11"));
        let last = CounterTotals::inherited(Some(&new.share().unwrap()));
        assert!(
            shown(&last, families(0, None))
                .starts_with("fullon_http_requests_total{route=\"/\"} 11\nprocess")
        );
        // A scrape that began before another one ends after it.
        assert!(shown(&new, families(0, None)).contains("{route=\"/\"} 11"));
        assert!(shown(&new, families(2, None)).contains("{route=\"/\"} 12"));
    }

    #[test]
    fn series_of_the_old_process_stay() {
        let old = CounterTotals::default();
        let file = old.share().unwrap();
        let metrics = crate::server::metrics::Metrics::new().unwrap();
        let routes = metrics.requests.routes("public", ["/".to_owned()], []);
        let series = routes.series(&hyper::Method::GET, "/");
        series.observe(200, Duration::from_millis(20));
        let before = shown(&old, metrics.requests.collect());
        let new = CounterTotals::inherited(Some(&file));
        let empty = crate::server::metrics::Metrics::new().unwrap();
        assert_eq!(shown(&new, empty.requests.collect()), before);
        assert!(before.contains("le=\"0.025\"} 1"), "{before}");
        assert!(
            before.contains("_sum{method=\"GET\",route=\"/\",server=\"public\"} 0.02"),
            "{before}"
        );
    }

    #[test]
    fn killed_writer_leaves_the_former_totals() {
        let file = memory_file("test").unwrap();
        let series = |value| {
            Totals::from([(
                Series {
                    name: "a".into(),
                    labels: Vec::new(),
                    bounds: Vec::new(),
                },
                vec![value],
            )])
        };
        write(&file, &series(1)).unwrap();
        write(&file, &series(2)).unwrap();
        // Half of the next one.
        let mut header = [0; HEADER_LEN];
        file.read_exact_at(&mut header, 0).unwrap();
        let other = 1 - split_header(header).0;
        file.write_all_at(b"[[{", offset(other)).unwrap();
        assert_eq!(read(&file).unwrap(), series(2));
    }

    #[test]
    fn totals_without_end_are_not_written() {
        let totals = CounterTotals::default();
        totals.share().unwrap();
        let mut many = MetricFamilies::default();
        let mut family = many.labelled_counter("fullon_http_requests_total", "");
        for number in 0..20_000_u64 {
            family.add(&[("route", &format!("/{number:0>100}"))], number);
        }
        let mut families = many.into_families();
        totals.update(&mut families);
        assert_eq!(families[0].get_metric().len(), 20_000);
        assert!(totals.lock().added.is_empty());
        assert_eq!(
            families[0].get_metric()[7]
                .get_counter()
                .get_value()
                .to_string(),
            "7"
        );
    }
}
