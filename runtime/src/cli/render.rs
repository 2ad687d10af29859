//! Answers of the Packager as text for people. Plain lines, no colour: what a terminal adds is not information.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agents_packager::api::{
    Action, ApplyAnswer, HistoryAnswer, InfoAnswer, ListAnswer, OutdatedAnswer, PlanAnswer,
    RollbackAnswer, SearchAnswer, WhyAnswer,
};

/// The text of a plan: what changes, what stays is only counted.
pub(super) fn plan(answer: &PlanAnswer) -> String {
    let mut text = String::new();
    if let Some(conflict) = &answer.conflict {
        // Its lines are made here; a conflict is nothing that anybody agrees to.
        let _ = writeln!(text, "{}", conflict.explanation);
        for repair in &conflict.repairs {
            line(&mut text, format_args!("  could work: {}", repair.description));
        }
        return text;
    }
    for package in answer.packages.iter().filter(|package| package.action != Action::Keep) {
        let sign = if package.action == Action::Add { '+' } else { '~' };
        let size = package.size.map(|bytes| format!("  {}", size(bytes))).unwrap_or_default();
        let scripts = if package.scripts.is_empty() { "" } else { "  (scripts not run)" };
        // A registry has a name, an address has a scheme.
        let address = Some(&*package.source).filter(|source| source.contains(':'));
        let from = match (&package.built, address) {
            (Some(built), address) => {
                format!("  built from {} ({})", address.unwrap_or(&built.file), built.hash)
            }
            (None, Some(address)) => format!("  from {address}"),
            (None, None) => String::new(),
        };
        line(&mut text, format_args!("{sign} {}{size}{scripts}{from}", package.purl));
    }
    for purl in &answer.removed {
        line(&mut text, format_args!("- {purl}"));
    }
    let kept = answer.packages.iter().filter(|package| package.action == Action::Keep).count();
    if kept > 0 {
        line(&mut text, format_args!("= {kept} packages stay as they are"));
    }
    for package in answer.packages.iter().filter(|package| package.held) {
        line(&mut text, format_args!("= {} is held", package.purl));
    }
    for file in &answer.files {
        line(&mut text, format_args!("* {file}"));
    }
    for exempt in &answer.exemptions {
        let (purl, reason) = (&exempt.purl, &exempt.reason);
        let published = exempt.published.as_deref().unwrap_or("nobody says when");
        line(&mut text, format_args!("! {purl} is too young ({published}), let through: {reason}"));
    }
    for warning in &answer.warnings {
        line(&mut text, format_args!("warning: {warning}"));
    }
    if let Some(digest) = &answer.digest {
        line(&mut text, format_args!("plan {digest}"));
    }
    text
}

/// What an applied plan did.
pub(super) fn apply(answer: &ApplyAnswer) -> String {
    let mut text = String::new();
    for warning in &answer.warnings {
        line(&mut text, format_args!("warning: {warning}"));
    }
    let Some(transaction) = &answer.transaction else {
        line(&mut text, format_args!("nothing to do: `{}` is as it should be", answer.project));
        return text;
    };
    for purl in &answer.installed {
        line(&mut text, format_args!("+ {purl}"));
    }
    for purl in &answer.removed {
        line(&mut text, format_args!("- {purl}"));
    }
    if let Some(kept) = &answer.kept {
        line(&mut text, format_args!("edited files were kept in `{kept}`"));
    }
    let times: Vec<String> =
        answer.times_ms.iter().map(|(step, ms)| format!("{step} {ms:.0} ms")).collect();
    line(
        &mut text,
        format_args!(
            "{transaction}: {} installed, {} removed, {} downloaded ({})",
            answer.installed.len(),
            answer.removed.len(),
            size(answer.downloaded_bytes),
            times.join(", ")
        ),
    );
    text
}

/// What is installed.
pub(super) fn list(answer: &ListAnswer) -> String {
    let mut text = String::new();
    for package in &answer.packages {
        let direct = if package.direct { "*" } else { " " };
        let place = if package.place.is_empty() { "" } else { "  " };
        let held = if package.held { "  (held)" } else { "" };
        line(&mut text, format_args!("{direct} {}{place}{}{held}", package.purl, package.place));
    }
    if answer.packages.is_empty() {
        line(&mut text, format_args!("nothing is installed by bolide in `{}`", answer.project));
    }
    text
}

/// The ways to a package, one to a line.
pub(super) fn why(answer: &WhyAnswer) -> String {
    let mut text = String::new();
    for package in &answer.packages {
        let place = if package.place.is_empty() { "" } else { "  " };
        line(&mut text, format_args!("{}{place}{}", package.purl, package.place));
        for path in &package.paths {
            line(&mut text, format_args!("  {}", path.join(" > ")));
        }
        if package.paths.is_empty() {
            line(&mut text, format_args!("  nothing that the project asks for leads here"));
        }
        if package.more > 0 {
            line(&mut text, format_args!("  and {} more", package.more));
        }
    }
    if answer.packages.is_empty() {
        line(&mut text, format_args!("it is not used in `{}`", answer.project));
    }
    text
}

