//! Tables that several processes change: every change writes the whole table once more, under the next number.

use millstream_core::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::versions::to_json;
use super::{MOST_NUMBERS, ModelRegistry};

impl ModelRegistry {
    /// The table of a folder that counts, and its number; 0 if there is none.
    pub(super) fn table<T: DeserializeOwned + Default>(&self, folder: &str) -> Result<(u64, T)> {
        match self.table_number(folder)? {
            0 => Ok((0, T::default())),
            number => Ok((number, self.read_json(&key(folder, number))?.unwrap_or_default())),
        }
    }

    /// Changes the table of a folder, whoever else does so at the same time, and returns what it is now.
    pub(super) fn change_table<T>(&self, folder: &str, change: impl Fn(&mut T) -> Result<()>) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Default,
    {
        loop {
            let (number, mut table) = self.table(folder)?;
            change(&mut table)?;
            if self.put_table(folder, number + 1, &table)? {
                return Ok(table);
            }
        }
    }

    /// Writes a table under a number. False if somebody else has one there.
    pub(super) fn put_table<T: Serialize>(&self, folder: &str, number: u64, table: &T) -> Result<bool> {
        self.store.put_new(&key(folder, number), &to_json(table)?)
    }

    /// The number of the table of a folder that counts; 0 if there is none.
    pub(super) fn table_number(&self, folder: &str) -> Result<u64> {
        let keys = self.store.list(folder)?;
        let number = |key: &String| key.strip_prefix(folder)?.strip_suffix(".json")?.parse::<u64>().ok();
        Ok(keys.iter().filter_map(number).filter(|number| *number < MOST_NUMBERS).max().unwrap_or(0))
    }
}

fn key(folder: &str, number: u64) -> String {
    format!("{folder}{number:08}.json")
}
