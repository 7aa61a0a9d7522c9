//! What is looked at, and what keys do.

use std::cmp::Ordering;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use super::watched::{FlowRow, NodeRow, Watched};

/// What is looked at.
#[derive(Debug, Default)]
pub struct Screen {
    /// By what flows are sorted.
    pub order: Order,
    /// Whether the other way round.
    pub is_reversed: bool,
    /// The flow whose nodes are shown, in place of all flows.
    pub inside: Option<String>,
    /// The flow that is selected, wherever it stands.
    selected: Option<String>,
    /// How far the table is scrolled, and which of its lines is selected.
    pub table: TableState,
}

/// By what flows are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// What is not well first.
    #[default]
    Health,
    Name,
    Read,
    Written,
    Failed,
    Lag,
    Restarts,
}

/// What comes of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Then {
    /// It goes on.
    GoOn,
    /// It ends.
    End,
}

impl Order {
    const ALL: [Self; 7] =
        [Self::Health, Self::Name, Self::Read, Self::Written, Self::Failed, Self::Lag, Self::Restarts];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Name => "flow",
            Self::Read => "read/s",
            Self::Written => "written/s",
            Self::Failed => "failed",
            Self::Lag => "lag",
            Self::Restarts => "restarts",
        }
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|order| *order == self).unwrap_or_default();
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    /// The larger figures first.
    fn compare(self, one: &FlowRow, other: &FlowRow) -> Ordering {
        let figures = |one: Option<f64>, other: Option<f64>| other.unwrap_or(-1.0).total_cmp(&one.unwrap_or(-1.0));
        match self {
            Self::Health => ill(other).cmp(&ill(one)),
            Self::Name => Ordering::Equal,
            Self::Read => figures(one.read_per_s, other.read_per_s),
            Self::Written => figures(one.written_per_s, other.written_per_s),
            Self::Failed => other.failed.cmp(&one.failed),
            Self::Lag => figures(one.lag_s, other.lag_s),
            Self::Restarts => other.restarts.cmp(&one.restarts),
        }
    }
}

/// How ill a flow is.
fn ill(flow: &FlowRow) -> u8 {
    match flow.health.as_str() {
        "failing" => 2,
        "degraded" => 1,
        _ => 0,
    }
}

impl Screen {
    /// The flows in their order. The one that is selected stays so.
    pub fn flows(&mut self, watched: &Watched) -> Vec<FlowRow> {
        let mut flows = watched.flows();
        flows.sort_by(|one, other| {
            let order = self.order.compare(one, other).then_with(|| one.name.cmp(&other.name));
            if self.is_reversed { order.reverse() } else { order }
        });
        let at = flows.iter().position(|flow| Some(&flow.name) == self.selected.as_ref());
        let at = at.or_else(|| (!flows.is_empty()).then_some(0));
        self.selected = at.map(|at| flows[at].name.clone());
        self.table.select(at);
        flows
    }

    /// The nodes of the flow that is looked at.
    pub fn nodes(&mut self, watched: &Watched) -> Vec<NodeRow> {
        let nodes = self.inside.as_ref().map(|flow| watched.nodes(flow)).unwrap_or_default();
        let last = nodes.len().checked_sub(1);
        self.table.select(last.map(|last| self.table.selected().unwrap_or_default().min(last)));
        nodes
    }

    /// Does what a key is for.
    pub fn press(&mut self, key: KeyEvent, watched: &Watched) -> Then {
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Then::End,
            KeyCode::Char('q') => return Then::End,
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left if self.inside.is_some() => self.inside = None,
            KeyCode::Esc => return Then::End,
            KeyCode::Enter | KeyCode::Right if self.inside.is_none() => {
                self.inside.clone_from(&self.selected);
                self.table.select(Some(0));
            }
            KeyCode::Down | KeyCode::Char('j') => self.go(1, watched),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1, watched),
            KeyCode::PageDown => self.go(10, watched),
            KeyCode::PageUp => self.go(-10, watched),
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            _ => {}
        }
        Then::GoOn
    }

    fn go(&mut self, lines: isize, watched: &Watched) {
        let names: Vec<String> = match self.inside {
            Some(_) => self.nodes(watched).into_iter().map(|node| node.name).collect(),
            None => self.flows(watched).into_iter().map(|flow| flow.name).collect(),
        };
        let Some(last) = names.len().checked_sub(1) else { return };
        let at = self.table.selected().unwrap_or_default().saturating_add_signed(lines).min(last);
        self.table.select(Some(at));
        if self.inside.is_none() {
            self.selected = Some(names[at].clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::watched::tests::told;
    use super::*;

    fn press(screen: &mut Screen, code: KeyCode) -> Then {
        screen.press(KeyEvent::from(code), &told())
    }

    #[test]
    fn keys_sort_select_and_enter_flows() {
        let (watched, mut screen) = (told(), Screen::default());
        let names = |screen: &mut Screen| screen.flows(&watched).into_iter().map(|flow| flow.name).collect::<Vec<_>>();
        assert_eq!(names(&mut screen), ["broken", "slow"], "what is not well is first");
        press(&mut screen, KeyCode::Down);
        assert_eq!((names(&mut screen).len(), screen.table.selected()), (2, Some(1)));
        press(&mut screen, KeyCode::Char('s'));
        press(&mut screen, KeyCode::Char('s'));
        assert_eq!(names(&mut screen), ["slow", "broken"], "by rows that are read");
        assert_eq!(screen.table.selected(), Some(0), "the same flow is selected, at its new place");
        press(&mut screen, KeyCode::Char('r'));
        assert_eq!(names(&mut screen), ["broken", "slow"]);
        press(&mut screen, KeyCode::Enter);
        assert_eq!(screen.inside.as_deref(), Some("slow"));
        press(&mut screen, KeyCode::PageDown);
        assert_eq!(screen.table.selected(), Some(screen.nodes(&watched).len() - 1));
        assert_eq!(press(&mut screen, KeyCode::Esc), Then::GoOn);
        assert!(screen.inside.is_none());
        assert_eq!(press(&mut screen, KeyCode::Esc), Then::End);
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.press(control, &watched), Then::End);
        assert_eq!(press(&mut screen, KeyCode::Char('q')), Then::End);
    }
}
