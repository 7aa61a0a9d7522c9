//! The processor `sample`: some of the rows.

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use millstream_core::{
    Batch, Collector, Error, Kind, Origin, Parts, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan,
    ProcessorSettings, Result, Share, Snapshot, State, Stream, Uses,
};
use schemars::JsonSchema;
use serde::Deserialize;
use twox_hash::XxHash3_64;

use crate::hash::{hash_column, hash_columns, seed, start};
use crate::rows::evenly;

/// Lets some of the rows pass, chosen by chance, and the same ones in every run.
///
/// With `share`, each row passes with that probability; with `keys` in addition, all rows with the same values pass or
/// none does. With `rows`, so many rows of the whole stream are chosen, each row as likely as any other, and leave at the
/// end in their order; that needs memory for so many rows. The others are dropped.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleSettings {
    /// The share that passes, such as `"1%"`.
    share: Option<Share>,
    /// The columns whose values are chosen, rather than rows.
    keys: Option<Vec<String>>,
    /// How many rows are chosen of all.
    #[schemars(range(min = 1, max = 10_000_000))]
    rows: Option<usize>,
    /// Another number chooses other rows, or other keys; nodes with the same one choose the same. Without it, the name of the
    /// node says what is chosen, so that samples by the same keys don't depend on each other; a node that is renamed then
    /// chooses others, unless `renamed_from` says its former name.
    seed: Option<u64>,
}

impl Kind for SampleSettings {
    const NAME: &'static str = "sample";
    const EXAMPLE: &'static str = r#"share = "10%"
keys = ["customer"]"#;
}

impl ProcessorSettings for SampleSettings {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let schema = &inputs[0].schema;
        let rule = match (self.share, &self.keys, self.rows) {
            (Some(share), None, None) => Rule::Rows(share.0),
            (Some(share), Some(keys), None) => Rule::Keys(share.0, hash_columns("keys", keys, schema)?),
            (None, None, Some(rows)) => Rule::Reservoir(Reservoir::new(schema.clone(), rows)),
            (None, _, None) => {
                let problem = Problem::new("nothing says how many rows pass");
                return Err(problem.help("set `share`, or `rows`").into());
            }
            (_, _, Some(_)) => {
                let problem = Problem::new("`rows` chooses of all rows, without a share or keys").at(["rows"]);
                return Err(problem.help("leave out `rows`, or `share` and `keys`").into());
            }
        };
        let ports = vec![PortPlan::main(schema.clone())];
        let uses = vec![Uses::passing_on(self.keys.iter().flatten().cloned())];
        let sample = Sample { rule, seed: seed(self.seed, context), row: 0 };
        Ok(ProcessorPlan { ports, uses, fails: false, build: Box::new(|| Ok(Box::new(sample))) })
    }
}

struct Sample {
    rule: Rule,
    seed: u64,
    /// How many rows have come.
    row: u64,
}

/// What decides.
enum Rule {
    /// A number drawn for each row.
    Rows(f64),
    /// The hash of some columns.
    Keys(f64, Vec<usize>),
    Reservoir(Reservoir),
}

/// A number from 0 to 1 that belongs to a row and nothing else, so that it does not matter how often numbers are drawn.
fn draw(seed: u64, row: u64) -> f64 {
    between_0_and_1(XxHash3_64::oneshot_with_seed(seed, &row.to_le_bytes()))
}

fn between_0_and_1(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

impl Processor for Sample {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let (seed, first) = (self.seed, self.row);
        self.row += batch.len() as u64;
        let passes: BooleanArray = match &mut self.rule {
            Rule::Rows(share) => (first..self.row).map(|row| Some(draw(seed, row) < *share)).collect(),
            Rule::Keys(share, columns) => {
                let mut hashes = vec![start(SampleSettings::NAME, seed); batch.len()];
                columns.iter().for_each(|column| hash_column(&mut hashes, batch.rows.column(*column)));
                hashes.into_iter().map(|hash| Some(between_0_and_1(hash) < *share)).collect()
            }
            Rule::Reservoir(reservoir) => return reservoir.take(&batch, first, seed),
        };
        out.push(0, batch.with_rows(filter_record_batch(&batch.rows, &passes)?));
        Ok(())
    }

    fn finish(&mut self, out: &mut Collector) -> Result<()> {
        match &mut self.rule {
            Rule::Reservoir(reservoir) => reservoir.empty(out),
            Rule::Rows(_) | Rule::Keys(..) => Ok(()),
        }
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        parts.put("row", &self.row)?;
        if let Rule::Reservoir(reservoir) = &mut self.rule {
            reservoir.save(&mut parts)?;
        }
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.row = state.get("row")?;
        match &mut self.rule {
            Rule::Reservoir(reservoir) => reservoir.load(state, self.seed),
            Rule::Rows(_) | Rule::Keys(..) => Ok(()),
        }
    }
}

