//! The hottest run as a picture: the temperature above, the slots below, all governors over the same time.
//!
//! SVG is text, and this is two frames and ten lines; a library would be larger than the picture.

use std::fmt::Write as _;

use scheduler::simulation::control::Kind;
use scheduler::simulation::run::Sample;
use scheduler::simulation::scenario::{SECONDS, WARM_UP_SECONDS};

use super::{Hottest, Track};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 640.0;

/// Where a panel stands and what it shows.
struct Panel {
    title: &'static str,
    top: f64,
    height: f64,
    low: f64,
    high: f64,
    /// The lines across, with their numbers.
    ticks: &'static [f64],
}

const LEFT: f64 = 56.0;
const RIGHT: f64 = 940.0;

const TEMPERATURE: Panel = Panel {
    title: "package, degrees Celsius (true)",
    top: 64.0,
    height: 300.0,
    low: 30.0,
    high: 120.0,
    ticks: &[40.0, 60.0, 85.0, 95.0, 100.0, 110.0],
};

const SLOTS: Panel = Panel {
    title: "slots",
    top: 410.0,
    height: 170.0,
    low: 0.0,
    high: 17.0,
    ticks: &[0.0, 4.0, 8.0, 12.0, 16.0],
};

/// The picture.
pub(super) fn svg(hottest: &Hottest, tracks: &[Track]) -> String {
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"none\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>"
    );
    let title = format!(
        "Scenario {} ({}), seed {}, sensor cache {} s: simulated, constants are estimates",
        hottest.scenario.name, hottest.scenario.about, hottest.seed, hottest.cache_seconds
    );
    label(&mut svg, LEFT, 20.0, "start", &title);
    legend(&mut svg, tracks);
    for panel in [&TEMPERATURE, &SLOTS] {
        frame(&mut svg, panel);
    }
    // Ours is drawn last, above the others.
    for track in tracks.iter().rev() {
        line(&mut svg, &TEMPERATURE, track, |sample| sample.celsius, false);
        line(&mut svg, &SLOTS, track, |sample| sample.slots.sum() as f64, true);
    }
    svg += "</svg>\n";
    svg
}

fn legend(svg: &mut String, tracks: &[Track]) {
    let mut left = LEFT;
    for track in tracks {
        let (color, width) = style(track.kind);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" y1=\"38\" x2=\"{:.0}\" y2=\"38\" stroke=\"{color}\" \
             stroke-width=\"{width}\"/>",
            left + 24.0
        );
        label(svg, left + 30.0, 42.0, "start", track.kind.name());
        left += 60.0 + 7.0 * track.kind.name().len() as f64;
    }
}

fn frame(svg: &mut String, panel: &Panel) {
    let bottom = panel.top + panel.height;
    let warm = x(WARM_UP_SECONDS) - LEFT;
    let _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{}\" width=\"{warm:.1}\" height=\"{}\" fill=\"#eee\"/>",
        panel.top, panel.height
    );
    label(svg, LEFT, panel.top - 4.0, "start", panel.title);
    for tick in panel.ticks {
        let y = panel.y(*tick);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\" stroke=\"#ccc\"/>"
        );
        label(svg, LEFT - 6.0, y + 4.0, "end", &tick.to_string());
    }
    for minute in 0..=(SECONDS / 60.0) as u32 {
        let at = x(f64::from(minute) * 60.0);
        label(svg, at, bottom + 16.0, "middle", &format!("{minute} min"));
    }
}

fn line(
    svg: &mut String,
    panel: &Panel,
    track: &Track,
    value: fn(&Sample) -> f64,
    is_stepped: bool,
) {
    let (color, width) = style(track.kind);
    let mut points = String::new();
    let mut before: Option<f64> = None;
    for sample in &track.samples {
        let (x, y) = (x(sample.seconds), panel.y(value(sample)));
        if let Some(before) = before.filter(|before| is_stepped && *before != y) {
            let _ = write!(points, "{x:.1},{before:.1} ");
        }
        let _ = write!(points, "{x:.1},{y:.1} ");
        before = Some(y);
    }
    let _ = writeln!(
        svg,
        "<polyline stroke=\"{color}\" stroke-width=\"{width}\" points=\"{}\"/>",
        points.trim_end()
    );
}

fn label(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"#333\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

impl Panel {
    fn y(&self, value: f64) -> f64 {
        let share = (value.clamp(self.low, self.high) - self.low) / (self.high - self.low);
        self.top + self.height * (1.0 - share)
    }
}

fn x(seconds: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * seconds / SECONDS
}

/// Colour and width.
fn style(kind: Kind) -> (&'static str, f64) {
    match kind {
        Kind::Bolide => ("#0b6e4f", 2.0),
        Kind::Naive => ("#999999", 1.0),
        Kind::LiteralBands => ("#d1495b", 0.7),
        Kind::Aimd => ("#3a6ea5", 0.7),
        Kind::AimdEfficientFirst => ("#c98b1b", 0.7),
    }
}
