//! In which format bytes are that have come: in the input's own, or in another one that senders can name.

use millstream_core::{Columns, Error, PlanContext, Problem};
use millstream_formats::{Decoder, Format, Names, ReadBodies};

use super::refused::Refused;

/// The other formats. A format is known by its place here in logs, so that more may only come behind these.
const OTHERS: [&str; 5] = ["csv", "ndjson", "json", "arrow", "avro"];

/// The format of what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FormatTag(u8);

impl FormatTag {
    /// The input's own.
    pub const OWN: Self = Self(0);

    /// Where nothing is read but the input's own.
    ///
    /// # Errors
    /// If it is another one.
    pub fn require_own(self) -> Result<(), Error> {
        if self == Self::OWN { Ok(()) } else { Err(Error::new("it is in a format that is not read here")) }
    }

    /// One that a log has. None if it has the input's own.
    pub(super) fn number(self) -> Option<u8> {
        (self != Self::OWN).then_some(self.0)
    }

    pub(super) fn of_number(number: u8) -> Self {
        Self(number)
    }
}

/// What reads each of the formats.
#[derive(Clone)]
pub(super) struct Decoders {
    pub own: Decoder,
    /// Or why there is none.
    others: Vec<Result<Decoder, String>>,
}

impl Decoders {
    /// Those of an input. What the settings of its format say goes for the others, too, as far as these have such settings.
    pub fn new(format: &Format<ReadBodies>, columns: &Columns, context: &PlanContext) -> Result<Self, Problem> {
        let own = format.decoder(columns, context)?;
        let other = |name: &&str| {
            let other = format.like(name).ok_or_else(|| format!("this build does not read {name}"))?;
            other.decoder(columns, context).map_err(|problem| format!("no {name} has such rows: {problem}"))
        };
        Ok(Self { own, others: OTHERS.iter().map(other).collect() })
    }

    /// As what is promised to who sends rows: it must not depend on which columns the flow uses at the moment.
    pub fn whole(&self) -> Self {
        let whole = |decoder: &Decoder| Decoder { wanted: None, names: Names::One, ..decoder.clone() };
        let others = self.others.iter().map(|other| other.as_ref().map(whole).map_err(Clone::clone));
        Self { own: whole(&self.own), others: others.collect() }
    }

    /// The format of a name.
    pub fn named(&self, name: &str) -> Result<FormatTag, Refused> {
        if self.own.format.kind().name == name {
            return Ok(FormatTag::OWN);
        }
        let place = OTHERS.iter().position(|other| *other == name);
        let tag = place.map(|place| FormatTag(place as u8 + 1));
        let tag = tag.ok_or_else(|| Refused::Format(format!("`{name}` is not read here")))?;
        self.of(tag).map(|_| tag).map_err(Refused::Format)
    }

    /// What reads a format, or why nothing does.
    pub fn of(&self, tag: FormatTag) -> Result<&Decoder, String> {
        let Some(place) = tag.0.checked_sub(1) else { return Ok(&self.own) };
        match self.others.get(usize::from(place)) {
            Some(Ok(decoder)) => Ok(decoder),
            Some(Err(why)) => Err(why.clone()),
            None => Err("it is in a format that this build does not know".to_owned()),
        }
    }
}