/// The rows for which the smallest numbers were drawn.
///
/// Each row's number depends on nothing but its place in the stream, so the choice does not depend on batches.
struct Reservoir {
    schema: SchemaRef,
    rows: usize,
    /// The numbers and rows that may still be chosen, at most twice as many as are wanted.
    kept: Vec<(f64, u64, RecordBatch)>,
    /// Larger numbers have no chance any more.
    bound: f64,
    origin: Option<Origin>,
}

impl Reservoir {
    fn new(schema: SchemaRef, rows: usize) -> Self {
        Self { schema, rows, kept: Vec::new(), bound: f64::INFINITY, origin: None }
    }

    fn take(&mut self, batch: &Batch, first: u64, seed: u64) -> Result<()> {
        self.origin = Some(batch.origin.clone());
        for row in 0..batch.len() {
            let number = draw(seed, first + row as u64);
            if number <= self.bound {
                // A copy of its own, since a slice would keep the whole batch in memory.
                let alone = take_record_batch(&batch.rows, &UInt32Array::from(vec![row as u32]))?;
                self.kept.push((number, first + row as u64, alone));
            }
            if self.kept.len() >= 2 * self.rows {
                self.shrink();
            }
        }
        Ok(())
    }

    fn shrink(&mut self) {
        self.kept.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        self.kept.truncate(self.rows);
        if self.kept.len() == self.rows
            && let Some((number, ..)) = self.kept.last()
        {
            self.bound = *number;
        }
    }

    fn empty(&mut self, out: &mut Collector) -> Result<()> {
        self.shrink();
        self.kept.sort_by_key(|(_, row, _)| *row);
        let (Some((_, _, first)), Some(origin)) = (self.kept.first(), &self.origin) else { return Ok(()) };
        let rows = concat_batches(&first.schema(), self.kept.iter().map(|(_, _, row)| row))?;
        out.push(0, Batch::new(rows, origin.clone()));
        self.kept.clear();
        Ok(())
    }

    fn save(&mut self, parts: &mut Parts) -> Result<()> {
        self.shrink();
        parts.put("origin", &self.origin)?;
        parts.put_later("numbers", self.kept.iter().map(|(_, row, _)| *row).collect::<Vec<_>>());
        let rows = self.kept.iter().map(|(.., rows)| rows.clone()).collect();
        let schema = self.schema.clone();
        parts.put_rows_later("rows", schema.clone(), move || evenly(schema, rows));
        Ok(())
    }

