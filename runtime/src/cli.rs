//! The command line: what can be said, and which file answers it. One file per group of commands;
//! nothing here does anything itself.

mod agent;
mod ask;
mod config;
mod exit;
mod output;
mod serve;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::exit::Failure;
use crate::config::{Config, Flags};
use crate::paths::process_environment;

/// A resident native runtime for agents.
#[derive(Debug, Parser)]
#[command(name = "bolide", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Places {
    /// Read this configuration file instead of the user's and the machine's
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the control socket
    #[arg(long, global = true, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
    /// Directory of what must survive
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Serve(serve::Serve),
    /// Show how the daemon and its agents are
    Status(status::Status),
    /// List the agents on the bus
    Agents(status::Agents),
    /// Run one agent by itself; the daemon does this for those that it hosts
    #[command(subcommand)]
    Agent(agent::Agent),
    /// Check, show or describe the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// What a command is given besides its own arguments.
struct Context {
    flags: Flags,
}

impl Context {
    /// The settings, with `more` flags of the command's own.
    fn load(
        &self,
        more: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Config, Failure> {
        let mut flags = self.flags.clone();
        flags.values.extend(more);
        Config::load(&flags, &process_environment).map_err(Failure::wrong_use)
    }
}

/// Reads the command line, does what it says, gives the exit code of CONTRACT.md.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let context = Context { flags: flags_of(cli.places) };
    let done = match cli.command {
        Command::Serve(command) => command.run(&context),
        Command::Status(command) => command.run(&context),
        Command::Agents(command) => command.run(&context),
        Command::Agent(command) => command.run(&context),
        Command::Config(command) => command.run(&context),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::complain(&failure);
            failure.exit.into()
        }
    }
}

fn flags_of(places: Places) -> Flags {
    let named = [("runtime_dir", places.runtime_dir), ("state_dir", places.state_dir)];
    let given = |(name, path): (&'static str, Option<PathBuf>)| {
        path.map(|path| (name, path.to_string_lossy().into_owned()))
    };
    Flags { config: places.config, values: named.into_iter().filter_map(given).collect() }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_tree_is_sound() {
        super::Cli::command().debug_assert();
    }
}
