//! The order of the sources, and what is said of mistakes.

use std::ffi::OsString;

use super::*;

struct Home(tempfile::TempDir);

impl Home {
    fn with(config: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join(".config/bolide")).unwrap();
        std::fs::write(home.path().join(".config/bolide/config.toml"), config).unwrap();
        Self(home)
    }

    fn load(&self, flags: &Flags, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let home = self.0.path().as_os_str().to_owned();
        Config::load(flags, &|name| match name {
            "HOME" => Some(home.clone()),
            name => {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            }
        })
    }
}

#[test]
fn flags_beat_variables_beat_files_beat_defaults() {
    let home = Home::with("drain_seconds = 3\n[log]\nlevel = \"warn\"\nformat = \"json\"\n");
    let flags = Flags { config: None, values: vec![("log.format", "text".to_owned())] };
    let config = home.load(&flags, &[("BOLIDE_LOG", "debug")]).unwrap();
    assert_eq!(config.settings.drain.as_secs(), 3);
    assert_eq!(config.settings.log, "debug");
    assert_eq!(config.settings.log_format, LogFormat::Text);
    assert_eq!(config.settings.metrics_addr.unwrap().port(), 8001);
    assert!(matches!(config.origins["drain_seconds"], Origin::File(_)));
    assert_eq!(config.origins["log.level"], Origin::Environment("BOLIDE_LOG"));
    assert_eq!(config.origins["log.format"], Origin::Flag);
    assert_eq!(config.origins["hosted"], Origin::Default);
}

#[test]
fn a_store_has_a_size_and_a_way_out() {
    let home = Home::with("[store]\nlimit = \"500M\"\nmode = \"link\"\nverify = true\n");
    let config = home.load(&Flags::default(), &[]).unwrap();
    assert_eq!((config.settings.store.bytes_max, config.settings.store.verify), (500 << 20, true));
    for key in KEYS.iter().filter(|key| key.name.starts_with("store.")) {
        let mut again = Home::with("").load(&Flags::default(), &[]).unwrap().settings;
        (key.set)(&mut again, &(key.show)(&config.settings)).unwrap();
        assert_eq!((key.show)(&again), (key.show)(&config.settings), "{}", key.name);
        for wrong in ["", "1T", "-1G", "hard", "G", "20"] {
            assert!((key.set)(&mut again, wrong).is_err(), "{} = {wrong}", key.name);
        }
    }
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_likely_one() {
    for (text, key, nearest) in [
        ("metrics_adr = 1", "metrics_adr", Some("metrics_addr")),
        ("[log]\nlevl = \"x\"", "log.levl", Some("log.level")),
        ("zzz = 1", "zzz", None),
        ("[hosted]\nx = 1\n[other]\n", "other", None),
    ] {
        let error = Home::with(text).load(&Flags::default(), &[]).unwrap_err();
        if text.starts_with("[hosted]") {
            assert!(matches!(error, ConfigError::UnknownKey { .. } | ConfigError::Value { .. }));
            continue;
        }
        let ConfigError::UnknownKey { key: found, nearest: hint, .. } = error else { panic!() };
        assert_eq!((found.as_str(), hint), (key, nearest));
    }
}

#[test]
fn wrong_values_say_what_is_wanted_and_where_they_stand() {
    let home = Home::with("");
    for (variable, value) in [
        ("BOLIDE_METRICS_ADDR", "8001"),
        ("BOLIDE_DRAIN_SECONDS", "-1"),
        ("BOLIDE_DRAIN_SECONDS", "3601"),
        ("BOLIDE_HOSTED", "echo,nobody"),
        ("BOLIDE_LOG_FORMAT", "xml"),
        ("BOLIDE_STATE_DIR", ""),
    ] {
        let error = home.load(&Flags::default(), &[(variable, value)]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(variable), "{text}");
    }
}

#[test]
fn lists_may_be_toml_lists_and_doubles_count_once() {
    let home = Home::with("hosted = [\"echo\", \"echo\"]");
    let config = home.load(&Flags::default(), &[]).unwrap();
    assert_eq!(config.settings.hosted, ["echo"]);
}

#[test]
fn a_file_named_by_a_flag_must_exist_and_replaces_the_others() {
    let home = Home::with("drain_seconds = 3");
    let path = home.0.path().join("own.toml");
    let flags = Flags { config: Some(path.clone()), values: Vec::new() };
    assert!(matches!(home.load(&flags, &[]), Err(ConfigError::Read { .. })));
    std::fs::write(&path, "metrics_addr = \"off\"").unwrap();
    let config = home.load(&flags, &[]).unwrap();
    assert_eq!(config.settings.drain, DRAIN_TIMEOUT);
    assert_eq!(config.settings.metrics_addr, None);
}

#[test]
fn what_is_not_toml_or_too_large_is_refused() {
    assert!(matches!(
        Home::with("= x").load(&Flags::default(), &[]),
        Err(ConfigError::Syntax { .. })
    ));
    let large = "#".repeat(usize::try_from(CONFIG_BYTES_MAX).unwrap() + 1);
    assert!(matches!(
        Home::with(&large).load(&Flags::default(), &[]),
        Err(ConfigError::TooLarge { .. })
    ));
}

#[test]
fn without_a_home_every_place_can_still_be_given() {
    let nowhere = |_: &str| None;
    assert!(matches!(
        Config::load(&Flags::default(), &nowhere),
        Err(ConfigError::Paths(PathsError::NoHome { .. }))
    ));
    let values = vec![("state_dir", "/s".to_owned()), ("cache_dir", "/c".to_owned())];
    Config::load(&Flags { config: None, values }, &nowhere).unwrap();
}

#[test]
fn what_a_key_shows_it_also_takes() {
    let config = Home::with("").load(&Flags::default(), &[]).unwrap();
    for key in KEYS {
        let mut other = config.settings.clone();
        (key.set)(&mut other, &(key.show)(&config.settings)).unwrap();
        assert_eq!(other, config.settings, "{}", key.name);
    }
}

#[test]
fn temperatures_are_judged_together_whatever_their_order() {
    let hotter = [
        ("BOLIDE_THERMAL_NORMAL", "100/95"),
        ("BOLIDE_THERMAL_CAUTION", "105/100"),
        ("BOLIDE_THERMAL_THROTTLE", "110/105"),
    ];
    let values =
        Home::with("").load(&Flags::default(), &hotter).unwrap().settings.thresholds.values();
    assert_eq!(
        [values.normal.enter, values.caution.enter, values.throttle.enter],
        [100.0, 105.0, 110.0]
    );
    for (text, key) in [
        ("thermal.normal = \"94/85\"", "thermal.caution"),
        ("thermal.heavy = \"90/89\"", "thermal.heavy"),
        ("thermal.throttle = \"300/200\"", "thermal.throttle"),
        ("thermal.caution = \"NaN/NaN\"", "thermal.caution"),
        ("thermal.caution = \"95\"", "thermal.caution"),
    ] {
        let error = Home::with(text).load(&Flags::default(), &[]).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}
