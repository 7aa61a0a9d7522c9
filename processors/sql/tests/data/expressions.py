"""The expressions that are compared with DuckDB, and the rows that they are computed over.

An expression is one text for both, or a pair: how `sql` nodes say it, and how DuckDB does.
"""

COLUMNS = {
    "i": "bigint",
    "j": "integer",
    "x": "double",
    "y": "double",
    "d": "decimal(12,2)",
    "e": "decimal(10,3)",
    "t": "varchar",
    "u": "varchar",
    "b": "boolean",
    "ts": "timestamp",
    "day": "date",
    "l": "bigint[]",
    "m": "varchar[]",
}

# Texts as SQL literals; None is null.
ROWS = [
    ["1", "2", "1.5", "2.25", "10.00", "3.000", "'abc'", "'b'", "true", "'2026-01-15 10:20:30.123456'", "'2026-01-15'", "[1,2,3]", "['a','b']"],
    ["-7", "3", "-0.5", "4", "19.99", "0.125", "'Hello World'", "'o'", "false", "'1999-12-31 23:59:59.999999'", "'1999-12-31'", "[]", "[]"],
    ["0", "0", "0", "-0.0", "0.00", "0.000", "''", "''", "true", "'1970-01-01 00:00:00'", "'1970-01-01'", "[5,5,1]", "['x','x','y']"],
    ["9007199254740993", "-1", "'nan'", "1", "-0.01", "-2.500", "'Österreich €'", "'ter'", None, "'2024-02-29 12:00:00'", "'2024-02-29'", None, "['é',NULL]"],
    [None, "100", "'inf'", "'nan'", "9999999999.99", "1234567.891", "'  padded  '", "' '", "false", "'1900-03-01 00:00:00.000001'", "'1900-03-01'", "[7,NULL,-2]", None],
    ["42", None, "1e10", "1e-10", None, "7.777", "'123'", "'2'", "true", "'2500-07-04 06:07:08.9'", "'2500-07-04'", "[0]", "['123','7']"],
    ["-1", "7", None, "-3.75", "0.05", None, "'true'", "'TRUE'", None, None, None, "[1,2,3,4,5,6]", "['true']"],
    ["3", "-2", "0.1", "0.2", "1.19", "1.190", None, "'z'", "true", "'1600-01-01 00:00:00'", "'1600-01-01'", "[-1]", "['a,b','c']"],
    ["100", "6", "2.5", "-2.5", "2.50", "0.005", "'2026-03-04'", "'-'", "false", "'2026-03-29 01:30:00'", "'2026-03-29'", "[9,8]", "['']"],
    ["12345678", "5", "123456.789", "0.001", "12345.67", "0.333", "'a.b.c'", "'.'", "true", "'2023-06-30 23:59:59.5'", "'2023-06-30'", "[2,2,2]", "['c','a','b']"],
]

ARITHMETIC = [
    f"{left} {operator} {right}"
    for left, right in [("i", "j"), ("i", "x"), ("x", "y"), ("d", "e"), ("d", "i"), ("d", "x"), ("j", "d")]
    for operator in ["+", "-", "*", "/", "%"]
]

COMPARISONS = [
    f"{left} {operator} {right}"
    for left, right in [("i", "j"), ("x", "y"), ("d", "e"), ("d", "x"), ("i", "d"), ("t", "u"), ("i", "x"), ("b", "(i > 0)"), ("ts", "day")]
    for operator in ["=", "<", ">=", "IS DISTINCT FROM"]
]

LITERALS = [
    "x > 0.5", "x = 0.1", "0.1 + 0.2 = 0.3", "d * 1.19", "CAST(d * 1.19 AS decimal(14,2))", "CAST(x * 1.19 AS decimal(14,2))",
    "d = 19.99", "d > 0.05", "i * 0.5", "i > 0.5", "j + 1.5", "x + 1e3", "1e400", "x BETWEEN 0.05 AND 2.5", "d BETWEEN 0.01 AND 20",
    "x IN (0.1, 1.5, 0)", "i IN (1, 42, NULL)", "d IN (19.99, 2.5)", "t IN ('abc', '123')", "y IN (0, 1, 4, 2.25)",
    "CASE WHEN x > 1 THEN 0.2 ELSE 0.01 END", "CASE x WHEN 0 THEN 'zero' WHEN 'nan' THEN 'nan' END", "CASE i WHEN 1 THEN 'one' ELSE t END",
    "coalesce(x, 0.0)", "coalesce(d, 0)", "coalesce(i, j)", "nullif(x, 0)", "nullif(y, 0.0)", "nullif(t, '')", "nullif(i, 42)",
    "greatest(x, y)", "least(x, y)", "greatest(i, j)", "least(d, e)", "x / 0", "d / 3", "d / 0", "i / 0", "10 / 4", "10.0 / 4", "7 % 3",
    "-7 % 3", "i % 3", "x % 2", "-i", "-x", "-d", "+i", "1.5 * 2", "0.07 * 100", "100 * 1.1", "3.0 = 3", "1 = 1.0", "1.10 = 1.1",
    "x IS NULL", "x IS NOT NULL", "b IS TRUE", "b IS NOT FALSE", "NOT b", "b AND i > 0", "b OR x > 0", "b AND NULL", "NULL OR b",
    "x = x", "y = y", "x <> x", "x < y OR x >= y", "i IS DISTINCT FROM NULL", "d IS NOT DISTINCT FROM 2.5",
]

