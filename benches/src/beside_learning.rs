//! A model that is served while it learns: how long single rows wait for their answers.

use std::io::{BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use millstream_core::{Result, ResultExt as _};

use crate::ingest::{connect, read_answer};
use crate::measurement::{Goal, Measurement};
use crate::place;
use crate::serving::{Server, free_address, on_time, single};

/// So many clients ask, by turns.
const CLIENTS: u32 = 16;

/// The daemon has to serve a first version within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time within which 99 of 100 requests are answered, from when they were due, where so many come in a second: half of what there can be.
pub fn measure(folder: &Path, most: f64) -> Result<Measurement> {
    let server = start(&folder.join("beside_learning"))?;
    let request = single(&server.address, "live");
    await_version(&server.address, &request)?;
    let pause = Duration::from_secs_f64(2.0 / most);
    let slowest = on_time(&server.address, CLIENTS, pause, |_| request.clone())?;
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
