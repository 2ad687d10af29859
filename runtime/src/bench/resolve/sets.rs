//! What is resolved: sets of packages as people want them, small and large, per ecosystem.

use agents_packager::ecosystem::Ecosystem;

use super::universe;

/// One question.
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) ecosystem: Ecosystem,
    /// Names (with extras) and ranges.
    pub(super) packages: Vec<(String, String)>,
    /// Whether it is about the generated registry.
    pub(super) is_generated: bool,
}

type Wanted = &'static [(&'static str, &'static str)];

const PYPI: [(&str, Wanted); 8] = [
    ("flask", &[("flask", "")]),
    ("jupyter", &[("jupyter", "")]),
    (
        "fastapi",
        &[("fastapi[standard]", ""), ("sqlalchemy", ""), ("celery[redis]", ""), ("alembic", "")],
    ),
    ("airflow", &[("apache-airflow", "")]),
    (
        "science",
        &[
            ("pandas", ""),
            ("scikit-learn", ""),
            ("statsmodels", ""),
            ("seaborn", ""),
            ("bokeh", ""),
            ("dask[complete]", ""),
            ("jupyterlab", ""),
        ],
    ),
    (
        "language",
        &[("transformers[torch]", ""), ("datasets", ""), ("evaluate", ""), ("gradio", "")],
    ),
    ("data", &[("dbt-core", ""), ("prefect", ""), ("great-expectations", ""), ("boto3", "")]),
    (
        "older",
        &[("boto3", ""), ("urllib3", "<2"), ("requests", ""), ("botocore", ""), ("streamlit", "")],
    ),
];

const NPM: [(&str, Wanted); 7] = [
    ("express", &[("express", "^4")]),
    (
        "web",
        &[
            ("express", "^4"),
            ("webpack", "^5"),
            ("eslint", "^9"),
            ("react", "^19"),
            ("typescript", "^5"),
            ("jest", "^29"),
        ],
    ),
    (
        "next",
        &[
            ("next", "^15"),
            ("react", "^19"),
            ("react-dom", "^19"),
            ("tailwindcss", "^3"),
            ("eslint-config-next", "^15"),
            ("eslint", "^9"),
        ],
    ),
    ("react-scripts", &[("react-scripts", "^5"), ("react", "^18"), ("react-dom", "^18")]),
    (
        "angular",
        &[
            ("@angular/cli", "^19"),
            ("@angular/core", "^19"),
            ("@angular/common", "^19"),
            ("rxjs", "^7"),
        ],
    ),
    (
        "vite",
        &[
            ("vite", "^6"),
            ("vitest", "^3"),
            ("vue", "^3"),
            ("@vitejs/plugin-vue", "^5"),
            ("typescript-eslint", "^8"),
            ("eslint", "^9"),
            ("prettier", "^3"),
        ],
    ),
    (
        "service-js",
        &[
            ("@nestjs/core", "^11"),
            ("@nestjs/cli", "^11"),
            ("@nestjs/common", "^11"),
            ("typeorm", "^0.3"),
            ("mocha", "^11"),
            ("webpack-dev-server", "^5"),
        ],
    ),
];

const CARGO: [(&str, Wanted); 7] = [
    ("serde", &[("serde", "1")]),
    (
        "service",
        &[("tokio", "1"), ("clap", "4"), ("hyper", "1"), ("regex", "1"), ("serde_json", "1")],
    ),
    (
        "axum",
        &[
            ("axum", "0.8"),
            ("sqlx", "0.8"),
            ("reqwest", "0.12"),
            ("tracing-subscriber", "0.3"),
            ("tower-http", "0.6"),
        ],
    ),
    ("bevy", &[("bevy", "0.16")]),
    ("polars", &[("polars", "0.46"), ("rayon", "1"), ("arrow", "54")]),
    ("tauri", &[("tauri", "2"), ("wry", "0.50"), ("rusqlite", "0.32")]),
    (
        "wasmtime",
        &[("wasmtime", "30"), ("wasmtime-wasi", "30"), ("criterion", "0.5"), ("proptest", "1")],
    ),
];

/// All sets.
pub(super) fn all() -> Vec<Set> {
    let tables: [(Ecosystem, &[(&'static str, Wanted)]); 3] =
        [(Ecosystem::Pypi, &PYPI), (Ecosystem::Npm, &NPM), (Ecosystem::Cargo, &CARGO)];
    let mut sets = Vec::new();
    for (ecosystem, table) in tables {
        sets.extend(table.iter().map(|(name, wanted)| Set {
            name,
            ecosystem,
            packages: owned(wanted.iter().copied()),
            is_generated: false,
        }));
    }
    sets.push(Set {
        name: "universe",
        ecosystem: Ecosystem::Npm,
        packages: universe::wanted(),
        is_generated: true,
    });
    sets
}

fn owned(wanted: impl Iterator<Item = (&'static str, &'static str)>) -> Vec<(String, String)> {
    wanted.map(|(name, range)| (name.to_owned(), range.to_owned())).collect()
}

impl Set {
    /// A package of this set as the command line takes it.
    pub(super) fn spec(&self, name: &str, range: &str) -> String {
        let is_joined = range.is_empty() || self.ecosystem == Ecosystem::Pypi;
        format!("{}:{name}{}{range}", self.ecosystem, if is_joined { "" } else { "@" })
    }
}
