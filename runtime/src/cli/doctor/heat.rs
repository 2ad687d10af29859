//! The temperature: which sensor was chosen and why the others were not, what the firmware did by itself, pressure
//! and power.

use hw::cgroup::Groups;
use hw::cpu_set::CpuSet;
use hw::power;
use hw::pressure::Pressure;
use hw::root::Root;
use hw::thermal::{Survey, Unusable, survey};
use hw::throttle::Throttles;
use scheduler::decision::State;
use scheduler::governor::Thresholds;
use serde_json::{Value, json};

use super::plain;

/// `thermal` of `doctor --json`.
pub(super) fn report(root: &Root, cpus: &CpuSet, thresholds: &Thresholds) -> Value {
    let survey = survey(root);
    let readings: Vec<Result<f64, Unusable>> =
        survey.chosen.iter().map(|sensor| sensor.celsius(root)).collect();
    let celsius = readings.iter().filter_map(|it| it.as_ref().ok()).copied().reduce(f64::max);
    let sensors = survey.chosen.iter().zip(&readings).map(|(sensor, reading)| {
        json!({
            "file": sensor.path,
            "celsius": reading.as_ref().ok(),
            "why": reading.as_ref().err().map(ToString::to_string),
        })
    });
    let rejected = survey.rejected.iter().map(|rejected| {
        json!({"place": rejected.place, "name": rejected.name, "reason": rejected.reason})
    });
    let mut throttles = Throttles::default();
    throttles.tick(root, cpus);
    let throttles =
        throttles.totals().map(|(core, package)| json!({"core": core, "package": package}));
    let groups = Groups::read(root);
    let limits = power::limits(root).into_iter();
    let limits: Vec<Value> =
        limits.map(|(name, watts)| json!({"package": name, "watts": watts})).collect();
    let critical = survey.critical.as_ref();
    let critical = critical.map(|it| json!({"celsius": it.celsius, "file": it.path}));
    json!({
        "source": survey.chosen.first().map(|sensor| sensor.source),
        "celsius": celsius,
        "state": state(&survey, celsius, thresholds).name(),
        "sensors": sensors.collect::<Vec<_>>(),
        "rejected": rejected.collect::<Vec<_>>(),
        "critical": critical,
        "throttles": throttles,
        "pressure": {
            "machine": Pressure::of_machine(root).map(|it| it.some_avg10),
            "group": Pressure::of_group(root, &groups).map(|it| it.some_avg10),
        },
        "power_limits": limits,
    })
}

/// What one reading alone allows to say. The state of a running daemon also depends on what was before.
fn state(survey: &Survey, celsius: Option<f64>, thresholds: &Thresholds) -> State {
    let critical = survey.critical.as_ref().map(|critical| critical.celsius);
    match celsius {
        None if survey.chosen.is_empty() => State::Off,
        None => State::Blind,
        Some(celsius) => thresholds.state_at(celsius, critical),
    }
}

/// The same for people.
pub(super) fn lines(thermal: &Value) -> Vec<String> {
    let mut lines = vec![match (thermal["source"].as_str(), thermal["celsius"].as_f64()) {
        (Some(source), Some(celsius)) => format!("thermal    {celsius:.1} C ({source})"),
        (Some(source), None) => format!("thermal    {source} gives no valid reading"),
        (None, _) => "thermal    no package sensor: the governor is off".to_owned(),
    }];
    for sensor in thermal["sensors"].as_array().into_iter().flatten() {
        let said = match sensor["celsius"].as_f64() {
            Some(celsius) => format!("{celsius:.1} C"),
            None => plain(&sensor["why"]),
        };
        lines.push(format!("           + {}: {said}", plain(&sensor["file"])));
    }
    for rejected in thermal["rejected"].as_array().into_iter().flatten() {
        let (place, name) = (plain(&rejected["place"]), plain(&rejected["name"]));
        lines.push(format!("           - {place} ({name}): {}", plain(&rejected["reason"])));
    }
    if let Some(celsius) = thermal["critical"]["celsius"].as_f64() {
        let file = plain(&thermal["critical"]["file"]);
        lines.push(format!("           critical at {celsius:.0} C ({file})"));
    }
    lines.push(match &thermal["throttles"] {
        Value::Null => "           the firmware's throttle counters cannot be read".to_owned(),
        counts => format!(
            "           throttled by the firmware since boot: cores {}, packages {} times",
            plain(&counts["core"]),
            plain(&counts["package"])
        ),
    });
    let pressure = &thermal["pressure"];
    for (place, name) in [("machine", "this machine"), ("group", "this control group")] {
        if let Some(share) = pressure[place].as_f64() {
            lines.push(format!("pressure   {name}: work waits for a CPU {share:.1} % of the time"));
        }
    }
    for limit in thermal["power_limits"].as_array().into_iter().flatten() {
        let (package, watts) = (plain(&limit["package"]), plain(&limit["watts"]));
        lines.push(format!("power      {package}: limited to {watts} W"));
    }
    lines
}
