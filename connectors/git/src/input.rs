//! The input `git`: its settings, and what they come to.

use std::sync::Arc;

use glob::Pattern;
use millstream_connectors::push::{self, Health, LogSettings, MOST_BYTES, PushInput, PushNode};
use millstream_core::{
    ByteSize, Duration, InputPlan, InputSettings, KeptNode, Kind, PROBE_PATIENCE, PlanContext, Probe, Problem,
    Problems, Result, Secret, Step, blocking_probe,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::contents::{ContentType, KeptFiles};
use crate::receiver::{PLACES, Watching};
use crate::repository::Remote;

/// Reads the files of a branch or tag of a Git repository, and then what each new commit there changes.
///
/// ```toml
/// [input.pages]
/// type = "git"
/// url = "https://git.example.com/team/handbook.git"
/// reference = "main"
/// paths = ["docs/*.md"]
/// token = "${GIT_TOKEN}"
/// every = "5m"
/// ```
///
/// Each file is a row, with the columns `path`, a `utf8`; `change`, which is `added`, `changed` or `deleted`; `content`, a `utf8?` or
/// `binary?`, and `size`, an `int64?`, both null for a file that was deleted; `commit`, a `utf8` with the commit that it was read at; and
/// `committed_at`, a `timestamp`. A flow that begins gets all files as `added`. Where several commits have come between two looks, it gets what they
/// have changed together. Links and submodules are no files.
///
/// What has come is kept in a log that belongs to the flow's state, and the flow counts each row exactly once, through any crash; so it needs
/// `millstream run --state DIR`, and a replay has the same rows. With `--reset` the node begins with the oldest row that its log still has; all files
/// come again with a state that is new. A file that is larger than `max_file`, or no UTF-8 where `content` is text, leaves by the port `failed`.
///
/// It runs the command `git` (version 2.36 or newer), without a shell, hooks, helpers, or any configuration of the machine or the user; it speaks HTTPS with
/// the host of `url` and nobody else, and follows no redirects. Nothing is checked out: a copy of the objects of the last commits lies in the state.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct GitInput {
    /// The repository, `"https://git.example.com/team/handbook.git"`, or a folder of this machine, `"/srv/git/handbook.git"`.
    url: String,
    /// The branch, such as `"main"`, or a full name: `"refs/tags/v1"`.
    #[serde(default = "reference")]
    reference: String,
    /// Which files, by patterns such as `"docs/*.md"`, of which `*` is any letters, also of folders within, and `?` one. By default all.
    #[serde(default)]
    paths: Vec<String>,
    /// Whether the column `content` is text or bytes.
    #[serde(default)]
    content: ContentType,
    /// How large a file may be, by default `"1MiB"`.
    #[serde(default = "max_file")]
    max_file: ByteSize,
    /// How often to look for new commits, by default `"1m"`.
    #[serde(default = "every")]
    every: Duration,
    /// What the service knows the flow by, from the environment: `"${GIT_TOKEN}"`.
    token: Option<Secret>,
    /// The name that goes with the token, of which most services take any.
    #[serde(default = "user")]
    user: String,
    #[serde(flatten)]
    log: LogSettings,
}

fn reference() -> String {
    "main".to_owned()
}

fn max_file() -> ByteSize {
    ByteSize(1 << 20)
}

fn every() -> Duration {
    Duration(std::time::Duration::from_secs(60))
}

fn user() -> String {
    "git".to_owned()
}

/// How large a file may be at most.
const LARGEST: usize = 64 << 20;

impl Kind for GitInput {
    const NAME: &'static str = "git";
    const ALSO_CALLED: &'static [&'static str] = &["github", "gitlab", "repository"];
    const EXAMPLE: &'static str = r#"
url = "https://git.example.com/team/handbook.git"
paths = ["docs/*.md"]
"#;
    const NEEDS_STATE: bool = true;

    fn verify(kept: &KeptNode<'_>) -> Result<Option<String>> {
        push::verify(kept)
    }
}

