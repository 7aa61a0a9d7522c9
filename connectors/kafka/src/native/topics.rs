//! What a client is asked about topics and their partitions.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{null, null_mut};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as c;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::client::Consumer;

/// Says in a list of partitions which leader's epoch a position is of.
pub fn set_leader_epoch(list: &mut TopicPartitionList, topic: &str, partition: i32, epoch: i32) {
    let Ok(topic) = CString::new(topic) else { return };
    // SAFETY: the list is ours alone; what is found in it is null or lies in it.
    unsafe {
        let found = c::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if !found.is_null() {
            c::rd_kafka_topic_partition_set_leader_epoch(found, epoch);
        }
    }
}

/// The end of a partition as far as the client knows it, without asking anybody.
pub fn known_end(consumer: &Consumer, topic: &str, partition: i32) -> Option<u64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client and the name live, and the numbers are written to.
    let error = unsafe {
        let client = consumer.client().native_ptr();
        c::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &mut low, &mut high)
    };
    let is_known = error == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    u64::try_from(high).ok().filter(|_| is_known)
}

/// The ids of topics, which tell one from another that had its name before. Brokers that have none, from before 2.8, say none.
pub fn topic_ids(consumer: &Consumer, topics: &[&str], wait: Duration) -> Result<BTreeMap<String, String>, KafkaError> {
    let names: Vec<_> = topics.iter().filter_map(|topic| CString::new(*topic).ok()).collect();
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let failed = |error| Err(KafkaError::MetadataFetch(error));
    let mut found = BTreeMap::new();
    if names.is_empty() {
        return Ok(found);
    }
    // SAFETY: the client and the names live; queue, collection and event are ours, and destroyed at the end, until when the
    // descriptions in the event live.
    unsafe {
        let client = consumer.client().native_ptr();
        let queue = c::rd_kafka_queue_new(client);
        let collection = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = c::rd_kafka_AdminOptions_new(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let wait = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        c::rd_kafka_AdminOptions_set_request_timeout(options, wait, null_mut(), 0);
        c::rd_kafka_DescribeTopics(client, collection, options, queue);
        let event = c::rd_kafka_queue_poll(queue, wait);
        let error =
            if event.is_null() { RDKafkaErrorCode::OperationTimedOut } else { c::rd_kafka_event_error(event).into() };
        let result = if event.is_null() { null() } else { c::rd_kafka_event_DescribeTopics_result(event) };
        if error == RDKafkaErrorCode::NoError && !result.is_null() {
            let mut count = 0;
            let descriptions = c::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            for index in 0..count {
                let description = *descriptions.add(index);
                let id = c::rd_kafka_TopicDescription_topic_id(description);
                if id.is_null() || c::rd_kafka_Uuid_most_significant_bits(id) == 0 {
                    continue;
                }
                let text = |text: *const c_char| CStr::from_ptr(text).to_string_lossy().into_owned();
                let name = text(c::rd_kafka_TopicDescription_name(description));
                found.insert(name, text(c::rd_kafka_Uuid_base64str(id)));
            }
        }
        if !event.is_null() {
            c::rd_kafka_event_destroy(event);
        }
        c::rd_kafka_AdminOptions_destroy(options);
        c::rd_kafka_TopicCollection_destroy(collection);
        c::rd_kafka_queue_destroy(queue);
        if error != RDKafkaErrorCode::NoError {
            return failed(error);
        }
    }
    Ok(found)
}
