//! Every key of the configuration: its name, its variable, what it means, how text becomes its
//! value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agents_packager::io::Overrides;
use agents_packager::service::Durability;
use agents_packager::store::Wanted;
use ipc::class::{Class, ClassSet};
use scheduler::governor::{Band, ThresholdValues};
use scheduler::placement::Pinning;

use super::{LogFormat, Settings};
use crate::daemon::{LimitTable, check_pattern};
use crate::limits::HANDSHAKE_BYTES_MAX;

/// One key.
pub(crate) struct Key {
    /// Its name in files; dots are tables.
    pub(crate) name: &'static str,
    /// Its variable.
    pub(crate) environment: &'static str,
    /// What it means, and what it is when nobody sets it.
    pub(crate) summary: &'static str,
    /// Takes a value over, or says what is wanted.
    pub(crate) set: fn(&mut Settings, &str) -> Result<(), String>,
    /// The value as a file would give it.
    pub(crate) show: fn(&Settings) -> String,
}

/// All of them.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "runtime_dir",
        environment: "BOLIDE_RUNTIME_DIR",
        summary: "directory of the control socket; default $XDG_RUNTIME_DIR/bolide",
        set: |settings, text| directory(text).map(|path| settings.runtime_dir = path),
        show: |settings| settings.runtime_dir.display().to_string(),
    },
    Key {
        name: "state_dir",
        environment: "BOLIDE_STATE_DIR",
        summary: "directory of what must survive; default $XDG_STATE_HOME/bolide",
        set: |settings, text| directory(text).map(|path| settings.state_dir = path),
        show: |settings| settings.state_dir.display().to_string(),
    },
    Key {
        name: "cache_dir",
        environment: "BOLIDE_CACHE_DIR",
        summary: "directory of what can be fetched again; default $XDG_CACHE_HOME/bolide",
        set: |settings, text| directory(text).map(|path| settings.cache_dir = path),
        show: |settings| settings.cache_dir.display().to_string(),
    },
    Key {
        name: "metrics_addr",
        environment: "BOLIDE_METRICS_ADDR",
        summary: "address of /metrics and /health, or `off`; default 127.0.0.1:8001",
        set: |settings, text| {
            settings.metrics_addr = match text {
                "off" => None,
                text => {
                    let wanted = |_| "wanted is an address with a port, or `off`".to_owned();
                    Some(text.parse().map_err(wanted)?)
                }
            };
            Ok(())
        },
        show: |settings| {
            settings.metrics_addr.map_or_else(|| "off".to_owned(), |address| address.to_string())
        },
    },
    Key {
        name: "hosted",
        environment: "BOLIDE_HOSTED",
        summary: "agents that the daemon hosts, separated by commas; default: the usual ones",
        set: |settings, text| {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            let mut hosted: Vec<String> = words.map(str::to_owned).collect();
            if let Some(unknown) = hosted.iter().find(|name| !crate::host::is_known_agent(name)) {
                return Err(format!("there is no agent `{unknown}`"));
            }
            let mut seen = std::collections::BTreeSet::new();
            hosted.retain(|name| seen.insert(name.clone()));
            settings.hosted = hosted;
            Ok(())
        },
        show: |settings| settings.hosted.join(","),
    },
    Key {
        name: "bus.routed",
        environment: "BOLIDE_BUS_ROUTED",
        summary: "agents whose links pass through the exchange, and that have no topics, as patterns separated by commas; default none",
        set: |settings, text| {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            let routed: Vec<String> = words.map(str::to_owned).collect();
            let wrong = routed.iter().find(|pattern| check_pattern(pattern).is_err());
            match wrong {
                Some(wrong) => return Err(format!("`{wrong}` is no pattern")),
                None => settings.routed = routed,
            }
            Ok(())
        },
        show: |settings| settings.routed.join(","),
    },
    Key {
        name: "bus.classes",
        environment: "BOLIDE_BUS_CLASSES",
        summary: "classes that links may have, of critical, high, normal; without critical there are no topics; default all",
        set: |settings, text| {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            let mut classes = ClassSet::NONE;
            for word in words {
                let class = Class::from_name(word).filter(|class| ClassSet::LINKS.has(*class));
                classes = classes.with(class.ok_or_else(|| format!("no link is `{word}`"))?);
            }
            if classes == ClassSet::NONE {
                return Err("wanted is at least one of critical, high, normal".to_owned());
            }
            settings.classes = classes;
            Ok(())
        },
        show: |settings| settings.classes.iter().map(Class::name).collect::<Vec<_>>().join(","),
    },
    Key {
        name: "bus.limits",
        environment: "BOLIDE_BUS_LIMITS",
        summary: "what agents may have, as `PATTERN: links=N bytes=N descriptors=N messages=N passed=N`, separated by commas; the first pattern that matches counts, and an agent's manifest where it asks for less; default none",
        set: |settings, text| LimitTable::parse(text).map(|limits| settings.limits = limits),
        show: |settings| settings.limits.text(),
    },
    Key {
        name: "bus.handshake_ms",
        environment: "BOLIDE_BUS_HANDSHAKE_MS",
        summary: "how long a client may take to introduce itself, 1 to 60000; default 2000",
        set: |settings, text| {
            let milliseconds = text.parse().ok().filter(|ms| (1..=60_000).contains(ms));
            let wanted = "wanted is a whole number of milliseconds up to 60000";
            settings.handshake = Duration::from_millis(milliseconds.ok_or(wanted)?);
            Ok(())
        },
        show: |settings| settings.handshake.as_millis().to_string(),
    },
    Key {
        name: "bus.handshake_bytes",
        environment: "BOLIDE_BUS_HANDSHAKE_BYTES",
        summary: "how many bytes it may use for that, 256 to 65536; default 65536",
        set: |settings, text| {
            let bytes =
                text.parse().ok().filter(|bytes| (256..=HANDSHAKE_BYTES_MAX).contains(bytes));
            settings.handshake_bytes = bytes.ok_or("wanted is a whole number from 256 to 65536")?;
            Ok(())
        },
        show: |settings| settings.handshake_bytes.to_string(),
    },
    Key {
        name: "drain_seconds",
        environment: "BOLIDE_DRAIN_SECONDS",
        summary: "how long stopping waits for work in flight, 0 to 3600; default 10",
        set: |settings, text| {
            let seconds = text.parse().ok().filter(|seconds| *seconds <= 3600);
            let seconds = seconds.ok_or("wanted is a whole number of seconds up to 3600")?;
            settings.drain = Duration::from_secs(seconds);
            Ok(())
        },
        show: |settings| settings.drain.as_secs().to_string(),
    },
    Key {
        name: "pinning",
        environment: "BOLIDE_PINNING",
        summary: "how workers are held to classes of cores: auto (not while processors are contended), off, strict; default auto",
        set: |settings, text| {
            let pinning = Pinning::from_name(text);
            settings.pinning = pinning.ok_or("wanted is `auto`, `off` or `strict`")?;
            Ok(())
        },
        show: |settings| settings.pinning.name().to_owned(),
    },
    Key {
        name: "thermal.normal",
        environment: "BOLIDE_THERMAL_NORMAL",
        summary: "degrees Celsius from which slots grow with care, and below which that ends; default 85/80",
        set: |settings, text| change_band(settings, text, |values| &mut values.normal),
        show: |settings| band_text(settings.bands.normal),
    },
    Key {
        name: "thermal.caution",
        environment: "BOLIDE_THERMAL_CAUTION",
        summary: "degrees Celsius from which slots are taken away, and below which that ends; default 95/90",
        set: |settings, text| change_band(settings, text, |values| &mut values.caution),
        show: |settings| band_text(settings.bands.caution),
    },
    Key {
        name: "thermal.throttle",
        environment: "BOLIDE_THERMAL_THROTTLE",
        summary: "degrees Celsius from which slots are halved, and below which that ends; default 100/95",
        set: |settings, text| change_band(settings, text, |values| &mut values.throttle),
        show: |settings| band_text(settings.bands.throttle),
    },
    Key {
        name: "thermal.heavy",
        environment: "BOLIDE_THERMAL_HEAVY",
        summary: "degrees Celsius from which large changes wait, and below which they begin again; default 90/86",
        set: |settings, text| change_band(settings, text, |values| &mut values.heavy),
        show: |settings| band_text(settings.bands.heavy),
    },
    Key {
        name: "packages.minimum_age",
        environment: "BOLIDE_PACKAGES_MINIMUM_AGE",
        summary: "how old a version has to be before it is chosen, as `3d`, `12h` or `0`, up to 365d; what is locked or let through by name counts always; default 0",
        set: |settings, text| {
            settings.minimum_age =
                age(text).ok_or("wanted is a number of days or hours, as `3d`")?;
            Ok(())
        },
        show: |settings| {
            let hours = settings.minimum_age.as_secs() / 3_600;
            match (hours, hours % 24) {
                (0, _) => "0".to_owned(),
                (hours, 0) => format!("{}d", hours / 24),
                (hours, _) => format!("{hours}h"),
            }
        },
    },
    Key {
        name: "packages.mirrors",
        environment: "BOLIDE_PACKAGES_MIRRORS",
        summary: "who stands in for a registry that does not answer, as `npm=URL` (also pypi, cargo), and who is asked for artefacts by their digests before any registry, as `bolide=URL`; separated by commas, in the order in which they are asked; default none",
        set: |settings, text| {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            let mirrors: Vec<String> = words.map(str::to_owned).collect();
            let mut tried = Overrides::default();
            for mirror in &mirrors {
                tried.add_mirror(mirror).map_err(|error| error.to_string())?;
            }
            settings.mirrors = mirrors;
            Ok(())
        },
        show: |settings| settings.mirrors.join(","),
    },
    Key {
        name: "mirror_addr",
        environment: "BOLIDE_MIRROR_ADDR",
        summary: "address and port at which other hosts may fetch artefacts that this one has, by their digests, without a password: anybody who reaches it may; or `off`; default off",
        set: |settings, text| {
            settings.mirror_addr = match text {
                "off" => None,
                text => {
                    let address = text.parse::<SocketAddr>().ok();
                    // Any port would be another one than was said.
                    let address = address.filter(|address| address.port() != 0);
                    Some(address.ok_or("wanted is an address with a port, or `off`")?)
                }
            };
            Ok(())
        },
        show: |settings| {
            settings.mirror_addr.map_or_else(|| "off".to_owned(), |address| address.to_string())
        },
    },
    Key {
        name: "store.mode",
        environment: "BOLIDE_STORE_MODE",
        summary: "how files come out of the store: reflink, link (hard links), copy, or auto, which is the first of them that works; where one does not, a copy; default auto",
        set: |settings, text| {
            let mode = Wanted::from_name(text);
            settings.store.mode = mode.ok_or("wanted is `auto`, `reflink`, `link` or `copy`")?;
            Ok(())
        },
        show: |settings| settings.store.mode.name().to_owned(),
    },
    Key {
        name: "store.limit",
        environment: "BOLIDE_STORE_LIMIT",
        summary: "what the store may take on the disk, as `20G` or `500M`; what is needed stays beyond it; default 20G",
        set: |settings, text| {
            settings.store.bytes_max = bytes(text).ok_or("wanted is a size, as `20G` or `500M`")?;
            Ok(())
        },
        show: |settings| size(settings.store.bytes_max),
    },
    Key {
        name: "store.prepared",
        environment: "BOLIDE_STORE_PREPARED",
        summary: "what the daemon may take on the disk, beside the store, for packages that it makes ready for the next installation while nobody waits, as `1G`; 0 for none; default 1G",
        set: |settings, text| {
            let size = if text == "0" { Some(0) } else { bytes(text) };
            settings.store.prepared_bytes_max = size.ok_or("wanted is a size, as `1G`, or 0")?;
            Ok(())
        },
        show: |settings| size(settings.store.prepared_bytes_max),
    },
    Key {
        name: "store.verify",
        environment: "BOLIDE_STORE_VERIFY",
        summary: "whether the digest of every file of the store is compared whenever it is used, and not only of those that could have been changed: true or false; default false",
        set: |settings, text| {
            settings.store.verify = text.parse().map_err(|_| "wanted is `true` or `false`")?;
            Ok(())
        },
        show: |settings| settings.store.verify.to_string(),
    },
    Key {
        name: "transactions.durability",
        environment: "BOLIDE_TRANSACTIONS_DURABILITY",
        summary: "when an installation waits for the disk: after-answer, right after it was answered, and what a loss of power interrupts there is taken back; or before-answer; default after-answer",
        set: |settings, text| {
            let durability = Durability::from_name(text);
            settings.durability =
                durability.ok_or("wanted is `after-answer` or `before-answer`")?;
            Ok(())
        },
        show: |settings| settings.durability.name().to_owned(),
    },
    Key {
        name: "sysfs_root",
        environment: "BOLIDE_SYSFS_ROOT",
        summary: "directory that is read in the place of / for everything about the machine; default /",
        set: |settings, text| directory(text).map(|path| settings.sysfs_root = path),
        show: |settings| settings.sysfs_root.display().to_string(),
    },
    Key {
        name: "log.level",
        environment: "BOLIDE_LOG",
        summary: "what is logged: off, error, warn, info, debug, trace, or per part; default info",
        set: |settings, text| {
            text.parse::<tracing_subscriber::filter::Targets>()
                .map_err(|error| error.to_string())?;
            settings.log = text.to_owned();
            Ok(())
        },
        show: |settings| settings.log.clone(),
    },
    Key {
        name: "log.format",
        environment: "BOLIDE_LOG_FORMAT",
        summary: "`text` or `json`; default text",
        set: |settings, text| {
            settings.log_format = match text {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                "hosted" => LogFormat::Hosted,
                _ => return Err("wanted is `text` or `json`".to_owned()),
            };
            Ok(())
        },
        show: |settings| {
            match settings.log_format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
                LogFormat::Hosted => "hosted",
            }
            .to_owned()
        },
    },
];