impl GitInput {
    fn remote(&self) -> Result<Remote, Problem> {
        let is_plain = |text: &str| !text.chars().any(|letter| letter.is_whitespace() || letter.is_control());
        let help = "such as `https://git.example.com/team/handbook.git` or `/srv/git/handbook.git`";
        let wrong = |why: &str| Problem::new(why.to_owned()).at(["url"]).help(help);
        let protocol = match &self.url {
            url if url.starts_with("https://") => "https",
            url if url.starts_with('/') => "file",
            // It may have a password in it.
            _ => return Err(wrong("a repository is reached by HTTPS, or is a folder of this machine")),
        };
        if !is_plain(&self.url) || protocol == "https" && self.url.contains('@') {
            return Err(wrong("blanks, names and passwords don't belong into an address"));
        }
        if self.token.is_some() && protocol != "https" {
            return Err(Problem::new("a folder of this machine needs no token").at(["token"]));
        }
        let is_name = |name: &str| {
            is_plain(name)
                && !name.is_empty()
                && !name.contains(['*', '?', '[', '\\', '^', '~', ':'])
                && !name.contains("..")
        };
        if !is_name(&self.reference) || self.reference.starts_with('-') {
            let problem = Problem::new(format!("`{}` is no branch or tag", self.reference));
            return Err(problem.at(["reference"]));
        }
        let reference = match &self.reference {
            full if full.starts_with("refs/") => full.clone(),
            branch => format!("refs/heads/{branch}"),
        };
        let token = self.token.as_ref().map(|token| token.reveal().to_owned());
        Ok(Remote { url: self.url.clone(), protocol, reference, user: self.user.clone(), token })
    }

    fn watching(&self) -> Result<Watching, Problem> {
        let pattern = |(index, pattern): (usize, &String)| {
            let wrong = |error: glob::PatternError| Problem::new(format!("`{pattern}` is no pattern: {error}"));
            Pattern::new(pattern).map_err(|error| wrong(error).at([Step::from("paths"), Step::from(index)]))
        };
        if !(1..=LARGEST).contains(&self.max_file.0) {
            return Err(Problem::new("a file can be 1 byte to 64 MiB long").at(["max_file"]));
        }
        Ok(Watching {
            remote: self.remote()?,
            every: self.every.0.max(std::time::Duration::from_millis(10)),
            paths: self.paths.iter().enumerate().map(pattern).collect::<Result<_, _>>()?,
            max_file: self.max_file.0,
            health: Arc::new(Health::default()),
            busy: Arc::new(Semaphore::new(PLACES)),
        })
    }

    fn input(&self, context: &PlanContext) -> Result<PushInput, Problem> {
        let watching = self.watching()?;
        let largest = 2 * MOST_BYTES + watching.max_file;
        let contents = KeptFiles::new(self.content, context.columns.as_ref(), context.batch_rows);
        let node = PushNode { kind: Self::NAME, largest, receiver: Box::new(watching) };
        self.log.input_with_keys(node, Arc::new(contents), context)
    }
}

impl InputSettings for GitInput {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        // Nobody is told that rows are taken.
        Ok(InputPlan { acknowledges: false, ..self.input(context)?.plan() })
    }

    fn probe(&self, _: &PlanContext) -> Option<Probe> {
        let remote = self.remote().ok()?;
        let looked = blocking_probe(move || {
            let folder = std::env::temp_dir();
            let tip = remote.tip(&folder)?;
            let missing =
                || millstream_core::Error::new(format!("there is no `{}` in `{}`", remote.reference, remote.url));
            Ok(format!("`{}` of `{}` at {}", remote.reference, remote.url, tip.ok_or_else(missing)?))
        });
        Some(Box::pin(async move {
            let late = |_| millstream_core::Error::transient("the repository does not answer");
            tokio::time::timeout(PROBE_PATIENCE, looked).await.map_err(late)?
        }))
    }
}
