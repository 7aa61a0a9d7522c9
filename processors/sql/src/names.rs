//! Columns that are called like words of SQL: where such a word stands alone, as a value does, it is the column.

use arrow::datatypes::Schema;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// Makes plain names of the words that stand for columns of `schema`. It is decided by the neighbours: a value stands behind an
/// operator, a comma, a bracket or a word such as WHERE, and in front of another of these.
pub fn name_columns(tokens: &mut [TokenWithSpan], schema: &Schema) {
    let places: Vec<usize> =
        (0..tokens.len()).filter(|place| !matches!(tokens[*place].token, Token::Whitespace(_))).collect();
    let calls = calls(tokens, &places);
    for (position, place) in places.iter().enumerate() {
        let neighbour = |distance: isize| {
            let place = position.checked_add_signed(distance).and_then(|position| places.get(position));
            place.map(|place| &tokens[*place].token)
        };
        let Token::Word(word) = &tokens[*place].token else { continue };
        if is_word_of_sql(word)
            && schema.field_with_name(&word.value).is_ok()
            && is_value(word, calls[position], neighbour)
        {
            // The parser refuses a column `from` without quotes, whatever it knows of it.
            let quote_style = (word.keyword == Keyword::FROM).then_some('"');
            let name = Word { value: word.value.clone(), quote_style, keyword: Keyword::NoKeyword };
            tokens[*place].token = Token::Word(name);
        }
    }
}

/// The function in whose brackets each of these tokens stands, if it is one that has words of SQL between its arguments.
fn calls(tokens: &[TokenWithSpan], places: &[usize]) -> Vec<Option<Keyword>> {
    let mut open: Vec<Option<Keyword>> = Vec::new();
    let mut before = None;
    let within = |place: &usize| {
        let token = &tokens[*place].token;
        if matches!(token, Token::RParen) {
            open.pop();
        }
        let call = open.last().copied().flatten();
        if matches!(token, Token::LParen) {
            open.push(before.filter(|word| WITH_WORDS.contains(word)));
        }
        before = match token {
            Token::Word(word) => Some(word.keyword),
            _ => None,
        };
        call
    };
    places.iter().map(within).collect()
}

/// `extract(day FROM at)`, `position('a' IN name)`, `overlay(name PLACING 'a' FROM 1 FOR 2)`.
const WITH_WORDS: &[Keyword] = &[
    Keyword::CEIL,
    Keyword::EXTRACT,
    Keyword::FLOOR,
    Keyword::OVERLAY,
    Keyword::POSITION,
    Keyword::SUBSTR,
    Keyword::SUBSTRING,
    Keyword::TRIM,
];

/// The words that are columns of `schema` as well, and stand where they can't be meant.
pub fn doubtful<'a>(tokens: &'a [TokenWithSpan], schema: &Schema) -> Option<&'a TokenWithSpan> {
    let is_column = |word: &Word| is_word_of_sql(word) && schema.field_with_name(&word.value).is_ok();
    tokens.iter().find(|token| matches!(&token.token, Token::Word(word) if is_column(word)))
}

fn is_word_of_sql(word: &Word) -> bool {
    word.quote_style.is_none() && word.keyword != Keyword::NoKeyword
}

