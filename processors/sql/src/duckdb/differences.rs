//! Where `sql` nodes give something else than DuckDB, with the reason, in the words of `flows/SQL.md`.

/// The reasons, and the expressions that they hold for.
pub const DIFFERENCES: &[(&str, &[&str])] = &[
    ("`/` of integers drops what is behind the point, and fails for 0", &["i / j", "i / 0", "10 / 4"]),
    ("A product of decimals may have 38 digits", &["d * e"]),
    ("`signum` of NaN is NaN", &["signum(x)"]),
    ("`<<` shifts bits out", &["i << 2"]),
    ("`sqrt` of a negative number fails its row", &["sqrt(-1)"]),
    (
        "Casts to integers drop what is behind the point",
        &[
            "CAST(x AS integer)",
            "CAST(x AS bigint)",
            "CAST(d AS integer)",
            "TRY_CAST(x AS integer)",
            "CAST(1.5 AS integer)",
            "CAST(2.5 AS integer)",
            "CAST(-2.5 AS integer)",
            "CAST(0.5 AS integer)",
            "CAST(x AS smallint)",
        ],
    ),
    (
        "Texts are integers if they have digits and a sign only",
        &["CAST('1e3' AS integer)", "CAST('0x10' AS integer)", "CAST('1_000' AS integer)", "CAST('1.5' AS integer)"],
    ),
    ("A constant that can't be cast is refused before the flow runs", &["CAST('2026-02-30' AS date)"]),
    ("`substr` does not count from the end", &["substr(t, -3)"]),
    ("`to_hex` has small letters", &["to_hex(i)"]),
    ("`upper` and `lower` follow Unicode's special cases", &["upper('straße')", "lower('İ')"]),
    (
        "A date and an interval give a date",
        &["day + interval '1 month'", "day + interval '90 minutes'", "date '2024-01-31' + interval '1 month'"],
    ),
    ("Timestamps as texts are RFC 3339", &["CAST(ts AS varchar)"]),
    ("No function gives a timestamp beyond the year 262142", &["to_timestamp_millis(i)"]),
    ("`array_distinct` keeps null", &["array_sort(array_distinct(m))"]),
    ("`array_remove` removes the first one only", &["array_remove(l, 5)"]),
    ("`array_has` of null is null", &["array_has(l, NULL)"]),
];
