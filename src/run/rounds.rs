//! What the hosts tell each other while they share jobs.
//!
//! All hosts make the same rounds. In each round, every host sends a [`Report`] to all others. If a host has messages,
//! host 0 then gathers them. So a host needs no connection of its own for them, and a failed host ends the rounds of all.

use crate::durable::{self, Change};
use crate::results::EpochRow;
use crate::train::{Event, HostCause, Hosts, JobEnd, TrainError};
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;

/// Time between two rounds if no host has anything to send.
pub(super) const PAUSE: Duration = Duration::from_millis(10);
/// Maximum number of bytes that a host sends to host 0 in one round.
pub(super) const ROUND_BYTES: usize = 32 << 20;

/// What a host tells all hosts in a round.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    /// Whether the user stops the run on this host.
    #[serde(skip_serializing_if = "is_default")]
    pub stop: bool,
    /// Number of devices of this host that wait for a job.
    #[serde(skip_serializing_if = "is_default")]
    pub idle: usize,
    /// Whether the devices of this host take no more jobs. None of them waits then.
    #[serde(skip_serializing_if = "is_default")]
    pub done: bool,
    /// Whether this host has messages for host 0.
    #[serde(skip_serializing_if = "is_default")]
    pub sends: bool,
    /// What host 0 tells the other hosts.
    #[serde(skip_serializing_if = "is_default")]
    pub orders: Orders,
}

/// What host 0 tells the other hosts in a round.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Orders {
    /// Jobs to train, as (index of the host, folder of the job).
    pub jobs: Vec<(usize, String)>,
    /// Answers to messages, as (index of the host, number of the message, result).
    pub answers: Vec<(usize, u64, Result<(), DiskError>)>,
    /// Whether there are no more jobs.
    pub no_more: bool,
    /// Whether this is the last round.
    pub end: bool,
}

/// A message to host 0. A change is followed by its bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    Change {
        number: u64,
        change: Change,
    },
    /// A job has a new row in its table.
    RowWritten {
        number: u64,
    },
    Event(OwnedEvent),
    JobEnded {
        job: String,
        end: WireEnd,
    },
}

/// How a job ended on another host.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireEnd {
    Done,
    Interrupted,
    Failed { text: String, is_input: bool, is_of_one_job: bool },
}

/// An error of the disk of host 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DiskError {
    code: Option<i32>,
    /// Whether the error only says that the folder exists already.
    is_existing_folder: bool,
    text: String,
}

/// An [`Event`] that another host can report.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum OwnedEvent {
    JobStarted { job: String, epoch: usize, epochs: usize, steps_before: usize, steps: usize },
    Updated { job: String, epoch: usize, step: usize, loss: Option<f64>, lr: f64 },
    EpochDone { job: String, epochs: usize, row: EpochRow },
    JobDone { job: String },
    Warning { job: String, text: String },
    Notice { job: String, text: String },
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Sends a report, and returns the reports of all hosts.
pub(super) fn exchange(hosts: &Hosts, report: &Report) -> Result<Vec<Report>, TrainError> {
    let own = serde_json::to_vec(report).expect("reports are valid JSON");
    let all = hosts.exchange(own)?;
    let read = |report: &Vec<u8>| serde_json::from_slice(report).expect("the same program");
    Ok(all.iter().map(read).collect())
}

/// Returns a message and its bytes, with their lengths.
pub(super) fn frame(message: &Message, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(message).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(16 + text.len() + bytes.len());
    frame.extend((text.len() as u64).to_le_bytes());
    frame.extend((bytes.len() as u64).to_le_bytes());
    frame.extend(text);
    frame.extend(bytes);
    Ok(frame)
}

/// Messages that arrive in parts.
#[derive(Default)]
pub(super) struct Inbox(Vec<u8>);

impl Inbox {
    pub(super) fn add(&mut self, bytes: Vec<u8>) {
        if self.0.is_empty() { self.0 = bytes } else { self.0.extend(bytes) }
    }

    /// Returns the messages that have arrived completely, with their bytes.
    pub(super) fn take(&mut self) -> Vec<(Message, Vec<u8>)> {
        let (mut messages, mut start, mut missing) = (Vec::new(), 0, 0);
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes) as usize;
        while let Some(lens) = self.0.get(start..start + 16) {
            let (text, bytes) = (start + 16, start + 16 + number(&lens[..8]));
            let end = bytes + number(&lens[8..]);
            let Some(rest) = self.0.get(bytes..end) else {
                missing = end - self.0.len();
                break;
            };
            let message = serde_json::from_slice(&self.0[text..bytes]).expect("the same program");
            messages.push((message, rest.to_vec()));
            start = end;
        }
        self.0.drain(..start);
        // The parts of a long message then arrive without copies of the earlier parts.
        self.0.reserve(missing);
        messages
    }
}

impl From<&io::Error> for DiskError {
    fn from(error: &io::Error) -> Self {
        Self {
            code: error.raw_os_error(),
            is_existing_folder: durable::is_existing_folder(error),
            text: error.to_string(),
        }
    }
}

impl From<DiskError> for io::Error {
    fn from(DiskError { code, is_existing_folder, text }: DiskError) -> Self {
        if is_existing_folder {
            return io::ErrorKind::AlreadyExists.into();
        }
        code.map_or_else(|| Self::other(text), Self::from_raw_os_error)
    }
}

