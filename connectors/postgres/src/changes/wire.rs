//! A connection over which a server sends its log, which the client for queries can't: that part of the protocol is spoken here.
//! <https://www.postgresql.org/docs/current/protocol-replication.html>

use std::io;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use fallible_iterator::FallibleIterator as _;
use millstream_core::{Error, Result, ResultExt as _};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{COPY_DATA_TAG, ErrorResponseBody, Header, Message};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::place::Place;
use crate::client::{Login, SESSION, of_code};
use crate::names::{literal, quoted};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

/// The tag of the answer that the log follows.
const COPY_BOTH_TAG: u8 = b'W';

/// How many bytes a message has at most: a row can't have more.
const MAX_MESSAGE: i32 = 1 << 30;

/// What bytes are read from and written to.
trait Io: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Io for T {}

/// A connection over which a server sends its log.
pub struct Wire {
    io: Box<dyn Io>,
    address: String,
    read: BytesMut,
    written: BytesMut,
}

/// What a server sends of its log.
pub enum Sent {
    /// A message.
    Message(Bytes),
    /// It is there, and has sent all up to a place. It may want to know at once how far that was read.
    Alive { end: Place, wants_answer: bool },
}

/// A message of the server.
enum Frame {
    /// The log follows.
    Begin,
    /// A part of the log.
    Log(Bytes),
    Other(Message),
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::new(format!("the server does not speak as PostgreSQL does: {error}"))
}

impl Wire {
    /// Connects, and says who that is.
    pub async fn connect(login: &Login) -> Result<Self> {
        let doing = || format!("connecting to `{}`", login.address);
        let connected = async {
            let stream = TcpStream::connect((login.host.as_str(), login.port)).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        };
        let stream = connected.await.map_err(|error| Error::transient(format!("{}: {error}", doing())))?;
        let io: Box<dyn Io> = match &login.tls {
            Some(tls) => Box::new(encrypt(stream, tls.clone(), &login.host).await.doing(doing)?),
            None => Box::new(stream),
        };
        let mut wire = Self { io, address: login.address.clone(), read: BytesMut::new(), written: BytesMut::new() };
        wire.log_in(login).await.doing(doing)?;
        wire.say(SESSION).await.doing(doing)?;
        Ok(wire)
    }

    async fn log_in(&mut self, login: &Login) -> Result<()> {
        let parameters = [
            ("user", login.user.as_str()),
            ("database", login.database.as_str()),
            ("application_name", login.application.as_str()),
            ("client_encoding", "UTF8"),
            ("replication", "database"),
        ];
        frontend::startup_message(parameters, &mut self.written).map_err(broken)?;
        self.flush().await?;
        let password = || login.password.as_deref().ok_or_else(|| Error::new("the server wants a password"));
        loop {
            match self.message().await? {
                Message::AuthenticationOk => break,
                Message::AuthenticationCleartextPassword => {
                    frontend::password_message(password()?.as_bytes(), &mut self.written).map_err(broken)?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(login.user.as_bytes(), password()?.as_bytes(), body.salt());
                    frontend::password_message(hash.as_bytes(), &mut self.written).map_err(broken)?;
                }
                Message::AuthenticationSasl(_) => self.scram(password()?).await?,
                _ => return Err(broken("it wants to know who connects in a way that is not known")),
            }
            self.flush().await?;
        }
        self.ready().await
    }

