//! Which sensors measure the processor packages, and which do not.
//!
//! Only the package counts: board, battery, radio and disk sensors measure something else, and each sensor of a single
//! core wakes that core when it is read. A device is recognised by its name on every reading, because numbers of
//! devices change.

use crate::limits::{CRITICAL_CELSIUS_MAX, CRITICAL_CELSIUS_MIN};
use crate::root::{ReadError, Root};
use crate::thermal::validator::{Unusable, celsius_of};

const ZONES: &str = "sys/class/thermal";
const MONITORS: &str = "sys/class/hwmon";

/// Names of zones and monitors that can measure a package.
const PACKAGE_ZONE: &str = "x86_pkg_temp";
const PROCESSOR_ZONES: [&str; 2] = ["TCPU", "B0D4"];
const CORETEMP: &str = "coretemp";
const K10TEMP: &str = "k10temp";

/// The name of a device whose own name begins with no letter.
const NAMELESS: &str = "other";

/// The sensor of one package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// The file, under the root.
    pub path: String,
    /// What kind of sensor it is, for people.
    pub source: &'static str,
    /// Which package it is, among those of its kind.
    pub package: String,
    /// Files that say what it is, and what they say.
    identity: Vec<(String, String)>,
}

/// A sensor that was seen and not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Where it is.
    pub place: String,
    /// Its name.
    pub name: String,
    /// Why not.
    pub reason: String,
}

/// The temperature at which the processor protects itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Critical {
    /// In degrees Celsius; the lowest of all packages.
    pub celsius: f64,
    /// The file that says so.
    pub path: String,
}

/// What there is to measure with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// The sensors of the best kind, one per package.
    pub chosen: Vec<Sensor>,
    /// Everything else that was seen.
    pub rejected: Vec<Rejected>,
    /// The critical temperature, where it can be believed.
    pub critical: Option<Critical>,
}

/// What a thermal zone or a monitor is.
struct Device {
    place: String,
    name: String,
}

impl Sensor {
    /// The text of the sensor now, if the device is still the same one.
    pub fn read(&self, root: &Root) -> Result<String, Unusable> {
        for (path, expected) in &self.identity {
            // The survey recorded what may be; by now this can be the name of another device.
            match root.without_recording().try_read(path) {
                Ok(text) if text == *expected => {}
                Ok(_) => return Err(Unusable::Moved),
                Err(error) => return Err(Unusable::Unreadable(error)),
            }
        }
        root.try_read(&self.path).map_err(Unusable::Unreadable)
    }

    /// The temperature now, judged by itself, without what was read before.
    pub fn celsius(&self, root: &Root) -> Result<f64, Unusable> {
        celsius_of(&self.read(root)?)
    }
}

/// Looks at all thermal zones and hardware monitors, and reads each candidate once. The best kind of which a sensor
/// answers is taken; where none answers the best kind, because a sensor that fails is not an absent one.
pub fn survey(root: &Root) -> Survey {
    let zones = devices(root, ZONES, "thermal_zone", "type");
    let monitors = devices(root, MONITORS, "hwmon", "name");
    let mut rejected = Vec::new();
    let kinds = [
        of_zones(&zones, &[PACKAGE_ZONE], "thermal zone x86_pkg_temp"),
        of_monitors(
            root,
            &monitors,
            CORETEMP,
            &["Package id", "Physical id"],
            "coretemp package sensor",
        ),
        of_zones(&zones, &PROCESSOR_ZONES, "processor thermal device"),
        of_monitors(root, &monitors, K10TEMP, &["Tctl"], "k10temp control sensor"),
    ];
    let answers = |sensors: &Vec<Sensor>| sensors.iter().any(|it| it.celsius(root).is_ok());
    let best = kinds.iter().position(answers);
    let best = best.or_else(|| kinds.iter().position(|sensors| !sensors.is_empty()));
    for (rank, sensors) in kinds.iter().enumerate().filter(|(rank, _)| Some(*rank) != best) {
        for Sensor { path, source, .. } in sensors {
            let reason = match best {
                Some(best) if rank < best => match sensors[0].celsius(root) {
                    Err(cause) => format!("{cause}, and another answers"),
                    Ok(_) => "does not answer always, and another does".to_owned(),
                },
                _ => "another kind is better".to_owned(),
            };
            rejected.push(Rejected { place: path.clone(), name: (*source).to_owned(), reason });
        }
    }
    let is_kind = |device: &Device| {
        kinds.iter().flatten().any(|it| it.path.starts_with(&format!("{}/", device.place)))
    };
    rejected.extend(zones.iter().chain(&monitors).filter(|it| !is_kind(it)).map(|device| {
        Rejected {
            place: device.place.clone(),
            name: device.name.clone(),
            reason: "does not measure a processor package".to_owned(),
        }
    }));
    let critical = critical(root, &kinds[1], &mut rejected);
    let chosen = best.map(|best| kinds.into_iter().nth(best).unwrap_or_default());
    Survey { chosen: chosen.unwrap_or_default(), rejected, critical }
}

