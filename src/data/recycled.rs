//! Vectors that reuse memory.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Keeps the memory of dropped [`Recycled`] vectors for new vectors.
///
/// Allocating new memory for each batch would be slow, because the operating system clears every page.
#[derive(Debug, Default)]
pub(super) struct Pool<T>(Arc<Mutex<Vec<Vec<T>>>>);

/// Reuses the memory of [`Images`](super::Images).
#[derive(Debug, Default)]
pub(super) struct Pools {
    pub(super) levels: Pool<u8>,
    pub(super) values: Pool<f32>,
}

/// A vector. If a [`Pool`] created the vector, dropping the vector returns the memory to that pool.
#[derive(Debug)]
pub struct Recycled<T> {
    values: Vec<T>,
    pool: Option<Arc<Mutex<Vec<Vec<T>>>>>,
}

impl<T> Pool<T> {
    /// Returns an empty vector with room for `len` values.
    pub(super) fn room(&self, len: usize) -> Recycled<T> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fit = spare.iter().position(|values| values.capacity() >= len);
        let values = fit.map_or_else(|| Vec::with_capacity(len), |index| spare.swap_remove(index));
        Recycled { values, pool: Some(Arc::clone(&self.0)) }
    }
}

impl<T> Drop for Recycled<T> {
    fn drop(&mut self) {
        if let Some(spare) = &self.pool {
            let mut values = std::mem::take(&mut self.values);
            values.clear();
            spare.lock().unwrap_or_else(PoisonError::into_inner).push(values);
        }
    }
}

impl<T> From<Vec<T>> for Recycled<T> {
    fn from(values: Vec<T>) -> Self {
        Self { values, pool: None }
    }
}

impl<T: Clone> Clone for Recycled<T> {
    fn clone(&self) -> Self {
        self.values.clone().into()
    }
}

impl<T: PartialEq> PartialEq for Recycled<T> {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl<T> Deref for Recycled<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.values
    }
}

impl<T> DerefMut for Recycled<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_if_it_suffices() {
        let pool = Pool::default();
        let mut first = pool.room(100);
        first.extend(0..100);
        let place = first.as_ptr();
        drop(first);
        let (large, small) = (pool.room(101), pool.room(50));
        assert!(large.as_ptr() != place && large.capacity() >= 101);
        assert!(small.as_ptr() == place && small.is_empty());
    }
}
