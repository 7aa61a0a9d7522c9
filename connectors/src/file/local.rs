//! Refuses URLs where a path of this machine is meant: as a path, `s3://bucket/a.csv` would be a file in a folder `s3:`.

use millstream_core::Problem;

/// The scheme of a URL, if it is one.
fn scheme(path: &str) -> Option<&str> {
    let (scheme, _) = path.split_once("://")?;
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
    (scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.chars().all(is_part)).then_some(scheme)
}

/// Checks what an input is to read.
pub fn check_input(path: &str) -> Result<(), Problem> {
    let read = |url: &str| {
        match url.to_ascii_lowercase().as_str() {
        "file" => "write the path alone, without `file://`".to_owned(),
        "http" | "https" => {
            "`objects` reads files of web servers, and `http_poll` asks services; rows that others send come in by `http_listen`"
                .to_owned()
        }
        _ => "`objects` reads what is in S3, Google Cloud Storage and Azure Blob Storage".to_owned(),
    }
    };
    scheme(path).map_or(Ok(()), |url| {
        Err(Problem::new(format!("`{path}` is a URL, and `file` reads files of this machine")).help(read(url)))
    })
}

/// Checks where an output is to write.
pub fn check_output(path: &str) -> Result<(), Problem> {
    let write = |url: &str| match url.to_ascii_lowercase().as_str() {
        "file" => "write the path alone, without `file://`",
        _ => "`objects` writes to S3, Google Cloud Storage and Azure Blob Storage",
    };
    scheme(path).map_or(Ok(()), |url| {
        Err(Problem::new(format!("`{path}` is a URL, and `file` writes files of this machine")).help(write(url)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_paths() {
        for url in ["s3://bucket/a.csv", "HTTPS://example.org/a.csv", "file:///tmp/a.csv", "gs://b", "az+x://b"] {
            assert!(check_input(url).is_err() && check_output(url).is_err(), "{url}");
        }
        for path in ["a.csv", "/tmp/a:b/c.csv", "s3:/a", "://a", "1s://a", "a/b://c", "data/*.csv", ""] {
            assert!(check_input(path).is_ok() && check_output(path).is_ok(), "{path}");
        }
        let help = |problem: Result<(), Problem>| problem.err().and_then(|problem| problem.help).unwrap_or_default();
        assert!(help(check_input("https://example.org/a")).contains("`http_listen`"));
        assert!(help(check_output("s3://a/b")).contains("`objects` writes to S3"));
    }
}
