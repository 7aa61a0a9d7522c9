//! The flows that are disturbed.

use std::fmt::Write as _;

use crate::millstream::Workshop;

/// A flow and its data.
pub struct Graph {
    pub name: &'static str,
    pub flow: &'static str,
    /// How many rows `a.csv` has, and `b.csv`.
    rows: [usize; 2],
}

impl Graph {
    /// Writes the files that the flow reads: every value follows from the number of its row.
    pub fn write_data(&self, workshop: &Workshop) {
        for (file, first, rows) in [("a.csv", 0, self.rows[0]), ("b.csv", 1_000_000, self.rows[1])] {
            let mut text = "id,at,x,y,c,label\n".to_owned();
            for row in first..first + rows {
                let _ = writeln!(text, "{}", line(row));
            }
            workshop.write(file, &text);
        }
    }
}

/// The row with a number.
pub fn line(row: usize) -> String {
    let noise = |salt: usize| ((row * 2_654_435_761 + salt * 40_503) % 100_003) as f64 / 100_003.0 - 0.5;
    let (x, y) = (noise(1), noise(2));
    let label = x + 0.5 * y + 0.2 * noise(3) > 0.0;
    let second = row % 1_000_000 / 10;
    let at = format!("2026-01-01T{:02}:{:02}:{:02}Z", second / 3600 % 24, second / 60 % 60, second % 60);
    format!("{row},{at},{x:.5},{y:.5},{},{label}", ["red", "green", "blue"][row % 3])
}

/// From end to end.
pub const LINEAR: Graph = Graph {
    name: "linear",
    rows: [12_000; 2],
    flow: r#"
        [flow]
        epoch.rows = 1000
        [checkpoint]
        epochs = 1
        [input.a]
        type = "file"
        path = "a.csv"
        [processor.shaped]
        type = "sql"
        from = "a"
        query = "SELECT id, x * y AS product, c FROM a WHERE id % 7 <> 3"
        [output.rows]
        type = "file"
        from = "shaped"
        path = "out/rows.csv"
    "#,
};

/// Two inputs that are merged, windows over them, and a network that learns from the windows.
pub const MERGED: Graph = Graph {
    name: "merged",
    rows: [6000; 2],
    flow: r#"
        [flow]
        epoch.rows = 500
        [checkpoint]
        epochs = 1
        [input.a]
        type = "file"
        path = "a.csv"
        event_time = { column = "at", lateness = "20s" }
        [input.b]
        type = "file"
        path = "b.csv"
        event_time = { column = "at", lateness = "20s" }
        [processor.both]
        type = "merge"
        from = ["a", "b"]
        order = "event_time"
        [processor.shaped]
        type = "sql"
        from = "both"
        query = "SELECT at, x, y, c, label FROM both"
        [processor.windows]
        type = "window"
        from = "shaped"
        size = "10s"
        every = "2s"
        keys = ["c"]
        select = { n = "count(*)", mean = "avg(x)", most = "max(y)", half = "quantile(y, 0.5)", positive = "count(*) FILTER (WHERE label)" }
        [processor.labelled]
        type = "sql"
        from = "windows"
        query = "SELECT *, positive > n / 2 AS many FROM windows"
        [processor.learner]
        type = "train"
        from = "labelled"
        model = "many"
        estimator = { type = "network", layers = [{ dense = 8, activation = "relu" }, { dropout = 0.2 }, { dense = 4, activation = "tanh" }], loss = "log_loss", optimizer = { type = "adamw", learning_rate = 0.01 }, batch_rows = 32, seed = 7 }
        features = ["mean", "most", "half", "c"]
        label = "many"
        publish = { rows = 1000 }
        [output.windows_out]
        type = "file"
        from = "learner"
        path = "out/windows.ndjson"
    "#,
};

/// A model, predictions of it, and three outputs of different formats, one of them compressed and one a folder.
pub const BRANCHED: Graph = Graph {
    name: "branched",
    rows: [9000; 2],
    flow: r#"
        [flow]
        epoch.rows = 700
        [checkpoint]
        epochs = 1
        [input.a]
        type = "file"
        path = "a.csv"
        [processor.parts]
        type = "split"
        from = "a"
        by = ["id"]
        parts = { train = 0.7, test = 0.3 }
        [processor.learner]
        type = "train"
        from = "parts.train"
        model = "m"
        estimator = { type = "logistic_regression", learning_rate = 0.05 }
        features = ["x", "y", "c"]
        label = "label"
        publish = { rows = 1500 }
        [processor.scored]
        type = "predict"
        from = "parts.test"
        model = "m"
        [processor.quality]
        type = "evaluate"
        from = "scored"
        label = "label"
        [processor.distinct]
        type = "dedup"
        from = "learner"
        keys = ["c", "label"]
        [output.trained]
        type = "file"
        from = "learner"
        path = "out/trained.csv.gz"
        [output.tested]
        type = "file"
        from = "quality"
        path = "out/tested"
        format = "parquet"
        rows = 800
        [output.kinds]
        type = "file"
        from = "distinct.repeated"
        path = "out/kinds.arrow"
    "#,
};

/// An input that waits for another, and then has few rows.
pub const SEQUENCE: Graph = Graph {
    name: "sequence",
    rows: [100, 10],
    flow: r#"
        [flow]
        epoch.rows = 64
        [checkpoint]
        epochs = 1
        [input.a]
        type = "file"
        path = "a.csv"
        [input.b]
        type = "file"
        path = "b.csv"
        [processor.both]
        type = "merge"
        from = ["a", "b"]
        order = "sequence"
        [output.rows]
        type = "file"
        from = "both"
        path = "out/rows.csv"
    "#,
};

pub const ALL: [&Graph; 3] = [&LINEAR, &MERGED, &BRANCHED];
