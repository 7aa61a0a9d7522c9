//! The files. Every row has a marker, the name of its case and a number, by which it is found again.

use std::fs;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::millstream::Workshop;

/// How many rows a file has.
const ROWS: usize = 1500;

/// A file, and what has to become of its rows.
#[derive(Clone)]
pub struct Case {
    /// The name of the input that reads it.
    pub name: String,
    pub file: String,
    pub bytes: Vec<u8>,
    pub rows: Rows,
    /// The first so many rows are found again by their markers.
    pub marked: usize,
    /// Whether there is a row that is longer than a row may be.
    pub is_endless: bool,
}

/// How many rows there have to be.
#[derive(Clone, Copy)]
pub enum Rows {
    /// So many good and bad ones.
    Exactly(usize, usize),
    /// So many or more.
    Least(usize),
    /// No good ones, and so many bad ones or more.
    AllBad(usize),
}

impl Case {
    /// Whether the file itself says what its columns are.
    pub fn has_columns(&self) -> bool {
        self.file.ends_with(".parquet") || self.file.ends_with(".arrow")
    }

    fn but(self, rows: Rows, marked: usize, bytes: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        Self { bytes: bytes(&self.bytes), rows, marked, ..self }
    }

    fn packed(self) -> Self {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(&self.bytes).unwrap();
        Self { file: format!("{}.gz", self.file), bytes: packer.finish().unwrap(), ..self }
    }
}

/// A format of text.
struct Text {
    extension: &'static str,
    begin: &'static str,
    row: fn(&str, usize) -> String,
    /// A row with a quote that is not closed, and as how many rows that is refused.
    unclosed: (fn(&str, usize) -> String, usize),
    end: &'static str,
}

const CSV: Text = Text {
    extension: "csv",
    begin: "id,n\n",
    row: |id, n| format!("{id},{n}\n"),
    unclosed: (|id, n| format!("{id},\"{n}\n"), 1),
    end: "",
};

const NDJSON: Text = Text {
    extension: "ndjson",
    begin: "",
    row: |id, n| format!("{{\"id\":\"{id}\",\"n\":{n}}}\n"),
    unclosed: (|id, n| format!("{{\"id\":\"{id},\"n\":{n}}}\n"), 1),
    end: "",
};

const JSON: Text = Text {
    extension: "json",
    begin: "[\n",
    row: |id, n| format!("{{\"id\":\"{id}\",\n  \"n\":{n}}},\n"),
    unclosed: (|id, n| format!("{{\"id\":\"{id},\n\"n\":{n}}},\n"), 2),
    end: "]\n",
};

const TEXTS: [Text; 3] = [CSV, NDJSON, JSON];

impl Text {
    /// So many rows, after a change of one of them.
    fn case(&self, fault: &str, rows: usize, expected: Rows, change: impl Fn(usize, &str) -> Option<Vec<u8>>) -> Case {
        let name = format!("{}_{fault}", self.extension);
        let row = |n| {
            let id = format!("{name}-{n}.");
            change(n, &id).unwrap_or_else(|| (self.row)(&id, n).into_bytes())
        };
        let text = [self.begin.into(), (0..rows).flat_map(row).collect(), self.end.as_bytes().to_vec()].concat();
        let file = format!("{name}.{}", self.extension);
        Case { name, file, bytes: text, rows: expected, marked: rows, is_endless: false }
    }

    fn good(&self, fault: &str) -> Case {
        self.case(fault, ROWS, Rows::Exactly(ROWS, 0), |_, _| None)
    }

    /// A file of which one row is changed, as many bad ones as that may be.
    fn with_bad(&self, fault: &str, bad: usize, row: impl Fn(&str) -> Vec<u8>) -> Case {
        self.case(fault, ROWS, Rows::Exactly(ROWS - 1, bad), |n, id| (n == 10).then(|| row(id)))
    }

    fn faults(&self) -> Vec<Case> {
        let all = Rows::Exactly(ROWS, 0);
        let (unclosed, refused) = self.unclosed;
        let latin = |id: &str| {
            let row = (self.row)(&format!("{id}ä"), 10);
            row.chars().map(|letter| letter as u8).collect()
        };
        vec![
            self.good("good"),
            self.good("empty").but(Rows::Exactly(0, 0), 0, |_| Vec::new()),
            self.good("mark").but(all, ROWS, |bytes| [b"\xef\xbb\xbf", bytes].concat()),
            self.good("crlf").but(all, ROWS, |bytes| String::from_utf8_lossy(bytes).replace('\n', "\r\n").into_bytes()),
            self.with_bad("unclosed", refused, |id| unclosed(id, 10).into_bytes()),
            self.with_bad("type", 1, |id| (self.row)(id, usize::MAX).into_bytes()),
            // Its marker is shown in base64.
            Case { marked: 10, ..self.with_bad("latin", 1, latin) },
            self.case("malformed", ROWS, Rows::Exactly(0, ROWS), |_, id| Some(format!("@@{id}\n").into_bytes())),
        ]
    }

