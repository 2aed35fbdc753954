//! The connection between hosts. A separate thread exchanges messages and sums gradients, one request after the other.
//!
//! All hosts make the same requests in the same order. Before each request, every host sends a header. If a job fails
//! on one host, this host sends a header of a different kind. The job then fails on all other hosts, too, and no host
//! waits forever. After that, all hosts are ready for the next job.

use super::header::{HEADER, Header, INLINE, Kind};
use crate::train::error::{HostCause, TrainError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The communication functions that a [`Link`] needs, for example from MPI.
///
/// All calls come from one thread.
pub(super) trait Transport {
    fn index(&self) -> usize;
    fn names(&self) -> Vec<String>;
    /// Sends `own` to all hosts. Returns the concatenated bytes of all hosts, in host order.
    ///
    /// `own` must have the same length on all hosts.
    fn all_gather(&mut self, own: &[u8]) -> Vec<u8>;
    /// Sums `values` over all hosts. The sums have the same bits on every host.
    fn all_reduce(&mut self, values: Vec<f32>) -> Vec<f32>;
    /// Sends `own` to host 0. Returns the bytes of all hosts on host 0, and nothing on the other hosts.
    ///
    /// `lens` are the numbers of bytes that the hosts send, in host order.
    fn gather(&mut self, own: Vec<u8>, lens: &[usize]) -> Vec<Vec<u8>>;
    /// Called about every 100 ms while no request is running.
    fn idle(&mut self);
}

const IDLE: Duration = Duration::from_millis(100);

/// The connection of this host to all other hosts.
pub(crate) struct Link {
    /// Channel to the link's thread; `None` after [`Link::disconnect`].
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    thread: Option<JoinHandle<()>>,
    index: usize,
    names: Vec<String>,
    reduced_bytes: Arc<AtomicU64>,
}

/// Why the current job failed on one host.
#[derive(Debug, Clone)]
pub(super) struct HostFailure {
    rank: usize,
    host: String,
    cause: HostCause,
}

impl From<HostFailure> for TrainError {
    fn from(HostFailure { rank, host, cause }: HostFailure) -> Self {
        Self::OtherHost { rank, host, cause }
    }
}

enum Request {
    Exchange(Vec<u8>, mpsc::Sender<Result<Vec<Vec<u8>>, HostFailure>>),
    Gather(Vec<u8>, mpsc::Sender<Result<Vec<Vec<u8>>, HostFailure>>),
    Sum(Vec<f32>, SumPromise),
    /// Ends the job on this host. The cause is `None` if the job succeeded.
    End(Option<HostCause>, mpsc::Sender<Option<HostFailure>>),
}

impl Link {
    /// Starts the link's thread. This thread calls `connect` to create the transport.
    #[cfg_attr(
        not(any(test, feature = "mpi")),
        expect(dead_code, reason = "only MPI connects hosts")
    )]
    pub(super) fn start<T: Transport>(
        connect: impl FnOnce() -> Result<T, TrainError> + Send + 'static,
    ) -> Result<Self, TrainError> {
        let (requests, received) = mpsc::channel();
        let (connected, connects) = mpsc::channel();
        let reduced_bytes = Arc::new(AtomicU64::new(0));
        let reduced = Arc::clone(&reduced_bytes);
        let thread = thread::spawn(move || match connect() {
            Ok(transport) => {
                let names = transport.names();
                // `start` waits for this message.
                let _ = connected.send(Ok((transport.index(), names.clone())));
                LinkThread { transport, names, failure: None, reduced }.run(&received);
            }
            Err(error) => drop(connected.send(Err(error))),
        });
        let (index, names) = connects.recv().expect("the link's thread answers or panics")?;
        let requests = Mutex::new(Some(requests));
        Ok(Self { requests, thread: Some(thread), index, names, reduced_bytes })
    }

    pub(super) fn hosts(&self) -> usize {
        self.names.len()
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn name(&self, index: usize) -> &str {
        &self.names[index]
    }

    pub(super) fn reduced_bytes(&self) -> u64 {
        self.reduced_bytes.load(Ordering::Relaxed)
    }

    /// Sends `own` to all hosts. Returns the messages of all hosts, in host order.
    ///
    /// Fails if another host has ended the job.
    pub(crate) fn exchange(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, TrainError> {
        let (answer, answers) = mpsc::channel();
        self.request(Request::Exchange(own, answer));
        answers.recv().map_err(|_| TrainError::OtherRank)?.map_err(Into::into)
    }

    /// Sends `own` to host 0, which gets the bytes of all hosts. The other hosts get an empty list. Fails if another
    /// host has ended the job.
    pub(super) fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, TrainError> {
        let (answer, answers) = mpsc::channel();
        self.request(Request::Gather(own, answer));
        answers.recv().map_err(|_| TrainError::OtherRank)?.map_err(Into::into)
    }

    /// Starts to sum `values` over all hosts, and returns immediately.
    pub(crate) fn start_sum(&self, values: Vec<f32>) -> PendingSum {
        let slot = Arc::new(SumSlot::default());
        self.request(Request::Sum(values, SumPromise(Arc::clone(&slot))));
        PendingSum(slot)
    }

    /// Ends the job on this host, and waits until all hosts have ended the job.
    ///
    /// `cause` is the error if the job failed on this host. Returns the first failure on another host.
    pub(super) fn end_job(
        &self,
        cause: Option<HostCause>,
    ) -> Result<Option<HostFailure>, TrainError> {
        let (answer, answers) = mpsc::channel();
        self.request(Request::End(cause, answer));
        answers.recv().map_err(|_| TrainError::OtherRank)
    }

    /// Disconnects this host from all other hosts. Later requests fail.
    pub(super) fn disconnect(&self) {
        drop(self.requests.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn request(&self, request: Request) {
        // If the thread has ended, `send` drops the request. The caller then gets an error instead of an answer.
        if let Some(requests) = &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = requests.send(request);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.disconnect();
        if let Some(thread) = self.thread.take() {
            // If the thread has panicked, its requests have already failed.
            let _ = thread.join();
        }
    }
}

/// A finished sum. `Err(None)` means that the link's thread has ended.
type Sum = Result<Arc<Vec<f32>>, Option<HostFailure>>;

/// Passes a sum from the link's thread to the waiting ranks.
#[derive(Default)]
struct SumSlot {
    sum: Mutex<Option<Sum>>,
    changed: Condvar,
}

impl SumSlot {
    fn lock(&self) -> MutexGuard<'_, Option<Sum>> {
        self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sum over all hosts that is still running. All clones wait for the same sum.
#[derive(Clone)]
pub(crate) struct PendingSum(Arc<SumSlot>);

impl PendingSum {
    /// Waits for the sum and returns it. Fails if another host has ended the job.
    pub(crate) fn wait(&self) -> Result<Arc<Vec<f32>>, TrainError> {
        let sum = self.0.changed.wait_while(self.0.lock(), |sum| sum.is_none());
        let sum = sum.unwrap_or_else(PoisonError::into_inner);
        match sum.as_ref().expect("the sum is finished") {
            Ok(sum) => Ok(Arc::clone(sum)),
            Err(Some(failure)) => Err(failure.clone().into()),
            Err(None) => Err(TrainError::OtherRank),
        }
    }
}

/// Stores the sum of a [`PendingSum`]. Dropping this value without a sum makes the waiting ranks fail.
struct SumPromise(Arc<SumSlot>);

impl SumPromise {
    fn keep(&self, sum: Result<Vec<f32>, HostFailure>) {
        *self.0.lock() = Some(sum.map(Arc::new).map_err(Some));
    }
}

impl Drop for SumPromise {
    fn drop(&mut self) {
        self.0.lock().get_or_insert(Err(None));
        self.0.changed.notify_all();
    }
}

/// The outcome of one request that all hosts make together.
enum Round {
    /// All hosts made the same request. Holds the messages of all hosts.
    Same(Vec<Vec<u8>>),
    /// A host made a different request, mostly because this host has ended the job. Holds the failure of this host.
    Broken(HostFailure),
}

struct LinkThread<T> {
    transport: T,
    names: Vec<String>,
    /// Failure of the current job on another host. All requests then fail until this host ends the job, too.
    failure: Option<HostFailure>,
    reduced: Arc<AtomicU64>,
}

impl<T: Transport> LinkThread<T> {
    fn run(mut self, requests: &mpsc::Receiver<Request>) {
        loop {
            match requests.recv_timeout(IDLE) {
                Ok(request) => self.answer(request),
                Err(mpsc::RecvTimeoutError::Timeout) => self.transport.idle(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Exchange(own, answer) => {
                let messages = self.unless_failed(|link| link.round(Kind::Exchange, &own, 0));
                // The receiver is gone if the waiting rank has ended.
                let _ = answer.send(messages);
            }
            Request::Gather(own, answer) => {
                let len = (own.len() as u64).to_le_bytes();
                let lens = self.unless_failed(|link| link.round(Kind::Gather, &len, 0));
                let gathered = lens.map(|lens| {
                    let len =
                        |len: &Vec<u8>| len.as_slice().try_into().map_or(0, u64::from_le_bytes);
                    let lens: Vec<usize> = lens.iter().map(|own| len(own) as usize).collect();
                    self.transport.gather(own, &lens)
                });
                let _ = answer.send(gathered);
            }
            Request::Sum(values, promise) => {
                let len = values.len();
                let ready = self.unless_failed(|link| link.round(Kind::Sum, &[], len));
                promise.keep(ready.map(|_| {
                    self.reduced.fetch_add(4 * len as u64, Ordering::Relaxed);
                    self.transport.all_reduce(values)
                }));
            }
            Request::End(cause, answer) => {
                let ends = match self.failure.take() {
                    Some(failure) => Some(failure),
                    None => self.end(cause),
                };
                let _ = answer.send(ends);
            }
        }
    }

    /// Runs `round`, and returns the messages of all hosts. Fails if another host has ended the job.
    fn unless_failed(
        &mut self,
        round: impl FnOnce(&mut Self) -> Round,
    ) -> Result<Vec<Vec<u8>>, HostFailure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        match round(self) {
            Round::Same(messages) => Ok(messages),
            Round::Broken(failure) => {
                self.failure = Some(failure.clone());
                Err(failure)
            }
        }
    }

    fn end(&mut self, cause: Option<HostCause>) -> Option<HostFailure> {
        let own = self.transport.index();
        match self.round(Kind::End, &end_message(cause), 0) {
            Round::Same(messages) => {
                let mut others = messages.iter().enumerate().filter(|(rank, _)| *rank != own);
                others.find_map(|(rank, message)| Some(self.failure(rank, end_cause(message)?)))
            }
            Round::Broken(failure) => Some(failure).filter(|failure| failure.rank != own),
        }
    }

    /// Makes one request together with all hosts. First exchanges headers, then messages.
    fn round(&mut self, kind: Kind, message: &[u8], values: usize) -> Round {
        let headers = self.transport.all_gather(Header::new(kind, message, values).bytes());
        let headers: Vec<Header> = headers
            .chunks_exact(HEADER)
            .map(|header| Header::from_bytes(header.try_into().expect("the length of a header")))
            .collect();
        let messages = self.messages(&headers, message);
        let same = |header: &Header| header.is(kind) && header.values() == values;
        if headers.iter().all(same) {
            return Round::Same(messages);
        }
        let ended = headers.iter().position(|header| header.is(Kind::End));
        let cause = ended.and_then(|rank| end_cause(&messages[rank]));
        let rank = ended.or_else(|| headers.iter().position(|header| !same(header)));
        let other_step = || HostCause {
            text: "this host is at a different step of the run than the other hosts".to_owned(),
            is_input: false,
        };
        let rank = rank.unwrap_or_else(|| self.transport.index());
        Round::Broken(self.failure(rank, cause.unwrap_or_else(other_step)))
    }

    /// Returns the messages of all hosts. The hosts first exchange them if a message is too long for its header.
    fn messages(&mut self, headers: &[Header], own: &[u8]) -> Vec<Vec<u8>> {
        let longest = headers.iter().map(Header::len).max().unwrap_or(0);
        if longest <= INLINE {
            return headers.iter().map(|header| header.message().to_vec()).collect();
        }
        let mut padded = own.to_vec();
        padded.resize(longest, 0);
        let all = self.transport.all_gather(&padded);
        let parts = all.chunks_exact(longest).zip(headers);
        parts.map(|(part, header)| part[..header.len()].to_vec()).collect()
    }

    fn failure(&self, rank: usize, cause: HostCause) -> HostFailure {
        HostFailure { rank, host: self.names[rank].clone(), cause }
    }
}

/// Encodes how the job ended on this host: empty after success, otherwise `is_input` and the error text.
fn end_message(cause: Option<HostCause>) -> Vec<u8> {
    cause.map_or_else(Vec::new, |cause| {
        [&[u8::from(cause.is_input)], cause.text.as_bytes()].concat()
    })
}

/// Decodes the bytes of [`end_message`]. Returns `None` after success.
fn end_cause(message: &[u8]) -> Option<HostCause> {
    let (is_input, text) = message.split_first()?;
    Some(HostCause { text: String::from_utf8_lossy(text).into_owned(), is_input: *is_input != 0 })
}
