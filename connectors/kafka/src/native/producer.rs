//! A producer, of which is known whether each of its requests was answered: a request that was not may still be on its way, and arrive
//! at any time.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{NonNull, null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaType};

use super::deliveries::{Deliveries, Stretch};

const NO_ERROR: c::rd_kafka_resp_err_t = c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;

/// The requests by which something is written, by the numbers that Kafka gives them: `Produce`, `InitProducerId`, `AddPartitionsToTxn`,
/// `AddOffsetsToTxn` and `EndTxn`.
const WRITING: [i16; 5] = [0, 22, 24, 25, 26];

/// What is called when librdkafka has made the client.
const INTERCEPTOR: &CStr = c"millstream";

/// What went wrong, and what librdkafka says about it.
#[derive(Clone, Debug)]
pub struct Failure {
    pub code: RDKafkaErrorCode,
    pub said: String,
}

impl From<RDKafkaErrorCode> for Failure {
    fn from(code: RDKafkaErrorCode) -> Self {
        Self { code, said: code.to_string() }
    }
}

/// A message to send.
#[derive(Debug, Default)]
pub struct Outgoing<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// None leaves it to the key, or to chance.
    pub partition: Option<i32>,
    /// In milliseconds since 1970. None is the time at which it is sent.
    pub time: Option<i64>,
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

/// A producer.
pub struct Producer<C: ClientContext> {
    /// The topics that messages have gone to, which librdkafka would forget.
    topics: BTreeMap<String, NonNull<c::rd_kafka_topic_t>>,
    /// The parts of a message, and messages, whose room is used again.
    parts: Vec<c::rd_kafka_vu_t>,
    messages: Vec<c::rd_kafka_message_t>,
    queue: NonNull<c::rd_kafka_queue_t>,
    client: Client<C>,
    /// Behind the client, whose threads write to them until it is gone.
    has_lost: Arc<AtomicBool>,
    /// Of messages that are under way, if they are counted. The last one is that of those which are sent now.
    stretches: Vec<Arc<Stretch>>,
}

// SAFETY: all that it points to may be used by any thread, by one after the other; what `parts` and `messages` point to is used during a call only.
unsafe impl<C: ClientContext> Send for Producer<C> {}

impl<C: ClientContext> Producer<C> {
    /// Makes one, which connects by itself.
    ///
    /// # Errors
    /// If its settings are wrong.
    pub fn new(config: &ClientConfig, context: C) -> KafkaResult<Self> {
        let native = config.create_native_config()?;
        let has_lost = Arc::new(AtomicBool::new(false));
        // SAFETY: the configuration lives, and `has_lost` does longer than the client.
        let added = unsafe {
            let events = c::RD_KAFKA_EVENT_DR | c::RD_KAFKA_EVENT_ERROR | c::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH;
            c::rd_kafka_conf_set_events(native.ptr(), events);
            let opaque = Arc::as_ptr(&has_lost).cast_mut().cast();
            c::rd_kafka_conf_interceptor_add_on_new(native.ptr(), INTERCEPTOR.as_ptr(), Some(on_new), opaque)
        };
        if added != NO_ERROR {
            return Err(KafkaError::Global(added.into()));
        }
        let client = Client::new(config, native, RDKafkaType::RD_KAFKA_PRODUCER, context)?;
        // SAFETY: the client lives. The call gives a reference that is ours to give back, never null.
        let queue = unsafe { NonNull::new_unchecked(c::rd_kafka_queue_get_main(client.native_ptr())) };
        let (topics, parts, messages, stretches) = Default::default();
        Ok(Self { topics, parts, messages, queue, client, has_lost, stretches })
    }

    /// Counts from now on which messages are under way.
    pub fn count(&mut self) {
        self.stretches.push(Stretch::new());
    }

    /// All messages that were sent so far, if they are counted.
    pub fn deliveries(&mut self) -> Deliveries {
        if let Some(last) = self.stretches.last() {
            last.take(NO_ERROR);
        }
        self.stretches.retain(|stretch| stretch.is_open());
        let deliveries = Deliveries(self.stretches.clone());
        self.count();
        deliveries
    }

    /// What a message carries with it, by which it is counted.
    fn opaque(&self) -> *mut c_void {
        self.stretches.last().map_or(null_mut(), |stretch| Arc::as_ptr(stretch).cast_mut().cast())
    }

