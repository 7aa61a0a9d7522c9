//! Sessions of the console: a token is shown once, and a cookie stands for it until it is over.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blake3::Hash;
use tokio::time::Instant;

use super::token_text::letters;

/// How long a session lasts in which nothing is asked.
const IDLE: Duration = Duration::from_secs(12 * 60 * 60);

/// How many sessions there are at most. For one more, the one that has been idle for the longest time ends.
const MOST: usize = 1024;

/// How many of these may be of one token, so that nobody ends those of others.
const MOST_OF_A_TOKEN: usize = 16;

/// How many letters of chance a cookie has: as much as 32 bytes.
const CHANCE: usize = 43;

/// The sessions, in memory: a restart ends them. They hold the id of a token and nothing that it lets do, so that they end with it, and
/// change with it.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<Hash, Session>>);

#[derive(Debug)]
struct Session {
    token: Arc<str>,
    used: Instant,
}

/// What a browser shows in place of a token. It can't be printed.
pub struct SessionCookie(String);

impl Sessions {
    /// Begins one for whoever has shown a token.
    ///
    /// # Errors
    /// If the system has no chance to give.
    pub fn open(&self, token: Arc<str>) -> Result<SessionCookie, getrandom::Error> {
        let cookie = SessionCookie(letters(CHANCE)?);
        let mut sessions = self.lock();
        let of_token = sessions.values().filter(|session| session.token == token).count();
        if of_token >= MOST_OF_A_TOKEN {
            end_oldest(&mut sessions, |session| session.token == token);
        } else if sessions.len() >= MOST {
            end_oldest(&mut sessions, |_| true);
        }
        sessions.insert(hash(&cookie.0), Session { token, used: Instant::now() });
        Ok(cookie)
    }

    /// The token of the session that a cookie stands for. `None` if it is over.
    pub fn token(&self, cookie: &str) -> Option<Arc<str>> {
        let mut sessions = self.lock();
        let key = hash(cookie);
        let session = sessions.get_mut(&key)?;
        let now = Instant::now();
        if now.duration_since(session.used) >= IDLE {
            sessions.remove(&key);
            return None;
        }
        session.used = now;
        Some(session.token.clone())
    }

    /// Ends one.
    pub fn close(&self, cookie: &str) {
        self.lock().remove(&hash(cookie));
    }

    /// Ends all of a token, which was revoked.
    pub fn close_all(&self, token: &str) {
        self.lock().retain(|_, session| &*session.token != token);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Hash, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key that says nothing of a cookie: neither does how long it takes to look it up.
fn hash(cookie: &str) -> Hash {
    blake3::hash(cookie.as_bytes())
}

fn end_oldest(sessions: &mut HashMap<Hash, Session>, may_end: impl Fn(&Session) -> bool) {
    let of_those = sessions.iter().filter(|(_, session)| may_end(session));
    if let Some(oldest) = of_those.min_by_key(|(_, session)| session.used).map(|(key, _)| *key) {
        sessions.remove(&oldest);
    }
}

/// The name of the cookie. With TLS, browsers take one of that name only from this very host, and only over TLS.
pub const fn cookie_name(encrypted: bool) -> &'static str {
    if encrypted { "__Host-millstream" } else { "millstream" }
}

impl SessionCookie {
    /// The header `Set-Cookie` that hands it over.
    pub fn set(self, encrypted: bool) -> String {
        header(encrypted, &self.0)
    }

    /// The header `Set-Cookie` that has a browser forget it.
    pub fn clear(encrypted: bool) -> String {
        header(encrypted, "") + "; Max-Age=0"
    }
}

fn header(encrypted: bool, value: &str) -> String {
    let secure = if encrypted { "; Secure" } else { "" };
    format!("{}={value}; Path=/; HttpOnly; SameSite=Strict{secure}", cookie_name(encrypted))
}

impl fmt::Debug for SessionCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cookie of a session")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// The cookie that a browser sends back.
    fn opened(sessions: &Sessions, token: &str) -> String {
        let header = sessions.open(token.into()).unwrap().set(false);
        header.split([';', '=']).nth(1).unwrap().to_owned()
    }

    #[test]
    fn cookies_are_for_this_host_and_no_script() {
        let sessions = Sessions::default();
        let cookie = sessions.open("t".into()).unwrap();
        assert_eq!(format!("{cookie:?}"), "the cookie of a session");
        let header = cookie.set(true);
        assert!(header.starts_with("__Host-millstream=") && header.len() > 80, "{header}");
        assert!(header.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{header}");
        let plain = sessions.open("t".into()).unwrap().set(false);
        assert!(plain.starts_with("millstream=") && plain.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{plain}");
        assert_eq!(SessionCookie::clear(false), "millstream=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_lasts_while_it_is_used() {
        let sessions = Sessions::default();
        let cookie = opened(&sessions, "t");
        for _ in 0..3 {
            advance(Duration::from_secs(11 * 3600)).await;
            assert_eq!(sessions.token(&cookie).as_deref(), Some("t"));
        }
        advance(Duration::from_secs(12 * 3600)).await;
        assert_eq!(sessions.token(&cookie), None);
        assert!(sessions.lock().is_empty());
    }

    #[test]
    fn a_session_ends_when_it_is_closed_or_its_token_is() {
        let sessions = Sessions::default();
        let [first, second, third] = ["t", "t", "u"].map(|token| opened(&sessions, token));
        sessions.close(&first);
        assert_eq!((sessions.token(&first), sessions.token("")), (None, None));
        sessions.close_all("t");
        assert_eq!((sessions.token(&second), sessions.token(&third).as_deref()), (None, Some("u")));
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_only_so_many_and_nobody_ends_those_of_others() {
        let sessions = Sessions::default();
        let first = opened(&sessions, "t");
        for _ in 0..MOST_OF_A_TOKEN * 2 {
            advance(Duration::from_secs(1)).await;
            opened(&sessions, "u");
        }
        assert_eq!(sessions.token(&first).as_deref(), Some("t"));
        assert_eq!(sessions.lock().len(), MOST_OF_A_TOKEN + 1);
        for number in 0..MOST {
            advance(Duration::from_secs(1)).await;
            opened(&sessions, &number.to_string());
        }
        assert_eq!(sessions.token(&first), None);
        assert_eq!(sessions.lock().len(), MOST);
    }
}
