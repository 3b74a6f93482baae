//! The power fails anywhere, the disk fails anywhere: the real code on a simulated disk.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod check;
mod claims;
mod copies;
mod cuts;
mod disk;
mod faults;
mod loss;
mod model;
mod script;
mod small;

/// How many rounds: in every run, or when there is time.
fn soak<T>(few: T, many: T) -> T {
    match std::env::var_os("ARKSTREAM_SOAK") {
        Some(_) => many,
        None => few,
    }
}

/// Tries all states on all processors; returns what became of them, and tells all that failed.
fn try_all<S, T>(
    states: Vec<S>,
    attempt: impl Fn(&S) -> Result<T, String> + Sync,
) -> (Vec<T>, Vec<String>)
where
    S: std::fmt::Debug + Sync,
    T: Send,
{
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new((Vec::new(), Vec::new())));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(state) = states.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = attempt(state);
                    let mut outcomes = outcomes.lock().unwrap();
                    match outcome {
                        Ok(found) => outcomes.0.push(found),
                        Err(why) => outcomes.1.push(format!("{state:?}: {why}")),
                    }
                }
            });
        }
    });
    outcomes.into_inner().unwrap()
}

/// Runs a future on a runtime of its own.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(future)
}
