//! When a request is tried again, and after which pause. Time is a parameter, so that tests wait for nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::Failure;
use crate::io::limits::{ATTEMPTS_MAX, BACKOFF_FIRST, RETRY_AFTER_MAX};

/// What passes between two tries.
pub(crate) trait Time: std::fmt::Debug + Send + Sync {
    /// Lets some of it pass.
    fn pause(&self, length: Duration) -> BoxFuture<'static, ()>;
    /// What a calendar says.
    fn now(&self) -> SystemTime;
}

/// The machine's.
#[derive(Debug)]
pub(crate) struct RealTime;

impl Time for RealTime {
    fn pause(&self, length: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(length))
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Whether the same request may get another answer soon.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// How long a server wants to be left alone: `Retry-After` in seconds, or until a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        // A date that is over asks for nothing.
        Err(_) => Some(date(text)?.duration_since(now).unwrap_or_default()),
    }
}

/// How long to wait before the next try; `None` when there should be none.
pub(crate) fn pause_before_retry(
    failure: &Failure,
    attempt: u32,
    wanted: Option<Duration>,
) -> Option<Duration> {
    if attempt >= ATTEMPTS_MAX || !failure.is_transient() {
        return None;
    }
    if wanted.is_some_and(|wanted| wanted > RETRY_AFTER_MAX) {
        return None;
    }
    let backoff = BACKOFF_FIRST * 2_u32.pow(attempt - 1);
    let pause = backoff.mul_f64(0.5 + jitter());
    Some(pause.max(wanted.unwrap_or_default()))
}

/// Between 0 and 1, different for every call: spreads the tries of many clients.
fn jitter() -> f64 {
    use std::hash::BuildHasher;
    let random = std::hash::RandomState::new().hash_one(0_u8);
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form of a date that servers may write.
fn date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let mut next = || words.next();
    let day: u64 = next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let name = next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64;
    let year: u64 = next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let mut clock = next()?.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if next() != Some("GMT") || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Counted from a first of March, so that leap days come last.
    let (shifted, of_year) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let leap_days = shifted / 4 - shifted / 100 + shifted / 400;
    let days = 365 * shifted + leap_days + (153 * of_year + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;
    use url::Url;

    use super::*;

    fn wanted(text: &str, now_s: u64) -> Option<u64> {
        let headers = [(RETRY_AFTER, HeaderValue::from_str(text).expect("a header"))];
        let headers = HeaderMap::from_iter(headers);
        let now = UNIX_EPOCH + Duration::from_secs(now_s);
        retry_after(&headers, now).map(|wanted| wanted.as_secs())
    }

    #[test]
    fn a_server_says_seconds_or_a_date() {
        assert_eq!(wanted(" 7 ", 0), Some(7));
        assert_eq!(wanted("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_770), Some(7));
        assert_eq!(wanted("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_780), Some(0));
        assert_eq!(wanted("Thu, 01 Jan 1970 00:00:09 GMT", 0), Some(9));
        assert_eq!(wanted("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_399), Some(1));
        for nonsense in [
            "",
            "-1",
            "soon",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(wanted(nonsense, 0), None, "{nonsense}");
        }
    }

    #[test]
    fn pauses_double_with_jitter_and_honour_what_is_asked_within_reason() {
        let url = Url::parse("http://r.example.invalid/").expect("an address");
        let failure = Failure::Status { url, status: StatusCode::SERVICE_UNAVAILABLE };
        let pause = |attempt, wanted| pause_before_retry(&failure, attempt, wanted);
        for attempt in 1..ATTEMPTS_MAX {
            let usual = BACKOFF_FIRST * 2_u32.pow(attempt - 1);
            let pauses: Vec<_> = (0..50).filter_map(|_| pause(attempt, None)).collect();
            assert!(pauses.iter().all(|one| *one >= usual / 2 && *one <= usual * 3 / 2));
            assert!(pauses.iter().any(|one| *one != pauses[0]), "all clients at once");
        }
        assert_eq!(pause(ATTEMPTS_MAX, None), None);
        assert_eq!(pause(1, Some(RETRY_AFTER_MAX)), Some(RETRY_AFTER_MAX));
        assert_eq!(pause(1, Some(RETRY_AFTER_MAX + Duration::from_secs(1))), None);
    }
}
