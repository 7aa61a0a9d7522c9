//! The calls of librdkafka that rdkafka has no safe ones for: many messages at once, in the memory in which they came; tokens; in `topics` the ids of
//! topics, and the leader's epoch of a place, by which a broker tells whether the log was cut there; and in `producer` what has become of
//! requests, and in `deliveries` of messages.
//!
//! Everything here that is a pointer belongs to a client that the same value keeps alive.
#![allow(unsafe_code)]

mod deliveries;
mod producer;
mod topics;

pub use deliveries::Deliveries;
pub use producer::{Failure, Outgoing, Producer};
pub use topics::{known_end, set_leader_epoch, topic_ids};

use std::ffi::{CStr, CString, c_char, c_int};
use std::marker::PhantomData;
use std::ptr::{NonNull, null, null_mut};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::consumer::Consumer as _;
use rdkafka::types::RDKafkaErrorCode;

use crate::client::Consumer;

/// No more messages are taken at once when they have so many bytes, which is looked at after so many.
const PARCEL_BYTES: usize = 4 << 20;
const STEP: usize = 256;

/// Gives a client the token by which brokers know who connects. It expires so many milliseconds after the beginning of 1970.
pub fn set_token<C: ClientContext>(
    client: &Client<C>,
    token: &CStr,
    expires: i64,
    principal: &CStr,
) -> Result<(), String> {
    let mut why: [c_char; 512] = [0; 512];
    // SAFETY: the client lives, and the texts do during the call, which keeps copies of them. There are no extensions. What is wrong is
    // written into `why`, no more than it is long, with a 0 behind it.
    let error = unsafe {
        let (token, principal, room) = (token.as_ptr(), principal.as_ptr(), why.len());
        let client = client.native_ptr();
        c::rd_kafka_oauthbearer_set_token(client, token, expires, principal, null_mut(), 0, why.as_mut_ptr(), room)
    };
    if error == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    // SAFETY: there is a 0 in it, at its end if nowhere else.
    Err(unsafe { CStr::from_ptr(why.as_ptr()) }.to_string_lossy().into_owned())
}

/// A queue of messages apart from the client's own: those of the partitions that it receives.
pub struct Queue {
    queue: NonNull<c::rd_kafka_queue_t>,
    consumer: Arc<Consumer>,
}

// SAFETY: queues of librdkafka may be used by any thread, and by several.
unsafe impl Send for Queue {}

impl Queue {
    pub fn new(consumer: &Arc<Consumer>) -> Self {
        // SAFETY: the client lives. The call gives a new queue, never null.
        let queue = unsafe { NonNull::new_unchecked(c::rd_kafka_queue_new(consumer.client().native_ptr())) };
        Self { queue, consumer: consumer.clone() }
    }

    /// Receives the messages of a partition from now on. To be called before the partition is assigned, so that none is on the
    /// client's own queue. Whether there may be such a partition.
    pub fn receive(&self, topic: &str, partition: i32) -> bool {
        let Ok(topic) = CString::new(topic) else { return false };
        // SAFETY: the client and the name live during the calls. What `get_partition` gives is null or a reference that is ours
        // to give back; forwarding takes one of its own to our queue.
        unsafe {
            let own = c::rd_kafka_queue_get_partition(self.consumer.client().native_ptr(), topic.as_ptr(), partition);
            if own.is_null() {
                return false;
            }
            c::rd_kafka_queue_forward(own, self.queue.as_ptr());
            c::rd_kafka_queue_destroy(own);
        }
        true
    }

    /// Takes the messages that are there, so many at most, and fewer if they are long. Waits for the first one.
    pub fn take(&self, wait: Duration, most: usize) -> Messages {
        let mut messages = Messages { list: Vec::with_capacity(most), consumer: self.consumer.clone() };
        let wait = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        // The call waits until there are as many as it was asked for, so that it is asked for one first.
        let (mut asked, mut taken, mut bytes) = (1, self.append(&mut messages, wait, 1), 0);
        while taken == asked && messages.len() < most && bytes < PARCEL_BYTES {
            let before = messages.len();
            asked = STEP.min(most - before);
            taken = self.append(&mut messages, 0, asked);
            bytes += messages.iter().skip(before).map(|message| message.get().len).sum::<usize>();
        }
        messages
    }

