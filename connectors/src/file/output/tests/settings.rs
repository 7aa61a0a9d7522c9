//! Settings that are wrong, and what is said of them.

use super::*;

#[test]
fn the_schema_says_the_default() {
    let schema = schemars::schema_for!(FileOutput);
    assert_eq!(schema.pointer("/properties/if_exists/default"), Some(&"replace".into()));
}

#[test]
fn settings_that_are_wrong() {
    let folder = Folder::new();
    folder.put("a.csv", "");
    fs::create_dir(folder.0.path().join("b.csv")).unwrap();
    assert_eq!(folder.place("path = \"out\""), at("path"));
    assert_eq!(folder.place("path = \"x.csv\"\nformat = \"parquet\""), at("format"));
    assert_eq!(folder.place("path = \"x.parquet.gz\""), at("path"));
    let reading = "path = \"x.csv\"\nformat = { type = \"csv\", comment = \"#\" }";
    assert_eq!(folder.place(reading), ["format".into(), Step::Name("comment".into())]);
    assert_eq!(folder.place("path = \"out\"\nformat = \"arrow\"\ncompression = \"gzip\""), at("compression"));
    assert_eq!(folder.place("path = \"x.csv\"\ncompression = \"gzip\""), at("compression"));
    assert_eq!(folder.place("path = \"x.csv\"\nrows = 5"), at("rows"));
    assert_eq!(folder.place("path = \"x.csv\"\nbytes = \"1MB\""), at("bytes"));
    assert_eq!(folder.place("path = \"x.parquet\"\nif_exists = \"append\""), at("if_exists"));
    assert_eq!(folder.place("path = \"b.csv\""), at("path"));
    let nested = table("l:list<utf8>?");
    assert_eq!(folder.plan("path = \"x.csv\"", &nested).unwrap_err()[0].at, at("path"));
    assert_eq!(folder.names("."), ["a.csv", "b.csv"], "planning writes nothing");
}

#[test]
fn what_is_wrong_whatever_arrives_is_said_without_columns() {
    let check = |settings: &str| parse::<FileOutput>(settings).check(&Folder::new().context());
    assert!(check("path = \"a.csv\"").is_ok());
    assert_eq!(check("path = \"a.csv\"\nrows = 3\nevery = \"1m\"").unwrap_err().len(), 2);
    assert!(check("path = \"out\"").unwrap_err()[0].message.contains("does not say its format"));
}

#[test]
fn partitions_that_are_wrong() {
    let folder = Folder::new();
    let wrong = |settings: &str| {
        let settings = format!("path = \"out\"\nformat = \"csv\"\n{settings}");
        let mut problems = folder.plan(&settings, &table("a:int64 f:float64")).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.remove(0).message
    };
    assert_eq!(wrong("partition = [\"b\"]"), "there is no column `b`");
    assert_eq!(wrong("partition = [\"a\", \"a\"]"), "`a` is there twice");
    assert_eq!(wrong("partition = [\"f\"]"), "`f` is float64, which makes no names of folders");
    assert_eq!(wrong("partition = [\"hour\"]"), "there is no column `hour`, and the rows have no event time");
    assert_eq!(wrong("open_partitions = 3"), "`open_partitions` needs `partition`");
    let mut problems = folder.plan("path = \"a.csv\"\npartition = [\"a\"]", &table("a:int64 b:int64")).unwrap_err();
    assert_eq!(problems.remove(0).at, at("partition"));
    let mut problems =
        folder.plan("path = \"out\"\nformat = \"csv\"\npartition = [\"a\"]", &table("a:int64")).unwrap_err();
    assert!(problems.remove(0).message.contains("none is left for the files"));
}
