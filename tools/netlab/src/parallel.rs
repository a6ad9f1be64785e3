//! The same work on many things, several at a time.

use std::sync::Mutex;

/// Things worked on at once.
pub(crate) const AT_ONCE: usize = 16;

/// Does `work` on every item, [`AT_ONCE`] at a time, and returns the results in the items' order.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let queue = Mutex::new(items.iter().enumerate());
    let results = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(items.len()) {
            scope.spawn(|| {
                loop {
                    // A panic elsewhere, which poisons, is passed on when the scope ends.
                    let Ok(Some((index, item))) = queue.lock().map(|mut queue| queue.next()) else { break };
                    let result = work(item);
                    if let Ok(mut results) = results.lock() {
                        results.push((index, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    //! Every item is worked on once, and results keep the order.
    use super::*;

    #[test]
    fn results_keep_the_order() {
        let items: Vec<u32> = (0..1000).collect();
        let doubled: Vec<_> = items.iter().map(|n| n * 2).collect();
        assert_eq!(map(&items, |n| n * 2), doubled);
        assert!(map(&[] as &[u32], |n| *n).is_empty());
    }
}