    fn load(&mut self, state: &State, seed: u64) -> Result<()> {
        self.origin = state.get("origin")?;
        let (numbers, rows) = (state.get::<Vec<u64>>("numbers")?, state.arrived_rows("rows", &self.schema, 0)?);
        let rows: Vec<RecordBatch> =
            rows.iter().flat_map(|rows| (0..rows.num_rows()).map(|row| rows.slice(row, 1))).collect();
        if rows.len() != numbers.len() {
            return Err(Error::new(format!("the state has {} rows and {} numbers of rows", rows.len(), numbers.len())));
        }
        self.kept = numbers.into_iter().zip(rows).map(|(row, rows)| (draw(seed, row), row, rows)).collect();
        self.shrink();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use millstream_testkit::{context, drive, drive_at, parse, table};

    use super::*;

    fn sample(settings: &str) -> Vec<u32> {
        let lines: String = (0..2000).map(|n| format!("\n {} {n}", n % 100)).collect();
        let rows = table(&format!("k:int64 n:int64{lines}"));
        let numbers = |batch_rows: usize| -> Vec<u32> {
            let driven = drive(&parse::<SampleSettings>(settings), &[("from", rows.clone())], batch_rows);
            let text = driven.text("main");
            text.lines().skip(1).map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect()
        };
        let whole = numbers(8192);
        assert_eq!(numbers(1), whole);
        assert_eq!(numbers(77), whole);
        assert!(whole.is_sorted());
        whole
    }

    #[test]
    fn a_share_of_the_rows_passes() {
        let rows = sample("share = '10%'");
        assert!((150..250).contains(&rows.len()), "{} of 2000", rows.len());
        assert_ne!(rows, sample("share = '10%'\nseed = 1"));
        assert_eq!(sample("share = '100%'").len(), 2000);
    }

    #[test]
    fn a_key_is_chosen_with_all_its_rows() {
        let rows = sample("share = '30%'\nkeys = ['k']");
        let keys: BTreeSet<u32> = rows.iter().map(|row| row % 100).collect();
        assert_eq!(rows.len(), keys.len() * 20);
        assert!((15..45).contains(&keys.len()), "{} of 100", keys.len());
    }

    #[test]
    fn what_is_chosen_by_a_key_is_split_by_it_evenly() {
        use crate::distribute::DistributeSettings;
        use crate::split::SplitSettings;
        let lines: String = (0..4000).map(|k| format!("\n {k}")).collect();
        let driven = drive(
            &parse::<SampleSettings>("share = '50%'\nkeys = ['k']"),
            &[("from", table(&format!("k:int64{lines}")))],
            8192,
        );
        let sampled = driven.ports["main"][0].clone();
        let split: SplitSettings = parse("by = ['k']\nparts = { a = 0.5, b = 0.5 }");
        let distribute: DistributeSettings = parse("ports = ['a', 'b']\nkeys = ['k']");
        let count = |rows: &RecordBatch, settings: &dyn ProcessorSettings| {
            let driven = drive(settings, &[("from", rows.clone())], 8192);
            let part = |port: &str| driven.ports.get(port).map_or(0, |batches| batches[0].num_rows());
            (part("a"), part("b"))
        };
        for settings in [&split as &dyn ProcessorSettings, &distribute] {
            let (a, b) = count(&sampled, settings);
            assert!(a.abs_diff(b) < 200 && a + b == sampled.num_rows(), "{a} and {b}");
        }
        let part = drive(&split, &[("from", sampled)], 8192).ports["a"][0].clone();
        let (a, b) = count(&part, &distribute);
        assert!(a.abs_diff(b) < 150, "{a} and {b}");
    }

    #[test]
    fn nodes_of_one_type_choose_by_the_same_key_as_if_they_knew_nothing_of_each_other() {
        use crate::distribute::DistributeSettings;
        use crate::split::SplitSettings;
        let lines: String = (0..4000).map(|k| format!("\n {k}")).collect();
        let all = table(&format!("k:int64{lines}"));
        let sample = |seed| -> SampleSettings { parse(&format!("share = '50%'\nkeys = ['k']{seed}")) };
        let split = |seed| -> SplitSettings { parse(&format!("by = ['k']\nparts = {{ a = 0.5, b = 0.5 }}{seed}")) };
        let distribute = |seed| -> DistributeSettings { parse(&format!("ports = ['a', 'b']\nkeys = ['k']{seed}")) };
        let chosen = |node: &str, renamed_from: Option<&str>, settings: &dyn ProcessorSettings, rows: &RecordBatch| {
            let renamed_from = renamed_from.map(str::to_owned);
            let context = PlanContext { node: node.to_owned(), renamed_from, ..context() };
            let driven = drive_at(&context, settings, &[("from", rows.clone())], 8192);
            driven.ports.get("main").or(driven.ports.get("a")).unwrap()[0].clone()
        };
        for seed in ["", "\nseed = 7"] {
            let nodes: [&dyn ProcessorSettings; 3] = [&sample(seed), &split(seed), &distribute(seed)];
            for settings in nodes {
                let first = chosen("first", None, settings, &all);
                let second = chosen("second", None, settings, &first).num_rows();
                let is_about_half = second.abs_diff(first.num_rows() / 2) < 150;
                assert_eq!(is_about_half, seed.is_empty(), "{second} of {}", first.num_rows());
                assert_eq!(chosen("second", Some("first"), settings, &all), first);
            }
        }
    }

    #[test]
    fn so_many_rows_are_chosen_from_everywhere() {
        let rows = sample("rows = 200");
        assert_eq!(rows.len(), 200);
        let mean = f64::from(rows.iter().sum::<u32>()) / 200.0;
        assert!((850.0..1150.0).contains(&mean), "{mean}");
        assert_eq!(sample("rows = 5000").len(), 2000);
    }
}
