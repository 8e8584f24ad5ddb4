//! `vipd history`, `vipd events`: what happened on this host, and what happens.

use super::screen::{PLAIN, Screen};
use super::{Exit, Failure, Place, say};
use crate::control::client::{self, ClientError, Talk};
use crate::control::events::Event;
use crate::control::socket_path;
use clap::Args;
use serde_json::Value;
use std::io::IsTerminal;
use std::path::Path;

/// How many lines come before the first new one.
const BEFORE: usize = 10;

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Of this instance, and of the host [default: all]
    instance: Option<String>,
    /// The newest so many [default: all that are kept, 500]
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Of this instance, and of the host [default: all]
    instance: Option<String>,
    /// Go on with what happens, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Begin with the newest so many of the history
    #[arg(short = 'n', long, value_name = "N", default_value_t = BEFORE)]
    last: usize,
    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
}

pub(super) fn history(place: &Place, args: HistoryArgs) -> Result<Exit, Failure> {
    print(&socket_path(&place.runtime_dir), args.last, args.instance, args.json)
}

pub(super) fn events(place: &Place, args: EventsArgs) -> Result<Exit, Failure> {
    let EventsArgs { instance, follow, last, json } = args;
    let socket = socket_path(&place.runtime_dir);
    if !follow {
        return print(&socket, Some(last), instance, json);
    }
    let mut talk = Talk::subscribe(&socket, Some(last), instance)?;
    // The status document, which `vipd status` shows better.
    talk.answer()?;
    loop {
        let line = talk.line()?;
        client::understood(&line)?;
        let garbled = |error: serde_json::Error| ClientError::Garbled(error.to_string());
        let mut document: Value = serde_json::from_str(&line).map_err(garbled)?;
        let event = document["event"].take();
        // As it came: it may have fields that this version does not know.
        let said = match json {
            true => event.to_string(),
            false => told(&serde_json::from_value(event).map_err(garbled)?),
        };
        if !say(said) {
            return Ok(Exit::Done);
        }
    }
}

fn print(
    socket: &Path,
    last: Option<usize>,
    instance: Option<String>,
    json: bool,
) -> Result<Exit, Failure> {
    for event in client::history(socket, last, instance)? {
        let said = match json {
            true => serde_json::to_string(&event).map_err(|e| Failure::new(Exit::Failed, e))?,
            false => told(&event),
        };
        if !say(said) {
            break;
        }
    }
    Ok(Exit::Done)
}

/// When and what, and how long what ended with it had lasted: on a terminal broken between words, one line elsewhere.
fn told(event: &Event) -> String {
    let after = event.duration_s.map_or_else(String::new, |s| {
        format!(" (after {})", crate::telemetry::seconds(std::time::Duration::from_secs_f64(s)))
    });
    let (head, text) = (format!("{}  ", event.time), format!("{}{after}", event.message));
    if !std::io::stdout().is_terminal() {
        return head + &text;
    }
    let mut screen = Screen::default();
    screen.entry(&head, &text, PLAIN);
    screen.into_text().trim_end().to_owned()
}
