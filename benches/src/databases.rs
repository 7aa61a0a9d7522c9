//! What flows write to a database, read of its changes and look up in a second, whichever database it is; the server is on the same machine.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millstream_core::{Error, Result};

use crate::flow;
use crate::measurement::median;

/// The flow and what it is compared with take turns so often; the medians count.
const TURNS: usize = 3;

/// A flow writes so many rows.
pub const WRITTEN: u64 = 500_000;

/// So many rows change while a flow follows the log.
pub const CHANGED: u64 = 1_000_000;

/// A flow looks so many rows up, of which one in ten is not remembered.
const LOOKED_UP: u64 = 4_000_000;

/// A server that is measured.
pub trait Database {
    /// The names of its nodes, and of the flows that use them, begin with this word.
    const NODES: &'static str;

    /// These statements make the table `written` anew.
    const WRITTEN: &'static str;

    /// These statements make the table `changed` anew.
    const CHANGED: &'static str;

    fn address(&self) -> &str;

    fn say(&self, statements: &str);

    fn rows(&self, query: &str) -> Vec<String>;

    /// Writes the rows that the flow writes, as fast as a program can that only does that.
    fn write_bare(&self) -> Result<()>;

    /// Waits until a flow follows the log. `come` says how many changes it has seen.
    fn await_follower(&self, come: &dyn Fn() -> u64);

    /// The statement that inserts a million rows into `changed`.
    fn insert(&self) -> String;
}

/// A setting that leads a node to the server, and others.
fn sets<D: Database>(database: &D, node: &str, others: &[String]) -> Vec<String> {
    [&[format!("{node}.address={}", database.address())], others].concat()
}

/// Measures how many rows a second the output writes, and how many a program writes that only does that: the medians.
pub fn written<D: Database>(database: &D) -> Result<[f64; 2]> {
    let sets = sets(database, "output.table", &[format!("input.numbers.rows={WRITTEN}")]);
    let flow = format!("{}_output.toml", D::NODES);
    let through_the_flow = || flow::rows_committed(&flow, &sets, 2, "table").map(drop);
    let bare = || database.write_bare();
    let ways: [&dyn Fn() -> Result<()>; 2] = [&through_the_flow, &bare];
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (write, figures) in ways.iter().zip(&mut figures) {
            database.say(D::WRITTEN);
            let begin = Instant::now();
            write()?;
            figures.push(WRITTEN as f64 / begin.elapsed().as_secs_f64());
            let found = database.rows("SELECT COUNT(*) FROM written");
            if found != [WRITTEN.to_string()] {
                return Err(Error::new(format!("{found:?} rows instead of {WRITTEN}")));
            }
        }
    }
    Ok(figures.map(median))
}

/// Measures how many rows a second come of one transaction that inserts them, from its commit on.
pub fn changed<D: Database>(database: &D) -> Result<f64> {
    database.say(D::CHANGED);
    let runtime = flow::runtime(2)?;
    let plan = flow::plan(&format!("{}_changes.toml", D::NODES), &sets(database, "input.shop", &[]))?;
    let running = flow::start(plan, &runtime)?;
    let stats = running.stats();
    let node = stats.nodes.iter().find(|node| node.name == "gone");
    let node = node.ok_or_else(|| Error::new("there is no such node"))?;
    let come = || node.rows_in.load(Ordering::Relaxed);
    database.await_follower(&come);
    let before = come();
    database.say(&database.insert());
    let begin = Instant::now();
    while come() < before + CHANGED {
        if begin.elapsed() > Duration::from_secs(120) {
            return Err(Error::new(format!("{} of {CHANGED} rows have come", come() - before)));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let seconds = begin.elapsed().as_secs_f64();
    running.control().stop();
    flow::done(runtime.block_on(running.join()))?;
    Ok(CHANGED as f64 / seconds)
}

/// Measures how many rows a second get columns of a table: the median.
pub fn looked_up<D: Database>(database: &D) -> Result<f64> {
    let flow = format!("{}_lookup.toml", D::NODES);
    let sets = sets(database, "processor.named", &[format!("input.numbers.rows={LOOKED_UP}")]);
    let mut figures = Vec::new();
    for _ in 0..TURNS {
        let begin = Instant::now();
        let rows = flow::rows_into(&flow, &sets, 2, "gone")?;
        if rows != LOOKED_UP {
            return Err(Error::new(format!("{rows} rows came instead of {LOOKED_UP}")));
        }
        figures.push(LOOKED_UP as f64 / begin.elapsed().as_secs_f64());
    }
    Ok(median(figures))
}