    fn append(&self, messages: &mut Messages, wait: c_int, most: usize) -> usize {
        let list = &mut messages.list;
        list.reserve(most);
        // SAFETY: behind the list's end there is room for `most` pointers, of which the call fills as many as it says. Each is
        // a message that is ours to destroy.
        unsafe {
            let end = list.as_mut_ptr().add(list.len());
            let taken = c::rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait, end, most).max(0) as usize;
            list.set_len(list.len() + taken);
            taken
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it is ours, and the client still lives.
        unsafe { c::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// Messages as librdkafka holds them, among which may be errors of partitions.
pub struct Messages {
    list: Vec<*mut c::rd_kafka_message_t>,
    consumer: Arc<Consumer>,
}

// SAFETY: the messages are nobody else's.
unsafe impl Send for Messages {}

impl Messages {
    /// None of them.
    pub fn none(consumer: &Arc<Consumer>) -> Self {
        Self { list: Vec::new(), consumer: consumer.clone() }
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        self.list.iter().map(|message| Message { message: *message, of: PhantomData })
    }

    /// How many come before the first of which this holds.
    pub fn until(&self, holds: impl Fn(Message<'_>) -> bool) -> usize {
        self.iter().position(holds).unwrap_or(self.len())
    }

    /// Takes all but the first so many.
    pub fn split_off(&mut self, at: usize) -> Self {
        Self { list: self.list.split_off(at), consumer: self.consumer.clone() }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        for message in self.list.drain(..) {
            // SAFETY: it is ours, was not destroyed before, and the client still lives.
            unsafe { c::rd_kafka_message_destroy(message) };
        }
    }
}

/// A message, or an error of a partition.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    message: *const c::rd_kafka_message_t,
    of: PhantomData<&'a Messages>,
}

impl<'a> Message<'a> {
    fn get(self) -> &'a c::rd_kafka_message_t {
        // SAFETY: it lives as long as the messages that it is one of.
        unsafe { &*self.message }
    }

    /// Whether it is an error.
    pub fn is_error(self) -> bool {
        self.get().err != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
    }

    /// The error, if it is one, and what librdkafka says about it.
    pub fn error(self) -> Option<(RDKafkaErrorCode, String)> {
        let said = || self.value().map(|said| String::from_utf8_lossy(said).into_owned()).unwrap_or_default();
        self.is_error().then(|| (RDKafkaErrorCode::from(self.get().err), said()))
    }

    /// Tells topics apart, as long as any message of them lives.
    pub fn topic_id(self) -> usize {
        self.get().rkt as usize
    }

    /// The name of the topic.
    pub fn topic(self) -> &'a str {
        let topic = self.get().rkt;
        if topic.is_null() {
            return "";
        }
        // SAFETY: the message keeps its topic, which keeps its name. Names of topics are ASCII.
        unsafe { CStr::from_ptr(c::rd_kafka_topic_name(topic)) }.to_str().unwrap_or_default()
    }

    pub fn partition(self) -> i32 {
        self.get().partition
    }

    pub fn offset(self) -> i64 {
        self.get().offset
    }

    pub fn value(self) -> Option<&'a [u8]> {
        let message = self.get();
        // SAFETY: librdkafka says so many bytes of it, which live as long as the message.
        (!message.payload.is_null()).then(|| unsafe { bytes(message.payload.cast(), message.len) })
    }

    pub fn key(self) -> Option<&'a [u8]> {
        let message = self.get();
        // SAFETY: as for the value.
        (!message.key.is_null()).then(|| unsafe { bytes(message.key.cast(), message.key_len) })
    }

    /// The time of the message, in milliseconds since 1970, if it has one.
    pub fn timestamp(self) -> Option<i64> {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives, and `kind` is written to.
        let time = unsafe { c::rd_kafka_message_timestamp(self.message, &mut kind) };
        (kind != c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(time)
    }

    /// The epoch of the leader that has written it, or -1.
    pub fn leader_epoch(self) -> i32 {
        // SAFETY: the message lives.
        unsafe { c::rd_kafka_message_leader_epoch(self.message) }
    }

    /// Its headers, in their order.
    pub fn headers(self) -> Vec<(&'a [u8], Option<&'a [u8]>)> {
        let mut headers = null_mut();
        let mut found = Vec::new();
        // SAFETY: the message lives; what its headers are lives as long.
        unsafe {
            if c::rd_kafka_message_headers(self.message, &mut headers)
                != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return found;
            }
            let (mut name, mut value, mut length) = (null::<c_char>(), null(), 0);
            while c::rd_kafka_header_get_all(headers, found.len(), &mut name, &mut value, &mut length)
                == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                let value = (!value.is_null()).then(|| bytes(value.cast(), length));
                found.push((CStr::from_ptr(name).to_bytes(), value));
            }
        }
        found
    }
}

/// # Safety
/// There have to be so many bytes, which live as long as is said; if there are none, the pointer may be any but null.
unsafe fn bytes<'a>(at: *const u8, length: usize) -> &'a [u8] {
    // SAFETY: by the caller.
    if length == 0 { &[] } else { unsafe { slice::from_raw_parts(at, length) } }
}
