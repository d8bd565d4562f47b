//! Operates a daemon and prints one JSON object per step. FULLON_ADMIN is the address of the admin
//! API, FULLON_TOKEN a token.

use std::error::Error;

use fullon_operate::types::{LogEntry, LogLevelRequest, StopRequest};
use fullon_operate::{read_problem, with_token};
use futures_util::StreamExt as _;
use progenitor_client::{ByteStream, ResponseValue};
use serde_json::{Value, json};

type ApiResult<T> = Result<ResponseValue<T>, progenitor_client::Error<ByteStream>>;

fn report(step: &str, value: Value) {
    println!("{}", json!({ step: value }));
}

/// The problem of an error response.
async fn problem_of<T>(result: ApiResult<T>) -> Result<Value, Box<dyn Error>> {
    match result {
        Err(progenitor_client::Error::ErrorResponse(response)) => {
            let problem = read_problem(response).await?;
            Ok(json!({
                "status": problem.status,
                "title": problem.title,
                "detail": problem.detail,
            }))
        }
        Err(error) => Err(error.to_string().into()),
        Ok(_) => Err("the call was not refused".into()),
    }
}

/// Names and data of the first events. The generated client does not parse event streams (HTML
/// standard, section 9.2).
async fn follow(mut stream: ByteStream, count: usize) -> Result<Vec<Value>, Box<dyn Error>> {
    let (mut unread, mut name, mut events) = (Vec::new(), String::new(), Vec::new());
    while events.len() < count {
        unread.extend_from_slice(&stream.next().await.ok_or("the stream ended")??);
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8(unread.drain(..=end).collect())?;
            match line.trim_end().split_once(": ") {
                Some(("event", value)) => name = value.to_owned(),
                Some(("data", value)) => {
                    let entry: LogEntry = serde_json::from_str(value)?;
                    events.push(json!({ "event": name, "entry": entry }));
                }
                _ => {}
            }
        }
    }
    events.truncate(count);
    Ok(events)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let base = std::env::var("FULLON_ADMIN")?;
    let unauthorized = with_token(&base, "none")?;
    report(
        "refused",
        problem_of(unauthorized.get_status().send().await).await?,
    );
    let client = with_token(&base, &std::env::var("FULLON_TOKEN")?)?;
    report("status", json!(*client.get_status().send().await?));
    let invalid = client.get_logs().since("soon").send().await;
    report("bad_parameter", problem_of(invalid).await?);
    let before = client.get_log_level().send().await?;
    let more = LogLevelRequest {
        level: "debug".into(),
        revert_after_seconds: Some(600.0),
    };
    let now = client.set_log_level().body(more).send().await?;
    report(
        "log_level",
        json!({ "before": before.level, "now": now.level, "configured": now.configured_level }),
    );
    let page = client.get_logs().lines(2).send().await?;
    report("logs", json!(page.entries));
    let stream = client.stream_logs().lines(2).send().await?.into_inner();
    report("events", follow(stream, 2).await?.into());
    report("reload", json!(*client.reload_settings().send().await?));
    let page = client.get_audit().lines(1).send().await?;
    report("audit", json!(page.records));
    report("restart", json!(*client.restart_daemon().send().await?));
    let request = StopRequest {
        timeout_seconds: Some(5.0),
    };
    report(
        "stop",
        json!(*client.stop_daemon().body(request).send().await?),
    );
    Ok(())
}