    /// The client, to ask brokers.
    pub fn client(&self) -> &Client<C> {
        &self.client
    }

    /// Whether a request by which something is written was not answered, so that it may still arrive.
    pub fn has_lost_answers(&self) -> bool {
        self.has_lost.load(Ordering::Acquire)
    }

    /// Begins with transactions.
    pub fn init(&self, wait: Duration) -> Result<(), Failure> {
        // SAFETY: the client lives.
        self.done(unsafe { c::rd_kafka_init_transactions(self.client.native_ptr(), millis(wait)) })
    }

    /// Begins a transaction.
    pub fn begin(&self) -> Result<(), Failure> {
        // SAFETY: the client lives.
        self.done(unsafe { c::rd_kafka_begin_transaction(self.client.native_ptr()) })
    }

    /// Commits a transaction.
    pub fn commit(&self, wait: Duration) -> Result<(), Failure> {
        // SAFETY: the client lives.
        self.done(unsafe { c::rd_kafka_commit_transaction(self.client.native_ptr(), millis(wait)) })
    }

    /// Sends what waits without waiting for more, and waits until all is delivered. Whether it is.
    pub fn flush(&self, wait: Duration) -> bool {
        // SAFETY: the client lives.
        unsafe { c::rd_kafka_flush(self.client.native_ptr(), millis(wait)) == NO_ERROR }
    }

    /// Hands a message over, which librdkafka copies.
    ///
    /// # Errors
    /// If it is not taken; `QueueFull` is for now.
    pub fn send(&mut self, topic: &str, message: &Outgoing<'_>) -> Result<(), Failure> {
        let (topic, opaque) = (self.topic(topic)?, self.opaque());
        let parts = &mut self.parts;
        let mut add = |vtype, u| parts.push(c::rd_kafka_vu_t { vtype, u });
        add(c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT, Value { rkt: topic.as_ptr() });
        add(c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS, Value { i: c::RD_KAFKA_MSG_F_COPY });
        add(c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION, Value { i32_: message.partition.unwrap_or(-1) });
        add(c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY, memory(message.key));
        add(c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE, memory(message.value));
        add(c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TIMESTAMP, Value { i64_: message.time.unwrap_or(0) });
        add(c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_OPAQUE, Value { ptr: opaque });
        let names = message.headers.iter().map(|(name, _)| CString::new(*name));
        let names = names.collect::<Result<Vec<_>, _>>().map_err(|_| RDKafkaErrorCode::InvalidArgument)?;
        for (name, (_, value)) in names.iter().zip(&message.headers) {
            let (val, size) = pointer(*value);
            let size = isize::try_from(size).unwrap_or(isize::MAX);
            let header = c::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_2 { name: name.as_ptr(), val, size };
            add(c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADER, Value { header });
        }
        // SAFETY: the client lives, and what the parts point to lives during the call, which copies it.
        let error = unsafe { c::rd_kafka_produceva(self.client.native_ptr(), parts.as_ptr(), parts.len()) };
        parts.clear();
        self.done(error)
    }