/// `3d`, `12h` or `0`, up to a year.
pub(crate) fn age(text: &str) -> Option<Duration> {
    let (number, hours) = match text.strip_suffix('d') {
        Some(days) => (days, 24),
        None => (text.strip_suffix('h').unwrap_or(text), 1),
    };
    let hours = number.parse::<u64>().ok()?.checked_mul(hours)?;
    let is_known = hours <= 365 * 24 && (hours == 0 || text.ends_with(['d', 'h']));
    is_known.then(|| Duration::from_secs(hours * 3_600))
}

/// What [`bytes`] reads.
fn size(bytes: u64) -> String {
    match bytes >> 20 {
        mebibytes if mebibytes % 1_024 == 0 => format!("{}G", mebibytes >> 10),
        mebibytes => format!("{mebibytes}M"),
    }
}

/// `20G` or `500M`, up to a million of the former.
fn bytes(text: &str) -> Option<u64> {
    let (number, shift) = match text.strip_suffix('G') {
        Some(number) => (number, 30),
        None => (text.strip_suffix('M')?, 20),
    };
    let number = number.parse::<u64>().ok().filter(|number| *number <= 1_000_000)?;
    Some(number << shift)
}

/// Changes one band. Whether all together make sense is seen when all are there.
fn change_band(
    settings: &mut Settings,
    text: &str,
    band: fn(&mut ThresholdValues) -> &mut Band,
) -> Result<(), String> {
    let wanted = || "wanted are two temperatures, as `95/90`".to_owned();
    let (enter, leave) = text.split_once('/').ok_or_else(wanted)?;
    let number = |text: &str| text.trim().parse::<f64>().map_err(|_| wanted());
    *band(&mut settings.bands) = Band { enter: number(enter)?, leave: number(leave)? };
    Ok(())
}

/// As a file has it.
pub(crate) fn band_text(band: Band) -> String {
    format!("{}/{}", band.enter, band.leave)
}

/// Relative directories are taken from where the process was started, once.
fn directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("wanted is a directory".to_owned());
    }
    std::path::absolute(text).map_err(|error| error.to_string())
}
