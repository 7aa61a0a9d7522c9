//! The processor `distribute`: a stream to several ports, evenly.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use millstream_core::{
    Batch, Collector, Kind, Parts, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan,
    ProcessorSettings, Result, Snapshot, State, Stream, Uses, port_name_problem,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::hash::{hash_column, hash_columns, seed, start};

/// Distributes rows over several ports: in turn, or, with `keys`, such that rows with equal values always leave by the
/// same port, in every run and on every machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DistributeSettings {
    /// The names of the ports.
    #[schemars(length(min = 2))]
    ports: Vec<String>,
    /// The columns whose values decide.
    keys: Option<Vec<String>>,
    /// With `keys`: another number gives another distribution; nodes with the same one distribute alike. Without it, the name of
    /// the node decides, so that nodes that distribute by the same keys don't depend on each other; a node that is renamed then
    /// distributes otherwise, unless `renamed_from` says its former name.
    seed: Option<u64>,
    /// In turn: how many rows leave by a port before it is the next one's turn; 1 unless set.
    #[schemars(range(min = 1))]
    rows: Option<usize>,
}

impl Kind for DistributeSettings {
    const NAME: &'static str = "distribute";
    const EXAMPLE: &'static str = r#"ports = ["left", "right"]
keys = ["customer"]"#;
}

impl ProcessorSettings for DistributeSettings {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let schema = &inputs[0].schema;
        let mut problems = Problems::new();
        for (place, name) in self.ports.iter().enumerate() {
            let twice = || Problem::new(format!("there are two ports `{name}`"));
            let problem = port_name_problem(name).or_else(|| self.ports[..place].contains(name).then(twice));
            problems.extend(problem.map(|problem| problem.under(place).under("ports")));
        }
        let rule = match (&self.keys, self.rows) {
            (Some(_), Some(_)) => {
                let problem = Problem::new("rows go by keys or in turn, not both").at(["rows"]);
                Err(problem.help("leave out `keys` or `rows`").into())
            }
            (Some(keys), None) => hash_columns("keys", keys, schema)
                .map(|columns| Rule::Keys { columns, start: start(Self::NAME, seed(self.seed, context)) }),
            (None, _) if self.seed.is_some() => {
                let problem = Problem::new("rows that leave in turn need no seed").at(["seed"]);
                Err(problem.help("leave out `seed`, or set `keys`").into())
            }
            (None, rows) => Ok(Rule::Turns { rows: rows.unwrap_or(1) as u64, row: 0 }),
        };
        let rule = rule.map_err(|found: Problems| problems.extend(found));
        let (Ok(rule), true) = (rule, problems.is_empty()) else { return Err(problems) };
        let ports = self.ports.iter().map(|name| PortPlan::new(name, schema.clone())).collect();
        let uses = vec![Uses::passing_on(self.keys.iter().flatten().cloned())];
        let distribute = Distribute { ports: self.ports.len() as u64, rule };
        Ok(ProcessorPlan { ports, uses, fails: false, build: Box::new(|| Ok(Box::new(distribute))) })
    }
}

struct Distribute {
    ports: u64,
    rule: Rule,
}

/// What decides.
enum Rule {
    /// The hash of some columns, and what it starts as.
    Keys { columns: Vec<usize>, start: u64 },
    /// So many rows to each port; `row` counts all rows.
    Turns { rows: u64, row: u64 },
}

impl Distribute {
    /// The port of each row.
    fn ports_of(&mut self, batch: &RecordBatch) -> Vec<u64> {
        let ports = self.ports;
        match &mut self.rule {
            Rule::Keys { columns, start } => {
                let mut hashes = vec![*start; batch.num_rows()];
                columns.iter().for_each(|column| hash_column(&mut hashes, batch.column(*column)));
                hashes.into_iter().map(|hash| hash % ports).collect()
            }
            Rule::Turns { rows, row } => {
                let first = *row;
                *row += batch.num_rows() as u64;
                (first..*row).map(|row| row / *rows % ports).collect()
            }
        }
    }
}

impl Processor for Distribute {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let ports = self.ports_of(&batch.rows);
        for port in 0..self.ports {
            let mask: BooleanArray = ports.iter().map(|of_row| Some(*of_row == port)).collect();
            out.push(port as usize, batch.with_rows(filter_record_batch(&batch.rows, &mask)?));
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        if let Rule::Turns { row, .. } = &self.rule {
            parts.put("row", row)?;
        }
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        if let Rule::Turns { row, .. } = &mut self.rule {
            *row = state.get("row")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{drive, parse, table};

    use super::*;

    #[test]
    fn rows_go_in_turn_whatever_the_batches() {
        let rows = table("n:int64\n 1\n 2\n 3\n 4\n 5\n 6\n 7");
        for batch_rows in 1..8 {
            let settings: DistributeSettings = parse("ports = ['a', 'b']\nrows = 2");
            let driven = drive(&settings, &[("from", rows.clone())], batch_rows);
            assert_eq!(driven.text("a"), "n:int64\n1\n2\n5\n6\n");
            assert_eq!(driven.text("b"), "n:int64\n3\n4\n7\n");
        }
    }

    #[test]
    fn equal_keys_stay_together() {
        let lines: String = (0..100).map(|n| format!("\n {} {n}", n % 10)).collect();
        let rows = table(&format!("k:int64 n:int64{lines}"));
        let driven = drive(&parse::<DistributeSettings>("ports = ['a', 'b', 'c']\nkeys = ['k']"), &[("from", rows)], 7);
        let keys = |port: &str| -> std::collections::BTreeSet<String> {
            driven.text(port).lines().skip(1).map(|line| line[..1].to_owned()).collect()
        };
        let ports = ["a", "b", "c"].map(keys);
        assert_eq!(ports.iter().map(std::collections::BTreeSet::len).sum::<usize>(), 10);
        assert!(ports.iter().all(|keys| !keys.is_empty()), "{ports:?}");
    }
}
