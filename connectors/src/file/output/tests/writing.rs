//! What is written, in every format, and into files of what size.

use super::*;

#[tokio::test]
async fn a_file_is_not_there_before_the_commit() {
    let folder = Folder::new();
    let mut output = folder.staged("path = \"deep/er/a.csv\"", &rows(3), 2).await.unwrap();
    assert_eq!(folder.names("deep/er"), [".a.csv.0123456789abcdef-0.part", ".a.csv.lock"]);
    output.commit().await.unwrap();
    assert_eq!(folder.names("deep/er"), ["a.csv"]);
    assert_eq!(folder.text("deep/er/a.csv"), "a,b\n0,x0\n1,x1\n2,x2\n");
    let mut output = folder.staged("path = \"deep/er/a.csv\"", &rows(1), 2).await.unwrap();
    output.abort().await;
    assert_eq!(folder.names("deep/er"), ["a.csv"]);
    assert!(folder.text("deep/er/a.csv").ends_with("2,x2\n"));
}

#[tokio::test]
async fn every_format_writes_a_whole_file_without_rows() {
    let folder = Folder::new();
    for (name, start) in [("a.csv", "a,b\n"), ("a.tsv", "a\tb\n"), ("a.parquet", "PAR1"), ("a.arrow", "ARROW1")] {
        folder.write(&format!("path = \"{name}\""), &rows(0)).await;
        assert!(folder.bytes(name).starts_with(start.as_bytes()), "{name}");
    }
    folder.write("path = \"a.ndjson\"", &rows(0)).await;
    assert_eq!(folder.text("a.ndjson"), "");
    folder.write("path = \"out\"\nformat = \"csv\"", &rows(0)).await;
    assert!(folder.names("out").is_empty(), "a folder gets none");
}

#[tokio::test]
async fn appending() {
    let folder = Folder::new();
    for name in ["a.csv", "a.ndjson"] {
        let settings = format!("path = \"{name}\"\nif_exists = \"append\"");
        folder.write(&settings, &rows(1)).await;
        folder.write(&settings, &rows(2)).await;
    }
    assert_eq!(folder.text("a.csv"), "a,b\n0,x0\n0,x0\n1,x1\n");
    assert_eq!(folder.text("a.ndjson").lines().count(), 3);
    folder.put("empty.csv", "");
    folder.write("path = \"empty.csv\"\nif_exists = \"append\"", &rows(1)).await;
    assert_eq!(folder.text("empty.csv"), "a,b\n0,x0\n");
    folder.put("other.csv", "a,c\n");
    let settings = "path = \"other.csv\"\nif_exists = \"append\"";
    let error = folder.staged(settings, &rows(1), 1).await.err().unwrap().to_string();
    assert!(error.contains("its columns are `a`, `c`, and would be `a`, `b`; move it away"), "{error}");
    folder.put("open.ndjson", "{}");
    let settings = "path = \"open.ndjson\"\nif_exists = \"append\"";
    let error = folder.staged(settings, &rows(1), 1).await.err().unwrap().to_string();
    assert!(error.ends_with("its last line has no line break"), "{error}");
}

#[tokio::test]
async fn csv_is_written_as_its_settings_say() {
    let folder = Folder::new();
    for (header, expected) in [("header = false", "0;x0\n0;x0\n1;x1\n"), ("header = true", "a;b\n0;x0\n0;x0\n1;x1\n")] {
        let name = format!("{}.csv", expected.len());
        let format = format!("format = {{ type = \"csv\", delimiter = \";\", {header} }}");
        let settings = format!("path = \"{name}\"\n{format}\nif_exists = \"append\"");
        folder.write(&settings, &rows(1)).await;
        folder.write(&settings, &rows(2)).await;
        assert_eq!(folder.text(&name), expected);
        folder.write(&format!("path = \"out\"\n{format}"), &rows(1)).await;
        let text = folder.text(&format!("out/{}", folder.names("out")[0]));
        assert_eq!(text, expected.replace("0;x0\n1;x1\n", ""));
    }
}

#[tokio::test]
async fn packed_files_can_be_appended_to() {
    let folder = Folder::new();
    let settings = "path = \"a.csv.gz\"\nif_exists = \"append\"";
    folder.write(settings, &rows(1)).await;
    folder.write(settings, &rows(1)).await;
    let file = fs::File::open(folder.0.path().join("a.csv.gz")).unwrap();
    let compressed = Some(Compression::Gzip);
    let text = std::io::read_to_string(millstream_formats::decompress(file, compressed).unwrap()).unwrap();
    assert_eq!(text, "a,b\n0,x0\n0,x0\n");
}

#[tokio::test]
async fn folders_are_rolled_by_rows_whatever_the_batches() {
    let folder = Folder::new();
    let settings = "path = \"out\"\nformat = \"ndjson\"\ncompression = \"zstd\"\nrows = 3";
    for cut in [1, 2, 100] {
        folder.staged(settings, &rows(6), cut).await.unwrap().commit().await.unwrap();
        let names = [1, 2].map(|number| format!("test-node-00000000000000000001-0000{number}.ndjson.zst"));
        assert_eq!(folder.names("out"), names, "no empty third file");
    }
}

#[tokio::test]
async fn folders_are_rolled_by_bytes_whatever_the_batches() {
    let folder = Folder::new();
    let many = rows(40_000);
    let mut lines = Vec::new();
    for cut in [777, 40_000] {
        let settings = "path = \"out\"\nformat = \"csv\"\nbytes = \"100kB\"";
        folder.staged(settings, &many, cut).await.unwrap().commit().await.unwrap();
        let names = folder.names("out");
        lines.push(names.iter().map(|name| folder.text(&format!("out/{name}")).lines().count()).collect::<Vec<_>>());
    }
    assert_eq!(lines[0], [16_385, 8193, 8193, 7233]);
    assert_eq!(lines[0], lines[1]);
}