impl From<&Result<JobEnd, TrainError>> for WireEnd {
    fn from(end: &Result<JobEnd, TrainError>) -> Self {
        match end {
            Ok(JobEnd::Done) => Self::Done,
            Ok(JobEnd::Interrupted) => Self::Interrupted,
            Err(error) => Self::Failed {
                text: error.to_string(),
                is_input: error.is_input(),
                is_of_one_job: error.is_of_one_job(),
            },
        }
    }
}

impl WireEnd {
    /// Returns how a job ended on host number `rank`.
    pub(super) fn of(self, hosts: &Hosts, rank: usize) -> Result<JobEnd, TrainError> {
        match self {
            Self::Done => Ok(JobEnd::Done),
            Self::Interrupted => Ok(JobEnd::Interrupted),
            Self::Failed { text, is_of_one_job: true, .. } => Err(TrainError::JobOfHost { text }),
            Self::Failed { text, is_input, .. } => {
                let host = hosts.name(rank).to_owned();
                Err(TrainError::OtherHost { rank, host, cause: HostCause { text, is_input } })
            }
        }
    }
}

impl OwnedEvent {
    /// Copies an event. Returns `None` for events that only host 0 has.
    pub(super) fn of(event: &Event<'_>) -> Option<Self> {
        let own = |text: &str| text.to_owned();
        Some(match *event {
            Event::JobStarted { job, epoch, epochs, steps_before, steps } => {
                Self::JobStarted { job: own(job), epoch, epochs, steps_before, steps }
            }
            Event::Updated { job, epoch, step, loss, lr } => {
                Self::Updated { job: own(job), epoch, step, loss, lr }
            }
            Event::EpochDone { job, epochs, row } => {
                Self::EpochDone { job: own(job), epochs, row: row.clone() }
            }
            Event::JobDone { job } => Self::JobDone { job: own(job) },
            Event::Warning { job, text } => Self::Warning { job: own(job), text: own(text) },
            Event::Notice { job, text } => Self::Notice { job: own(job), text: own(text) },
            Event::JobFailed { .. } | Event::JobSkipped { .. } => return None,
        })
    }

    pub(super) fn event(&self) -> Event<'_> {
        match self {
            Self::JobStarted { job, epoch, epochs, steps_before, steps } => Event::JobStarted {
                job,
                epoch: *epoch,
                epochs: *epochs,
                steps_before: *steps_before,
                steps: *steps,
            },
            Self::Updated { job, epoch, step, loss, lr } => {
                Event::Updated { job, epoch: *epoch, step: *step, loss: *loss, lr: *lr }
            }
            Self::EpochDone { job, epochs, row } => Event::EpochDone { job, epochs: *epochs, row },
            Self::JobDone { job } => Event::JobDone { job },
            Self::Warning { job, text } => Event::Warning { job, text },
            Self::Notice { job, text } => Event::Notice { job, text },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DiskError, Inbox, Message, OwnedEvent, Report, frame};
    use crate::durable;
    use std::io;

    #[test]
    fn messages_arrive_in_order_however_they_are_cut() {
        let event = |text: &str| {
            Message::Event(OwnedEvent::Notice { job: "finetune".to_owned(), text: text.to_owned() })
        };
        let frames: Vec<u8> = [("a", &b"12"[..]), ("b", b""), ("c", b"3456")]
            .into_iter()
            .flat_map(|(text, bytes)| frame(&event(text), bytes).unwrap())
            .collect();
        for size in [1, 7, 40, 1000] {
            let (mut inbox, mut seen) = (Inbox::default(), Vec::new());
            for part in frames.chunks(size) {
                inbox.add(part.to_vec());
                seen.extend(inbox.take().into_iter().map(|(message, bytes)| match message {
                    Message::Event(OwnedEvent::Notice { text, .. }) => (text, bytes),
                    other => panic!("{other:?}"),
                }));
            }
            let own = |text: &str, bytes: &[u8]| (text.to_owned(), bytes.to_vec());
            assert_eq!(seen, [own("a", b"12"), own("b", b""), own("c", b"3456")], "{size}");
        }
    }

    #[test]
    fn only_an_existing_folder_arrives_as_one() {
        let exists = io::ErrorKind::AlreadyExists;
        let errors = [
            exists.into(),
            io::Error::new(exists, "not from mae"),
            io::Error::from_raw_os_error(17),
        ];
        let arrived = errors.map(|error| {
            let text = serde_json::to_string(&DiskError::from(&error)).unwrap();
            let arrived: io::Error = serde_json::from_str::<DiskError>(&text).unwrap().into();
            assert_eq!(arrived.to_string(), error.to_string());
            durable::is_existing_folder(&arrived)
        });
        assert_eq!(arrived, [true, false, false]);
    }

    #[test]
    fn a_round_without_news_is_short() {
        // A message of at most 47 bytes needs only one exchange.
        assert_eq!(serde_json::to_string(&Report::default()).unwrap(), "{}");
        let report = Report { idle: 16, sends: true, stop: true, ..Report::default() };
        assert!(serde_json::to_string(&report).unwrap().len() <= 47);
        let report = Report { done: true, sends: true, stop: true, ..Report::default() };
        assert!(serde_json::to_string(&report).unwrap().len() <= 47);
    }
}
