//! What windows keep beyond a crash: which are open, and what their groups hold.

use millstream_core::{Parts, Result, State};

use super::{Window, Windows};

impl Window {
    /// What goes into a state.
    ///
    /// Groups stand in it in the order of their windows. So it does not show which slots they have, and which were in use
    /// before; those are given anew.
    pub fn save(&self) -> Result<Parts> {
        let mut parts = Parts::default();
        parts.put("watermark", &self.watermark)?;
        parts.put("origin", &self.origin)?;
        let slots = match &self.windows {
            Windows::Panes(panes) => panes.save(&mut parts)?,
            Windows::Sessions(sessions) => sessions.save(&mut parts),
        };
        self.groups.save(&slots, &mut parts)?;
        Ok(parts)
    }

    /// Takes in what [`Self::save`] has kept.
    pub fn load(&mut self, state: &State) -> Result<()> {
        self.watermark = state.get("watermark")?;
        self.origin = state.get("origin")?;
        self.groups.load(state)?;
        match &mut self.windows {
            Windows::Panes(panes) => panes.load(state, &self.groups),
            Windows::Sessions(sessions) => sessions.load(state, &self.groups),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