    /// Hands messages over at once, which costs less than one after the other. None of them has headers, or a time of its own. How many are taken, and
    /// why no more are.
    pub fn send_all<'a>(
        &mut self,
        topic: &str,
        messages: impl Iterator<Item = Outgoing<'a>>,
    ) -> (usize, Result<(), Failure>) {
        let (topic, _private) = match self.topic(topic) {
            Ok(topic) => (topic, self.opaque()),
            Err(failure) => return (0, Err(failure)),
        };
        self.messages.extend(messages.map(|Outgoing { key, value, partition, .. }| {
            let ((payload, len), (key, key_len)) = (pointer(value), pointer(key));
            c::rd_kafka_message_t {
                err: NO_ERROR,
                rkt: null_mut(),
                partition: partition.unwrap_or(-1),
                payload: payload.cast_mut(),
                len,
                key: key.cast_mut(),
                key_len,
                offset: 0,
                _private,
            }
        }));
        let flags = c::RD_KAFKA_MSG_F_COPY | c::RD_KAFKA_MSG_F_PARTITION;
        let (at, count) = (self.messages.as_mut_ptr(), c_int::try_from(self.messages.len()).unwrap_or(c_int::MAX));
        // SAFETY: the topic is one of the client's, which lives; and what the messages point to lives during the call, which copies it.
        unsafe { c::rd_kafka_produce_batch(topic.as_ptr(), -1, flags, at, count) };
        // Behind one for which there is no room, there is none for others.
        let refused = self.messages.iter().position(|message| message.err != NO_ERROR);
        let taken = refused.unwrap_or(self.messages.len());
        let error = refused.map(|first| RDKafkaErrorCode::from(self.messages[first].err));
        self.messages.clear();
        (taken, error.map_or(Ok(()), |code| Err(self.failure(code.into()))))
    }

    /// A topic by its name.
    fn topic(&mut self, name: &str) -> Result<NonNull<c::rd_kafka_topic_t>, Failure> {
        if let Some(topic) = self.topics.get(name) {
            return Ok(*topic);
        }
        let text = CString::new(name).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
        // SAFETY: the client lives, and the name does during the call. It has the settings that the client was given.
        let topic = unsafe { c::rd_kafka_topic_new(self.client.native_ptr(), text.as_ptr(), null_mut()) };
        let topic = NonNull::new(topic).ok_or(RDKafkaErrorCode::InvalidTopic)?;
        self.topics.insert(name.to_owned(), topic);
        Ok(topic)
    }

    /// Takes note of what the client has to say; waits for it if there is nothing. `undelivered` is told of messages that were not delivered.
    pub fn poll(&self, mut wait: Duration, mut undelivered: impl FnMut(RDKafkaErrorCode, &str)) {
        // SAFETY: the queue lives. An event is ours to destroy, and lives until then.
        while let Some(event) = NonNull::new(unsafe { c::rd_kafka_queue_poll(self.queue.as_ptr(), millis(wait)) }) {
            unsafe {
                self.take_note(event.as_ptr(), &mut undelivered);
                c::rd_kafka_event_destroy(event.as_ptr());
            }
            wait = Duration::ZERO;
        }
    }

    /// # Safety
    /// The event has to live.
    unsafe fn take_note(&self, event: *mut c::rd_kafka_event_t, undelivered: &mut impl FnMut(RDKafkaErrorCode, &str)) {
        // SAFETY: by the caller; all that an event gives lives as long.
        unsafe {
            match c::rd_kafka_event_type(event) {
                c::RD_KAFKA_EVENT_DR => {
                    while let Some(message) = NonNull::new(c::rd_kafka_event_message_next(event).cast_mut()) {
                        let message = message.as_ref();
                        if message.err != NO_ERROR {
                            undelivered(message.err.into(), &text(c::rd_kafka_topic_name(message.rkt)));
                        }
                    }
                }
                c::RD_KAFKA_EVENT_ERROR => {
                    let reason = text(c::rd_kafka_event_error_string(event));
                    self.client.context().error(KafkaError::Global(c::rd_kafka_event_error(event).into()), &reason);
                }
                c::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut said, mut level) = (c"".as_ptr(), c"".as_ptr(), 0);
                    c::rd_kafka_event_log(event, &mut facility, &mut said, &mut level);
                    self.client.context().log(log_level(level), &text(facility), &text(said));
                }
                _ => {}
            }
        }
    }

    /// What has come of a call.
    fn done(&self, error: *mut c::rd_kafka_error_t) -> Result<(), Failure> {
        let Some(error) = NonNull::new(error) else { return Ok(()) };
        // SAFETY: the error is ours to destroy, and lives until then.
        let failure = unsafe {
            let (code, said) = (c::rd_kafka_error_code(error.as_ptr()), text(c::rd_kafka_error_string(error.as_ptr())));
            c::rd_kafka_error_destroy(error.as_ptr());
            Failure { code: code.into(), said }
        };
        Err(self.failure(failure))
    }

    /// What went wrong, which librdkafka says only once if it is for good.
    fn failure(&self, failure: Failure) -> Failure {
        let fatal = self.client.fatal_error().filter(|_| failure.code == RDKafkaErrorCode::Fatal);
        fatal.map_or(failure, |(code, said)| Failure { code, said })
    }
}

