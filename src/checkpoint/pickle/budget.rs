//! Limits the memory for reading a file to a multiple of its size, so a small file cannot fill the memory.

const KIB: u64 = 1024;

/// The remaining bytes that reading a file may use. A normal checkpoint needs far less.
pub(super) struct Budget {
    /// Bytes left for all objects and values in memory.
    all: u64,
    values: u64,
    /// Maximum bytes of one request.
    once: u64,
    reads: u64,
}

impl Budget {
    /// Returns the limits for a file of `len` bytes.
    ///
    /// Tensor values may take twice the size of the file, because half-precision weights become float32. Values and
    /// objects together may take three times the size plus 832 KiB. More bytes may be read, because each view of a
    /// storage is read separately.
    pub(super) fn of_file(len: u64) -> Self {
        Self {
            all: len.saturating_mul(3).saturating_add(832 * KIB),
            values: len.saturating_mul(2).saturating_add(64 * KIB),
            once: len.saturating_mul(2).saturating_add(832 * KIB),
            reads: len.saturating_mul(16).saturating_add(KIB * KIB),
        }
    }

    /// Takes memory from the budget for an object: a name, a container, values, or a tree entry.
    pub(super) fn object(&mut self, bytes: usize) -> Result<(), String> {
        let bytes = Some(bytes as u64).filter(|bytes| *bytes <= self.once);
        bytes.and_then(|bytes| take(&mut self.all, bytes)).ok_or_else(|| {
            "it contains more objects than a checkpoint of this size can have".to_owned()
        })
    }

    /// Reserves room for `more` items in `items`, and takes the memory from the budget.
    ///
    /// While the items move to a larger buffer, both buffers count.
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

    /// Adds the memory of dropped objects to the budget again.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.all += bytes as u64;
    }

    /// Checks the limit for tensor values; `None` if it is exceeded. [`Budget::object`] takes their memory.
    pub(super) fn values(&mut self, bytes: u64) -> Option<()> {
        take(&mut self.values, bytes)
    }

    /// Counts bytes that are read for tensors. Fails if the limit is exceeded.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), String> {
        take(&mut self.reads, bytes as u64)
            .ok_or_else(|| "too many of its tensors share the same bytes".to_owned())
    }
}

fn take(purse: &mut u64, bytes: u64) -> Option<()> {
    *purse = purse.checked_sub(bytes)?;
    Some(())
}
