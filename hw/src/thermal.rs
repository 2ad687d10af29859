//! The temperature of the processor package: one read of one sensor, or nothing.
//!
//! Only sensors that measure the package count; board, battery and disk sensors do not, and per-core sensors wake
//! their cores. A reading outside what a running processor can have is no reading.

use crate::limits::{CELSIUS_MAX, CELSIUS_MIN};
use crate::root::Root;

/// Where the package temperature is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// The file, under the root.
    pub path: String,
    /// What kind of sensor it is, for people.
    pub source: &'static str,
}

impl Sensor {
    /// The best package sensor under `root`: `x86_pkg_temp`, else coretemp's package label, else the processor's
    /// thermal device.
    pub fn find(root: &Root) -> Option<Self> {
        Self::zone(root, &["x86_pkg_temp"], "thermal zone x86_pkg_temp")
            .or_else(|| Self::coretemp(root))
            .or_else(|| Self::zone(root, &["TCPU", "B0D4"], "processor thermal device"))
    }

    /// The temperature now in degrees Celsius; `None` where the sensor fails or answers nonsense.
    pub fn read(&self, root: &Root) -> Option<f64> {
        let celsius = root.read(&self.path)?.parse::<i64>().ok()? as f64 / 1000.0;
        (CELSIUS_MIN..=CELSIUS_MAX).contains(&celsius).then_some(celsius)
    }

    fn zone(root: &Root, types: &[&str], source: &'static str) -> Option<Self> {
        let directory = "sys/class/thermal";
        root.list(directory).iter().find_map(|zone| {
            let kind = root.read(&format!("{directory}/{zone}/type"))?;
            let path = format!("{directory}/{zone}/temp");
            types.contains(&kind.as_str()).then_some(Self { path, source })
        })
    }

    fn coretemp(root: &Root) -> Option<Self> {
        let directory = "sys/class/hwmon";
        root.list(directory).iter().find_map(|monitor| {
            let place = format!("{directory}/{monitor}");
            if root.read(&format!("{place}/name"))? != "coretemp" {
                return None;
            }
            root.list(&place).iter().find_map(|file| {
                let number = file.strip_prefix("temp")?.strip_suffix("_label")?;
                let label = root.read(&format!("{place}/{file}"))?;
                let is_package =
                    label.starts_with("Package id") || label.starts_with("Physical id");
                let path = format!("{place}/temp{number}_input");
                is_package.then_some(Self { path, source: "coretemp package sensor" })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Sensor;
    use crate::root::Root;

    fn check(files: &[(&str, &str)], expected: Option<(&str, Option<f64>)>) {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let root = Root::at(directory.path());
        let seen = Sensor::find(&root).map(|sensor| (sensor.source, sensor.read(&root)));
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_package_zone_is_preferred_and_the_board_ignored() {
        check(
            &[
                ("sys/class/thermal/thermal_zone0/type", "acpitz\n"),
                ("sys/class/thermal/thermal_zone0/temp", "16000\n"),
                ("sys/class/thermal/thermal_zone3/type", "x86_pkg_temp\n"),
                ("sys/class/thermal/thermal_zone3/temp", "61000\n"),
            ],
            Some(("thermal zone x86_pkg_temp", Some(61.0))),
        );
    }

    #[test]
    fn coretemp_serves_under_its_old_label_too() {
        check(
            &[
                ("sys/class/hwmon/hwmon4/name", "coretemp\n"),
                ("sys/class/hwmon/hwmon4/temp2_label", "Core 0\n"),
                ("sys/class/hwmon/hwmon4/temp1_label", "Physical id 0\n"),
                ("sys/class/hwmon/hwmon4/temp1_input", "84000\n"),
            ],
            Some(("coretemp package sensor", Some(84.0))),
        );
    }

    #[test]
    fn nonsense_is_no_reading() {
        for text in ["", "0\n", "-274000\n", "garbage\n", "65261800\n"] {
            check(
                &[
                    ("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n"),
                    ("sys/class/thermal/thermal_zone0/temp", text),
                ],
                Some(("thermal zone x86_pkg_temp", None)),
            );
        }
        check(&[], None);
    }
}