fn is_value<'a>(word: &Word, call: Option<Keyword>, neighbour: impl Fn(isize) -> Option<&'a Token>) -> bool {
    const BETWEEN_ARGUMENTS: &[Keyword] = &[Keyword::FOR, Keyword::FROM, Keyword::IN, Keyword::PLACING];
    let is_between = |token: &Token| call.is_some() && is_one_of(token, BETWEEN_ARGUMENTS);
    if matches!(neighbour(-1), Some(Token::Period)) {
        return true;
    }
    let begins = match (neighbour(-1), word.keyword) {
        // The beginning of a query.
        (None, Keyword::SELECT | Keyword::WITH | Keyword::FROM) => false,
        (None, _) => true,
        (Some(Token::LParen), Keyword::SELECT | Keyword::WITH) => is_closed(neighbour(1)),
        // `IS NOT NULL` and the like.
        (Some(before), _) if is(before, Keyword::NOT) => !neighbour(-2).is_some_and(|before| is(before, Keyword::IS)),
        (Some(Token::LParen), _) => !neighbour(-2).is_some_and(takes_words) || is_closed(neighbour(1)),
        // `IS DISTINCT FROM`.
        (Some(before), _) if is(before, Keyword::FROM) && call.is_none() => {
            neighbour(-2).is_some_and(|before| is(before, Keyword::DISTINCT))
                && neighbour(-3).is_some_and(|before| is_one_of(before, &[Keyword::IS, Keyword::NOT]))
        }
        (Some(before), _) => comes_before_values(before) || is_between(before),
    };
    let ends = match (neighbour(1), word.keyword) {
        (Some(behind), Keyword::CASE) if is(behind, Keyword::WHEN) => false,
        (None, _) => true,
        (Some(behind), _) => comes_behind_values(behind) || is_between(behind),
    };
    begins && ends
}

/// `extract(day FROM at)`, `trim(both FROM name)`.
fn takes_words(function: &Token) -> bool {
    is(function, Keyword::EXTRACT) || is(function, Keyword::TRIM)
}

fn is_closed(behind: Option<&Token>) -> bool {
    matches!(behind, Some(Token::RParen))
}

fn is(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword)
}

fn comes_before_values(token: &Token) -> bool {
    const WORDS: &[Keyword] = &[
        Keyword::AND,
        Keyword::BETWEEN,
        Keyword::CASE,
        Keyword::ELSE,
        Keyword::ILIKE,
        Keyword::LIKE,
        Keyword::OR,
        Keyword::REGEXP,
        Keyword::RLIKE,
        Keyword::SELECT,
        Keyword::THEN,
        Keyword::WHEN,
        Keyword::WHERE,
    ];
    matches!(token, Token::Colon | Token::Comma | Token::LBrace | Token::LBracket | Token::LParen)
        || is_operator(token)
        || is_one_of(token, WORDS)
}

fn comes_behind_values(token: &Token) -> bool {
    const WORDS: &[Keyword] = &[
        Keyword::AND,
        Keyword::AS,
        Keyword::AT,
        Keyword::BETWEEN,
        Keyword::ELSE,
        Keyword::END,
        Keyword::FROM,
        Keyword::ILIKE,
        Keyword::IN,
        Keyword::IS,
        Keyword::LIKE,
        Keyword::NOT,
        Keyword::OR,
        Keyword::REGEXP,
        Keyword::RLIKE,
        Keyword::SIMILAR,
        Keyword::THEN,
        Keyword::WHEN,
        Keyword::WHERE,
    ];
    let closes = matches!(
        token,
        Token::Comma
            | Token::RParen
            | Token::LBracket
            | Token::RBracket
            | Token::RBrace
            | Token::Period
            | Token::DoubleColon
            | Token::SemiColon
            | Token::EOF
    );
    closes || is_operator(token) || is_one_of(token, WORDS)
}

fn is_one_of(token: &Token, words: &[Keyword]) -> bool {
    matches!(token, Token::Word(word) if words.contains(&word.keyword))
}

