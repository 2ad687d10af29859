//! `bolide config check|show|schema`: what is set, by whom, and what could be.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::config::KEYS;

/// `bolide config`
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Read everything and say whether it is in order
    Check,
    /// Show every value and where it comes from
    Show {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List every key with its variable and meaning
    Schema {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

impl ConfigCommand {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Check => {
                context.load([])?;
                output::print("the configuration is in order\n")?;
            }
            Self::Show { json } => show(context, json)?,
            Self::Schema { json } => schema(json)?,
        }
        Ok(Exit::Done)
    }
}

fn show(context: &Context, json: bool) -> Result<(), Failure> {
    let config = context.load([])?;
    let mut values = Map::new();
    let mut rows = Vec::new();
    for key in KEYS {
        let value = (key.show)(&config.settings);
        let origin = config.origins.get(key.name).map(ToString::to_string).unwrap_or_default();
        values.insert(key.name.to_owned(), json!({ "value": value, "origin": origin }));
        rows.push(vec![format!("{} = {value}", key.name), format!("({origin})")]);
    }
    if json {
        output::print_json(&json!({ "schema": "bolide-config/1", "values": values }))?;
    } else {
        output::print(&output::table(&rows))?;
    }
    Ok(())
}

fn schema(json: bool) -> Result<(), Failure> {
    if json {
        let describe = |key: &crate::config::Key| {
            let (name, variable) = (key.name, key.environment);
            json!({ "name": name, "environment": variable, "summary": key.summary })
        };
        let keys: Vec<Value> = KEYS.iter().map(describe).collect();
        output::print_json(&json!({ "schema": "bolide-config-schema/1", "keys": keys }))?;
    } else {
        let row = |key: &crate::config::Key| {
            vec![key.name.to_owned(), key.environment.to_owned(), key.summary.to_owned()]
        };
        output::print(&output::table(&KEYS.iter().map(row).collect::<Vec<_>>()))?;
    }
    Ok(())
}
