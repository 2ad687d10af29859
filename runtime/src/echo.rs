//! A tiny agent that gives back what it gets: shows that the bus and the supervision work, on any
//! machine, without a network. Hosted only where the configuration says so.

use std::sync::Arc;
use std::time::Duration;

use agents_contract::{Agent, AgentManifest, Conversation, Host, Question, Request, ToolError};

/// How long `echo.wait` sleeps between two looks at whether its caller is still there.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The longest `echo.wait`.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// The agent `echo`.
pub(crate) struct Echo {
    host: Arc<dyn Host>,
}

impl Echo {
    /// One that goes by the host's clock.
    pub(crate) fn new(host: Arc<dyn Host>) -> Self {
        Self { host }
    }
}

impl Agent for Echo {
    fn manifest(&self) -> AgentManifest {
        let tools =
            ["echo.echo", "echo.wait", "echo.directory", "echo.fail", "echo.panic", "echo.crash"];
        AgentManifest {
            name: "echo".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            category: "tool".to_owned(),
            priority: 1,
            tools: tools.map(str::to_owned).to_vec(),
            tags: vec!["diagnostic".to_owned()],
            ..AgentManifest::default()
        }
    }

    fn recover(&self) -> Result<(), ToolError> {
        Ok(())
    }

    fn call(
        &self,
        request: Request,
        conversation: &dyn Conversation,
    ) -> Result<Vec<u8>, ToolError> {
        match request.tool.as_str() {
            "echo.echo" => Ok(request.payload),
            "echo.wait" => wait(&request, conversation, self.host.as_ref()),
            "echo.directory" => count_entries(request),
            "echo.fail" => Err(refusal("echo-failed", "this tool always fails")),
            "echo.panic" => panic!("this tool always panics"),
            "echo.crash" => std::process::abort(),
            other => Err(refusal("no-such-tool", &format!("`echo` has no tool `{other}`"))),
        }
    }

    fn try_call(&self, question: &Question<'_>) -> Option<Result<Vec<u8>, ToolError>> {
        (question.tool == "echo.echo").then(|| Ok(question.payload.to_vec()))
    }
}

/// Waits for as many milliseconds as the payload says, or until nobody wants the answer any more.
/// Says that it has begun by sending its payload back as progress.
fn wait(
    request: &Request,
    conversation: &dyn Conversation,
    host: &dyn Host,
) -> Result<Vec<u8>, ToolError> {
    let milliseconds: u64 = ciborium::from_reader(request.payload.as_slice())
        .map_err(|_| refusal("bad-argument", "wanted is a number of milliseconds, in CBOR"))?;
    conversation.progress(&request.payload);
    let until = host.now() + Duration::from_millis(milliseconds).min(WAIT_MAX);
    while host.now() < until {
        if conversation.cancellation().is_cancelled() {
            return Err(refusal("cancelled", "nobody waits for the answer any more"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(request.payload.clone())
}

/// How many entries the granted directory has, in CBOR.
fn count_entries(request: Request) -> Result<Vec<u8>, ToolError> {
    let Some(directory) = request.directory else {
        return Err(refusal("bad-argument", "wanted is a granted directory"));
    };
    let failed =
        |error: rustix::io::Errno| refusal("unreadable", &format!("the directory: {error}"));
    let mut count = 0u64;
    for entry in rustix::fs::Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        count += u64::from(![c".", c".."].contains(&entry.file_name()));
    }
    let mut payload = Vec::new();
    ciborium::into_writer(&count, &mut payload)
        .map_err(|error| refusal("internal", &error.to_string()))?;
    Ok(payload)
}

fn refusal(code: &str, message: &str) -> ToolError {
    ToolError {
        exit_code: 1,
        code: code.to_owned(),
        message: message.to_owned(),
        hint: None,
        retry: false,
    }
}
