//! How the following of a log goes, for people.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_core::{Disturbance, Figures, Report};
use serde_json::json;

use crate::Status;

/// How far a log was read, and how many rows there were.
#[derive(Debug, Default)]
pub struct Watch {
    rows: AtomicU64,
    place: Mutex<String>,
    disturbance: Disturbance,
}

impl Watch {
    /// Counts rows, behind which the log was read up to a place.
    pub fn pass(&self, rows: u32, place: &impl Display) {
        self.rows.fetch_add(rows.into(), Ordering::Relaxed);
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place.to_string();
    }

    /// What keeps the log from being read.
    pub fn disturbance(&self) -> Disturbance {
        self.disturbance.clone()
    }

    /// What is said of it, under a title.
    pub fn status(self: &Arc<Self>, title: &'static str) -> Status {
        let watch = self.clone();
        Arc::new(move || {
            let place = watch.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut values = vec![("rows", json!(watch.rows.load(Ordering::Relaxed)))];
            if !place.is_empty() {
                values.push(("read up to", json!(place)));
            }
            values.extend(watch.disturbance.figure());
            Some(Report::Figures(Figures { title: title.to_owned(), values }))
        })
    }
}
