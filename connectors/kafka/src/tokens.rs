//! Tokens by which brokers know who connects (SASL/OAUTHBEARER): a server gives them, every client gets each, and none waits for another one while
//! its own is good.

use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use millstream_core::{Error, Result, ResultExt as _};
use millstream_http::TokenSource;
use rdkafka::ClientContext;
use rdkafka::client::Client;

use crate::native::set_token;

/// How long a token lasts of which that was not said.
const UNKNOWN: Duration = Duration::from_secs(300);

/// After how much of its time another token is asked for.
const RENEWAL: f64 = 0.6;

/// How long to wait before the server is asked again that has not given one.
const PAUSE: Duration = Duration::from_secs(5);

/// The tokens of a connection.
pub struct Tokens {
    source: TokenSource,
    /// Who connects, for librdkafka's own messages.
    principal: CString,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    newest: Option<Arc<Token>>,
    /// When to ask for another one. None while that is under way.
    due: Option<Instant>,
}

/// A token that was given.
struct Token {
    /// Which one it is of the connection, from 1.
    number: u64,
    text: CString,
    /// When it expires, in milliseconds since 1970.
    expires: i64,
}

impl Tokens {
    /// Those of a source, of which none is asked for yet.
    pub fn new(source: TokenSource, principal: &str) -> Result<Self> {
        let principal = CString::new(principal).doing(|| "reading the name of who connects")?;
        Ok(Self { source, principal, kept: Mutex::default() })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that is good. Waits for it where there is none.
    fn first(&self) -> Result<Arc<Token>> {
        let kept = self.kept().newest.clone();
        match kept.filter(|token| token.expires > milliseconds(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())) {
            Some(token) => Ok(token),
            None => self.ask(),
        }
    }

    /// The newest token. Has another one asked for when it is time, without waiting for it.
    fn newest(self: &Arc<Self>) -> Option<Arc<Token>> {
        let mut kept = self.kept();
        if kept.due.is_some_and(|due| due <= now()) {
            kept.due = None;
            let tokens = self.clone();
            std::thread::spawn(move || {
                if let Err(error) = tokens.ask() {
                    tracing::warn!("kafka: {error}");
                }
            });
        }
        kept.newest.clone()
    }

    /// Asks for a token, and keeps it.
    fn ask(&self) -> Result<Arc<Token>> {
        let begun = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let asked = self.source.ask().and_then(|given| {
            let lasts = given.lasts.unwrap_or(UNKNOWN);
            let text = CString::new(given.text).map_err(|_| Error::new("asking for a token: it has a 0 in it"))?;
            Ok((text, lasts))
        });
        let mut kept = self.kept();
        let (text, lasts) = asked.inspect_err(|_| kept.due = Some(now() + PAUSE))?;
        let number = kept.newest.as_ref().map_or(1, |token| token.number + 1);
        let token = Arc::new(Token { number, text, expires: milliseconds(begun.saturating_add(lasts)) });
        kept.due = now().checked_add(lasts.mul_f64(RENEWAL));
        kept.newest = Some(token.clone());
        Ok(token)
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "tokens expire in real time")]
fn now() -> Instant {
    Instant::now()
}

/// What a client has of the tokens.
pub struct Admission {
    tokens: Arc<Tokens>,
    /// The number of the last one that it was given.
    given: AtomicU64,
}

impl Admission {
    /// Gives a client its first token, for which it waits. To be called where threads may be blocked.
    ///
    /// # Errors
    /// If there is none.
    pub fn begin<C: ClientContext>(tokens: &Arc<Tokens>, client: &Client<C>) -> Result<Self> {
        let admission = Self { tokens: tokens.clone(), given: AtomicU64::new(0) };
        let token = tokens.first()?;
        admission.give(client, &token)?;
        Ok(admission)
    }

    /// Gives the client a newer token, if there is one. Never waits.
    pub fn renew<C: ClientContext>(&self, client: &Client<C>) {
        let Some(token) = self.tokens.newest() else { return };
        if token.number > self.given.load(Ordering::Relaxed)
            && let Err(error) = self.give(client, &token)
        {
            tracing::warn!("kafka: {error}");
        }
    }

    fn give<C: ClientContext>(&self, client: &Client<C>, token: &Token) -> Result<()> {
        let given = set_token(client, &token.text, token.expires, &self.tokens.principal);
        // Whatever the client makes of it, it is the same the next time.
        self.given.store(token.number, Ordering::Relaxed);
        given.map_err(|why| Error::new(format!("a token can't be used: {why}")))
    }
}
