//! A model that is served while it learns: how long single rows wait for their answers.

use std::io::{BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use millstream_core::{Error, Result, ResultExt as _};

use crate::ingest::{connect, read_answer};
use crate::measurement::{Goal, Measurement, quantile};
use crate::place;
use crate::serving::{Server, free_address, single};

/// How many clients ask, each at its own times.
const CLIENTS: u32 = 16;

/// For how long.
const TIME: Duration = Duration::from_secs(5);

/// How long it may take until there is a version.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time within which 99 of 100 requests are answered, from when they were due, where so many come in a second: half of what there can be.
pub fn measure(folder: &Path, most: f64) -> Result<Measurement> {
    let server = start(&folder.join("beside_learning"))?;
    let request = single(&server.address, "live");
    await_version(&server.address, &request)?;
    let pause = Duration::from_secs_f64(2.0 / most);
    let start = Instant::now();
    let times = std::thread::scope(|scope| {
        let ask = |client| ask_on_time(&server.address, &request, client, pause, start);
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || ask(client))).collect();
        let ended =
            clients.into_iter().map(|client| client.join().unwrap_or_else(|_| Err(Error::new("a client died"))));
        ended.collect::<Result<Vec<Vec<f64>>>>()
    })?;
    let slowest = quantile(times.into_iter().flatten(), 0.99);
    let name = "serving: single rows at half of the most, while the model learns 100,000 rows a second, 99 of 100";
    Ok(Measurement::new(name, "ms", slowest * 1000.0, Goal::AtMost(5.0)))
}

/// A daemon that learns and serves.
fn start(folder: &Path) -> Result<Server> {
    std::fs::create_dir_all(folder.join("flows"))?;
    std::fs::copy(place::flow("numbers_live.toml"), folder.join("flows/numbers_live.toml"))?;
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?.with_file_name("millstream"));
    command.current_dir(folder).arg("daemon").env("MILLSTREAM__ADMIN__ADDRESS", "off");
    command.env("MILLSTREAM__SERVE__ADDRESS", &address).env("MILLSTREAM__SERVE__MODELS", r#"["live@latest"]"#);
    command.env("MILLSTREAM__SERVE__WITHOUT_TOKEN", "true").env("MILLSTREAM__SERVE__FOLLOW", "100ms");
    command.stdin(Stdio::null()).stderr(Stdio::null());
    Ok(Server { child: command.spawn().doing(|| "starting the daemon")?, address })
}

/// Waits until it answers.
fn await_version(address: &str, request: &[u8]) -> Result<()> {
    let begin = Instant::now();
    loop {
        let mut stream = BufReader::new(connect(address)?);
        stream.get_mut().write_all(request)?;
        match read_answer(&mut stream) {
            Ok(()) => return Ok(()),
            Err(error) if begin.elapsed() > PATIENCE => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Asks when it is due, and says how long answers took from then on.
fn ask_on_time(address: &str, request: &[u8], client: u32, pause: Duration, start: Instant) -> Result<Vec<f64>> {
    let mut stream = BufReader::new(connect(address)?);
    stream.get_ref().set_nodelay(true)?;
    let mut times = Vec::new();
    for turn in (client..).step_by(CLIENTS as usize) {
        let due = pause * turn;
        if due > TIME {
            break;
        }
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        stream.get_mut().write_all(request)?;
        read_answer(&mut stream)?;
        times.push((start.elapsed() - due).as_secs_f64());
    }
    Ok(times)
}
