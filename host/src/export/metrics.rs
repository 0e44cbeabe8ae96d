//! What the host counts, as OpenTelemetry's metrics: cumulative, from the start of the process.

use super::courier::Courier;
use super::otlp::{self, Source, nanos};
use crate::observe::metrics::{Attributes, Family, Points, Spread};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
};
use std::time::{Duration, SystemTime};

/// Sends all of it in each interval, and once more at the end.
pub async fn send(mut courier: Courier, source: Source, read: impl Fn() -> Vec<Family>, interval: Duration) {
    let (began, stop) = (nanos(SystemTime::now()), courier.stop.clone());
    let mut ended = false;
    while !ended {
        tokio::select! { () = tokio::time::sleep(interval) => {}, () = stop.cancelled() => ended = true }
        let period = Period { began, now: nanos(SystemTime::now()) };
        let metrics: Vec<Metric> = read().into_iter().map(|family| period.metric(family)).collect();
        let items = metrics.len() as u64;
        courier.deliver(source.metrics(metrics), items).await;
    }
    courier.finish();
}

/// What the numbers are about.
#[derive(Clone, Copy)]
struct Period {
    began: u64,
    now: u64,
}

impl Period {
    fn metric(self, Family { name, unit, help, points }: Family) -> Metric {
        let cumulative = AggregationTemporality::Cumulative.into();
        let data = match points {
            Points::Totals(points) => Data::Sum(Sum {
                data_points: self.numbers(points),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            Points::Levels(points) => Data::Gauge(Gauge { data_points: self.numbers(points) }),
            Points::Spreads(points) => {
                let data_points = points.into_iter().map(|(attributes, spread)| self.spread(&attributes, spread));
                Data::Histogram(Histogram { data_points: data_points.collect(), aggregation_temporality: cumulative })
            }
        };
        let (name, unit, description) = (name.to_owned(), unit.to_owned(), help.to_owned());
        Metric { name, description, unit, data: Some(data), ..Metric::default() }
    }

    fn numbers(self, points: Vec<(Attributes, u64)>) -> Vec<NumberDataPoint> {
        let number = |(attributes, value): (Attributes, u64)| NumberDataPoint {
            attributes: pairs(&attributes),
            start_time_unix_nano: self.began,
            time_unix_nano: self.now,
            value: Some(Value::AsInt(value.try_into().unwrap_or(i64::MAX))),
            ..NumberDataPoint::default()
        };
        points.into_iter().map(number).collect()
    }

    fn spread(self, attributes: &Attributes, Spread { bounds, counts, sum }: Spread) -> HistogramDataPoint {
        HistogramDataPoint {
            attributes: pairs(attributes),
            start_time_unix_nano: self.began,
            time_unix_nano: self.now,
            count: counts.iter().sum(),
            sum: Some(sum),
            bucket_counts: counts,
            explicit_bounds: bounds.to_vec(),
            ..HistogramDataPoint::default()
        }
    }
}

fn pairs(attributes: &Attributes) -> Vec<KeyValue> {
    attributes.iter().map(|(name, value)| otlp::text(name, &**value)).collect()
}
