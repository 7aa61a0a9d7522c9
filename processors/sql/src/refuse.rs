//! What SQL can say but a stream can't do row by row: refused with the node that does it, all at once.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, Function as Call, GroupByExpr, ObjectName, Query, Select, SelectItem, SetExpr, SetOperator, Spanned,
    TableFactor, TableWithJoins, Value, ValueWithSpan, Visit, Visitor,
};
use datafusion_sql::sqlparser::tokenizer::Span;
use millstream_core::{Problem, Problems, TextPlace, known_names};

use crate::functions::{self, Function};
use crate::random;
use crate::text::{Text, within};

/// Deeper expressions are refused: planning and running them takes stack.
const DEEPEST: usize = 200;

/// Everything in a query or condition that can't be done row by row. `streams` are the names that FROM may use.
pub fn refusals<T: Visit>(syntax: &T, text: &Text, streams: &[&str]) -> Problems {
    refusals_where(RandomFunctions::Refused, syntax, text, streams)
}

/// What becomes of random functions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RandomFunctions {
    /// The rows of a stream must be the same in every run.
    Refused,
    /// Rows are generated: [`crate::random`] makes them functions of the row's number.
    Seeded,
}

/// The same, where random functions may be allowed.
pub fn refusals_where<T: Visit>(
    random_functions: RandomFunctions,
    syntax: &T,
    text: &Text,
    streams: &[&str],
) -> Problems {
    let names = streams.iter().map(|&name| name.to_owned()).collect();
    let mut guard = Guard { text, streams, names, random_functions, depth: 0, problems: Vec::new() };
    let _ = syntax.visit(&mut guard);
    guard.problems
}

struct Guard<'a> {
    text: &'a Text<'a>,
    streams: &'a [&'a str],
    /// What FROM may name: the streams, and the queries that WITH names.
    names: BTreeSet<String>,
    random_functions: RandomFunctions,
    depth: usize,
    problems: Problems,
}

