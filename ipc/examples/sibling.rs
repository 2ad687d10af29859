//! A program of its own that asks an agent for something over the bus. It links `ipc` and nothing else of Bolide.
//!
//!     sibling --socket PATH --tool NAME [--dir D] [--json ARGUMENTS] [--token-file F] [--timeout-s N]
//!
//! Arguments are JSON and travel as CBOR. The directory is opened here and handed over as a descriptor; the agent resolves
//! beneath it and nowhere else. Progress goes to stderr, the answer to stdout, each as one line of JSON. The exit code is 0,
//! or that of the tool's error; 2 for wrong use, 3 where the router refuses the token, 8 where there is no daemon, 1 for other failures.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ciborium::Value;
use ipc::client::{Client, ClientError};
use ipc::link::Outcome;
use ipc::manifest::AgentManifest;
use rustix::fs::{Mode, OFlags};

const USAGE: &str = "usage: sibling --socket PATH --tool NAME [--dir D] [--json ARGUMENTS] \
    [--token-file F] [--timeout-s N]";
/// What a person waits for an installation.
const TIMEOUT_S_DEFAULT: u64 = 600;

/// The command line.
struct Options {
    socket: PathBuf,
    tool: String,
    directory: Option<PathBuf>,
    arguments: serde_json::Value,
    token: Vec<u8>,
    timeout: Duration,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => return end(2, &format!("{error:#}\n{USAGE}")),
    };
    match run(&options) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = match error.downcast_ref::<ClientError>() {
                Some(ClientError::Connect(_)) => 8,
                Some(ClientError::Refused { code, .. }) if code == "unauthorized" => 3,
                _ => 1,
            };
            end(code, &format!("{error:#}"))
        }
    }
}

fn run(options: &Options) -> Result<u8> {
    let manifest = AgentManifest {
        name: format!("demo.sibling.{}", std::process::id()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        category: "tool".to_owned(),
        priority: 5,
        ..AgentManifest::default()
    };
    let mut client = Client::connect(&options.socket, &manifest, &options.token)?;
    let mut link = client.open(&options.tool)?;
    let mut grants = Vec::new();
    if let Some(directory) = &options.directory {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, Mode::empty())
            .with_context(|| format!("cannot open `{}`", directory.display()))?;
        grants.push(client.grant(link.lane(), opened.as_fd())?);
    }
    let mut payload = Vec::new();
    ciborium::into_writer(&options.arguments, &mut payload).context("cannot encode arguments")?;
    let deadline = Instant::now() + options.timeout;
    let outcome =
        client.call(&mut link, &options.tool, &payload, &grants, deadline, |progress| {
            // A step that cannot be shown is no reason to give up the work.
            if let Ok(json) = to_json(progress) {
                let _ = writeln!(std::io::stderr(), "{json}");
            }
        })?;
    let (bytes, failed) = match &outcome {
        Outcome::Done(bytes) => (bytes, false),
        Outcome::Failed(bytes) => (bytes, true),
    };
    let json = to_json(bytes).context("the answer is no CBOR")?;
    writeln!(std::io::stdout(), "{json}")?;
    client.bye()?;
    let code = json.get("exit_code").and_then(serde_json::Value::as_u64);
    let code = code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
    Ok(if failed { code.unwrap_or(1) } else { 0 })
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options> {
    let (mut socket, mut tool, mut directory) = (None, None, None);
    let mut arguments = serde_json::json!({});
    let (mut token, mut timeout_s) = (Vec::new(), TIMEOUT_S_DEFAULT);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("`{word}` needs a value"));
        match word.as_str() {
            "--socket" => socket = Some(PathBuf::from(value()?)),
            "--tool" => tool = Some(value()?),
            "--dir" => directory = Some(PathBuf::from(value()?)),
            "--json" => {
                arguments = serde_json::from_str(&value()?).context("`--json` is no JSON")?;
            }
            "--token-file" => {
                let path = value()?;
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read `{path}`"))?;
                token = text.trim().as_bytes().to_vec();
            }
            "--timeout-s" => timeout_s = value()?.parse().context("`--timeout-s` is no number")?,
            _ => bail!("unknown option: `{word}`"),
        }
    }
    Ok(Options {
        socket: socket.context("`--socket` is missing")?,
        tool: tool.context("`--tool` is missing")?,
        directory,
        arguments,
        token,
        timeout: Duration::from_secs(timeout_s),
    })
}

fn end(code: u8, message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "sibling: {message}");
    ExitCode::from(code)
}

/// CBOR as JSON: bytes become hexadecimal text, tags are dropped, keys become text.
fn to_json(bytes: &[u8]) -> Result<serde_json::Value> {
    let value: Value = ciborium::from_reader(bytes)?;
    json_of(value)
}

fn json_of(value: Value) -> Result<serde_json::Value> {
    Ok(match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => value.into(),
        Value::Integer(value) => {
            let value = i128::from(value);
            match (u64::try_from(value), i64::try_from(value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => value.to_string().into(),
            }
        }
        Value::Float(value) => value.into(),
        Value::Text(value) => value.into(),
        Value::Bytes(value) => {
            value.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
        }
        Value::Array(values) => values.into_iter().map(json_of).collect::<Result<_>>()?,
        Value::Map(pairs) => {
            let pairs = pairs.into_iter().map(|(key, value)| {
                let key = match json_of(key)? {
                    serde_json::Value::String(key) => key,
                    other => other.to_string(),
                };
                Ok((key, json_of(value)?))
            });
            serde_json::Value::Object(pairs.collect::<Result<_>>()?)
        }
        Value::Tag(_, value) => json_of(*value)?,
        _ => return Err(anyhow!("a CBOR value of an unknown sort")),
    })
}
