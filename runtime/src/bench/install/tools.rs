//! The tools that are compared, each with caches of its own and a fresh project for every run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agents_packager::ecosystem::Ecosystem;
use anyhow::Context;

use super::resident::Resident;
use super::since;
use crate::bench::step::{Memory, Step};

/// Longest time that one run may take before the benchmark gives up on the tool.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);
/// One tool.
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) ecosystem: Ecosystem,
    /// What it makes in a project.
    pub(super) tree: &'static str,
    /// Where everything of it lies: caches, projects, and what is to be removed.
    home: PathBuf,
    /// What is copied into every project.
    template: PathBuf,
    /// Files of the template that it would take for somebody else's project.
    leaves: &'static [&'static str],
    /// What its template has besides.
    adds: Vec<(&'static str, String)>,
    /// What it does once, in the template, before anything is measured.
    prepare: Vec<Step>,
    cold: Vec<Step>,
    warm: Vec<Step>,
    undo: Option<Step>,
    /// Who answers, where that is a process that stays.
    resident: Option<Resident>,
    runs: usize,
}

/// One run.
pub(super) struct Ran {
    pub(super) elapsed_ms: f64,
    /// Of all its processes together; 0 where memory was not looked at.
    pub(super) peak_rss_bytes: u64,
}

impl Tool {
    /// Makes the locks that only this tool reads.
    pub(super) fn prepare(&mut self) -> anyhow::Result<()> {
        let own = self.home.join("template");
        self.lay_out(&own)?;
        for (name, text) in &self.adds {
            std::fs::write(own.join(name), text)?;
        }
        self.template = own.clone();
        for step in &self.prepare {
            step.run(&own, &self.home, Memory::Not, RUN_TIME_MAX)?;
        }
        Ok(())
    }

    /// A project in which nothing was ever installed; with empty caches for a cold run.
    pub(super) fn fresh(&mut self, is_cold: bool) -> anyhow::Result<PathBuf> {
        self.runs += 1;
        if is_cold {
            let away = self.home.join("away").join(self.runs.to_string());
            std::fs::create_dir_all(&away)?;
            let caches = self.home.join("caches");
            if let Some(resident) = &mut self.resident {
                resident.end();
            }
            if caches.exists() {
                std::fs::rename(&caches, away.join("caches"))?;
            }
            std::fs::create_dir_all(&caches)?;
            if let Some(resident) = &mut self.resident {
                resident.start(&caches)?;
            }
        }
        std::fs::create_dir_all(self.home.join("caches"))?;
        let project = self.home.join("projects").join(self.runs.to_string());
        self.lay_out(&project)?;
        Ok(project)
    }

