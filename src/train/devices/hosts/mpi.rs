//! The transport between hosts over MPI.
//!
//! One thread makes all MPI calls: it initializes MPI, runs the collectives and finalizes MPI. While it waits, it also
//! sends and receives heartbeats. So it notices a killed or unreachable host, even if the launcher does not.

use super::link::Transport;
use crate::durable::host_name;
use crate::train::error::TrainError;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::request::{LocalScope, Request, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Source};
use mpi::{Rank, Tag, Threading};
use std::thread;
use std::time::{Duration, Instant};

/// Time between two heartbeats of a host.
const BEAT: Duration = Duration::from_secs(1);
/// The run ends if a host sends no heartbeat for this long.
const SILENCE: Duration = Duration::from_secs(20);
const BEAT_TAG: Tag = 1;
const GATHER_TAG: Tag = 2;
/// Size of a host name in bytes when the hosts exchange their names.
const NAME: usize = 64;

pub(super) struct Mpi {
    // The first field is dropped first, so MPI is finalized while the communicator still exists.
    _universe: Universe,
    world: SimpleCommunicator,
    names: Vec<String>,
    beats: Beats,
}

/// The times of the last heartbeats: `sent` by this host, and `heard` from each host.
///
/// Host 0 exchanges heartbeats with every other host. A finished collective counts as a heartbeat of all hosts.
struct Beats {
    sent: Instant,
    heard: Vec<Instant>,
    lost: Box<dyn Fn(&str) + Send>,
}

impl Mpi {
    /// Initializes MPI. If a host sends no heartbeat for too long, calls `lost` with an error text and ends all
    /// processes.
    pub(super) fn connect(lost: Box<dyn Fn(&str) + Send>) -> Result<Self, TrainError> {
        let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else {
            return Err(TrainError::Setting {
                problem: "cannot use MPI: MPI is already initialized in this process".to_owned(),
                hint: "start mae with mpirun or srun".to_owned(),
            });
        };
        let world = universe.world();
        let hosts = world.size() as usize;
        let beats = Beats { sent: Instant::now(), heard: vec![Instant::now(); hosts], lost };
        let mut mpi = Self { _universe: universe, world, names: Vec::new(), beats };
        let mut own = host_name().into_bytes();
        own.resize(NAME, 0);
        let all = mpi.all_gather(&own);
        let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
        mpi.names = all.chunks_exact(NAME).map(name).collect();
        mpi.beats.heard.fill(Instant::now());
        Ok(mpi)
    }
}

impl Transport for Mpi {
    fn index(&self) -> usize {
        self.world.rank() as usize
    }

    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn all_gather(&mut self, own: &[u8]) -> Vec<u8> {
        let Self { world, names, beats, .. } = self;
        let mut all = vec![0; own.len() * world.size() as usize];
        scope(|scope| {
            let request = world.immediate_all_gather_into(scope, own, &mut all[..]);
            wait(request, || beats.exchange(world, names));
        });
        beats.heard.fill(Instant::now());
        all
    }

    fn all_reduce(&mut self, values: Vec<f32>) -> Vec<f32> {
        let Self { world, names, beats, .. } = self;
        let mut sums = vec![0.0; values.len()];
        scope(|scope| {
            let sum = SystemOperation::sum();
            let request = world.immediate_all_reduce_into(scope, &values[..], &mut sums[..], sum);
            wait(request, || beats.exchange(world, names));
        });
        beats.heard.fill(Instant::now());
        sums
    }

    fn gather(&mut self, own: Vec<u8>, lens: &[usize]) -> Vec<Vec<u8>> {
        let Self { world, names, beats, .. } = self;
        if world.rank() != 0 {
            if !own.is_empty() {
                let first = world.process_at_rank(0);
                scope(|scope| {
                    let request = first.immediate_send_with_tag(scope, &own[..], GATHER_TAG);
                    wait(request, || beats.exchange(world, names));
                });
            }
            return Vec::new();
        }
        let mut all = vec![own];
        for (rank, len) in lens.iter().enumerate().skip(1) {
            let mut bytes = vec![0; *len];
            if *len > 0 {
                let from = world.process_at_rank(rank as Rank);
                scope(|scope| {
                    let request =
                        from.immediate_receive_into_with_tag(scope, &mut bytes[..], GATHER_TAG);
                    wait(request, || beats.exchange(world, names));
                });
            }
            all.push(bytes);
        }
        all
    }

    fn idle(&mut self) {
        self.beats.exchange(&self.world, &self.names);
    }
}

/// Waits until `request` is complete, and calls `meanwhile` again and again.
fn wait<'a, D: ?Sized>(mut request: Request<'a, D, &LocalScope<'a>>, mut meanwhile: impl FnMut()) {
    /// Number of polls before the first pause. Most messages arrive within these polls.
    const SPINS: usize = 200;
    const PAUSE: Duration = Duration::from_micros(50);
    let mut polls = 0;
    while let Err(unfinished) = request.test() {
        request = unfinished;
        polls += 1;
        if polls < SPINS {
            thread::yield_now();
        } else {
            meanwhile();
            thread::sleep(PAUSE);
        }
    }
}

impl Beats {
    /// Sends and receives heartbeats, at most once per second. Ends all processes if a host is silent for too long.
    fn exchange(&mut self, world: &SimpleCommunicator, names: &[String]) {
        let since = self.sent.elapsed();
        if since < BEAT {
            return;
        }
        if since > 5 * BEAT {
            // This host was busy or stopped, so it could not receive heartbeats.
            self.heard.fill(Instant::now());
        }
        self.sent = Instant::now();
        let (own, hosts) = (world.rank(), world.size());
        let others: Vec<Rank> = if own == 0 { (1..hosts).collect() } else { vec![0] };
        for &other in &others {
            world.process_at_rank(other).send_with_tag(&0_u8, BEAT_TAG);
        }
        while let Some(status) = world.any_process().immediate_probe_with_tag(BEAT_TAG) {
            let from = status.source_rank();
            let _ = world.process_at_rank(from).receive_with_tag::<u8>(BEAT_TAG);
            self.heard[from as usize] = Instant::now();
        }
        let silent = others.iter().find(|&&other| self.heard[other as usize].elapsed() > SILENCE);
        if let (Some(&silent), false) = (silent, names.is_empty()) {
            (self.lost)(&format!(
                "rank {silent} on host {} failed: it has not answered for {} s. Its process was killed or stopped, or the network \
                 is down\nhint: run the same command again, which resumes from the last saved state",
                names[silent as usize],
                SILENCE.as_secs()
            ));
            world.abort(1);
        }
    }
}