    async fn scram(&mut self, password: &str) -> Result<()> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut self.written).map_err(broken)?;
        self.flush().await?;
        let Message::AuthenticationSaslContinue(body) = self.message().await? else {
            return Err(broken("it has asked for SCRAM, and does not go on with it"));
        };
        scram.update(body.data()).map_err(broken)?;
        frontend::sasl_response(scram.message(), &mut self.written).map_err(broken)?;
        self.flush().await?;
        let Message::AuthenticationSaslFinal(body) = self.message().await? else {
            return Err(broken("it has asked for SCRAM, and does not end it"));
        };
        scram.finish(body.data()).map_err(broken)
    }

    /// Says statements that give no rows.
    async fn say(&mut self, statements: &str) -> Result<()> {
        frontend::query(statements, &mut self.written).map_err(broken)?;
        self.flush().await?;
        self.ready().await
    }

    /// Waits until the server has answered.
    async fn ready(&mut self) -> Result<()> {
        while !matches!(self.message().await?, Message::ReadyForQuery(_)) {}
        Ok(())
    }

    /// Makes a slot, by which the server keeps its log until it was read, and returns from where. A temporary one ends with the connection.
    pub async fn make_slot(&mut self, slot: &str, is_temporary: bool) -> Result<Place> {
        let temporary = if is_temporary { "TEMPORARY " } else { "" };
        let statement =
            format!("CREATE_REPLICATION_SLOT {} {temporary}LOGICAL pgoutput NOEXPORT_SNAPSHOT", quoted(slot));
        frontend::query(&statement, &mut self.written).map_err(broken)?;
        self.flush().await?;
        let mut place = None;
        loop {
            match self.message().await? {
                Message::DataRow(row) => {
                    // The name of the slot, and the place.
                    let ranges: Vec<_> = row.ranges().collect().map_err(broken)?;
                    let text = ranges.get(1).cloned().flatten().and_then(|range| row.buffer().get(range));
                    let text = text.and_then(|text| std::str::from_utf8(text).ok());
                    place = Some(text.ok_or_else(|| broken("it says of a slot no place"))?.parse()?);
                }
                Message::ReadyForQuery(_) => return place.ok_or_else(|| broken("it says of a slot nothing")),
                _ => {}
            }
        }
    }

    /// Has the server send what a publication says of its log, from a place on.
    pub async fn begin(&mut self, slot: &str, publication: &str, from: Place) -> Result<()> {
        let publication = literal(&quoted(publication));
        let statement = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names {publication})",
            quoted(slot)
        );
        frontend::query(&statement, &mut self.written).map_err(broken)?;
        self.flush().await?;
        loop {
            match self.frame().await? {
                Frame::Begin => return Ok(()),
                Frame::Log(_) => return Err(broken("its log comes unasked")),
                Frame::Other(Message::ReadyForQuery(_)) => return Err(broken("it does not send its log")),
                Frame::Other(_) => {}
            }
        }
    }

    /// What comes next of the log. Nothing is lost if it is not waited for.
    pub async fn next(&mut self) -> Result<Sent> {
        loop {
            match self.frame().await? {
                Frame::Log(bytes) => {
                    if let Some(sent) = sent(bytes)? {
                        return Ok(sent);
                    }
                }
                Frame::Other(Message::CopyDone | Message::CommandComplete(_)) => {
                    return Err(Error::transient("the server has ended its log"));
                }
                Frame::Begin | Frame::Other(_) => {}
            }
        }
    }

    /// Tells the server how far its log need not be kept.
    pub async fn confirm(&mut self, place: Place, wants_answer: bool) -> Result<()> {
        let mut status = BytesMut::with_capacity(34);
        status.put_u8(b'r');
        // Written, flushed and applied.
        (0..3).for_each(|_| status.put_u64(place.0));
        status.put_i64(0);
        status.put_u8(wants_answer.into());
        frontend::CopyData::new(status.freeze()).map_err(broken)?.write(&mut self.written);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<()> {
        let written = match self.io.write_all_buf(&mut self.written).await {
            Ok(()) => self.io.flush().await,
            Err(error) => Err(error),
        };
        written.map_err(|error| self.lost(error))
    }

    fn lost(&self, error: io::Error) -> Error {
        Error::transient(format!("the connection to `{}` is lost: {error}", self.address))
    }

    /// The next message that is no part of the log.
    async fn message(&mut self) -> Result<Message> {
        match self.frame().await? {
            Frame::Other(message) => Ok(message),
            Frame::Begin | Frame::Log(_) => Err(broken("its log comes unasked")),
        }
    }

    async fn frame(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.take_frame()? {
                match frame {
                    Frame::Other(Message::ErrorResponse(body)) => return Err(refused(&body)),
                    Frame::Other(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => continue,
                    frame => return Ok(frame),
                }
            }
            match self.io.read_buf(&mut self.read).await {
                Ok(0) => return Err(Error::transient(format!("`{}` has closed the connection", self.address))),
                Ok(_) => {}
                Err(error) => return Err(self.lost(error)),
            }
        }
    }

    /// A message that has come whole.
    fn take_frame(&mut self) -> Result<Option<Frame>> {
        let Some(header) = Header::parse(&self.read).map_err(broken)? else { return Ok(None) };
        if !(4..=MAX_MESSAGE).contains(&header.len()) {
            return Err(broken(format!("a message of {} bytes", header.len())));
        }
        let length = header.len() as usize + 1;
        if self.read.len() < length {
            // So that it need not grow piece by piece, and no more than what is there as long as little of it has come.
            self.read.reserve((length - self.read.len()).min(self.read.len().max(1 << 16)));
            return Ok(None);
        }
        if !matches!(header.tag(), COPY_BOTH_TAG | COPY_DATA_TAG) {
            return Ok(Message::parse(&mut self.read).map_err(broken)?.map(Frame::Other));
        }
        let mut message = self.read.split_to(length).freeze();
        message.advance(5);
        Ok(Some(if header.tag() == COPY_BOTH_TAG { Frame::Begin } else { Frame::Log(message) }))
    }
}

/// What a part of the log is.
fn sent(mut bytes: Bytes) -> Result<Option<Sent>> {
    let cut = || broken("a part of its log is cut off");
    match bytes.first() {
        // The place, where the log ends, and the time.
        Some(b'w') if bytes.len() >= 25 => {
            bytes.advance(25);
            Ok(Some(Sent::Message(bytes)))
        }
        Some(b'k') if bytes.len() >= 18 => {
            bytes.advance(1);
            let end = Place(bytes.get_u64());
            bytes.advance(8);
            Ok(Some(Sent::Alive { end, wants_answer: bytes.get_u8() == 1 }))
        }
        Some(b'w' | b'k') | None => Err(cut()),
        Some(_) => Ok(None),
    }
}

async fn encrypt(
    mut stream: TcpStream,
    tls: Arc<rustls::ClientConfig>,
    host: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let lost = |error: io::Error| Error::transient(error.to_string());
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(lost)?;
    // Nothing behind the answer is read before it is encrypted.
    if stream.read_u8().await.map_err(lost)? != b'S' {
        return Err(Error::new("the server does not encrypt"));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| Error::new(error.to_string()))?;
    TlsConnector::from(tls).connect(name, stream).await.map_err(|error| match error.kind() {
        // That a certificate is not trusted stays so.
        io::ErrorKind::InvalidData => Error::new(error.to_string()),
        _ => lost(error),
    })
}

/// What a server says that does not do what was asked.
fn refused(body: &ErrorResponseBody) -> Error {
    let (mut code, mut message, mut detail) = (String::new(), String::new(), None);
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = value,
            b'M' => message = value,
            b'D' => detail = Some(value),
            _ => {}
        }
    }
    of_code(&code, &message, detail.as_deref())
}
