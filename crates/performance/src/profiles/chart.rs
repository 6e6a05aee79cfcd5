//! A series as a drawing that a person can open.

use am_db::codec::Timestamp;
use plotters::prelude::*;

use super::series::MetricSeries;
use crate::error::{PerformanceError, Result};

/// Width and height of a drawing in pixels.
const SIZE: (u32, u32) = (960, 420);
/// Seconds below which a label shows seconds, and below which it shows the time of the day.
const LABEL_SPANS: (f64, f64) = (600.0, 2.0 * 86_400.0);

/// The series as SVG: the means of its points over time, and between the smallest and the largest a band.
///
/// # Errors
/// When it can't be drawn.
pub fn draw_series(series: &MetricSeries) -> Result<String> {
    let mut text = String::new();
    draw(series, &mut text)
        .map_err(|error| PerformanceError::Unavailable(format!("The series can't be drawn: {error}")))?;
    Ok(text)
}

fn draw(series: &MetricSeries, text: &mut String) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let seconds = |at: Timestamp| at.0.timestamp_micros() as f64 / 1e6;
    let (first, last) = (seconds(series.from), seconds(series.to).max(seconds(series.from) + 1.0));
    let bounds = series.points.iter().fold(None, |bounds: Option<(f64, f64)>, point| {
        Some(bounds.map_or((point.min, point.max), |(low, high)| (low.min(point.min), high.max(point.max))))
    });
    let (low, high) = bounds.unwrap_or((0.0, 1.0));
    let room = ((high - low) * 0.05).max(high.abs().max(low.abs()) * 1e-3).max(1e-9);
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!("{} of {} ({})", series.metric, series.agent_id, series.resolution.value());
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(72)
        .build_cartesian_2d(first..last, (low - room)..(high + room))?;
    let format = match last - first {
        span if span < LABEL_SPANS.0 => "%H:%M:%S",
        span if span < LABEL_SPANS.1 => "%m-%d %H:%M",
        _ => "%Y-%m-%d",
    };
    #[expect(clippy::cast_possible_truncation, reason = "seconds of times that have a stored form")]
    let label = |at: &f64| {
        chrono::DateTime::from_timestamp(*at as i64, 0).map(|at| at.format(format).to_string()).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(&label)
        .y_label_formatter(&|value| short(*value))
        .x_desc("time (UTC)")
        .y_desc(series.metric.as_str())
        .draw()?;
    let band = |value: fn(&super::SeriesPoint) -> f64| {
        series.points.iter().map(move |point| (seconds(point.at), value(point)))
    };
    chart.draw_series(LineSeries::new(band(|point| point.min), &BLUE.mix(0.25)))?;
    chart.draw_series(LineSeries::new(band(|point| point.max), &BLUE.mix(0.25)))?;
    chart.draw_series(LineSeries::new(band(|point| point.mean), &BLUE))?;
    chart.draw_series(band(|point| point.mean).map(|at| Circle::new(at, 2, BLUE.filled())))?;
    root.present()?;
    Ok(())
}

/// A number in few characters.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        1e-3..1e6 => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SeriesPoint, SeriesResolution};
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap())
    }

    #[test]
    fn a_drawing_has_axes_with_labels_and_a_point_for_each_value() {
        let point = |at, mean: f64| SeriesPoint {
            at,
            count: 2,
            mean,
            min: mean - 1.0,
            max: mean + 1.0,
            median: mean,
            p95: mean,
        };
        let mut series = MetricSeries {
            agent_id: "a<b>".into(),
            metric: "latency".to_owned(),
            resolution: SeriesResolution::Hour,
            from: at(0),
            to: at(6 * 3600),
            points: (0..5).map(|hour| point(at(hour * 3600), hour as f64)).collect(),
            next_from: None,
        };
        let drawn = draw_series(&series).unwrap();
        assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"), "{drawn}");
        assert_eq!(drawn.matches("<circle").count(), 5);
        assert!(drawn.contains("time (UTC)") && drawn.contains("latency of a&lt;b&gt; (hour)"), "{drawn}");
        series.points.clear();
        assert!(draw_series(&series).unwrap().contains("</svg>"), "without values it has axes still");
        assert_eq!([0.0, 1.5, 2000.0, 1e7, 1e-5].map(short), ["0", "1.5", "2000", "1.00e7", "1.00e-5"]);
    }
}
