//! `~/.netrc`: names and passwords per host, which pip and uv send to indexes.

/// One `machine` (or `default`, without a host) with what to send to it.
#[derive(PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) host: Option<String>,
    pub(super) login: String,
    pub(super) password: String,
}

/// Reads the file; what is not understood is skipped.
pub(super) fn parse(text: &str) -> Vec<Machine> {
    let mut machines: Vec<Machine> = Vec::new();
    let mut in_macro = false;
    for line in text.lines() {
        // A macro definition ends with an empty line.
        if in_macro {
            in_macro = !line.trim().is_empty();
            continue;
        }
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "machine" => machines.push(Machine {
                    host: Some(words.next().unwrap_or_default().to_ascii_lowercase()),
                    login: String::new(),
                    password: String::new(),
                }),
                "default" => machines.push(Machine {
                    host: None,
                    login: String::new(),
                    password: String::new(),
                }),
                "login" | "user" => {
                    if let (Some(machine), Some(value)) = (machines.last_mut(), words.next()) {
                        machine.login = unquote(value);
                    }
                }
                "password" => {
                    if let (Some(machine), Some(value)) = (machines.last_mut(), words.next()) {
                        machine.password = unquote(value);
                    }
                }
                "account" => {
                    words.next();
                }
                "macdef" => {
                    in_macro = true;
                    break;
                }
                word if word.starts_with('#') => break,
                _ => {}
            }
        }
    }
    machines.retain(|machine| !machine.login.is_empty() || !machine.password.is_empty());
    machines
}

fn unquote(word: &str) -> String {
    let inner = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
    inner.unwrap_or(word).to_owned()
}