impl Visitor for Guard<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.names.extend(with.cte_tables.iter().map(|table| table.alias.name.value.clone()));
            if with.recursive {
                self.unknown_syntax("WITH RECURSIVE", self.text.phrase(&["RECURSIVE"]));
            }
        }
        self.body(&query.body);
        self.clauses_behind(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.clauses_within(select);
        self.rare_clauses(select);
        match select.projection.as_slice() {
            [] => self.unknown_syntax("FROM without SELECT", self.text.phrase(&["FROM"])),
            _ if select.from.is_empty() => self.no_stream(select),
            _ => self.from(&select.from),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        match table {
            TableFactor::Table { name, args: None, sample, version: None, with_ordinality: false, .. } => {
                if sample.is_some() {
                    self.refuse("TABLESAMPLE", "sample", self.text.phrase(&["TABLESAMPLE"]));
                }
                self.stream(name);
            }
            TableFactor::Derived { lateral: false, sample: None, .. } => {}
            TableFactor::NestedJoin { table_with_joins, .. } => self.joins(table_with_joins),
            other => {
                let problem = Problem::new("FROM can only name a stream or hold a query")
                    .help("lists are taken apart by unnest(…) behind SELECT");
                self.problems.push(within(problem, self.text.place(other.span())));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let problem = Problem::new(format!("the expression is nested more than {DEEPEST} times"))
                .help("write `x IN (…)` for many `OR`s, or compute parts of it in a node before");
            self.problems.push(problem);
            return ControlFlow::Break(());
        }
        match expr {
            Expr::Function(call) => self.function(call),
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                self.refuse("a query within an expression", "join", self.text.place(expr.span()));
            }
            Expr::Identifier(name) if name.value.starts_with('@') && name.quote_style.is_none() => {
                self.unknown_syntax(&name.value, self.text.place(name.span));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        if let Value::Placeholder(name) = &value.value {
            self.unknown_syntax(name, self.text.place(value.span));
        }
        ControlFlow::Continue(())
    }
}

impl Guard<'_> {
    fn refuse(&mut self, what: &str, node: &str, place: Option<TextPlace>) {
        let problem = Problem::new(format!("{what} does not work row by row")).help(match node {
            "aggregate" => "use an `aggregate` node, or a `window` for stretches of time".to_owned(),
            "over" => "use an `over` node".to_owned(),
            node => format!("use a `{node}` node"),
        });
        self.problems.push(within(problem, place));
    }

    fn unknown_syntax(&mut self, what: &str, place: Option<TextPlace>) {
        let help = "a query has the form `WITH … SELECT … FROM … WHERE …`";
        self.problems.push(within(Problem::new(format!("`{what}` is not understood here")).help(help), place));
    }

    fn body(&mut self, body: &SetExpr) {
        match body {
            SetExpr::Select(_) | SetExpr::Query(_) => {}
            SetExpr::SetOperation { op, left, .. } => {
                let (word, help) = match op {
                    SetOperator::Union => ("UNION", "list the streams in `from` instead"),
                    SetOperator::Intersect => ("INTERSECT", "use a `join` node with `kind = \"semi\"`"),
                    SetOperator::Except | SetOperator::Minus => ("EXCEPT", "use a `join` node with `kind = \"anti\"`"),
                };
                let place = self.text.phrase_behind(&[word], left.span().end);
                let problem = Problem::new(format!("{word} does not work row by row")).help(help);
                self.problems.push(within(problem, place));
            }
            _ => self.reads_nothing(self.text.place(body.span())),
        }
    }

    fn reads_nothing(&mut self, place: Option<TextPlace>) {
        let help = format!("read the stream by `FROM {}`", self.streams[0]);
        self.problems.push(within(Problem::new("the query reads no stream").help(help), place));
    }

    fn clauses_behind(&mut self, query: &Query) {
        let limit = if self.text.phrase(&["LIMIT"]).is_some() { "LIMIT" } else { "OFFSET" };
        let node_by_clause: [(&str, bool, &[&str], &str); 3] = [
            ("ORDER BY", query.order_by.is_some(), &["ORDER", "BY"], "sort"),
            (limit, query.limit_clause.is_some(), &[limit], "limit"),
            ("FETCH", query.fetch.is_some(), &["FETCH"], "limit"),
        ];
        for (clause, there, phrase, node) in node_by_clause {
            if there {
                self.refuse(clause, node, self.text.phrase(phrase));
            }
        }
        if !query.pipe_operators.is_empty() {
            self.unknown_syntax("|>", None);
        }
        if query.for_clause.is_some() || query.settings.is_some() || query.format_clause.is_some() {
            self.unknown_syntax("FOR, SETTINGS or FORMAT", None);
        }
        if !query.locks.is_empty() {
            self.unknown_syntax("FOR", self.text.phrase(&["FOR"]));
        }
    }

    fn clauses_within(&mut self, select: &Select) {
        let groups = match &select.group_by {
            GroupByExpr::All(_) => true,
            GroupByExpr::Expressions(columns, modifiers) => !columns.is_empty() || !modifiers.is_empty(),
        };
        let node_by_clause: [(&[&str], bool, &str); 8] = [
            (&["GROUP", "BY"], groups, "aggregate"),
            (&["HAVING"], select.having.is_some(), "aggregate"),
            (&["QUALIFY"], select.qualify.is_some(), "over"),
            (&["SELECT", "DISTINCT"], select.distinct.is_some(), "dedup"),
            (&["TOP"], select.top.is_some(), "limit"),
            (&["SORT", "BY"], !select.sort_by.is_empty(), "sort"),
            (&["CLUSTER", "BY"], !select.cluster_by.is_empty(), "sort"),
            (&["DISTRIBUTE", "BY"], !select.distribute_by.is_empty(), "split"),
        ];
        for (phrase, there, node) in node_by_clause {
            if there {
                self.refuse(&phrase.join(" "), node, self.text.phrase(phrase));
            }
        }
    }

    /// Clauses of other dialects, some of which DataFusion would overlook.
    fn rare_clauses(&mut self, select: &Select) {
        let rare: [(&[&str], bool); 7] = [
            (&["INTO"], select.into.is_some()),
            (&["LATERAL", "VIEW"], !select.lateral_views.is_empty()),
            (&["PREWHERE"], select.prewhere.is_some()),
            (&["CONNECT", "BY"], !select.connect_by.is_empty()),
            (&["WINDOW"], !select.named_window.is_empty()),
            (&["EXCLUDE"], select.exclude.is_some()),
            (&["SELECT", "AS"], select.value_table_mode.is_some()),
        ];
        for (phrase, there) in rare {
            if there {
                self.unknown_syntax(&phrase.join(" "), self.text.phrase(phrase));
            }
        }
        for item in &select.projection {
            if let SelectItem::ExprWithAliases { aliases, .. } = item {
                let place = aliases.first().and_then(|alias| self.text.place(alias.span));
                self.unknown_syntax("AS (…)", place);
            }
        }
    }

    fn no_stream(&mut self, select: &Select) {
        let taken_for_column = select.projection.iter().any(|item| item.to_string().contains("FROM"));
        match self.text.phrase_behind(&["FROM"], select.select_token.0.span.start) {
            Some(place) if taken_for_column => {
                self.problems.push(Problem::new("an expression is missing before FROM").within(place));
            }
            _ => self.reads_nothing(self.text.place(select.select_token.0.span)),
        }
    }

    fn from(&mut self, from: &[TableWithJoins]) {
        match from {
            [] => {}
            [one] => self.joins(one),
            [_, second, ..] => self.refuse("a second stream in FROM", "join", self.text.place(second.span())),
        }
    }

    fn joins(&mut self, table: &TableWithJoins) {
        if !table.joins.is_empty() {
            self.refuse("JOIN", "join", self.text.phrase(&["JOIN"]));
        }
    }

    fn stream(&mut self, name: &ObjectName) {
        let written = match name.0.as_slice() {
            [part] => part.as_ident().map(|ident| ident.value.clone()),
            _ => None,
        };
        let written = written.unwrap_or_else(|| name.to_string());
        if self.names.contains(&written) {
            return;
        }
        let help = known_names(&written, self.streams.iter().copied());
        let problem = Problem::new(format!("there is no stream `{written}` here")).help(help);
        self.problems.push(within(problem, self.text.place(name.span())));
    }

    fn function(&mut self, call: &Call) {
        let name = call.name.to_string();
        let span = call.name.0.first().map_or(Span::empty(), |part| part.span());
        let place = self.text.place(span);
        if call.over.is_some() {
            return self.refuse(&format!("{name}(…) OVER"), "over", place);
        }
        if self.random_functions == RandomFunctions::Seeded && random::function(&name).is_some() {
            return;
        }
        let problem = match functions::lookup(name.trim_matches('"')) {
            Function::OfOneRow => return,
            Function::OfManyRows => return self.refuse(&format!("{name}(…)"), "aggregate", place),
            Function::NotReplayable => self.not_replayable(&name),
            Function::Unknown if random::function(&name).is_some() => self.not_replayable(&name),
            Function::Unknown => {
                let problem = Problem::new(format!("there is no function `{name}`"));
                problem.help(functions::like(&name, self.random_functions == RandomFunctions::Seeded))
            }
        };
        self.problems.push(within(problem, place));
    }

    fn not_replayable(&self, name: &str) -> Problem {
        Problem::new(format!("{name} is not replayable: it differs from run to run")).help(
            match self.random_functions {
                RandomFunctions::Refused => "use a column of the stream, such as its event time",
                RandomFunctions::Seeded => "compute it from `row` and `random()`",
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::ProcessorSettings;
    use millstream_testkit::{context, parse, schema, stream};

    use crate::sql::SqlSettings;

    const SORT: &str = "use a `sort` node";
    const JOIN: &str = "use a `join` node";
    const LIMIT: &str = "use a `limit` node";
    const AGGREGATE: &str = "use an `aggregate` node, or a `window` for stretches of time";
    const OVER: &str = "use an `over` node";
    const RENAME: &str = "give one of them another name by AS";
    const NOT_QUERY: &str = "a query starts with SELECT or WITH";
    const FORM: &str = "a query has the form `WITH … SELECT … FROM … WHERE …`";
    const CLOCK: &str = "use a column of the stream, such as its event time";

    /// Each query with the place marked by `[` and `]` (an empty place is the end of the text), the message and the help.
    const REFUSED: &[(&str, &str, &str)] = &[
        // Several rows.
        ("SELECT id FROM input [GROUP BY] id", "GROUP BY does not work row by row", AGGREGATE),
        ("SELECT [MAX](amount) FROM input", "MAX(…) does not work row by row", AGGREGATE),
        ("SELECT id FROM input WHERE [count](*) > 1", "count(…) does not work row by row", AGGREGATE),
        ("SELECT id FROM input [HAVING] id > 1", "HAVING does not work row by row", AGGREGATE),
        ("SELECT [rank]() OVER (ORDER BY id) FROM input", "rank(…) OVER does not work row by row", OVER),
        ("SELECT a.id FROM input AS a [JOIN] input AS b ON true", "JOIN does not work row by row", JOIN),
        ("SELECT 1 FROM input AS a, [input AS b]", "a second stream in FROM does not work row by row", JOIN),
        ("SELECT id FROM input [ORDER BY] id", "ORDER BY does not work row by row", SORT),
        ("SELECT * FROM (SELECT id FROM input [ORDER BY] id) AS s", "ORDER BY does not work row by row", SORT),
        ("[SELECT DISTINCT] id FROM input", "SELECT DISTINCT does not work row by row", "use a `dedup` node"),
        ("SELECT id FROM input [LIMIT] 5", "LIMIT does not work row by row", LIMIT),
        ("SELECT id FROM input [OFFSET] 5", "OFFSET does not work row by row", LIMIT),
        (
            "SELECT id FROM input [UNION] ALL SELECT id FROM input",
            "UNION does not work row by row",
            "list the streams in `from` instead",
        ),
        (
            "SELECT * EXCEPT (id) FROM input [EXCEPT] SELECT 1 FROM input",
            "EXCEPT does not work row by row",
            "use a `join` node with `kind = \"anti\"`",
        ),
        (
            "SELECT id FROM input WHERE [id IN (SELECT id FROM input])",
            "a query within an expression does not work row by row",
            JOIN,
        ),
        (
            "SELECT id FROM input [TABLESAMPLE] BERNOULLI (10)",
            "TABLESAMPLE does not work row by row",
            "use a `sample` node",
        ),
        // Another result at every run.
        ("SELECT id FROM input WHERE at < [now]()", "now is not replayable: it differs from run to run", CLOCK),
        (
            "SELECT [CURRENT_DATE] AS today FROM input",
            "CURRENT_DATE is not replayable: it differs from run to run",
            CLOCK,
        ),
        ("SELECT [random]() AS r FROM input", "random is not replayable: it differs from run to run", CLOCK),
        // No query.
        ("[INSERT] INTO input VALUES (1)", "`INSERT` is no query", NOT_QUERY),
        ("[EXPLAIN] SELECT id FROM input", "`EXPLAIN` is no query", NOT_QUERY),
        ("[CREATE] TABLE t (a int)", "`CREATE` is no query", NOT_QUERY),
        ("SELECT id FROM input[;] DROP TABLE input", "there is more than one statement", "write one query"),
        ("", "the query is empty", ""),
        ("[SELECT] 1", "the query reads no stream", "read the stream by `FROM input`"),
        ("SELECT id FROM input WHERE[]", "expected an expression at the end", ""),
        ("SELECT amount > [FROM] input", "an expression is missing before FROM", ""),
        ("SELECT [']abc FROM input", "unterminated string literal", ""),
        ("SELECT [$1] FROM input", "`$1` is not understood here", FORM),
        ("SELECT id FROM input [PREWHERE] id > 1", "`PREWHERE` is not understood here", FORM),
        (
            "SELECT * FROM [generate_series](1, 3)",
            "FROM can only name a stream or hold a query",
            "lists are taken apart by unnest(…) behind SELECT",
        ),
        // Names.
        ("SELECT id FROM [paymnets]", "there is no stream `paymnets` here", "did you mean `payments`?"),
        ("SELECT id FROM [INPUT]", "there is no stream `INPUT` here", "did you mean `input`?"),
        ("SELECT id,\n  'é🙂', [amuont] FROM input", "there is no column `amuont`", "did you mean `amount`?"),
        ("SELECT [AMOUNT] FROM input", "there is no column `AMOUNT`", "did you mean `amount`?"),
        (
            "SELECT * EXCEPT ([nope]) FROM input",
            "there is no column `nope`",
            "there are `id`, `amount`, `country`, `at`, `s`, `tags`",
        ),
        ("SELECT s.[c] FROM input", "field c not found in struct", ""),
        ("SELECT [lnn](amount) FROM input", "there is no function `lnn`", "did you mean `ln`?"),
        ("SELECT id AS x, amount AS [x] FROM input", "two columns are called `x`", RENAME),
        ("SELECT *, 1 AS [id] FROM input", "two columns are called `id`", RENAME),
        // Types.
        ("SELECT [ln](country) FROM input", "`ln` does not take (utf8)", "it is called as `ln(numeric_expression)`"),
        (
            "SELECT id FROM input [WHERE] amount",
            "a condition must be boolean, and this is float64",
            "compare it with something, such as `amount > 0`",
        ),
        (
            "SELECT [amount + country] FROM input",
            "float64 + utf8 can't be computed",
            "bring one of them to another type by CAST",
        ),
        ("SELECT CAST(['abc'] AS int) AS x FROM input", "can't cast string 'abc' to value of int32 type", ""),
        (
            "SELECT at - at AS [gap] FROM input",
            "column `gap` has the type Duration(µs), which flows can't carry",
            "give it another type by CAST",
        ),
        (
            "SELECT id FROM input WHERE [unnest](tags) = 'a'",
            "unnest can only stand behind SELECT",
            "filter in a query around it",
        ),
    ];

    #[test]
    fn what_is_refused_is_explained_at_its_place() {
        let schema = schema("id:int64 amount:float64? country:utf8? at:timestamp s:{a=int64}? tags:list<utf8>?");
        let mut stream = stream("from", schema);
        stream.node = "payments".into();
        for (marked, message, help) in REFUSED {
            let query = marked.replace(['[', ']'], "");
            let settings: SqlSettings = parse(&format!("query = '''{query}'''"));
            let problems = settings.plan(&context(), std::slice::from_ref(&stream)).expect_err(&query);
            let problem = problems.iter().find(|problem| problem.message == *message);
            let problem = problem.unwrap_or_else(|| panic!("{query}: {problems:?}"));
            assert_eq!(problem.help.as_deref().unwrap_or_default(), *help, "{query}");
            assert_eq!(problem.at, ["query".into()], "{query}");
            let place = problem.within.map(|place| (place.line, place.column, place.length));
            assert_eq!(place, place_of(marked), "{query}");
        }
    }

    /// The line, column and length of what is marked.
    fn place_of(marked: &str) -> Option<(usize, usize, usize)> {
        let (before, rest) = marked.split_once('[')?;
        let (place, _) = rest.split_once(']')?;
        let line = before.rsplit('\n').next()?;
        let number = before.matches('\n').count() + 1;
        Some((number, line.chars().count() + 1, place.chars().count().max(1)))
    }

    #[test]
    fn everything_is_told_at_once() {
        let settings: SqlSettings = parse("query = 'SELECT DISTINCT lnn(id), now() AS t FROM inptu ORDER BY id'");
        let problems = settings.plan(&context(), &[stream("from", schema("id:int64"))]).expect_err("five problems");
        assert_eq!(problems.len(), 5, "{problems:?}");
    }

    #[test]
    fn endless_expressions_are_refused_and_no_crash() {
        let deep = format!("SELECT {}1 AS x FROM input", "1 + ".repeat(10_000));
        let brackets = format!("SELECT {}1{} AS x FROM input", "(".repeat(5_000), ")".repeat(5_000));
        let long = format!("SELECT '{}' AS x FROM input", "x".repeat(100_000));
        let expected = ["the expression is nested more than 200 times", "brackets stand too deeply", "is too long"];
        for (query, message) in [deep, brackets, long].iter().zip(expected) {
            let settings: SqlSettings = parse(&format!("query = '''{query}'''"));
            let problems = settings.plan(&context(), &[stream("from", schema("id:int64"))]).expect_err(message);
            assert!(problems[0].message.contains(message), "{problems:?}");
        }
    }
}
