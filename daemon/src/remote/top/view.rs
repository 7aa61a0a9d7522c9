//! What is drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, Wrap};

use super::screen::Screen;
use super::watched::{FlowRow, NodeRow, Watched};

const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);
const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);
const BAD: Style = Style::new().fg(Color::Red);
const DOUBTFUL: Style = Style::new().fg(Color::Yellow);
const STALE: Style = Style::new().add_modifier(Modifier::DIM);

/// Draws what is looked at.
pub fn draw(frame: &mut Frame<'_>, screen: &mut Screen, watched: &Watched) {
    let areas =
        Layout::vertical([Constraint::Length(1), Constraint::Min(2), Constraint::Length(2), Constraint::Length(1)]);
    let [head, middle, detail, foot] = areas.areas(frame.area());
    // What was seen last stays, so that there is something to look at.
    let style = if watched.lost().is_some() { STALE } else { Style::new() };
    let (title, said) = match screen.inside.clone() {
        None => flows(frame, middle, style, screen, watched),
        Some(flow) => nodes(frame, middle, style, screen, watched, &flow),
    };
    frame.render_widget(Paragraph::new(Line::styled(title, HEAD)), head);
    let (said, style) = match watched.lost() {
        Some(lost) => (format!("{lost}; it is asked again"), BAD),
        None => (said.unwrap_or_default(), DOUBTFUL),
    };
    frame.render_widget(Paragraph::new(said).style(style).wrap(Wrap { trim: true }), detail);
    let keys = match screen.inside {
        None => format!("q quit   ↑↓ select   enter nodes   s sort (by {})   r reverse", screen.order.name()),
        Some(_) => "q quit   ↑↓ select   esc back".to_owned(),
    };
    frame.render_widget(Paragraph::new(keys), foot);
}

/// Draws the flows. Returns the title, and what there is to say of the one that is selected.
fn flows(
    frame: &mut Frame<'_>,
    area: Rect,
    style: Style,
    screen: &mut Screen,
    watched: &Watched,
) -> (String, Option<String>) {
    let flows = screen.flows(watched);
    let count = |health: &str| flows.iter().filter(|flow| flow.health == health).count();
    let title = match flows.len() {
        0 => "there are no flows".to_owned(),
        all => format!("{all} flows, {} failing, {} degraded", count("failing"), count("degraded")),
    };
    let longest = flows.iter().map(|flow| flow.name.chars().count()).max().unwrap_or_default();
    let widths = [
        Constraint::Length(longest.clamp(12, 40) as u16),
        Constraint::Length(11),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Min(8),
    ];
    let titles = ["flow", "state", "read/s", "written/s", "failed", "lag", "restarts", "checkpoint", "held up by"];
    let table = Table::new(flows.iter().map(flow_row), widths).header(Row::new(titles).style(HEAD));
    frame.render_stateful_widget(table.style(style).row_highlight_style(SELECTED), area, &mut screen.table);
    let selected = screen.table.selected().and_then(|at| flows.get(at));
    (title, selected.and_then(|flow| Some(format!("{}: {}", flow.name, flow.reason.as_ref()?))))
}

fn flow_row(flow: &FlowRow) -> Row<'static> {
    let state = match flow.health.as_str() {
        "failing" => BAD,
        "degraded" => DOUBTFUL,
        _ => Style::new(),
    };
    Row::new([
        Cell::new(flow.name.clone()),
        Cell::new(flow.state.clone()).style(state),
        right(flow.read_per_s.map(count), 9),
        right(flow.written_per_s.map(count), 9),
        right(Some(count(flow.failed as f64)), 9).style(if flow.failed > 0 { DOUBTFUL } else { Style::new() }),
        right(flow.lag_s.map(seconds), 7),
        right(Some(flow.restarts.to_string()), 8),
        right(flow.checkpoint.map(|number| number.to_string()), 10),
        Cell::new(flow.held_by.clone().unwrap_or_default()).style(DOUBTFUL),
    ])
}

