//! `millstream lsp`: tells editors what is wrong with flows while they are written, what settings are for, what could stand where, and what
//! mends a mistake.
//!
//! A document is looked at in two ways. `check` does what `millstream check` does, on a thread of its own, and keeps what nodes and columns there
//! are; `partly` finds these out where the flow has mistakes. `scan` sees where a cursor is in a text that need not be TOML yet; `language` knows
//! what may stand there.

mod check;
mod completion;
mod fixes;
mod hover;
mod language;
mod partly;
mod positions;
mod scan;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use lsp_server::{Connection, ErrorCode, IoThreads, Message, Notification, Request, Response};
use lsp_types::notification::{
    DidChangeTextDocument, DidCloseTextDocument, DidOpenTextDocument, Notification as _, PublishDiagnostics,
};
use lsp_types::request::{CodeActionRequest, Completion, HoverRequest, Request as _};
use lsp_types::{
    CodeActionParams, CodeActionProviderCapability, CompletionOptions, CompletionParams, CompletionResponse,
    DidChangeTextDocumentParams, DidCloseTextDocumentParams, DidOpenTextDocumentParams, HoverParams,
    HoverProviderCapability, InitializeParams, ServerCapabilities, TextDocumentPositionParams,
    TextDocumentSyncCapability, TextDocumentSyncKind, Uri,
};
use millstream_core::{Result, ResultExt as _};
use serde::Serialize;
use serde_json::json;

use self::check::{Checker, Job, Outlines, path};
use self::completion::{Written, completion};
use self::fixes::fixes;
use self::hover::hover;
use self::language::Language;
use self::positions::offset;
use self::scan::Scan;
use crate::exit::{Exit, Outcome};
use crate::workplace::Workplace;

/// Behind which letters editors ask by themselves what could be written.
const TRIGGERS: [&str; 6] = ["[", ".", "=", "\"", "'", " "];

/// `millstream lsp`
pub fn lsp() -> Outcome {
    let (connection, threads) = Connection::stdio();
    let served = serve(&connection);
    // What writes ends when nobody can send any more.
    drop(connection);
    served.and_then(|()| end(threads))?;
    Ok(Exit::Done)
}

fn end(threads: IoThreads) -> Result<()> {
    threads.join().doing(|| "talking to the editor")
}

fn serve(connection: &Connection) -> Result<()> {
    let doing = || "talking to the editor";
    let (id, parameters) = connection.initialize_start().doing(doing)?;
    let parameters: InitializeParams = serde_json::from_value(parameters).doing(doing)?;
    let server = json!({ "name": "millstream", "version": env!("CARGO_PKG_VERSION") });
    connection.initialize_finish(id, json!({ "capabilities": capabilities(), "serverInfo": server })).doing(doing)?;
    let mut server = Server::start(connection, &parameters)?;
    for message in &connection.receiver {
        match message {
            Message::Request(request) if connection.handle_shutdown(&request).doing(doing)? => break,
            Message::Request(request) => {
                let response = server.answer(request);
                connection.sender.send(response.into()).doing(doing)?;
            }
            Message::Notification(notification) => server.take(notification)?,
            Message::Response(_) => {}
        }
    }
    Ok(())
}

/// What it can do.
fn capabilities() -> ServerCapabilities {
    ServerCapabilities {
        text_document_sync: Some(TextDocumentSyncCapability::Kind(TextDocumentSyncKind::FULL)),
        code_action_provider: Some(CodeActionProviderCapability::Simple(true)),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        completion_provider: Some(CompletionOptions {
            trigger_characters: Some(TRIGGERS.map(str::to_owned).to_vec()),
            ..CompletionOptions::default()
        }),
        ..ServerCapabilities::default()
    }
}

/// The documents that are open, by their addresses, and what is known of them.
struct Server {
    workplace: Arc<Workplace>,
    language: LazyLock<Language>,
    documents: HashMap<String, Arc<str>>,
    outlines: Outlines,
    checker: Checker,
}

