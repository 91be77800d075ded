//! Independent jobs side by side, each on a device of its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use anyhow::Result;
use arable_tensor::Device;

use crate::advice::Advise;
use crate::run::Run;

/// Runs `job` on every item and `done` after each, in the order in which they end.
///
/// A training step too small for all threads leaves most of them waiting; whole trainings side by side do not. Results
/// are the same either way, because a device gives the same bits with any number of threads.
///
/// # Errors
/// When the run is cancelled, or when a job fails: the first by the order of the items among those that ran.
pub(crate) fn each<T: Sync, R: Send>(
    run: &mut Run<'_>,
    items: &[T],
    job: impl Fn(&Device, &T) -> Result<R> + Sync,
    mut done: impl FnMut(&mut Run<'_>, usize, R),
) -> Result<()> {
    let num_workers = run.device.num_threads().min(items.len());
    let (next, stop, cancel, precision) =
        (AtomicUsize::new(0), AtomicBool::new(false), run.cancel, run.device.precision());
    let num_threads = run.device.num_threads() / num_workers.max(1);
    let work = |sender: mpsc::Sender<(usize, Result<R>)>| {
        let device = Device::cpu(num_threads, precision).advise();
        while !stop.load(Ordering::Relaxed) && !cancel.load(Ordering::Relaxed) {
            let idx = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(idx) else { break };
            let result = match &device {
                Ok(device) => job(device, item),
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            };
            stop.fetch_or(result.is_err(), Ordering::Relaxed);
            let _ = sender.send((idx, result));
        }
    };
    let mut failed: Option<(usize, anyhow::Error)> = None;
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..num_workers {
            let (work, sender) = (&work, sender.clone());
            scope.spawn(move || work(sender));
        }
        drop(sender);
        let mut num_done = 0;
        for (idx, result) in receiver {
            match result {
                Ok(result) => {
                    num_done += 1;
                    done(run, num_done, result);
                }
                Err(error) if failed.as_ref().is_none_or(|(first, _)| idx < *first) => failed = Some((idx, error)),
                Err(_) => {}
            }
        }
    });
    failed.map_or_else(|| run.check_cancelled(), |(_, error)| Err(error))
}