/// Draws the nodes of a flow. Returns the title, and what there is to say of the one that is selected.
fn nodes(
    frame: &mut Frame<'_>,
    area: Rect,
    style: Style,
    screen: &mut Screen,
    watched: &Watched,
    flow: &str,
) -> (String, Option<String>) {
    let nodes = screen.nodes(watched);
    let title = format!("flow {flow}, {} nodes", nodes.len());
    let longest = nodes.iter().map(|node| node.name.chars().count()).max().unwrap_or_default();
    let widths = [
        Constraint::Length(longest.clamp(12, 40) as u16),
        Constraint::Length(9),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Min(8),
    ];
    let titles = ["node", "rows/s", "busy", "waiting", "blocked", "queue", "failed", "lag", ""];
    let table = Table::new(nodes.iter().map(node_row), widths).header(Row::new(titles).style(HEAD));
    frame.render_stateful_widget(table.style(style).row_highlight_style(SELECTED), area, &mut screen.table);
    let selected = screen.table.selected().and_then(|at| nodes.get(at));
    (title, selected.and_then(|node| Some(format!("{} tries again: {}", node.name, node.retrying.as_ref()?))))
}

fn node_row(node: &NodeRow) -> Row<'static> {
    let (said, style) = match (node.is_cause, &node.retrying) {
        (true, _) => ("holds up what is before it", BAD),
        (false, Some(_)) => ("tries again", DOUBTFUL),
        (false, None) => ("", Style::new()),
    };
    Row::new([
        Cell::new(node.name.clone()),
        right(node.rows_per_s.map(count), 9),
        right(node.busy.map(percent), 6),
        right(node.waiting.map(percent), 8),
        right(node.blocked.map(percent), 8),
        right(node.fill.map(percent), 7),
        right(Some(count(node.failed as f64)), 9),
        right(node.lag_s.map(seconds), 7),
        Cell::new(said).style(style),
    ])
}

fn right(text: Option<String>, width: usize) -> Cell<'static> {
    Cell::new(format!("{:>width$}", text.unwrap_or_else(|| "-".to_owned())))
}

/// A number of rows with at most four digits.
fn count(number: f64) -> String {
    match number {
        small if small < 10.0 && small.fract() > 0.0 => format!("{small:.1}"),
        small if small < 9_999.5 => format!("{small:.0}"),
        thousands if thousands < 999_950.0 => format!("{:.1}k", thousands / 1e3),
        millions if millions < 999_950_000.0 => format!("{:.1}M", millions / 1e6),
        more => format!("{:.1}G", more / 1e9),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}

/// A duration in the unit that fits.
fn seconds(seconds: f64) -> String {
    match seconds {
        short if short < 10.0 => format!("{short:.1}s"),
        short if short < 120.0 => format!("{short:.0}s"),
        minutes if minutes < 7200.0 => format!("{:.0}min", minutes / 60.0),
        hours if hours < 172_800.0 => format!("{:.0}h", hours / 3600.0),
        days => format!("{:.0}d", days / 86_400.0),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;

    use super::super::Told;
    use super::super::watched::tests::told;
    use super::*;

    /// What is on a screen of this size.
    fn drawn(screen: &mut Screen, watched: &Watched, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, screen, watched)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn flows_and_nodes_are_drawn_as_a_daemon_has_told_them() {
        let (mut watched, mut screen) = (told(), Screen::default());
        insta::assert_snapshot!("flows", drawn(&mut screen, &watched, 100, 10));
        screen.press(KeyCode::Down.into(), &watched);
        screen.press(KeyCode::Enter.into(), &watched);
        insta::assert_snapshot!("nodes", drawn(&mut screen, &watched, 100, 10));
        watched.take(Told::Lost("asking the daemon at `admin.sock`: no such file".to_owned()));
        assert!(drawn(&mut screen, &watched, 100, 10).contains("it is asked again"));
    }

    #[test]
    fn a_small_terminal_and_no_flows_are_drawn_too() {
        for (width, height) in [(1, 1), (20, 3), (300, 80)] {
            drawn(&mut Screen::default(), &told(), width, height);
        }
        assert!(drawn(&mut Screen::default(), &Watched::default(), 80, 10).contains("there are no flows"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 2.5, 12.3, 9999.4, 9999.6, 123_456.0, 5e6, 2e9].map(count),
            ["0", "2.5", "12", "9999", "10.0k", "123.5k", "5.0M", "2.0G"]
        );
        assert_eq!([0.2, 59.9, 600.0, 7200.0, 200_000.0].map(seconds), ["0.2s", "60s", "10min", "2h", "2d"]);
    }
}