    /// Files that end anywhere, with as many rows as are whole.
    fn cuts(&self) -> Vec<Case> {
        let cut = |part: usize| {
            let case = self.good(&format!("cut{part}"));
            let length = case.bytes.len() * part / 5 + part;
            let row = |n| (self.row)(&format!("{}-{n}.", case.name), n).len();
            let ends = (0..ROWS).map(row).scan(self.begin.len(), |end, row| {
                *end += row;
                Some(*end)
            });
            let whole = ends.take_while(|end| *end <= length).count();
            case.but(Rows::Least(whole), whole, |bytes| bytes[..length].to_vec())
        };
        (1..5).map(cut).collect()
    }

    /// A row of so many bytes among others.
    fn endless(&self, fault: &str, bytes: usize) -> Case {
        let endless = |id: &str| (self.row)(&format!("{id}{}", "x".repeat(bytes)), 10).replace("\n  ", "").into_bytes();
        let case = self.case(fault, 20, Rows::Exactly(19, 1), |n, id| (n == 10).then(|| endless(id)));
        Case { is_endless: true, ..case }
    }
}

/// Faults that cost rows at most.
pub fn text() -> Vec<Case> {
    TEXTS.iter().flat_map(Text::faults).collect()
}

/// Files that end in a row, or are in another encoding. How many rows that are depends on what is left.
pub fn cut() -> Vec<Case> {
    let utf16 = |bytes: &[u8]| {
        let text = format!("\u{feff}{}", String::from_utf8_lossy(bytes));
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    let mut cases: Vec<Case> = TEXTS.iter().flat_map(Text::cuts).collect();
    cases.push(NDJSON.good("utf16").but(Rows::AllBad(ROWS), 0, utf16));
    cases
}

/// Files that are short, and have a row of so many bytes when they are decompressed.
pub fn bombs(bytes: usize) -> Vec<Case> {
    [CSV, NDJSON].iter().map(|text| text.endless("bomb", bytes).packed()).collect()
}

/// Files with a row of so many bytes.
pub fn endless(bytes: usize) -> Vec<Case> {
    TEXTS.iter().map(|text| text.endless("endless", bytes)).collect()
}

/// A flow that writes a file in a binary format.
pub fn made(format: &str) -> String {
    format!(
        "
        [input.made]
        type = \"generate\"
        rows = {ROWS}
        columns = {{ n = \"row\", id = \"'{format}-' || row || '.'\" }}
        [processor.sorted]
        type = \"sql\"
        from = \"made\"
        query = \"SELECT id, n FROM made\"
        [output.file]
        type = \"file\"
        from = \"sorted\"
        path = \"made.{format}\"
        "
    )
}

/// Files that are no whole ones.
pub fn damaged(workshop: &Workshop) -> Vec<Case> {
    let mut cases = Vec::new();
    for format in ["parquet", "arrow"] {
        let bytes = fs::read(workshop.path(&format!("made.{format}"))).unwrap();
        let length = bytes.len();
        let damages: [Vec<u8>; 7] = [
            Vec::new(),
            bytes[..length - 1].to_vec(),
            bytes[..length / 2].to_vec(),
            bytes[length / 2..].to_vec(),
            [&bytes[..length / 2], &bytes[length / 2 + 100..]].concat(),
            [&bytes[..length - 9], &[0x7f; 4], &bytes[length - 5..]].concat(),
            vec![b'x'; 10_000],
        ];
        let case = |bytes| {
            let (name, file) = (format.to_owned(), format!("read.{format}"));
            Case { name, file, bytes, rows: Rows::Exactly(ROWS, 0), marked: ROWS, is_endless: false }
        };
        cases.extend(damages.map(case));
    }
    let packed = CSV.good("packed").packed();
    cases.push(packed.clone().but(packed.rows, packed.marked, |bytes| bytes[..bytes.len() / 2].to_vec()));
    cases.push(packed.clone().but(packed.rows, packed.marked, |bytes| [bytes, b"garbage"].concat()));
    cases
}
