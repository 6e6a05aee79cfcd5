//! A run's reward curve as a table, and the time that is left.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{model::RunStatus, record::CurvePoint};

/// The curve as CSV: a line for each point with `steps`, `episodes`, `mean_return`, `mean_length`, then each measure under its
/// name. A figure that is null has an empty cell. Numbers have all their digits.
pub fn curve_csv(points: &[CurvePoint]) -> String {
    let measures: BTreeSet<&str> = points.iter().flat_map(|point| point.measures.keys().map(String::as_str)).collect();
    let mut text = "steps,episodes,mean_return,mean_length".to_owned();
    for name in &measures {
        // Names of measures are words of the algorithms, without commas or quotes.
        text.push(',');
        text.push_str(name);
    }
    text.push('\n');
    let cell = |text: &mut String, figure: Option<f64>| {
        text.push(',');
        if let Some(figure) = figure {
            // Writing to a text does not fail.
            let _ = write!(text, "{figure}");
        }
    };
    for point in points {
        let _ = write!(text, "{},{}", point.steps, point.episodes);
        cell(&mut text, point.mean_return);
        cell(&mut text, point.mean_length);
        for name in &measures {
            cell(&mut text, point.measures.get(*name).copied());
        }
        text.push('\n');
    }
    text
}

/// Seconds of training that are left at the mean speed so far, or why they are not known. `steps` are those done and all.
pub(super) fn remaining_seconds(status: RunStatus, steps: (u64, u64), seconds: f64) -> Result<f64, &'static str> {
    let (done, all) = steps;
    match status {
        status if status.is_final() => Ok(0.0),
        RunStatus::Queued => Err("the run waits for a place, and how long is not known"),
        RunStatus::Paused => Err("the run is paused until somebody resumes it"),
        _ if done == 0 || seconds <= 0.0 => Err("no step has been saved yet, so the speed is not known"),
        _ => Ok(all.saturating_sub(done) as f64 * seconds / done as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_a_line_for_each_point() {
        let point = |steps, mean_return, measure: Option<(&str, f64)>| CurvePoint {
            steps,
            episodes: 1,
            mean_return,
            mean_length: None,
            measures: measure.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        };
        let points = [point(5, Some(1.5), Some(("loss", 1e-7))), point(10, None, Some(("entropy", 0.25)))];
        let wanted = "steps,episodes,mean_return,mean_length,entropy,loss\n5,1,1.5,,,0.0000001\n10,1,,,0.25,\n";
        assert_eq!(curve_csv(&points), wanted);
        assert_eq!(curve_csv(&[]), "steps,episodes,mean_return,mean_length\n");
    }

    #[test]
    fn the_time_left_is_that_of_the_speed_so_far() {
        assert_eq!(remaining_seconds(RunStatus::Running, (250, 1000), 5.0), Ok(15.0));
        assert_eq!(remaining_seconds(RunStatus::Running, (1010, 1000), 5.0), Ok(0.0));
        assert_eq!(remaining_seconds(RunStatus::Completed, (0, 1000), 0.0), Ok(0.0));
        for (status, done, word) in
            [(RunStatus::Queued, 0, "waits"), (RunStatus::Paused, 5, "paused"), (RunStatus::Running, 0, "speed")]
        {
            let reason = remaining_seconds(status, (done, 1000), 0.0).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }
}
