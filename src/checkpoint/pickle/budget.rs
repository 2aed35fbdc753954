//! Limits the memory for reading a file to a multiple of its size, so a small file cannot fill the memory.

const KIB: u64 = 1024;

/// The memory and reads that are still allowed for one file, in bytes.
pub(super) struct Budget {
    /// Remaining memory for objects and tensor values.
    all: u64,
    /// Remaining memory for tensor values.
    values: u64,
    /// Maximum memory of a single object.
    once: u64,
    /// Number of bytes that may still be read from the file.
    reads: u64,
}

impl Budget {
    /// Returns the budget for a file of `len` bytes.
    ///
    /// The limit for objects and tensor values together is 3 × `len` bytes plus 832 KiB. The limit for tensor values
    /// alone is 2 × `len` bytes plus 64 KiB.
    pub(super) fn of_file(len: u64) -> Self {
        Self {
            all: len.saturating_mul(3).saturating_add(832 * KIB),
            values: len.saturating_mul(2).saturating_add(64 * KIB),
            once: len.saturating_mul(2).saturating_add(832 * KIB),
            reads: len.saturating_mul(16).saturating_add(KIB * KIB),
        }
    }

    /// Takes `bytes` bytes for an object from the budget. Fails if the budget is too small.
    pub(super) fn object(&mut self, bytes: usize) -> Result<(), String> {
        let bytes = Some(bytes as u64).filter(|bytes| *bytes <= self.once);
        bytes.and_then(|bytes| take(&mut self.all, bytes)).ok_or_else(|| {
            "the file contains more objects than a checkpoint of this size can have".to_owned()
        })
    }

    /// Reserves memory in `items` for `more` further items. Fails if the budget is too small.
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

    /// Returns `bytes` bytes to the budget. Call this after dropping an object.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.all += bytes as u64;
    }

    /// Takes `bytes` bytes for tensor values from the budget. Returns `None` if the budget is too small.
    pub(super) fn values(&mut self, bytes: u64) -> Option<()> {
        take(&mut self.values, bytes)
    }

    /// Takes `bytes` bytes for a read from the budget. Fails if the budget is too small.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), String> {
        take(&mut self.reads, bytes as u64)
            .ok_or_else(|| "too many tensors share the same bytes of the file".to_owned())
    }
}

fn take(purse: &mut u64, bytes: u64) -> Option<()> {
    *purse = purse.checked_sub(bytes)?;
    Some(())
}
