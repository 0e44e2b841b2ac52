//! Work dealt out to threads.

/// Does every job, dealt out in order to at most this many threads; the caller's thread is one of them.
pub fn side_by_side<J: Send>(threads: usize, mut jobs: Vec<J>, work: impl Fn(J) + Sync) {
    let share = jobs.len().div_ceil(threads.max(1));
    if share == jobs.len() {
        return jobs.into_iter().for_each(work);
    }
    std::thread::scope(|scope| {
        while jobs.len() > share {
            let part = jobs.split_off(jobs.len() - share);
            scope.spawn(|| part.into_iter().for_each(&work));
        }
        jobs.into_iter().for_each(&work);
    });
}
