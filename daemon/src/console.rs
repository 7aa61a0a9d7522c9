//! What a person sees while flows run: a line a flow, with rows per second and the metrics of its models. Where nobody
//! looks at a terminal, a live flow logs that line once a minute.

use std::convert::Infallible;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use millstream_core::{Metrics, Report};
use millstream_engine::stats::FlowStats;

use crate::terminal::{note, without_secrets};

const REFRESH: Duration = Duration::from_millis(200);

/// How often a line is logged.
const LOG: Duration = Duration::from_secs(60);

/// The lines of all flows. Drawn on standard error, and only if that is a terminal.
pub struct Console(MultiProgress);

/// The line of one flow.
pub struct FlowLine {
    bar: ProgressBar,
    name: String,
    stats: Arc<FlowStats>,
    started: Instant,
    is_logged: bool,
}

impl Console {
    /// A console; a quiet one draws nothing.
    pub fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self(MultiProgress::with_draw_target(target))
    }

    /// A line for a flow that will read so many rows, if that is known. A live one does not end by itself.
    #[expect(clippy::disallowed_methods, reason = "a person waits in real time")]
    pub fn flow(&self, name: &str, rows: Option<u64>, is_live: bool, stats: Arc<FlowStats>) -> FlowLine {
        let (bar, template) = match rows {
            Some(rows) => (ProgressBar::new(rows), "{prefix} [{bar:30}] {percent:>3}% {msg}"),
            None => (ProgressBar::new_spinner(), "{prefix} {spinner} {msg}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.0.add(bar.with_style(style.progress_chars("=> ")).with_prefix(name.to_owned()));
        let is_logged = is_live && !std::io::stderr().is_terminal();
        FlowLine { bar, name: name.to_owned(), stats, started: Instant::now(), is_logged }
    }
}

impl FlowLine {
    /// Draws the line again and again, or logs it, for as long as it is polled.
    pub async fn draw(&self) -> Infallible {
        if self.is_logged {
            return self.log(LOG, |line| note!("{line}")).await;
        }
        loop {
            tokio::time::sleep(REFRESH).await;
            self.bar.set_position(self.stats.rows_read());
            self.bar.set_message(without_secrets(&self.message()).into_owned());
        }
    }

    async fn log(&self, every: Duration, write: impl Fn(&str)) -> Infallible {
        loop {
            tokio::time::sleep(every).await;
            write(&format!("flow `{}`: {}", self.name, self.message()));
        }
    }

    fn message(&self) -> String {
        let rows = self.stats.rows_read();
        let inputs = self.stats.nodes.iter().filter(|node| node.is_input);
        let before: u64 = inputs.map(|node| node.before().rows_in).sum();
        let per_second = rows.saturating_sub(before) as f64 / self.started.elapsed().as_secs_f64();
        let mut message = format!("{} rows, {}/s", HumanCount(rows), HumanCount(per_second as u64));
        for node in &self.stats.nodes {
            if let Some(Report::Model(model)) = node.report() {
                message += &format!(" | {} {}", model.model, running(&model.metrics));
            }
            if let Some(why) = node.retrying() {
                message += &format!(" | `{}` waits: {why}", node.name);
            }
        }
        message
    }
}

impl Drop for FlowLine {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The few figures that fit on a line.
fn running(metrics: &Metrics) -> String {
    let figures = ["accuracy", "log_loss", "auc", "mae", "rmse", "r2"];
    let shown = figures.iter().filter_map(|name| Some((name, metrics.get(name)?)));
    shown.map(|(name, value)| format!("{name} {value:.4}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[tokio::test]
    async fn a_line_is_logged_again_and_again() {
        let stats = Arc::new(FlowStats::default());
        let line = Console::new(true).flow("shop", None, true, stats);
        let (sender, mut lines) = unbounded_channel();
        let log = line.log(Duration::from_millis(1), |text| sender.send(text.to_owned()).unwrap());
        let two = async { [lines.recv().await.unwrap(), lines.recv().await.unwrap()] };
        tokio::select! {
            never = log => match never {},
            two = two => assert_eq!(two, ["flow `shop`: 0 rows, 0/s", "flow `shop`: 0 rows, 0/s"]),
        }
    }
}