fn is_operator(token: &Token) -> bool {
    matches!(
        token,
        Token::Eq
            | Token::DoubleEq
            | Token::Neq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq
            | Token::Spaceship
            | Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::StringConcat
            | Token::Ampersand
            | Token::Pipe
            | Token::Caret
            | Token::Tilde
            | Token::TildeAsterisk
            | Token::ExclamationMarkTilde
            | Token::ExclamationMarkTildeAsterisk
            | Token::AtArrow
            | Token::ArrowAt
            | Token::Sharp
            | Token::ShiftLeft
            | Token::ShiftRight
            | Token::Arrow
            | Token::LongArrow
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use datafusion_sql::sqlparser::keywords::ALL_KEYWORDS;
    use millstream_core::ProcessorSettings;
    use millstream_testkit::{context, drive, parse, stream, table};

    use crate::sql::SqlSettings;

    fn settings(query: &str) -> SqlSettings {
        parse(&format!("query = '''{query}'''"))
    }

    fn rows(names: &[String]) -> RecordBatch {
        let column = |values: [i64; 2]| Arc::new(Int64Array::from_iter_values(values)) as ArrayRef;
        let named = names.iter().map(|name| (name.as_str(), column([10, 20])));
        RecordBatch::try_from_iter([("id", column([1, 2]))].into_iter().chain(named)).unwrap()
    }

    #[test]
    fn every_word_of_sql_can_be_a_column() {
        let words = ALL_KEYWORDS.iter().map(|word| word.to_lowercase());
        // `END-EXEC` is no name, with a minus in it.
        let words: Vec<String> = words.filter(|word| word != "id" && !word.contains('-')).collect();
        for words in words.chunks(25) {
            let select = words.iter().enumerate().map(|(n, word)| {
                format!(
                    "{word}, {word} as a{n}, input.{word} + 1 AS b{n}, abs({word}) AS c{n},
                     CASE WHEN {word} > 10 THEN {word} ELSE -{word} END AS d{n}"
                )
            });
            let conditions = words.iter().map(|word| format!("{word} > 10 and NOT id = 1 AND {word} IS NOT NULL"));
            let (select, conditions): (Vec<_>, Vec<_>) = (select.collect(), conditions.collect());
            let query = format!("select {} from input where {}", select.join(", "), conditions.join(" and "));
            let driven = drive(&settings(&query), &[("from", rows(words))], 2);
            let expected = vec!["20 20 21 20 20"; words.len()].join(" ");
            assert_eq!(driven.text("main").lines().nth(1), Some(&*expected), "{query}");
        }
    }

    #[test]
    fn words_stay_words_where_they_are_needed() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let names = [
            "from", "case", "when", "then", "else", "end", "and", "null", "date", "interval", "day", "select", "where",
            "as", "is", "not", "id",
        ];
        let rows = RecordBatch::try_from_iter(names.map(|name| (name, numbers.clone()))).unwrap();
        for (query, expected) in [
            ("select id from input where id is not null", "id:int64\n1\n2\n"),
            ("select case when id > 1 then end else when end as x from input", "x:int64\n1\n2\n"),
            ("select date '2020-01-01' + interval '1 day' as x from input where not id = 1", "x:date\n2020-01-02\n"),
            ("select extract(day from date '2020-01-07') as x from input where id = 1", "x:int32\n7\n"),
            ("select cast('2020-01-07' as date) as x, day from input where id = 1", "x:date day:int64\n2020-01-07 1\n"),
            ("with a as (select from, id from input) select a.from as x from a where id = 2", "x:int64\n2\n"),
        ] {
            let driven = drive(&settings(query), &[("from", rows.clone())], 2);
            assert_eq!(driven.text("main"), expected, "{query}");
        }
    }

    #[test]
    fn every_kind_of_expression_can_have_such_a_column() {
        let columns = "user:utf8 case:utf8? interval:int64 date:timestamp";
        let rows = table(&format!("{columns}\n abca abca 2 2026-03-04T05:06:07Z"));
        for (expression, expected) in [
            ("trim(BOTH 'a' FROM user)", "bc"),
            ("trim(user FROM 'xabca')", "x"),
            ("trim(LEADING 'a' FROM case)", "bca"),
            ("trim(user)", "abca"),
            ("position('b' IN user)", "2"),
            ("position('b' IN case)", "2"),
            ("position(user IN 'xabca')", "2"),
            ("strpos(user, 'b')", "2"),
            ("extract(year FROM date)", "2026"),
            ("extract(day FROM date)", "4"),
            ("overlay(user PLACING 'xy' FROM 2 FOR 2)", "axya"),
            ("overlay('1234' PLACING user FROM interval)", "1abca"),
            ("substring(user FROM 2 FOR 2)", "bc"),
            ("substring(user FROM interval FOR interval)", "bc"),
            ("substring(case, interval)", "bca"),
            ("get_field({'k': user, 'l': case}, 'k')", "abca"),
            ("get_field(named_struct('k', user), 'k')", "abca"),
            ("[user, case][2]", "abca"),
            ("user || case", "abcaabca"),
            ("user IN ('x', user)", "true"),
            ("user LIKE 'ab%'", "true"),
            ("'abca' LIKE user", "true"),
            ("user SIMILAR TO 'ab.*'", "true"),
            ("user ~ 'b'", "true"),
            ("user IS NOT DISTINCT FROM case", "true"),
            ("user IS DISTINCT FROM case", "false"),
            ("interval BETWEEN interval AND interval", "true"),
            ("CASE user WHEN case THEN user ELSE case END", "abca"),
            ("CASE WHEN user = case THEN user END", "abca"),
            ("CAST(user AS text)", "abca"),
            ("user::text", "abca"),
            ("- interval", "-2"),
            ("NOT user = case", "false"),
            ("user IS NULL", "false"),
            ("(user)", "abca"),
            ("coalesce(user, case)", "abca"),
            ("floor(interval)", "2.0"),
            ("ceil(interval)", "2.0"),
            ("date AT TIME ZONE 'UTC'", "2026-03-04T05:06:07Z"),
            ("date_trunc('day', date)", "2026-03-04T00:00:00Z"),
        ] {
            let query = format!("SELECT {expression} AS x FROM input");
            let driven = drive(&settings(&query), &[("from", rows.clone())], 8192);
            assert_eq!(driven.text("main").lines().nth(1), Some(expected), "{expression}: {:?}", driven.failed);
        }
    }

    #[test]
    fn a_word_that_is_no_column_and_no_function_is_said_to_be_no_column() {
        let schema = table("users:utf8\n").schema();
        for (query, message, help) in [
            ("SELECT user AS x FROM input", "there is no column `user`", "did you mean `users`?"),
            ("SELECT trim(BOTH 'a' FROM user) AS x FROM input", "there is no column `user`", "did you mean `users`?"),
            ("SELECT session_user AS x FROM input", "there is no column `session_user`", "there is only `users`"),
            ("SELEC users FROM input", "expected an SQL statement instead of `SELEC`", "did you mean `SELECT`?"),
            ("users FROM input", "expected an SQL statement instead of `users`", "a query starts with SELECT or WITH"),
        ] {
            let problems = settings(query).plan(&context(), &[stream("from", schema.clone())]).unwrap_err();
            assert_eq!((&*problems[0].message, problems[0].help.as_deref()), (message, Some(help)), "{query}");
            assert!(problems[0].within.is_some(), "{query}");
        }
    }

    #[test]
    fn quotes_are_advised_for_the_word_at_the_place_only() {
        let schema = table("name:utf8\n").schema();
        for query in ["SELEC name FROM people", "SELECT name FROM input WHERE 1 1"] {
            let problems = settings(query).plan(&context(), &[stream("from", schema.clone())]).unwrap_err();
            assert!(!problems[0].help.as_deref().unwrap_or_default().contains("in quotes"), "{query}: {problems:?}");
        }
    }

    #[test]
    fn a_column_that_can_not_be_seen_is_to_be_quoted() {
        let problems = settings("SELECT current_date 5 FROM input")
            .plan(&context(), &[stream("from", rows(&["current_date".to_owned()]).schema())])
            .unwrap_err();
        assert_eq!(
            problems[0].help.as_deref(),
            Some("`current_date` is a word of SQL; the column is \"current_date\", in quotes")
        );
    }
}
