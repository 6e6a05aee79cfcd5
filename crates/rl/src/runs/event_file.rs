//! A run's curve as an event file of TensorBoard: records of protocol buffers, framed as TensorFlow frames them.
//!
//! A record is its length (8 bytes, little endian), the masked CRC-32C of these bytes, the data, and the masked CRC-32C of the data
//! (tensorflow/core/lib/io/record_writer.h; messages in tensorflow/core/util/event.proto and framework/summary.proto).

use am_db::codec::Timestamp;
use crc::{CRC_32_ISCSI, Crc};
use prost::{Message, Oneof};

use super::record::{CurvePoint, EvaluationPoint};

/// What a reader of event files looks for in the first record.
const FILE_VERSION: &str = "brain.Event:2";
/// What is added to a checksum whose halves were exchanged, so that a checksum of checksums says something.
const CHECKSUM_MASK: u32 = 0xa282_ead8;
static CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

#[derive(Clone, PartialEq, Message)]
struct EventRecord {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "EventContent", tags = "3, 5")]
    content: Option<EventContent>,
}

#[derive(Clone, PartialEq, Oneof)]
enum EventContent {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(EventSummary),
}

#[derive(Clone, PartialEq, Message)]
struct EventSummary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    // `optional`, so that 0 is written too: it is one of several forms that a value may have.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

fn masked_checksum(bytes: &[u8]) -> [u8; 4] {
    CHECKSUM.checksum(bytes).rotate_right(15).wrapping_add(CHECKSUM_MASK).to_le_bytes()
}

fn write_record(file: &mut Vec<u8>, record: &EventRecord) {
    let data = record.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    file.extend_from_slice(&length);
    file.extend_from_slice(&masked_checksum(&length));
    file.extend_from_slice(&data);
    file.extend_from_slice(&masked_checksum(&data));
}

/// The curve and the evaluations of a run as an event file: `episodes`, `mean_return`, `mean_length`, the measures below `measures/`, and
/// `evaluation/mean` and `evaluation/expected_return`. A figure that is null has no value. Points have no times of their own, so each
/// carries `started`.
pub fn event_file(points: &[CurvePoint], evaluations: &[EvaluationPoint], started: Timestamp) -> Vec<u8> {
    let wall_time = started.0.timestamp_micros() as f64 / 1e6;
    let mut file = Vec::new();
    let version = EventContent::FileVersion(FILE_VERSION.to_owned());
    write_record(&mut file, &EventRecord { wall_time, step: 0, content: Some(version) });
    let mut add = |steps: u64, figures: Vec<(String, Option<f64>)>| {
        let known = figures.into_iter().filter_map(|(tag, figure)| Some((tag, figure?)));
        #[expect(clippy::cast_possible_truncation, reason = "the format has 32 bits for a value")]
        let value = |(tag, figure): (String, f64)| SummaryValue { tag, simple_value: Some(figure as f32) };
        let values: Vec<SummaryValue> = known.map(value).collect();
        if !values.is_empty() {
            let content = Some(EventContent::Summary(EventSummary { values }));
            write_record(&mut file, &EventRecord { wall_time, step: steps.cast_signed(), content });
        }
    };
    for point in points {
        let mut figures = vec![
            ("episodes".to_owned(), Some(point.episodes as f64)),
            ("mean_return".to_owned(), point.mean_return),
            ("mean_length".to_owned(), point.mean_length),
        ];
        figures.extend(point.measures.iter().map(|(name, figure)| (format!("measures/{name}"), Some(*figure))));
        add(point.steps, figures);
    }
    for found in evaluations {
        let figures = vec![
            ("evaluation/mean".to_owned(), Some(found.mean)),
            ("evaluation/expected_return".to_owned(), found.expected_return),
        ];
        add(found.steps, figures);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a file, each checked.
    fn records(mut file: &[u8]) -> Vec<EventRecord> {
        let mut found = Vec::new();
        while !file.is_empty() {
            let (length, rest) = file.split_at(8);
            assert_eq!(rest[..4], masked_checksum(length));
            let count = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            let data = &rest[4..4 + count];
            assert_eq!(rest[4 + count..8 + count], masked_checksum(data));
            found.push(EventRecord::decode(data).unwrap());
            file = &rest[8 + count..];
        }
        found
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(CHECKSUM.checksum(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_file_has_a_version_and_a_record_for_each_point() {
        let started = Timestamp::from_stored("2027-01-15 08:00:00.000000").unwrap();
        let point = CurvePoint {
            steps: 5,
            episodes: 0,
            mean_return: None,
            mean_length: Some(2.5),
            measures: [("loss".to_owned(), 0.0)].into(),
        };
        let evaluation = EvaluationPoint { steps: 5, mean: -1.0, expected_return: None };
        let found = records(&event_file(&[point], &[evaluation], started));
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].content, Some(EventContent::FileVersion("brain.Event:2".to_owned())));
        assert!((found[0].wall_time - 1.8e9).abs() < 1e-6);
        let values = |record: &EventRecord| match &record.content {
            Some(EventContent::Summary(summary)) => {
                summary.values.iter().map(|value| (value.tag.clone(), value.simple_value.unwrap())).collect::<Vec<_>>()
            }
            _ => Vec::new(),
        };
        let wanted = [("episodes", 0.0), ("mean_length", 2.5), ("measures/loss", 0.0)];
        assert_eq!(values(&found[1]), wanted.map(|(tag, value)| (tag.to_owned(), value)));
        assert_eq!(values(&found[2]), [("evaluation/mean".to_owned(), -1.0)]);
        assert_eq!((found[1].step, found[2].step), (5, 5));
    }
}