/// The sensors of single cores, of all packages.
pub(super) fn of_cores(root: &Root) -> Vec<Sensor> {
    let monitors = devices(root, MONITORS, "hwmon", "name");
    of_monitors(root, &monitors, CORETEMP, &["Core "], "coretemp core sensor")
}

/// Entries of a class with their names; one that does not say its name is nothing.
fn devices(root: &Root, class: &str, prefix: &str, file: &str) -> Vec<Device> {
    let names = root.list(class).into_iter().filter(|name| name.starts_with(prefix));
    let device = |entry: String| {
        let place = format!("{class}/{entry}");
        let name = root.read_part(&format!("{place}/{file}"), public_name)?;
        Some(Device { place, name })
    };
    names.filter_map(device).collect()
}

/// The name where it is one that matters here; else only the letters it begins with, which are the driver's or the board's.
/// What follows can be anybody's: a battery of a wireless mouse or of headphones has its address or serial number there.
fn public_name(name: &str) -> String {
    let is_used = [PACKAGE_ZONE, CORETEMP, K10TEMP].contains(&name);
    if is_used || PROCESSOR_ZONES.contains(&name) {
        return name.to_owned();
    }
    let letters: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
    if letters.is_empty() { NAMELESS.to_owned() } else { letters }
}

fn of_zones(zones: &[Device], types: &[&str], source: &'static str) -> Vec<Sensor> {
    let matching = zones.iter().filter(|zone| types.contains(&zone.name.as_str()));
    let sensor = |(index, zone): (usize, &Device)| Sensor {
        path: format!("{}/temp", zone.place),
        source,
        package: index.to_string(),
        identity: vec![(format!("{}/type", zone.place), zone.name.clone())],
    };
    matching.enumerate().map(sensor).collect()
}

fn of_monitors(
    root: &Root,
    monitors: &[Device],
    name: &str,
    labels: &[&str],
    source: &'static str,
) -> Vec<Sensor> {
    let mut sensors: Vec<Sensor> = Vec::new();
    for monitor in monitors.iter().filter(|monitor| monitor.name == name) {
        for file in root.list(&monitor.place) {
            let number = file.strip_prefix("temp").and_then(|rest| rest.strip_suffix("_label"));
            let Some(number) = number else { continue };
            let label_path = format!("{}/{file}", monitor.place);
            let label = root.read(&label_path).unwrap_or_default();
            if !labels.iter().any(|wanted| label.starts_with(wanted)) {
                continue;
            }
            sensors.push(Sensor {
                path: format!("{}/temp{number}_input", monitor.place),
                source,
                package: format!(
                    "{} {label}",
                    sensors.iter().filter(|it| it.package.ends_with(&label)).count()
                ),
                identity: vec![
                    (format!("{}/name", monitor.place), name.to_owned()),
                    (label_path, label),
                ],
            });
        }
    }
    sensors
}

/// The critical temperature of the package sensors of coretemp. Trip points of the board are not asked: they are known
/// to say -274 and 20.8 of processors that are well.
fn critical(root: &Root, coretemp: &[Sensor], rejected: &mut Vec<Rejected>) -> Option<Critical> {
    let mut lowest: Option<Critical> = None;
    for sensor in coretemp {
        let path = sensor.path.replace("_input", "_crit");
        let celsius = match root.try_read(&path) {
            Ok(text) => text.parse::<i64>().map(|value| value as f64 / 1000.0).ok(),
            Err(ReadError::Missing) => continue,
            Err(_) => None,
        };
        match celsius.filter(|it| (CRITICAL_CELSIUS_MIN..=CRITICAL_CELSIUS_MAX).contains(it)) {
            Some(celsius) if lowest.as_ref().is_none_or(|lowest| celsius < lowest.celsius) => {
                lowest = Some(Critical { celsius, path });
            }
            Some(_) => {}
            None => rejected.push(Rejected {
                place: path,
                name: "critical temperature".to_owned(),
                reason: format!(
                    "not between {CRITICAL_CELSIUS_MIN} and {CRITICAL_CELSIUS_MAX} degrees"
                ),
            }),
        }
    }
    lowest
}