NUMBERS = [
    f"{function}({argument})"
    for function in ["abs", "ceil", "floor", "round", "sign" , "trunc"]
    for argument in ["x", "i", "d"]
] + [
    "round(x, 1)", "round(x, -2)", "round(d, 1)", "round(d, -1)", "round(2.5)", "round(-2.5)", "round(3.5)", "round(0.125, 2)", "round(x, 400)",
    "sqrt(abs(x))", "cbrt(x)", "exp(y)", "ln(abs(y))", "log10(abs(y))", "log2(abs(y))", "log(abs(y))", "power(y, 2)", "power(2, j)",
    "power(abs(x), 0.5)", "sin(y)", "cos(y)", "tan(y)", "asin(y / 10)", "acos(y / 10)", "atan(y)", "atan2(y, x)", "sinh(y)", "cosh(y)", "tanh(y)",
    "cot(y)", "degrees(y)", "radians(y)", "pi()", "isnan(x)", "factorial(5)", "gcd(i, j)", "lcm(12, j)", "i & 7", "i | 7", "i << 2",
    "ln(0)", "ln(-1)", "sqrt(-1)", "exp(1000)",
]
NUMBERS = [(text.replace("sign(", "signum("), text) if text.startswith("sign(") else text for text in NUMBERS]

CASTS = [
    "CAST(t AS integer)", "CAST(t AS double)", "CAST(t AS boolean)", "CAST(t AS date)", "CAST(x AS integer)", "CAST(x AS bigint)",
    "CAST(d AS integer)", "CAST(d AS double)", "CAST(d AS decimal(10,1))", "CAST(e AS decimal(8,2))", "CAST(i AS integer)",
    "CAST(i AS double)", "CAST(i AS smallint)", "CAST(i AS varchar)", "CAST(x AS varchar)", "CAST(d AS varchar)", "CAST(b AS varchar)",
    "CAST(b AS integer)", "CAST(i AS boolean)", "CAST(ts AS date)", "CAST(day AS timestamp)", "CAST(day AS varchar)", "CAST(CAST(x AS real) AS double)",
    "CAST(x AS decimal(18,3))", "CAST('2026-01-02 03:04:05' AS timestamp)", "CAST('3000-01-01' AS timestamp)", "TRY_CAST(t AS integer)",
    "TRY_CAST(x AS integer)", "TRY_CAST(t AS date)", "CAST(m AS integer[])", "CAST(l AS double[])", "CAST(l AS varchar[])", "i::varchar",
    "CAST('  12 ' AS integer)", "CAST('1e3' AS double)", "CAST('1e3' AS integer)", "CAST('0x10' AS integer)", "CAST('1_000' AS integer)",
    "CAST('yes' AS boolean)", "CAST('t' AS boolean)", "CAST('1.5' AS integer)", "CAST(1.5 AS integer)", "CAST(2.5 AS integer)", "CAST(-2.5 AS integer)",
    "CAST(0.5 AS integer)", "CAST(x AS smallint)", "CAST('inf' AS double)", "CAST('-nan' AS double)", "CAST('2026-02-30' AS date)",
    "CAST('12:34:56' AS time)", "CAST('1.005' AS decimal(5,2))", "CAST(1.005 AS decimal(5,2))", "CAST(-1.005 AS decimal(5,2))", "CAST(x AS decimal(5,2))",
]

TEXTS = [
    "length(t)", "upper(t)", "lower(t)", "reverse(t)", "trim(t)", "ltrim(t)", "rtrim(t)", ("btrim(t)", "trim(t)"), "t || u", "t || i", "concat(t, u)",
    "concat(t, NULL, u)", "concat_ws('-', t, u)", "concat_ws('-', t, NULL, u)", "left(t, 2)", "right(t, 2)", "left(t, -2)", "right(t, -2)",
    "substr(t, 2)", "substr(t, 2, 3)", "substr(t, -3)", "substr(t, 0, 3)", "substring(t FROM 2 FOR 2)", "strpos(t, u)", "position(u IN t)",
    "replace(t, 'l', 'LL')", "replace(t, u, '_')", "repeat(t, 2)", "repeat(t, 0)", "repeat(t, -1)", "lpad(t, 8, '*')", "rpad(t, 8, '*')", "lpad(t, 3, '*')",
    "split_part(t, '.', 2)", "split_part(t, '.', -1)", "split_part(t, '.', 9)", "starts_with(t, u)", "ends_with(t, u)", "contains(t, u)", "ascii(t)", "chr(65)",
    "translate(t, 'abc', 'xyz')", "t LIKE '%b%'", "t LIKE '_b%'", "t ILIKE '%B%'", "t NOT LIKE 'a%'", "t LIKE 'a.b%'", "t SIMILAR TO '.*b.*'",
    "levenshtein(t, u)", "md5(t)", "sha256(t)", "to_hex(i)", "bit_length(t)", ("octet_length(t)", "strlen(t)"), "character_length(t)", "t < 'b'", "t >= 'a'",
    "regexp_replace(t, '[a-c]', 'X')", "regexp_replace(t, '[a-c]', 'X', 'g')", ("regexp_like(t, '^[a-z]+')", "regexp_matches(t, '^[a-z]+')"),
    "regexp_replace(t, '(.)b', '\\1-')", "overlay('abcdef' PLACING 'X' FROM 3)", "'it''s'", "'a' < 'B'", "'é' > 'z'", "upper('straße')", "lower('İ')",
]

