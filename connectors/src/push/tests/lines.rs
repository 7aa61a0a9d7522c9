//! A second push input, as small as one can be: programs send rows as lines over TCP, each with a key in front of it, and get
//! a line for each. It shows that there is nothing else to do for an input whose rows are pushed.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use millstream_core::{InputPlan, InputSettings, Kind, Problems};
use millstream_testkit::parse;
use tokio::runtime;

use super::*;

/// Takes a row from each line, behind a key and a space.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct LinesInput {
    #[serde(flatten)]
    push: PushSettings,
}

impl Kind for LinesInput {
    const NAME: &'static str = "lines";
    const EXAMPLE: &'static str = NDJSON;
    const NEEDS_STATE: bool = true;
}

impl LinesInput {
    fn input(&self, context: &PlanContext, listener: TcpListener) -> Result<PushInput, Problem> {
        let node = PushNode { kind: Self::NAME, largest: LARGEST, receiver: Box::new(Listening(listener)) };
        self.push.input(node, context, Arc::new(LocalFiles))
    }
}

impl InputSettings for LinesInput {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| Problem::new(error.to_string()))?;
        Ok(self.input(context, listener)?.plan())
    }
}

struct Listening(TcpListener);

#[async_trait]
impl Receiver for Listening {
    async fn start(&mut self, ingest: Ingest) -> Result<Box<dyn Send>> {
        let (listener, stop) = (self.0.try_clone()?, Arc::<AtomicBool>::default());
        listener.set_nonblocking(true)?;
        let stopped = stop.clone();
        let thread = thread::spawn(move || serve(&listener, &ingest, &stopped));
        Ok(Box::new(Serving { stop, thread: Some(thread) }))
    }
}

/// Serves until it is dropped.
struct Serving {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

fn serve(listener: &TcpListener, ingest: &Ingest, stop: &AtomicBool) {
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => runtime.block_on(answer(stream, ingest)),
            #[expect(
                clippy::disallowed_methods,
                reason = "the listener does not block, so that the server can be stopped"
            )]
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

async fn answer(stream: TcpStream, ingest: &Ingest) {
    stream.set_nonblocking(false).unwrap();
    let mut answers = stream.try_clone().unwrap();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        let (key, row) = line.split_once(' ').unwrap();
        let mut memory = ingest.memory();
        let answer = match memory.grow(row.len()) {
            Ok(()) => ingest.take(Key::new(key), FormatTag::OWN, row.into(), memory).await,
            Err(refused) => Err(refused),
        };
        match answer {
            Ok(taken) => writeln!(answers, "taken at {}", taken.first.unwrap_or_default()).unwrap(),
            Err(refused) => writeln!(answers, "{refused:?}").unwrap(),
        }
    }
}

fn send(port: u16, lines: &[&str]) -> Vec<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    writeln!(stream, "{}", lines.join("\n")).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    BufReader::new(stream).lines().map(|line| line.unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_push_input_takes_a_receiver_only() {
    let settings: LinesInput = parse(NDJSON);
    let home = tempfile::tempdir().unwrap();
    let mut answers = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut input = settings.input(&context(), listener).unwrap();
        input.open(&Home::Folder(home.path().to_owned())).await.unwrap();
        let lines = ["k1 {\"a\":1}", "k2 {\"a\":2}", "k1 {\"a\":1}", "k3 {\"a\":\"x\"}"];
        answers.push(tokio::task::spawn_blocking(move || send(port, &lines)).await.unwrap());
        let mut out = Collector::new(1);
        input.next(&mut out).await.unwrap();
        assert_eq!(out.take(0).map(|batch| batch.len()).sum::<usize>(), 2);
    }
    assert_eq!(answers[0], answers[1], "a restart changes nothing");
    assert_eq!(answers[0][..3], ["taken at 0", "taken at 1", "taken at 0"]);
    assert!(answers[0][3].starts_with("Unreadable { row: Some(0)"), "{}", answers[0][3]);
    assert!(settings.plan(&context()).unwrap().acknowledges);
}
