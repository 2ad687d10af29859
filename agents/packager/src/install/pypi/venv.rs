//! Makes an empty environment like `python -m venv` does, but for another path than the one it is
//! made at.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Environment, scripts, wheel, write};
use crate::error::{Error, Result};
use crate::install::{Options, Report};
use crate::store::Store;

/// Makes the environment in its staging directory, which must be missing or empty. With `seed`, pip
/// is installed from the wheel that the interpreter brings along, where it does.
pub fn create(
    store: &Store,
    environment: Environment<'_>,
    seed: bool,
    options: Options<'_>,
) -> Result<Report> {
    let final_path = environment.check_path()?;
    let staging = environment.staging;
    let interpreter = environment.interpreter;
    // From 3.11 on headers go to a directory of the version; `sysconfig` says where, and `venv` makes it.
    let include = match interpreter.version >= (3, 11, 0) {
        true => format!("include/{}", interpreter.library_name),
        false => "include".to_owned(),
    };
    for name in ["bin", &include, &interpreter.site_packages()] {
        let path = staging.join(name);
        fs::create_dir_all(&path)
            .map_err(|error| Error::io("create the directory", &path, &error))?;
    }
    write_file(&staging.join("pyvenv.cfg"), &configuration(environment, final_path))?;
    write_file(&staging.join(".gitignore"), "*\n")?;
    link("lib", &staging.join("lib64"))?;
    let bin = staging.join("bin");
    let (major, minor, _) = interpreter.version;
    link(&interpreter.executable, &bin.join("python"))?;
    link("python", &bin.join(format!("python{major}")))?;
    link("python", &bin.join(format!("python{major}.{minor}")))?;
    write_activation(environment, final_path)?;
    if !seed {
        return Ok(Report::default());
    }
    install_seeds(store, environment, options)
}

fn configuration(environment: Environment<'_>, final_path: &str) -> String {
    let interpreter = environment.interpreter;
    let executable = &interpreter.executable;
    let home = executable.parent().unwrap_or(Path::new("/"));
    let resolved = fs::canonicalize(executable).unwrap_or_else(|_| executable.clone());
    format!(
        "home = {}\ninclude-system-site-packages = false\nversion = {}\nexecutable = {}\ncommand = {} -m venv {}\n",
        home.display(),
        interpreter.version_text,
        resolved.display(),
        executable.display(),
        final_path
    )
}

/// Fills in the interpreter's own templates. Two generations of them exist: the older ones put
/// quotes around the placeholders, the newer ones expect values that are quoted already. The path
/// needs no escaping in either ([`Environment::check_path`]).
fn write_activation(environment: Environment<'_>, final_path: &str) -> Result<()> {
    let templates = environment.interpreter.stdlib.join("venv/scripts");
    let name = environment
        .final_path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    // Up to 3.12 the value holds the parentheses, afterwards the template does.
    let prompt = match environment.interpreter.version >= (3, 13, 0) {
        true => name.clone(),
        false => format!("({name}) "),
    };
    for (folder, file) in [
        ("common", "activate"),
        ("common", "Activate.ps1"),
        ("posix", "activate.csh"),
        ("posix", "activate.fish"),
    ] {
        let Ok(template) = fs::read_to_string(templates.join(folder).join(file)) else { continue };
        let quoted_by_template = template.contains("\"__VENV_DIR__\"");
        // In csh even single quotes do not protect an exclamation mark.
        let escape = |text: &str| {
            if file.ends_with(".csh") { text.replace('!', "\\!") } else { text.to_owned() }
        };
        let value = |text: &str| match quoted_by_template {
            true => escape(text),
            false => format!("'{}'", escape(text)),
        };
        let text = template
            .replace("__VENV_DIR__", &value(final_path))
            .replace("__VENV_NAME__", &value(&name))
            .replace("__VENV_PROMPT__", &value(&prompt))
            .replace("__VENV_BIN_NAME__", &value("bin"))
            .replace("__VENV_PYTHON__", &value(&environment.python().to_string_lossy()));
        write_file(&environment.staging.join("bin").join(file), &text)?;
    }
    Ok(())
}

/// Installs what `ensurepip` would: pip, and for interpreters before 3.12 setuptools.
fn install_seeds(
    store: &Store,
    environment: Environment<'_>,
    options: Options<'_>,
) -> Result<Report> {
    let interpreter = environment.interpreter;
    let mut wheels = Vec::new();
    let mut warnings = Vec::new();
    for name in ["pip", "setuptools"] {
        if name == "setuptools" && interpreter.version >= (3, 12, 0) {
            continue;
        }
        let Some(path) = bundled(&interpreter.stdlib, name) else {
            warnings.push(format!(
                "the interpreter brings no `{name}` along, so the environment has none"
            ));
            continue;
        };
        let entry = store.add_local_wheel(&path)?;
        let source = wheel::Source {
            entry: &entry,
            file_name: &path.file_name().unwrap_or_default().to_string_lossy(),
            identity: None,
            // As `ensurepip` leaves it: whoever cleans up what Bolide installed must not take the
            // tool away.
            installer: "pip",
            requested: true,
            direct_url: None,
            commands: match name {
                "pip" => scripts::pip_commands(interpreter.version),
                _ => Default::default(),
            },
        };
        wheels.push(wheel::layout(store, environment, &source)?);
    }
    let mut report = write(store, environment, wheels, &[], options)?;
    report.warnings.extend(warnings);
    Ok(report)
}

/// The wheel that the interpreter, or the distribution in its place, brings along.
fn bundled(stdlib: &Path, name: &str) -> Option<PathBuf> {
    let places = [stdlib.join("ensurepip/_bundled"), PathBuf::from("/usr/share/python-wheels")];
    places.iter().find_map(|place| {
        let files = fs::read_dir(place).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let is_wanted = |path: &PathBuf| {
            let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
            file.ends_with(".whl")
                && file.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
        };
        files.filter(is_wanted).max()
    })
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| Error::io("write", path, &error))
}

fn link(target: impl AsRef<Path>, path: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, path)
        .map_err(|error| Error::io("create the link", path, &error))
}
