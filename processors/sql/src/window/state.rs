//! What windows keep beyond a crash: which are open, and what their groups hold.

use millstream_core::{Parts, Result, State};

use super::{Window, Windows};

impl Window {
    /// What goes into a state.
    ///
    /// Slots are given anew when it is read: groups have the order of their windows then.
    pub fn save(&mut self) -> Result<Parts> {
        let mut parts = Parts::default();
        parts.put("watermark", &self.watermark)?;
        parts.put("origin", &self.origin)?;
        match &self.windows {
            Windows::Panes(panes) => panes.save(&mut self.groups, &mut parts)?,
            Windows::Sessions(sessions) => sessions.save(&mut self.groups, &mut parts)?,
        }
        Ok(parts)
    }

    /// Takes in what [`Self::save`] has kept.
    pub fn load(&mut self, state: &State) -> Result<()> {
        self.watermark = state.get("watermark")?;
        self.origin = state.get("origin")?;
        let own = self.groups.load(state)?;
        match &mut self.windows {
            Windows::Panes(panes) => panes.load(state, &self.groups, &own),
            Windows::Sessions(sessions) => sessions.load(state, &self.groups, &own),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