/// What could be newer, as a table.
pub(super) fn outdated(answer: &OutdatedAnswer) -> String {
    let mut rows = vec![
        ["package", "asked for", "current", "allowed", "newest", ""].map(str::to_owned).to_vec(),
    ];
    for package in &answer.packages {
        let or_none = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".to_owned());
        rows.push(vec![
            package.purl.clone(),
            package.requirement.clone(),
            or_none(&package.current),
            or_none(&package.allowed),
            package.newest.clone(),
            if package.held { "held" } else { "" }.to_owned(),
        ]);
    }
    let mut text = String::new();
    if answer.packages.is_empty() {
        line(
            &mut text,
            format_args!("everything that `{}` asks for is the newest", answer.project),
        );
    } else {
        text = super::output::table(&rows);
    }
    for warning in &answer.warnings {
        line(&mut text, format_args!("warning: {warning}"));
    }
    text
}

/// What was found, and where was not looked.
pub(super) fn search(answer: &SearchAnswer) -> String {
    let mut text = String::new();
    for result in &answer.results {
        let description = result.description.as_ref();
        let description = description.map(|said| format!("  {said}")).unwrap_or_default();
        line(&mut text, format_args!("{:<9}  {}{description}", result.origin, result.purl));
    }
    if answer.results.is_empty() {
        line(&mut text, format_args!("nothing was found"));
    }
    for note in &answer.notes {
        line(&mut text, format_args!("note: {note}"));
    }
    text
}

/// What the registry says about a package.
pub(super) fn info(answer: &InfoAnswer) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("{}", answer.purl));
    if answer.latest != answer.version {
        line(&mut text, format_args!("latest     {}", answer.latest));
    }
    line(&mut text, format_args!("versions   {}", answer.versions_count));
    let optional = [
        ("license", &answer.license),
        ("published", &answer.published),
        ("withdrawn", &answer.withdrawn),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            line(&mut text, format_args!("{name:<10} {value}"));
        }
    }
    line(&mut text, format_args!("hash       {}", answer.hash));
    for script in &answer.scripts {
        line(&mut text, format_args!("script     {script} (not run)"));
    }
    for requirement in &answer.requires {
        line(&mut text, format_args!("requires   {requirement}"));
    }
    text
}

/// The transactions, newest first.
pub(super) fn history(answer: &HistoryAnswer, with_projects: bool) -> String {
    let mut text = String::new();
    for entry in &answer.transactions {
        let project = match with_projects {
            true => format!("  {}", entry.project),
            false => String::new(),
        };
        line(
            &mut text,
            format_args!(
                "{}  {}  {:<11}  {:<8}{project}  {}",
                entry.transaction,
                utc(UNIX_EPOCH + Duration::from_secs(entry.started_at)),
                entry.state,
                entry.operation,
                entry.summary
            ),
        );
    }
    if answer.transactions.is_empty() {
        line(&mut text, format_args!("no transactions yet"));
    }
    text
}

/// What a rollback brought back.
pub(super) fn rollback(answer: &RollbackAnswer) -> String {
    let mut text = String::new();
    line(
        &mut text,
        format_args!(
            "{}: undone {}; `{}` is as it was before ({:.1} ms until visible)",
            answer.transaction,
            answer.undone.join(", "),
            answer.project,
            answer.visible_ms
        ),
    );
    if let Some(kept) = &answer.kept {
        line(&mut text, format_args!("edited files were kept in `{kept}`"));
    }
    for warning in &answer.warnings {
        line(&mut text, format_args!("warning: {warning}"));
    }
    text
}

/// A time of day as `2026-01-31 13:05:09 UTC`, by the civil-from-days algorithm of Howard Hinnant.
pub(super) fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// A number of bytes as people read it.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Adds a line, which stays one whatever is in its fields: nothing that a registry or a project says becomes a line of its own.
fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{}", super::output::one_line(&arguments.to_string()));
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use agents_packager::api::PlanAnswer;

    use super::{plan, size, utc};

    #[test]
    fn nothing_in_a_plan_becomes_a_line_of_its_own() {
        let package = serde_json::json!({
            "purl": "pkg:cargo/leaf@1.0.0", "action": "add", "direct": true, "hash": "", "scripts": [], "dependencies": [],
            "source": "sparse+https://x.invalid/\n- pkg:cargo/other@1.0.0\u{202e}",
        });
        let answer = serde_json::json!({
            "schema": "bolide.plan/1", "project": "/p", "files": [], "resolve_ms": 1.0,
            "packages": [package], "removed": ["pkg:cargo/gone@1.0.0"], "warnings": ["one\n+ two"],
        });
        let answer: PlanAnswer = serde_json::from_value(answer).expect("an answer");
        let text = plan(&answer);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("\\n- pkg:cargo/other@1.0.0\\u{202e}\n"), "{text}");
    }

    #[test]
    fn times_are_civil() {
        let check = |seconds, expected| {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        };
        check(0, "1970-01-01 00:00:00 UTC");
        check(951_782_399, "2000-02-28 23:59:59 UTC");
        check(951_782_400, "2000-02-29 00:00:00 UTC");
        check(1_795_219_200, "2026-11-21 00:00:00 UTC");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            [size(0), size(1023), size(1536), size(5 << 30)],
            ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
        );
    }
}
