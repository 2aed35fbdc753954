//! Limits the memory for reading a file to a multiple of its size, so a small file cannot fill the memory.

const KIB: u64 = 1024;

/// The remaining memory and reads that one file may use, in bytes.
pub(super) struct Budget {
    /// Remaining memory for objects and tensor values together.
    all: u64,
    /// Remaining memory for tensor values.
    values: u64,
    /// Maximum memory for a single object.
    once: u64,
    /// Number of bytes that may still be read from the file.
    reads: u64,
}

impl Budget {
    /// Returns the memory budget for a file of `len` bytes.
    ///
    /// Objects and tensor values may take 3 × `len` bytes plus 832 KiB in total. Tensor values alone may take 2 × `len`
    /// bytes plus 64 KiB.
    pub(super) fn of_file(len: u64) -> Self {
        Self {
            all: len.saturating_mul(3).saturating_add(832 * KIB),
            values: len.saturating_mul(2).saturating_add(64 * KIB),
            once: len.saturating_mul(2).saturating_add(832 * KIB),
            reads: len.saturating_mul(16).saturating_add(KIB * KIB),
        }
    }

    /// Takes memory for an object of `bytes` bytes from the budget. Fails if the budget is too small.
    pub(super) fn object(&mut self, bytes: usize) -> Result<(), String> {
        let bytes = Some(bytes as u64).filter(|bytes| *bytes <= self.once);
        bytes.and_then(|bytes| take(&mut self.all, bytes)).ok_or_else(|| {
            "the file contains more objects than a checkpoint of this size can have".to_owned()
        })
    }

    /// Reserves memory for `more` items, within the memory budget.
    pub(super) fn grow<T>(&mut self, items: &mut Vec<T>, more: usize) -> Result<(), String> {
        let (needed, before) = (items.len() + more, items.capacity());
        if needed > before {
            let room = needed.max(2 * before);
            self.object(room * size_of::<T>())?;
            items.reserve_exact(room - items.len());
            self.give_back(before * size_of::<T>());
        }
        Ok(())
    }

    /// Gives `bytes` bytes back to the memory budget. Call this after dropping an object.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.all += bytes as u64;
    }

    /// Counts `bytes` bytes of tensor values. Returns `None` if the total is above the limit.
    pub(super) fn values(&mut self, bytes: u64) -> Option<()> {
        take(&mut self.values, bytes)
    }

    /// Counts `bytes` bytes that are read from the file. Fails if the total is above the limit.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), String> {
        take(&mut self.reads, bytes as u64)
            .ok_or_else(|| "too many tensors share the same bytes".to_owned())
    }
}

fn take(purse: &mut u64, bytes: u64) -> Option<()> {
    *purse = purse.checked_sub(bytes)?;
    Some(())
}
