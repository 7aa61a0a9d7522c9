//! The files of the console. Its page is asked for each time; the other files are below the hash of all of them, so that a browser keeps them
//! until they change, and never has some of one version and some of another.

use std::borrow::Cow;
use std::path::Path;
use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// The page.
const PAGE: &str = "index.html";

/// How many letters of a hash are in addresses.
const HASH: usize = 16;

macro_rules! files {
    ($($name:literal)*) => { &[$(($name, include_bytes!(concat!("../console/", $name)))),*] };
}

/// All files, by name.
const FILES: &[(&str, &[u8])] = files![
    "api.js" "chart.js" "connection.js" "console.css" "derive.js" "dom.js" "edit.js" "failed.js" "flow.js" "flows.js" "fold.js" "format.js"
    "glyphs.js" "graph.js" "icon.svg" "index.html" "inspect.js" "layout.js" "live.js" "login.js" "main.js" "models.js" "revisions.js"
    "routes.js" "shell.js" "system.js" "tabs.js" "tap.js" "text.js" "toml.js"
];

/// The hash of the files that the binary holds.
static HELD: LazyLock<String> = LazyLock::new(|| hash(FILES.iter().map(|(_, bytes)| *bytes)));

/// A file as it is answered.
#[derive(Debug)]
pub struct Asset {
    /// What is in it.
    pub bytes: Cow<'static, [u8]>,
    /// Its type.
    pub content_type: &'static str,
    /// The BLAKE3 of its bytes, in quotes.
    pub etag: String,
    /// Whether what is at the address stays the same forever.
    pub immutable: bool,
}

/// The file at a path, which begins with `/`. None if there is none.
pub fn asset(path: &str) -> Option<Asset> {
    let path = path.strip_prefix('/')?;
    if path.is_empty() {
        return Some(page());
    }
    // A page of another version gets the files of this one, but doesn't keep them.
    let (version, name) = path.split_once('/')?;
    let bytes = read(name).filter(|_| name != PAGE && is_hash(version))?;
    Some(made(name, bytes, version == self::version()))
}

fn page() -> Asset {
    let page = String::from_utf8_lossy(&read(PAGE).unwrap_or_default()).into_owned();
    let version = version();
    let placed =
        |page: String, (name, _): &(&str, _)| page.replace(&format!("\"{name}\""), &format!("\"{version}/{name}\""));
    made(PAGE, FILES.iter().fold(page, placed).into_bytes().into(), false)
}

fn made(name: &str, bytes: Cow<'static, [u8]>, immutable: bool) -> Asset {
    let content_type = match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "application/octet-stream",
    };
    Asset { etag: format!("\"{}\"", blake3::hash(&bytes).to_hex()), bytes, content_type, immutable }
}

/// What addresses of files begin with.
fn version() -> Cow<'static, str> {
    match folder() {
        Some(_) => hash(FILES.iter().filter_map(|(name, _)| read(name))).into(),
        None => Cow::Borrowed(&HELD),
    }
}

fn hash(files: impl Iterator<Item = impl AsRef<[u8]>>) -> String {
    let mut hasher = blake3::Hasher::new();
    // Each by its own hash, so that what moves from one to the next is seen.
    files.for_each(|bytes| _ = hasher.update(blake3::hash(bytes.as_ref()).as_bytes()));
    hasher.finalize().to_hex()[..HASH].to_owned()
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A file of the table: from the folder of the sources while somebody works on them, else from the binary.
fn read(name: &str) -> Option<Cow<'static, [u8]>> {
    let (name, held) = FILES.iter().find(|(known, _)| *known == name)?;
    let fresh = folder().and_then(|folder| std::fs::read(folder.join(name)).ok());
    Some(fresh.map_or(Cow::Borrowed(*held), Cow::Owned))
}

fn folder() -> Option<&'static Path> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/console"));
    (cfg!(debug_assertions) && folder.is_dir()).then_some(folder)
}

/// Answers a request for a file of the console. None if there is no such file.
pub fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let Asset { bytes, content_type, etag, immutable } = asset(path)?;
    let keep = if immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let status = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let body = if known || method == Method::HEAD { Body::empty() } else { Body::from(bytes.into_owned()) };
    let mut response = (status, body).into_response();
    response.headers_mut().extend([
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static(keep)),
    ]);
    response.headers_mut().extend(HeaderValue::from_str(&etag).map(|etag| (header::ETAG, etag)));
    Some(response)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// How many bytes all files may have.
    const MOST: usize = 200 << 10;

    fn text(name: &str) -> String {
        String::from_utf8(read(name).unwrap().into_owned()).unwrap()
    }

    fn scripts() -> impl Iterator<Item = (&'static str, String)> {
        FILES.iter().filter(|(name, _)| name.ends_with(".js")).map(|(name, _)| (*name, text(name)))
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_binary() {
        let folder = folder().unwrap();
        let there: BTreeSet<_> =
            folder.read_dir().unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let held: BTreeSet<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(there, held);
    }

    #[test]
    fn all_files_together_are_small() {
        let size: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(size <= MOST, "{size} bytes");
    }

    #[test]
    fn nothing_is_asked_of_another_host_and_no_markup_is_made_of_text() {
        for (name, _) in FILES {
            let text = text(name).replace("http://www.w3.org/2000/svg", "");
            for refused in [
                "http://",
                "https://",
                "style=",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!text.contains(refused), "`{refused}` is in {name}");
            }
        }
        assert!(text(PAGE).contains("<script type=\"module\" src=\"main.js\"></script>"));
        assert_eq!(text(PAGE).matches("<script").count(), 1);
    }

    #[test]
    fn every_file_that_is_imported_is_there() {
        for (name, script) in scripts() {
            for imported in script.split(" from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(FILES.iter().any(|(known, _)| *known == imported), "{name} imports {imported}");
            }
        }
    }

    #[test]
    fn the_page_names_files_that_are_kept() {
        let page = asset("/").unwrap();
        assert_eq!((page.content_type, page.immutable), ("text/html; charset=utf-8", false));
        let page = String::from_utf8(page.bytes.into_owned()).unwrap();
        let main = format!("{}/main.js", version());
        assert!(page.contains(&format!("src=\"{main}\"")), "{page}");
        let script = asset(&format!("/{main}")).unwrap();
        assert_eq!((script.content_type, script.immutable), ("text/javascript; charset=utf-8", true));
        assert!(!asset("/0123456789abcdef/main.js").unwrap().immutable);
        for none in [
            "",
            "/main.js",
            "/index.html",
            "/../main.js",
            "/0123456789abcdef/index.html",
            "/0123456789abcdef/../Cargo.toml",
        ] {
            assert!(asset(none).is_none(), "{none}");
        }
    }

    #[test]
    fn what_is_known_is_not_sent_again() {
        let mut headers = HeaderMap::new();
        let first = answer(&Method::GET, "/", &headers).unwrap();
        assert_eq!(
            (first.status(), &first.headers()[header::CACHE_CONTROL]),
            (StatusCode::OK, &HeaderValue::from_static("no-cache"))
        );
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(answer(&Method::GET, "/", &headers).unwrap().status(), StatusCode::NOT_MODIFIED);
        assert!(answer(&Method::POST, "/", &headers).is_none() && answer(&Method::GET, "/nothing", &headers).is_none());
    }
}
