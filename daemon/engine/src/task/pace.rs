//! How many rows leave a node at once that keeps them while there is no room behind it.

use std::time::Duration;

use tokio::time::Instant;

/// About how long those behind the node take for the rows that leave at once. A barrier is behind two such pieces at most, however slow
/// they are: what a buffer in front of a slow node must not do is to fill the way to it.
const TAKES: Duration = Duration::from_millis(50);

/// The most rows that leave at once.
const MOST: usize = 8192;

/// How many rows leave at once. Grows from 1 as fast as those behind the node take them, as TCP's window does.
#[derive(Debug)]
pub struct Pace {
    rows: usize,
    /// The last piece, and when it left.
    last: Option<(usize, Instant)>,
}

impl Pace {
    pub fn new() -> Self {
        Self { rows: 1, last: None }
    }

    /// How many rows may leave at once.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// So many have left.
    pub fn left(&mut self, rows: usize) {
        self.last = Some((rows, Instant::now()));
    }

    /// What has left was taken, while others wait.
    pub fn taken(&mut self) {
        let Some((rows, left)) = self.last.take() else { return };
        let took = left.elapsed();
        if took > TAKES * 2 {
            self.rows = (rows.min(self.rows) / 2).max(1);
        } else if took < TAKES && rows >= self.rows {
            self.rows = (self.rows * 2).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn as_many_rows_leave_as_are_taken_in_a_while() {
        let mut pace = Pace::new();
        // 100 rows a second, then as many as come.
        for _ in 0..50 {
            let rows = pace.rows();
            pace.left(rows);
            advance(Duration::from_millis(10) * rows as u32).await;
            pace.taken();
        }
        assert!((4..=16).contains(&pace.rows()), "{} rows", pace.rows());
        for _ in 0..50 {
            pace.left(pace.rows());
            pace.taken();
        }
        assert_eq!(pace.rows(), MOST);
        // One long pause, and it is half of it.
        pace.left(MOST);
        advance(Duration::from_secs(1)).await;
        pace.taken();
        assert_eq!(pace.rows(), MOST / 2);
    }
}
