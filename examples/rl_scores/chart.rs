//! Line charts as SVG. The ground is drawn too, so that they can be read on a light page and on a dark one.

use std::fmt::Write;

/// Colours that people with colour blindness tell apart (Okabe, Ito 2008).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 48.0;

/// A named line through some points.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

pub struct Chart {
    pub title: String,
    pub x: &'static str,
    pub y: &'static str,
    pub lines: Vec<Line>,
    /// Dashed lines across, with what they stand for.
    pub levels: Vec<(String, f64)>,
    /// The least that the upright axis shows; the least of all numbers where there is none.
    pub least: Option<f64>,
}

/// Numbers at which an axis is marked: about `count` round ones.
fn ticks(low: f64, high: f64, count: f64) -> Vec<f64> {
    let rough = (high - low) / count;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step).ceil() as i64;
    (first..).map(|index| index as f64 * step).take_while(|tick| *tick <= high + 1e-9 * step).collect()
}

/// With spaces between the thousands, and no more digits than `step` needs.
fn label(number: f64, step: f64) -> String {
    let digits = if step >= 1.0 { 0 } else { (-step.log10()).ceil() as usize };
    let text = format!("{:.digits$}", number.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut spaced = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && whole.len() > 4 {
            spaced.push('\u{202f}');
        }
        spaced.push(digit);
    }
    let sign = if number < 0.0 { "\u{2212}" } else { "" };
    format!("{sign}{spaced}{rest}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Chart {
    pub fn svg(&self) -> String {
        let mut out = String::new();
        // Writing to a string doesn't fail.
        let _ = self.draw(&mut out);
        out
    }

    fn draw(&self, out: &mut String) -> std::fmt::Result {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let most_x = points().map(|point| point.0).fold(1.0, f64::max);
        let numbers = || points().map(|point| point.1).chain(self.levels.iter().map(|level| level.1));
        let (mut low, mut high) =
            (numbers().fold(f64::INFINITY, f64::min), numbers().fold(f64::NEG_INFINITY, f64::max));
        low = self.least.map_or(low, |least| low.max(least));
        let margin = 0.05 * (high - low).max(1e-9);
        (low, high) = (low - margin, high + margin);
        let (plot_width, plot_height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let across = |x: f64| LEFT + x / most_x * plot_width;
        let up = |y: f64| TOP + (high - y.clamp(low, high)) / (high - low) * plot_height;

        writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#333333\">"
        )?;
        writeln!(out, "<title>{}</title>", escaped(&self.title))?;
        writeln!(out, "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\" fill=\"#ffffff\"/>")?;
        writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"22\" font-size=\"14\" font-weight=\"bold\">{}</text>",
            escaped(&self.title)
        )?;
        self.legend(out)?;
        let (x_ticks, y_ticks) = (ticks(0.0, most_x, 5.0), ticks(low, high, 5.0));
        let step = |ticks: &[f64]| if ticks.len() > 1 { ticks[1] - ticks[0] } else { 1.0 };
        for tick in &y_ticks {
            let (y, end) = (up(*tick), WIDTH - RIGHT);
            writeln!(out, "<path d=\"M{LEFT} {y:.1}H{end}\" stroke=\"#e3e3e3\"/>")?;
            let text = label(*tick, step(&y_ticks));
            writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", LEFT - 8.0, y + 4.0)?;
        }
        let floor = HEIGHT - BOTTOM;
        for tick in &x_ticks {
            let (x, text) = (across(*tick), label(*tick, step(&x_ticks)));
            writeln!(out, "<path d=\"M{x:.1} {floor}v5\" stroke=\"#777777\"/>")?;
            writeln!(out, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>", floor + 19.0)?;
        }
        writeln!(out, "<path d=\"M{LEFT} {TOP}V{floor}H{}\" fill=\"none\" stroke=\"#777777\"/>", WIDTH - RIGHT)?;
        let (middle, centre) = (LEFT + plot_width / 2.0, TOP + plot_height / 2.0);
        writeln!(out, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", HEIGHT - 10.0, self.x)?;
        writeln!(
            out,
            "<text transform=\"translate(16 {centre}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            self.y
        )?;
        let end = WIDTH - RIGHT;
        for (_, level) in &self.levels {
            let y = up(*level);
            writeln!(out, "<path d=\"M{LEFT} {y:.1}H{end}\" stroke=\"#555555\" stroke-dasharray=\"6 4\"/>")?;
        }
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let path = line.points.iter().map(|(x, y)| format!("{:.1} {:.1}", across(*x), up(*y))).collect::<Vec<_>>();
            let path = path.join("L");
            writeln!(
                out,
                "<path d=\"M{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" stroke-linejoin=\"round\"/>"
            )?;
        }
        for (name, level) in &self.levels {
            // On the left, where curves haven't risen yet.
            let (x, y, name) = (LEFT + 6.0, up(*level) - 5.0, escaped(name));
            writeln!(out, "<text x=\"{x}\" y=\"{y:.1}\" font-size=\"11\">{name}</text>")?;
        }
        writeln!(out, "</svg>")
    }

    fn legend(&self, out: &mut String) -> std::fmt::Result {
        let mut x = LEFT;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            writeln!(out, "<path d=\"M{x} 42h18\" stroke=\"{colour}\" stroke-width=\"3\"/>")?;
            writeln!(out, "<text x=\"{}\" y=\"46\">{}</text>", x + 24.0, escaped(&line.name))?;
            x += 24.0 + 7.0 * line.name.chars().count() as f64 + 22.0;
        }
        Ok(())
    }
}
