//! A curve of numbers as a drawing that a person can open.

use plotters::prelude::*;

use crate::error::{PerformanceError, Result};

/// Width and height of a drawing in pixels.
const SIZE: (u32, u32) = (960, 420);

/// A curve with its names.
#[derive(Clone, Copy, Debug)]
pub struct CurveDrawing<'a> {
    /// What stands above it.
    pub title: &'a str,
    /// Names of the horizontal and of the vertical axis, with units.
    pub axes: (&'a str, &'a str),
    /// The points from left to right; those that are not finite are left out.
    pub points: &'a [(f64, f64)],
}

/// The curve as SVG, with axes also where there is no point.
///
/// # Errors
/// When it can't be drawn.
pub fn draw_curve(curve: &CurveDrawing<'_>) -> Result<String> {
    let mut text = String::new();
    draw(curve, &mut text)
        .map_err(|error| PerformanceError::Unavailable(format!("The curve can't be drawn: {error}")))?;
    Ok(text)
}

/// Least and greatest of the numbers with some room, or 0 to 1 without numbers.
fn bounds(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    let found = numbers.fold(None, |found: Option<(f64, f64)>, number| {
        Some(found.map_or((number, number), |(low, high)| (low.min(number), high.max(number))))
    });
    let (low, high) = found.unwrap_or((0.0, 1.0));
    let room = ((high - low) * 0.05).max(high.abs().max(low.abs()) * 1e-3).max(1e-9);
    (low - room, high + room)
}

fn draw(curve: &CurveDrawing<'_>, text: &mut String) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let points: Vec<(f64, f64)> =
        curve.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let (left, right) = bounds(points.iter().map(|(x, _)| *x));
    let (low, high) = bounds(points.iter().map(|(_, y)| *y));
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(curve.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(72)
        .build_cartesian_2d(left..right, low..high)?;
    chart.configure_mesh().x_labels(8).y_labels(8).x_desc(curve.axes.0).y_desc(curve.axes.1).draw()?;
    chart.draw_series(LineSeries::new(points.iter().copied(), &BLUE))?;
    chart.draw_series(points.iter().map(|point| Circle::new(*point, 2, BLUE.filled())))?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_a_point_for_each_finite_value() {
        let points = [(0.0, 1.0), (5.0, f64::NAN), (10.0, -3.0)];
        let drawn = draw_curve(&CurveDrawing { title: "a<b>", axes: ("steps", "return"), points: &points }).unwrap();
        assert!(drawn.starts_with("<svg") && drawn.contains("a&lt;b&gt;") && drawn.contains("steps"), "{drawn}");
        assert_eq!(drawn.matches("<circle").count(), 2);
        let empty = draw_curve(&CurveDrawing { title: "none", axes: ("steps", "return"), points: &[] }).unwrap();
        assert!(empty.trim_end().ends_with("</svg>") && !empty.contains("<circle"));
    }
}
