//! `millstream top`: what the flows of a daemon do, as it goes on.

mod screen;
mod view;
mod watched;

use std::io::{IsTerminal as _, stdin, stdout};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use millstream_core::{Error, Result};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{Event as Input, KeyEventKind, read};
use serde_json::json;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::screen::{Screen, Then};
use self::watched::Watched;
use super::RemoteArguments;
use super::client::{Ask, Client};
use super::events::Event;
use crate::exit::{CommandError, Exit, Outcome};
use crate::interrupts::Interrupts;
use crate::terminal::print_json;
use crate::workplace::control_runtime;

/// How often it is drawn, if nobody presses a key.
const GLANCE: Duration = Duration::from_millis(500);

/// How long it waits until it asks a daemon again that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// How much may wait that was told or pressed.
const QUEUE: usize = 256;

/// What `top` takes.
#[derive(Debug, Args)]
pub struct TopArguments {
    /// Where the daemon is.
    #[command(flatten)]
    remote: RemoteArguments,
}

/// What comes from a daemon.
enum Told {
    /// It has answered, and tells of these flows from the beginning.
    Again(Vec<String>),
    /// Something that it tells.
    Event(Event),
    /// It does not answer, and why.
    Lost(String),
}

/// `millstream top`
pub fn top(arguments: &TopArguments) -> Outcome {
    let control = control_runtime()?;
    let mut interrupts = Interrupts::listen(&control);
    let client = arguments.remote.client()?;
    let shown = control.block_on(async {
        // A daemon that is not there is no reason for an empty screen.
        let names = flows(&client).await?;
        let (tell, told) = channel(QUEUE);
        tokio::spawn(follow(Arc::new(client), names, tell));
        if arguments.remote.json { lines(told, &mut interrupts).await } else { draw(told, &mut interrupts).await }
    });
    // A thread may wait for a key that nobody presses.
    control.shutdown_background();
    shown?;
    Ok(Exit::Done)
}

/// A line of JSON every second, with all flows.
async fn lines(mut told: Receiver<Told>, interrupts: &mut Interrupts) -> Result<(), CommandError> {
    let mut watched = Watched::default();
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one is at once.
    seconds.tick().await;
    loop {
        tokio::select! {
            Some(told) = told.recv() => watched.take(told),
            _ = seconds.tick() => print_json(json!({ "lost": watched.lost(), "flows": watched.flows() })),
            () = interrupts.next() => return Ok(()),
        }
    }
}

async fn draw(told: Receiver<Told>, interrupts: &mut Interrupts) -> Result<(), CommandError> {
    if !(stdin().is_terminal() && stdout().is_terminal()) {
        return Err(Error::new("this is no terminal to draw on; `millstream top --json` prints lines").into());
    }
    let terminal = ratatui::try_init().map_err(|error| Error::caused_by("preparing the terminal", error))?;
    let drawn = tokio::select! {
        drawn = keep_drawing(terminal, told) => drawn,
        () = interrupts.next() => Ok(()),
    };
    // Whatever has come, the terminal is as it was.
    ratatui::restore();
    drawn
}

async fn keep_drawing(mut terminal: DefaultTerminal, mut told: Receiver<Told>) -> Result<(), CommandError> {
    let (mut watched, mut screen) = (Watched::default(), Screen::default());
    let mut keys = keys();
    let mut glances = interval(GLANCE);
    glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(told) = told.recv() => {
                watched.take(told);
                continue;
            }
            input = keys.recv() => match input {
                Some(Input::Key(key)) if key.kind == KeyEventKind::Press => {
                    if screen.press(key, &watched) == Then::End {
                        return Ok(());
                    }
                }
                // The terminal has another size.
                Some(_) => {}
                // Nobody can press a key any more.
                None => return Ok(()),
            },
            _ = glances.tick() => {}
        }
        let drawn = terminal.draw(|frame| view::draw(frame, &mut screen, &watched));
        drawn.map_err(|error| Error::caused_by("drawing", error))?;
    }
}

/// What is pressed. A thread waits for it, since a terminal can't be waited for otherwise.
fn keys() -> Receiver<Input> {
    let (sender, keys) = channel(QUEUE);
    std::thread::spawn(move || while read().is_ok_and(|input| sender.blocking_send(input).is_ok()) {});
    keys
}

/// Tells what a daemon tells, until nobody listens. When it does not answer, it is asked again.
async fn follow(client: Arc<Client>, mut names: Vec<String>, tell: Sender<Told>) {
    loop {
        let ended = follow_once(&client, &names, &tell).await;
        if tell.is_closed() {
            return;
        }
        if let Err(error) = ended {
            let _ = tell.send(Told::Lost(error.to_string())).await;
            sleep(PAUSE).await;
        }
        if let Ok(now) = flows(&client).await {
            names = now;
        }
    }
}

/// Tells what a daemon tells, until there is a flow that it was not asked about.
async fn follow_once(client: &Client, names: &[String], tell: &Sender<Told>) -> Result<(), CommandError> {
    let stats: String = names.iter().map(|name| format!(",flow:{name}.stats")).collect();
    let mut events = client.follow(Ask::get(format!("/events?topics=flows{stats}"))).await?;
    let _ = tell.send(Told::Again(names.to_owned())).await;
    while let Some(event) = events.next().await? {
        let is_new = event.name == "flow" && names.iter().all(|name| event.data["name"] != *name);
        if tell.send(Told::Event(event)).await.is_err() || is_new {
            return Ok(());
        }
    }
    Err(Error::new("the daemon has ended").into())
}

/// The names of all flows.
async fn flows(client: &Client) -> Result<Vec<String>, CommandError> {
    let answer = client.ask(Ask::get("/flows?limit=1000")).await?.json()?;
    let names = answer["items"].as_array().into_iter().flatten().filter_map(|flow| flow["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}
