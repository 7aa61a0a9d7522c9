//! Rows that are divided among folders, of which so many have a file that is open.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use millstream_core::Result;

use super::files::Files;
use super::partition::shares;

impl Files {
    /// The number of the next file. Where rows are divided, it does not depend on those of other folders, so that it is the same
    /// however they are cut into batches.
    pub(super) fn next_number(&mut self, folder: &Path) -> u32 {
        if self.partitioning.is_none() {
            self.progress.number += 1;
            return self.progress.number - 1;
        }
        let number = self.begun.entry(folder.to_owned()).or_default();
        *number += 1;
        *number
    }

    /// Writes rows that are divided among folders, as if one came after the other.
    pub(super) fn divide(&mut self, rows: &RecordBatch, folders: &[Arc<Path>]) -> Result<()> {
        let mut first = 0;
        while first < folders.len() {
            let count = self.room(&folders[first..]);
            for share in shares(&rows.slice(first, count), &folders[first..first + count])? {
                self.write_to(&share.folder, share.rows)?;
                if let Some(open) = self.open.get_mut(&*share.folder) {
                    open.used = self.divided + share.last as u64 + 1;
                }
            }
            self.divided += count as u64;
            first += count;
            if first < folders.len() && self.open.len() >= self.limits.open {
                let longest = self.open.iter().min_by_key(|(_, open)| open.used).map(|(folder, _)| folder.clone());
                longest.map_or(Ok(()), |folder| self.finish(&folder))?;
            }
        }
        Ok(())
    }

    /// How many rows can be written before one needs a file more than may be open.
    fn room(&self, folders: &[Arc<Path>]) -> usize {
        let mut more: HashSet<&Path> = HashSet::new();
        for (row, folder) in folders.iter().enumerate() {
            let is_new = !self.open.contains_key(&**folder) && more.insert(folder);
            if is_new && self.open.len() + more.len() > self.limits.open {
                return row;
            }
        }
        folders.len()
    }
}
