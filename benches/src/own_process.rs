//! Runs a job in a process of its own, which does nothing else: for its CPU time or its memory.

use std::process::{Command, ExitCode};

use millstream_core::{Error, Result, ResultExt};
use rustix::time::{ClockId, clock_gettime};

use crate::measurement::median;
use crate::{kafka, memory, messages, ndjson, place, sql, text, windows};

/// The argument that makes this program do one job and print the two numbers that it gives.
pub const ONCE: &str = "once";

/// How often two jobs take turns.
const TURNS: usize = 5;

type Job = fn(&[String]) -> Result<[f64; 2]>;

const JOBS: &[(&str, Job)] = &[
    ("sql-millstream", |_| with_cpu_seconds(sql::millstream)),
    ("sql-datafusion", |_| with_cpu_seconds(sql::datafusion)),
    ("ndjson-millstream", |_| with_cpu_seconds(ndjson::millstream)),
    ("ndjson-arrow", |_| with_cpu_seconds(ndjson::arrow_json)),
    ("text", |format| with_cpu_seconds(|| text::millstream(format.first().map_or("", String::as_str)))),
    ("messages", messages::decode),
    ("kafka-bare", kafka::bare),
    ("kafka-flow", kafka::millstream),
    ("memory", memory::watch),
    ("windows-memory", windows::memory),
];

/// How many rows came out, and the CPU seconds of this process since its start.
fn with_cpu_seconds(job: impl FnOnce() -> Result<u64>) -> Result<[f64; 2]> {
    let rows = job()?;
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Ok([rows as f64, time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9])
}

/// The CPU seconds of all programs that this one has started and that have ended.
pub fn cpu_seconds_of_children() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the program's name, which may have spaces, the fields are counted from the third.
    let fields = text.rsplit(") ").next().unwrap_or_default().split(' ').skip(13).take(2);
    let ticks: u64 = fields.map(str::parse::<u64>).sum::<Result<u64, _>>().doing(|| "reading /proc/self/stat")?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Does the job that the arguments name, and prints what it gives.
pub fn run_once(arguments: &[String]) -> ExitCode {
    match do_job(arguments) {
        Ok(numbers) => {
            println!("{}", serde_json::json!(numbers));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn do_job(arguments: &[String]) -> Result<[f64; 2]> {
    let (name, rest) = arguments.split_first().ok_or_else(|| Error::new("which job?"))?;
    let job = JOBS.iter().find(|(known, _)| known == name);
    let (_, job) = job.ok_or_else(|| Error::new(format!("there is no job `{name}`")))?;
    job(rest)
}

/// What a job gives in another process.
pub fn numbers_of(arguments: &[&str]) -> Result<[f64; 2]> {
    let mut command = Command::new(std::env::current_exe()?);
    let numbers = place::json_of(command.arg(ONCE).args(arguments))?;
    serde_json::from_value(numbers).doing(|| format!("reading the numbers of {arguments:?}"))
}

/// The median CPU seconds of two jobs that take turns, and the rows that come out of each, which must be as many.
pub fn compare_cpu(ours: &str, other: &str) -> Result<(f64, [f64; 2])> {
    let mut rows = 0.0;
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        let [our_rows, our_seconds] = numbers_of(&[ours])?;
        let [other_rows, other_seconds] = numbers_of(&[other])?;
        if our_rows != other_rows {
            return Err(Error::new(format!("{our_rows} rows come out of `{ours}`, {other_rows} of `{other}`")));
        }
        rows = our_rows;
        seconds[0].push(our_seconds);
        seconds[1].push(other_seconds);
    }
    Ok((rows, seconds.map(median)))
}
