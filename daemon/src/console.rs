//! What a person sees while flows run: a line a flow, with rows per second and the metrics of its models.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use millstream_core::{Metrics, Report};
use millstream_engine::stats::FlowStats;

const REFRESH: Duration = Duration::from_millis(200);

/// The lines of all flows. Drawn on standard error, and only if that is a terminal.
pub struct Console(MultiProgress);

/// The line of one flow.
pub struct FlowLine {
    bar: ProgressBar,
    stats: Arc<FlowStats>,
    started: Instant,
}

impl Console {
    /// A console; a quiet one draws nothing.
    pub fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self(MultiProgress::with_draw_target(target))
    }

    /// A line for a flow that will read so many rows, if that is known.
    pub fn flow(&self, name: &str, rows: Option<u64>, stats: Arc<FlowStats>) -> FlowLine {
        let (bar, template) = match rows {
            Some(rows) => (ProgressBar::new(rows), "{prefix} [{bar:30}] {percent:>3}% {msg}"),
            None => (ProgressBar::new_spinner(), "{prefix} {spinner} {msg}"),
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.0.add(bar.with_style(style.progress_chars("=> ")).with_prefix(name.to_owned()));
        FlowLine { bar, stats, started: Instant::now() }
    }
}

impl FlowLine {
    /// Draws the line again and again, for as long as it is polled.
    pub async fn draw(&self) -> Infallible {
        loop {
            tokio::time::sleep(REFRESH).await;
            let rows = self.rows_read();
            let per_second = rows as f64 / self.started.elapsed().as_secs_f64();
            let mut message = format!("{} rows, {}/s", HumanCount(rows), HumanCount(per_second as u64));
            for node in &self.stats.nodes {
                if let Some(Report::Model(model)) = node.report() {
                    message += &format!(" | {} {}", model.model, running(&model.metrics));
                }
            }
            self.bar.set_position(rows);
            self.bar.set_message(message);
        }
    }

    /// Rows read by inputs, which are the nodes that nothing arrives at.
    fn rows_read(&self) -> u64 {
        let inputs = self.stats.nodes.iter().filter(|node| node.is_input);
        inputs.map(|node| node.rows_in.load(Ordering::Relaxed)).sum()
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
