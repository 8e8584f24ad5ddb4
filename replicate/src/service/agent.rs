//! The way to the agent: orders come from there, words go there. It is tried again for ever.

use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use vipd_agent::control::protocol::{Answer, Body, How, LONGEST_ANSWER, Request, VERSION, Verb};
use vipd_core::replica::{Order, Word};

/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(500);
/// For an answer, and for taking a line.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the service hears.
#[derive(Debug)]
pub(super) enum FromAgent {
    /// There is a connection.
    Here,
    /// The agent says so.
    Order(Order),
    /// There is none any more, or none yet, and why.
    Gone(String),
}

/// Speaks with the agent behind `socket`; `words` that come while it is away are forgotten, because reports come again.
pub(super) async fn speak(
    socket: PathBuf,
    tell: mpsc::UnboundedSender<FromAgent>,
    mut words: mpsc::UnboundedReceiver<Word>,
) {
    loop {
        let why = match connect(&socket).await {
            Ok(stream) => {
                let _ = tell.send(FromAgent::Here);
                exchange(stream, &tell, &mut words).await
            }
            Err(why) => why,
        };
        if tell.send(FromAgent::Gone(why)).is_err() {
            return;
        }
        sleep(AGAIN).await;
        while words.try_recv().is_ok() {}
    }
}

/// A connection on which the agent has accepted this process as the replicator.
async fn connect(socket: &PathBuf) -> Result<BufReader<UnixStream>, String> {
    let failed = |error: io::Error| format!("no agent answers on {}: {error}", socket.display());
    let stream = UnixStream::connect(socket).await.map_err(failed)?;
    let mut stream = BufReader::new(stream);
    let request = Request { v: VERSION, verb: Verb::Replicate {}, how: How::default() };
    let mut line = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
    line.push(b'\n');
    let ask = async {
        stream.get_mut().write_all(&line).await?;
        let mut answer = Vec::new();
        (&mut stream).take(LONGEST_ANSWER as u64).read_until(b'\n', &mut answer).await?;
        Ok(answer)
    };
    let answer = match timeout(PATIENCE, ask).await {
        Ok(answer) => answer.map_err(failed)?,
        Err(_) => return Err("the agent does not answer".to_owned()),
    };
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|error| format!("the agent's answer makes no sense: {error}"))?;
    match answer.body {
        Body::Accepted(_) => Ok(stream),
        Body::Error(complaint) => Err(format!("the agent says: {}", complaint.message)),
        _ => Err("the agent's answer makes no sense".to_owned()),
    }
}

/// Until it ends; why it did.
async fn exchange(
    mut stream: BufReader<UnixStream>,
    tell: &mpsc::UnboundedSender<FromAgent>,
    words: &mut mpsc::UnboundedReceiver<Word>,
) -> String {
    let mut line = Vec::new();
    loop {
        let left = LONGEST_ANSWER.saturating_sub(line.len());
        let mut bounded = (&mut stream).take(left as u64);
        tokio::select! {
            // Dropped in the middle of a line, what has come of it stays in `line`.
            read = bounded.read_until(b'\n', &mut line) => {
                match read {
                    Ok(_) if line.ends_with(b"\n") => {}
                    Ok(_) => return "the agent ended the connection".to_owned(),
                    Err(error) => return format!("the agent ended the connection: {error}"),
                }
                match serde_json::from_slice(&line) {
                    Ok(order) => {
                        if tell.send(FromAgent::Order(order)).is_err() {
                            return String::new();
                        }
                    }
                    // A later agent knows more orders.
                    Err(error) => tracing::warn!("an order of the agent was not understood: {error}"),
                }
                line.clear();
            }
            Some(word) = words.recv() => {
                let Ok(mut said) = serde_json::to_vec(&word) else { continue };
                said.push(b'\n');
                match timeout(PATIENCE, stream.get_mut().write_all(&said)).await {
                    Ok(Ok(())) => {}
                    _ => return "the agent does not take reports".to_owned(),
                }
            }
        }
    }
}
