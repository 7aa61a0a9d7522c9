//! What an event says: of which flow and node, in which words.

use std::fmt::{Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The flow and the node that something is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub flow: Option<String>,
    pub node: Option<String>,
}

/// What an event says.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub place: Place,
    pub message: String,
    /// The error that it is about, if it is about one.
    pub error: Option<String>,
    /// What programs know it by.
    pub code: Option<String>,
    /// All other fields.
    others: String,
}

impl Seen {
    /// An event, with what the spans around it say.
    pub fn of<S>(event: &Event<'_>, context: &Context<'_, S>) -> Self
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut seen = Self::default();
        event.record(&mut seen);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(place) = span.extensions().get::<Place>() {
                seen.place.fill(place);
            }
        }
        seen
    }

    /// All that it says, in a line.
    pub fn text(&self) -> String {
        let error = self.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        format!("{}{error}{}", self.message, self.others)
    }

    /// What it says that is the same each time: the error, or else all of it.
    pub fn cause(&self) -> String {
        self.error.clone().unwrap_or_else(|| self.text())
    }
}

impl Place {
    /// Keeps what a new span says of its place.
    pub fn keep<S>(attributes: &Attributes<'_>, id: &Id, context: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut seen = Seen::default();
        attributes.record(&mut seen);
        if seen.place != Self::default()
            && let Some(span) = context.span(id)
        {
            span.extensions_mut().replace(seen.place);
        }
    }

    /// Takes from one further out what is not known.
    fn fill(&mut self, outer: &Self) {
        let Self { flow, node } = outer;
        self.flow = self.flow.take().or_else(|| flow.clone());
        self.node = self.node.take().or_else(|| node.clone());
    }
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "flow" => self.place.flow = Some(value.to_owned()),
            "node" => self.place.node = Some(value.to_owned()),
            "message" => value.clone_into(&mut self.message),
            "error" => self.error = Some(value.to_owned()),
            "code" => self.code = Some(value.to_owned()),
            // A text takes everything.
            name => _ = write!(self.others, " {name}={value}"),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