    /// Copies the plain files of the template.
    fn lay_out(&self, to: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(&self.template)? {
            let entry = entry?;
            let is_left = self.leaves.iter().any(|name| entry.file_name() == *name);
            if entry.file_type()?.is_file() && !is_left {
                std::fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
        Ok(())
    }

    pub(super) fn install(
        &self,
        project: &Path,
        is_cold: bool,
        memory: Memory,
    ) -> anyhow::Result<Ran> {
        let steps = if is_cold { &self.cold } else { &self.warm };
        let began = Instant::now();
        let mut peak_rss_bytes = 0;
        for step in steps {
            let peak = step.run(project, &self.home, memory, RUN_TIME_MAX)?;
            peak_rss_bytes = peak_rss_bytes.max(peak);
        }
        let elapsed_ms = since(began);
        if let Some(resident) = &self.resident {
            peak_rss_bytes += resident.peak_rss_bytes();
        }
        Ok(Ran { elapsed_ms, peak_rss_bytes })
    }

    /// Waits until whoever stays has done what it does when nobody waits for it.
    pub(super) fn rest(&self) -> anyhow::Result<()> {
        self.resident.as_ref().map_or(Ok(()), Resident::rest)
    }

    /// Milliseconds to take it back, where the tool can.
    pub(super) fn undo(&self, project: &Path) -> anyhow::Result<Option<f64>> {
        let Some(step) = &self.undo else { return Ok(None) };
        let began = Instant::now();
        step.run(project, &self.home, Memory::Not, RUN_TIME_MAX)?;
        Ok(Some(since(began)))
    }

    /// Installs into a directory that is made for it, with whatever its caches hold.
    pub(super) fn install_into(&mut self, project: &Path) -> anyhow::Result<()> {
        self.lay_out(project)?;
        self.install(project, true, Memory::Not).map(drop)
    }

    /// Removes every project and what was moved away.
    pub(super) fn tidy(&mut self) -> anyhow::Result<()> {
        for name in ["projects", "away"] {
            let path = self.home.join(name);
            if path.exists() {
                std::fs::remove_dir_all(&path)
                    .with_context(|| format!("cannot remove `{}`", path.display()))?;
            }
        }
        Ok(())
    }
}

/// Bolide first, then the peers of the ecosystem.
pub(super) fn tools(
    ecosystem: Ecosystem,
    scratch: &Path,
    template: &Path,
    peers: &Path,
    url: &str,
) -> Vec<Tool> {
    let mut tools = vec![
        resident(ecosystem, scratch, template, url),
        bolide(ecosystem, scratch, template, url),
    ];
    match ecosystem {
        Ecosystem::Npm => tools.extend(npm_peers(scratch, template, peers, url)),
        Ecosystem::Pypi => tools.extend(python_peers(scratch, template, peers, url)),
        // cargo keeps what it downloads in one place, which is the cache and the result.
        Ecosystem::Cargo | Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => {}
    }
    tools
}

fn tool(name: &'static str, ecosystem: Ecosystem, scratch: &Path, template: &Path) -> Tool {
    let home = scratch.join(name);
    // What cannot be made is said by whoever uses it.
    let _ = std::fs::create_dir_all(&home);
    Tool {
        name,
        ecosystem,
        tree: if ecosystem == Ecosystem::Pypi { ".venv" } else { "node_modules" },
        home,
        template: template.to_owned(),
        leaves: &[],
        adds: Vec::new(),
        prepare: Vec::new(),
        cold: Vec::new(),
        warm: Vec::new(),
        undo: None,
        resident: None,
        runs: 0,
    }
}

/// Bolide in this ecosystem, which asks a daemon with a store of its own.
fn resident(ecosystem: Ecosystem, scratch: &Path, template: &Path, url: &str) -> Tool {
    let tool = own("bolide", ecosystem, scratch, template, (url, &[]));
    Tool { resident: Some(Resident::default()), ..tool }
}

/// Bolide in this ecosystem without a daemon, with a store of its own.
pub(super) fn bolide(ecosystem: Ecosystem, scratch: &Path, template: &Path, url: &str) -> Tool {
    own("alone", ecosystem, scratch, template, (url, &["--standalone"]))
}

fn own(
    name: &'static str,
    ecosystem: Ecosystem,
    scratch: &Path,
    template: &Path,
    (url, how): (&str, &[&str]),
) -> Tool {
    let tool = tool(name, ecosystem, scratch, template);
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("bolide"));
    let path = if ecosystem == Ecosystem::Pypi { "simple/" } else { "" };
    let registry = format!("{ecosystem}={url}{path}");
    let caches = tool.home.join("caches");
    let start = |arguments: &[&str]| {
        Step::new(own.clone(), arguments)
            .and(&["--json"])
            .and(how)
            .variable("XDG_CACHE_HOME", caches.join("cache"))
            .variable("BOLIDE_STATE_DIR", caches.join("state"))
            .variable("BOLIDE_RUNTIME_DIR", caches.join("run"))
    };
    let cold = start(&["install", "--frozen"]).and(&["--registry", &registry]);
    let (warm, undo) = (cold.and(&["--offline"]), start(&["rollback", "--yes"]));
    let leaves = &["package-lock.json", "pins.txt"];
    Tool { leaves, cold: vec![cold], warm: vec![warm], undo: Some(undo), ..tool }
}

fn npm_peers(scratch: &Path, template: &Path, peers: &Path, url: &str) -> Vec<Tool> {
    let npm = tool("npm", Ecosystem::Npm, scratch, template);
    let quiet = ["--ignore-scripts", "--no-audit", "--no-fund"];
    let npm_cold = Step::new("npm", &["ci"])
        .and(&quiet)
        .variable("CI", "true")
        .variable("npm_config_cache", npm.home.join("caches"))
        .variable("npm_config_registry", url);
    let npm_warm = npm_cold.and(&["--offline"]);
    // Not all of them read the variable.
    let registry = (".npmrc", format!("registry={url}\n"));
    let at_once = ("pnpm-workspace.yaml", "minimumReleaseAge: 0\n".to_owned());

    let pnpm = tool("pnpm", Ecosystem::Npm, scratch, template);
    let pnpm_step = |arguments: &[&str]| {
        Step::new(peers.join("bin/pnpm"), arguments)
            .variable("CI", "true")
            .variable("npm_config_registry", url)
            .variable("XDG_CACHE_HOME", pnpm.home.join("caches/cache"))
            .variable("XDG_DATA_HOME", pnpm.home.join("caches/data"))
            .variable("XDG_STATE_HOME", pnpm.home.join("caches/state"))
    };
    let pnpm_import = pnpm_step(&["import"]);
    let store = pnpm.home.join("caches/store");
    let pnpm_cold = pnpm_step(&["install", "--frozen-lockfile", "--ignore-scripts", "--store-dir"])
        .and(&[&store.to_string_lossy()]);
    let pnpm_warm = pnpm_cold.and(&["--offline"]);

    let bun = tool("bun", Ecosystem::Npm, scratch, template);
    let bun_step = |arguments: &[&str]| {
        Step::new(peers.join("bin/bun"), arguments)
            .variable("CI", "true")
            .variable("BUN_INSTALL_CACHE_DIR", bun.home.join("caches"))
            .variable("npm_config_registry", url)
    };
    let bun_lock = bun_step(&["install", "--lockfile-only", "--ignore-scripts"]);
    let bun_both = bun_step(&["install", "--frozen-lockfile", "--ignore-scripts"]);
    vec![
        Tool { cold: vec![npm_cold], warm: vec![npm_warm], ..npm },
        Tool {
            adds: vec![registry.clone(), at_once],
            prepare: vec![pnpm_import],
            cold: vec![pnpm_cold],
            warm: vec![pnpm_warm],
            ..pnpm
        },
        // It has no offline mode; with everything in its cache it asks nobody.
        Tool {
            adds: vec![registry],
            prepare: vec![bun_lock],
            cold: vec![bun_both.clone()],
            warm: vec![bun_both],
            ..bun
        },
    ]
}

fn python_peers(scratch: &Path, template: &Path, peers: &Path, url: &str) -> Vec<Tool> {
    let index = format!("{url}simple/");
    let pins = ["--no-deps", "--only-binary", ":all:", "--index-url", &index, "-r", "pins.txt"];

    let uv = tool("uv", Ecosystem::Pypi, scratch, template);
    let program = peers.join("bin/uv");
    let caches = uv.home.join("caches");
    let start = |arguments: &[&str]| {
        Step::new(program.clone(), arguments).variable("UV_CACHE_DIR", caches.clone())
    };
    let uv_venv = start(&["venv", "--quiet", "--no-config", "--python", "python3", ".venv"]);
    let uv_cold =
        start(&["pip", "install", "--quiet", "--no-config", "--python", ".venv"]).and(&pins);
    let uv_warm = uv_cold.and(&["--offline"]);

    let pip = tool("pip", Ecosystem::Pypi, scratch, template);
    let pip_venv = Step::new("python3", &["-m", "venv", ".venv"]);
    let own = ["-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"];
    let pip_both = Step::new(".venv/bin/python", &own)
        .and(&pins)
        .variable("PIP_CACHE_DIR", pip.home.join("caches"))
        .variable("PIP_CONFIG_FILE", "/dev/null");
    vec![
        Tool { cold: vec![uv_venv.clone(), uv_cold], warm: vec![uv_venv, uv_warm], ..uv },
        // It has no offline mode: it asks the mirror for the pages again, and for no file.
        Tool {
            cold: vec![pip_venv.clone(), pip_both.clone()],
            warm: vec![pip_venv, pip_both],
            ..pip
        },
    ]
}