impl Server {
    fn start(connection: &Connection, parameters: &InitializeParams) -> Result<Self> {
        let here = Workplace::here()?;
        let workplace = Arc::new(Workplace { folder: folder(parameters).unwrap_or(here.folder), ..here });
        let outlines = Outlines::default();
        let sender = connection.sender.clone();
        let checker = Checker::start(workplace.clone(), outlines.clone(), move |diagnostics| {
            // Nobody hears it when the editor is gone.
            let _ = sender.send(Notification::new(PublishDiagnostics::METHOD.to_owned(), diagnostics).into());
        });
        Ok(Self {
            workplace,
            language: LazyLock::new(|| Language::new(&crate::nodes::registry())),
            documents: HashMap::new(),
            outlines,
            checker,
        })
    }

    /// A document has been opened, changed or closed. What else editors tell does not matter here.
    fn take(&mut self, notification: Notification) -> Result<()> {
        let Notification { method, params } = notification;
        match method.as_str() {
            DidOpenTextDocument::METHOD => {
                let Ok(DidOpenTextDocumentParams { text_document }) = serde_json::from_value(params) else {
                    return Ok(());
                };
                self.check(text_document.uri, text_document.version, Some(text_document.text))
            }
            DidChangeTextDocument::METHOD => {
                let Ok(DidChangeTextDocumentParams { text_document, content_changes }) = serde_json::from_value(params)
                else {
                    return Ok(());
                };
                // Each is the whole text.
                let newest = content_changes.into_iter().last();
                newest.map_or(Ok(()), |change| self.check(text_document.uri, text_document.version, Some(change.text)))
            }
            DidCloseTextDocument::METHOD => {
                let Ok(DidCloseTextDocumentParams { text_document }) = serde_json::from_value(params) else {
                    return Ok(());
                };
                self.check(text_document.uri, 0, None)
            }
            _ => Ok(()),
        }
    }

    fn check(&mut self, uri: Uri, version: i32, text: Option<String>) -> Result<()> {
        let text: Option<Arc<str>> = text.map(Into::into);
        match &text {
            Some(text) => _ = self.documents.insert(uri.as_str().to_owned(), text.clone()),
            None => _ = self.documents.remove(uri.as_str()),
        }
        self.checker.check(Job { uri, version, text })
    }

    fn answer(&self, request: Request) -> Response {
        let Request { id, method, params } = request;
        let answer = match method.as_str() {
            HoverRequest::METHOD => serde_json::from_value(params)
                .map(|asked: HoverParams| json(self.at(&asked.text_document_position_params, hover).flatten())),
            Completion::METHOD => serde_json::from_value(params).map(|asked: CompletionParams| {
                json(self.at(&asked.text_document_position, completion).map(CompletionResponse::Array))
            }),
            CodeActionRequest::METHOD => serde_json::from_value(params).map(|asked: CodeActionParams| {
                let CodeActionParams { text_document, context, .. } = asked;
                let text = self.documents.get(text_document.uri.as_str());
                json(text.map(|text| fixes(text, &text_document.uri, &context.diagnostics)))
            }),
            other => {
                let message = format!("there is no answer to `{other}`");
                return Response::new_err(id, ErrorCode::MethodNotFound as i32, message);
            }
        };
        match answer {
            Ok(answer) => Response::new_ok(id, answer),
            Err(error) => Response::new_err(id, ErrorCode::InvalidParams as i32, error.to_string()),
        }
    }

    /// What there is to say at a place of a document.
    fn at<T>(&self, at: &TextDocumentPositionParams, say: impl FnOnce(&Written<'_>, usize) -> T) -> Option<T> {
        let uri = &at.text_document.uri;
        let text = self.documents.get(uri.as_str())?;
        let outline = self.outlines.of(uri);
        let written = Written {
            text,
            scan: &Scan::new(text),
            outline: outline.as_deref(),
            registry: &self.workplace.registry,
            language: &self.language,
        };
        Some(say(&written, offset(text, at.position)))
    }
}

fn json(answer: impl Serialize) -> serde_json::Value {
    // Only texts are keys in it, which is all that could fail.
    serde_json::to_value(answer).unwrap_or_default()
}

/// The folder that is open in the editor: outputs are relative to where flows are run.
fn folder(parameters: &InitializeParams) -> Option<PathBuf> {
    let first = parameters.workspace_folders.as_ref().and_then(|folders| folders.first());
    #[expect(deprecated, reason = "some editors say nothing else")]
    let root = || parameters.root_uri.as_ref();
    Some(path(first.map(|folder| &folder.uri).or_else(root)?))
}
