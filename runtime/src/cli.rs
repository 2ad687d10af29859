//! The command line: what can be said, and which file answers it. One file per group of commands;
//! nothing here does anything itself.

mod agent;
mod ask;
pub(crate) mod backend;
mod bench;
mod cache;
mod changes;
mod config;
mod doctor;
mod exit;
mod files;
mod history;
mod hold;
mod looking;
mod options;
mod output;
mod packages;
mod progress;
mod project;
mod quick;
mod render;
mod revoke;
mod serve;
mod status;
mod top;
mod unpack;
mod verify;
mod vers;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use self::exit::{Exit, Failure};
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
    /// Watch agents, lanes and topics at work
    Top(top::Top),
    /// Take links and topics of an agent away from it
    Revoke(revoke::Revoke),
    /// Explain what this machine is and what Bolide makes of it
    Doctor(doctor::Doctor),
    /// Print what adding or removing packages would do, and the digest that an approval names
    Plan(packages::Plan),
    /// Carry out an approved plan
    Apply(packages::Apply),
    /// Plan, approve and apply: the packages are installed and the manifests updated
    Add(packages::Change),
    /// The same for packages that are no longer wanted
    Remove(packages::Change),
    /// Bring the environments in line with the manifests and bolide.lock
    Install(packages::Install),
    /// Choose newer versions within what the manifests allow
    Update(packages::Update),
    /// List what is installed
    List(packages::List),
    /// Show who wants a package
    Why(looking::Why),
    /// Show which direct dependencies have newer versions
    Outdated(looking::Outdated),
    /// Look for packages by words of their names
    Search(looking::Search),
    /// Show what the registry says about a package
    Info(packages::Info),
    /// List the transactions
    History(packages::History),
    /// Bring back the state before a transaction
    Rollback(packages::Rollback),
    /// Keep packages at the versions that they have, or show which are kept
    Hold(hold::Hold),
    /// Let packages change again
    Unhold(hold::Unhold),
    /// Compare what is installed with what was installed, and bring back what differs
    Verify(verify::Verify),
    /// Show the store of packages, make it smaller, or look for damage in it
    #[command(subcommand)]
    Cache(cache::Cache),
    /// Unpack an archive that nobody vouches for, or say why not
    Unpack(unpack::Unpack),
    /// Answer changes of a project's manifests by themselves
    #[command(subcommand)]
    Watch(watch::Watch),
    /// Compare, match and sort versions as their ecosystem does: a filter over lines
    #[command(subcommand)]
    Vers(vers::Vers),
    /// Measure this machine: the figures of the README
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
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

/// `bolide install` by itself. It is what people wait for most often, and to put the trees of all commands together takes longer than
/// everything else until the daemon is asked.
#[derive(Debug, Parser)]
#[command(name = "bolide", version, about, disable_help_subcommand = true)]
struct Alone {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    command: OneCommand,
}

#[derive(Debug, Subcommand)]
enum OneCommand {
    /// Bring the environments in line with the manifests and bolide.lock
    Install(packages::Install),
}

/// What the command line says. What it says of one command alone, or in words that need no tree, it says of it among all; mistakes and
/// questions are for all of them.
fn read(line: &[OsString]) -> Result<Cli, clap::Error> {
    if let Some((places, install)) = quick::install(line) {
        return Ok(Cli { places, command: Command::Install(install) });
    }
    if line.iter().any(|word| word == "install")
        && let Ok(Alone { places, command: OneCommand::Install(install) }) =
            Alone::try_parse_from(line)
    {
        return Ok(Cli { places, command: Command::Install(install) });
    }
    Cli::try_parse_from(line)
}

/// Reads the command line, does what it says, gives the exit code of CONTRACT.md.
pub(crate) fn run() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let cli = read(&line).unwrap_or_else(|error| error.exit());
    let context = Context { flags: flags_of(cli.places) };
    let done = match cli.command {
        Command::Serve(command) => command.run(&context),
        Command::Status(command) => command.run(&context),
        Command::Agents(command) => command.run(&context),
        Command::Top(command) => command.run(&context),
        Command::Revoke(command) => command.run(&context),
        Command::Doctor(command) => command.run(&context),
        Command::Plan(command) => packages::plan(command, &context),
        Command::Apply(command) => packages::apply(command, &context),
        Command::Add(command) => packages::add(command, &context),
        Command::Remove(command) => packages::remove(command, &context),
        Command::Install(command) => packages::install(command, &context),
        Command::Update(command) => packages::update(command, &context),
        Command::List(command) => packages::list(command, &context),
        Command::Why(command) => looking::why(command, &context),
        Command::Outdated(command) => looking::outdated(command, &context),
        Command::Search(command) => looking::search(command, &context),
        Command::Info(command) => packages::info(command, &context),
        Command::History(command) => packages::history(command, &context),
        Command::Rollback(command) => packages::rollback(command, &context),
        Command::Hold(command) => command.run(&context),
        Command::Unhold(command) => command.run(&context),
        Command::Verify(command) => command.run(&context),
        Command::Cache(command) => command.run(&context),
        Command::Unpack(command) => command.run(),
        Command::Watch(command) => command.run(&context),
        Command::Vers(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Completions { shell } => completions(shell),
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

fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bolide", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
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
    use std::ffi::OsString;

    use clap::{CommandFactory as _, Parser as _};

    use super::Cli;

    #[test]
    fn the_command_tree_is_sound() {
        super::Cli::command().debug_assert();
        super::Alone::command().debug_assert();
    }

    #[test]
    fn what_is_said_mostly_is_read_without_the_tree() {
        let line =
            "bolide install --frozen --json --offline --registry npm=http://127.0.0.1:1/ --dir a";
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert!(super::quick::install(&words).is_some());
    }

    /// Whatever is said of it: alone, or without a tree, it reads the same.
    #[test]
    fn one_command_alone_reads_what_it_reads_among_all() {
        let lines = [
            "bolide install",
            "bolide install --frozen --json --offline --registry npm=http://127.0.0.1:1/",
            "bolide --state-dir /s install --dir a --yes --force --standalone --take-over",
            "bolide install --runtime-dir /r --config /c --python 3 --minimum-age 3d",
            "bolide --config install status",
            "bolide --config install install --dir install",
            "bolide bench install --rounds 1",
            "bolide plan install",
            "bolide plan --install",
            "bolide why install --json",
            "bolide install express",
            "bolide install --help",
            "bolide install --frozzen",
            "bolide --version install",
            "bolide",
            "bolide install install",
            "bolide --json install",
            "bolide --dir a install",
            "bolide install --json --json",
            "bolide install --dir a --dir b",
            "bolide install --dir",
            "bolide install --dir=",
            "bolide install --dir=a=b --python=/usr/bin/python3",
            "bolide install --dir -a",
            "bolide install --dir=-a",
            "bolide install --json=true",
            "bolide install -- --json",
            "bolide install -h",
            "bolide install --",
            "bolide install --registry npm=http://a --registry pypi=http://b",
            "bolide install --registry other=http://a",
            "bolide install --registry=cargo=http://a --config=/c --state-dir=/s --runtime-dir=/r",
            "bolide --config /c --state-dir /s install --config /d",
            "bolide --config=/c --runtime-dir=/r install --yes --force --take-over --standalone",
            "bolide install --universal --resolution lowest --only-binary :all:",
            "bolide install  --json",
        ];
        for line in lines {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let read = super::read(&words).map_err(|error| error.to_string());
            let among_all = Cli::try_parse_from(&words).map_err(|error| error.to_string());
            assert_eq!(format!("{read:?}"), format!("{among_all:?}"), "{line}");
        }
    }
}