impl<C: ClientContext> Drop for Producer<C> {
    fn drop(&mut self) {
        // SAFETY: topics and queue are ours to give back, and the client still lives. What waits to be sent is given up.
        unsafe {
            c::rd_kafka_purge(self.client.native_ptr(), c::RD_KAFKA_PURGE_F_QUEUE | c::RD_KAFKA_PURGE_F_INFLIGHT);
        }
        self.poll(Duration::ZERO, |_, _| ());
        // SAFETY: as above.
        unsafe {
            self.topics.values().for_each(|topic| c::rd_kafka_topic_destroy(topic.as_ptr()));
            c::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
        self.stretches.iter().for_each(|stretch| stretch.give_up());
    }
}

/// The value of a part of a message.
type Value = c::rd_kafka_vu_s__bindgen_ty_1;

fn memory(bytes: Option<&[u8]>) -> Value {
    let (at, size) = pointer(bytes);
    Value { mem: c::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr: at.cast_mut(), size } }
}

fn pointer(bytes: Option<&[u8]>) -> (*const c_void, usize) {
    bytes.map_or((null(), 0), |bytes| (bytes.as_ptr().cast(), bytes.len()))
}

fn millis(wait: Duration) -> c_int {
    c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX)
}

/// # Safety
/// The text has to end with a 0.
unsafe fn text(of: *const c_char) -> String {
    // SAFETY: by the caller.
    unsafe { CStr::from_ptr(of) }.to_string_lossy().trim().to_owned()
}

fn log_level(level: c_int) -> RDKafkaLogLevel {
    match level {
        ..=3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 | 6 => RDKafkaLogLevel::Info,
        7.. => RDKafkaLogLevel::Debug,
    }
}

/// Has `on_response` called whenever a request has come to its end, and the others when a message begins its way, and ends it.
unsafe extern "C" fn on_new(
    client: *mut c::rd_kafka_t,
    _: *const c::rd_kafka_conf_t,
    has_lost: *mut c_void,
    _: *mut c_char,
    _: usize,
) -> c::rd_kafka_resp_err_t {
    let name = INTERCEPTOR.as_ptr();
    // SAFETY: the client is being made.
    let added = unsafe {
        [
            c::rd_kafka_interceptor_add_on_response_received(client, name, Some(on_response), has_lost),
            c::rd_kafka_interceptor_add_on_send(client, name, Some(on_send), null_mut()),
            c::rd_kafka_interceptor_add_on_acknowledgement(client, name, Some(on_acknowledgement), null_mut()),
        ]
    };
    added.into_iter().find(|added| *added != NO_ERROR).unwrap_or(NO_ERROR)
}

/// A message begins its way. librdkafka calls this once for each that it takes, and `on_acknowledgement` once for each such.
unsafe extern "C" fn on_send(
    _: *mut c::rd_kafka_t,
    message: *mut c::rd_kafka_message_t,
    _: *mut c_void,
) -> c::rd_kafka_resp_err_t {
    // SAFETY: the message lives during the call. What it carries is null or a stretch, which lives until the client is gone, or all that were counted in it
    // have ended their ways.
    if let Some(stretch) = unsafe { (*message)._private.cast::<Stretch>().as_ref() } {
        stretch.add();
    }
    NO_ERROR
}

/// A message ends its way, whether it has arrived or not.
unsafe extern "C" fn on_acknowledgement(
    _: *mut c::rd_kafka_t,
    message: *mut c::rd_kafka_message_t,
    _: *mut c_void,
) -> c::rd_kafka_resp_err_t {
    // SAFETY: as in `on_send`. As soon as this message is counted no more, others may let the stretch go, so that it is kept until it has been told.
    unsafe {
        let (stretch, error) = ((*message)._private.cast::<Stretch>().cast_const(), (*message).err);
        if !stretch.is_null() {
            Arc::increment_strong_count(stretch);
            Arc::from_raw(stretch).take(error);
        }
    }
    NO_ERROR
}

/// Notes that a request was not answered. librdkafka calls this once for each time that it has sent one, with an error if the connection was lost
/// or the time was over, and before it sends it again.
unsafe extern "C" fn on_response(
    _: *mut c::rd_kafka_t,
    _: c_int,
    _: *const c_char,
    _: i32,
    request: i16,
    _: i16,
    _: i32,
    _: usize,
    _: i64,
    error: c::rd_kafka_resp_err_t,
    has_lost: *mut c_void,
) -> c::rd_kafka_resp_err_t {
    if error != NO_ERROR && WRITING.contains(&request) {
        // SAFETY: it lives longer than the client, as `Producer` says.
        unsafe { &*has_lost.cast::<AtomicBool>() }.store(true, Ordering::Release);
    }
    NO_ERROR
}