TIMES = [
    "ts + interval '1 day'", "ts - interval '1 month'", "day + interval '1 month'", "day + interval '90 minutes'", "ts + interval '1 year 2 months'",
    "day - day", "day + 1", "day - 1", "extract(year FROM ts)", "extract(month FROM ts)", "extract(day FROM day)", "extract(hour FROM ts)", "extract(minute FROM ts)",
    "extract(second FROM ts)", "extract(dow FROM ts)", "extract(doy FROM ts)", "extract(week FROM ts)", "extract(quarter FROM ts)", "extract(epoch FROM ts)",
    "extract(millisecond FROM ts)", "extract(microsecond FROM ts)", "extract(isodow FROM ts)", "date_part('year', day)", "date_part('hour', ts)",
    "ts < timestamp '2024-01-01'", "ts = '2024-02-29 12:00:00'", "ts >= '2000-01-01'", "day > date '2000-01-01'", "day = '2024-02-29'", "ts > timestamp '2400-01-01'",
    "ts BETWEEN '1970-01-01' AND '2030-01-01'", "coalesce(ts, timestamp '1000-01-01')", "greatest(ts, timestamp '2024-01-01')", "make_date(2024, 2, 29)",
    "make_date(2023, 2, 29)", "CAST(ts AS varchar)", "date_bin(interval '15 minutes', ts)" , "ts = ts", "ts IS NULL", "day < ts",
    "date '2024-01-31' + interval '1 month'", "timestamp '2024-03-31 10:00:00' - interval '1 month'", "interval '1 day' + ts", "date_trunc('day', day)",
    "to_timestamp(0)", ("to_timestamp_millis(i)", "epoch_ms(i)"), ("to_timestamp_micros(i)", "make_timestamp(i)"), ("to_char(ts, '%Y/%m/%d')", "strftime(ts, '%Y/%m/%d')"),
    ("to_timestamp_seconds(i)", "to_timestamp(i)"), ("to_unixtime(ts)", "CAST(trunc(epoch(ts)) AS bigint)"), ("to_date(t)", "CAST(t AS date)"),
] + [f"date_trunc('{unit}', ts)" for unit in ["microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"]]
TIMES = [("date_bin(interval '15 minutes', ts)", "time_bucket(interval '15 minutes', ts, timestamp '1970-01-01')") if text == "date_bin(interval '15 minutes', ts)" else text for text in TIMES]

LISTS = [
    "l[1]", "l[-1]", "l[9]", "l[2:3]", "array_length(l)", ("cardinality(l)", "len(l)"), "array_has(l, 2)", ("array_has_all(l, [1, 2])", "array_has_all(l, [1, 2])"),
    ("array_has_any(l, [1, 7])", "array_has_any(l, [1, 7])"), "array_position(l, 5)", "array_position(l, 99)", "array_append(l, 4)", "array_prepend(0, l)",
    "array_concat(l, [9])", ("array_sort(array_distinct(m))", "list_sort(list_distinct(m))"), ("array_sort(m)", "list_sort(m, 'ASC', 'NULLS FIRST')"), "array_reverse(l)", "array_to_string(m, '+')", "string_to_array(t, '.')",
    "array_slice(l, 1, 2)", "array_intersect([1,2,3], [2,3,4])", ("array_max(l)", "list_max(l)"), ("array_min(l)", "list_min(l)"), "l = [1,2,3]", "l < [2]", "m = ['a','b']",
    "[i, j]", "[1.5, 2]", ("array_remove(l, 5)", "list_filter(l, lambda v: v IS DISTINCT FROM 5)"), "range(3)", "range(1, 4)", "generate_series(1, 3)", "generate_series(3, 1, -1)",
    "range(0)", "array_resize([1], 3)", ("array_repeat(7, 3)", "[7, 7, 7]"), "flatten([[1], [2, 3]])", "l IS NULL", "{'a': i}['a']", "array_has(m, 'x')", "array_has(l, NULL)",
    "array_has([0.0], y)", "array_position([1.0, 0.0], y)",
]

EXPRESSIONS = ARITHMETIC + COMPARISONS + LITERALS + NUMBERS + CASTS + TEXTS + TIMES + LISTS
