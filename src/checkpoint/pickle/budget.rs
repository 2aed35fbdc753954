//! What reading a file may take: a multiple of the file's size, so that a small file never fills the memory.

const KIB: u64 = 1024;

/// What may still be taken, in bytes. A checkpoint's own needs are far below.
pub(super) struct Budget {
    /// All that is held: objects and values.
    all: u64,
    values: u64,
    /// The most that is asked for at once.
    once: u64,
    reads: u64,
}

impl Budget {
    /// Gives what a file of `len` bytes deserves.
    ///
    /// Values: twice the file, as half-precision weights grow when widened. With objects three times, and most of a MiB
    /// for those of small models; the rest of the MiB is for buffers. Reads are allowed more often, as views of one
    /// storage are read one by one.
    pub(super) fn of_file(len: u64) -> Self {
        Self {
            all: len.saturating_mul(3).saturating_add(832 * KIB),
            values: len.saturating_mul(2).saturating_add(64 * KIB),
            once: len.saturating_mul(2).saturating_add(832 * KIB),
            reads: len.saturating_mul(16).saturating_add(KIB * KIB),
        }
    }

    /// Takes memory for an object: a name, a container, values, their place in the tree.
    pub(super) fn object(&mut self, bytes: usize) -> Result<(), String> {
        let bytes = Some(bytes as u64).filter(|bytes| *bytes <= self.once);
        bytes
            .and_then(|bytes| take(&mut self.all, bytes))
            .ok_or_else(|| "it holds more objects than a checkpoint of its size can".to_owned())
    }

    /// Makes room for `more` items, and takes the memory: for a moment the old room is held beside the new.
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

    /// Gives back what was taken for objects that are gone.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.all += bytes as u64;
    }

    /// Counts the values of a tensor, `None` where there were too many already. Their memory is taken as an object's.
    pub(super) fn values(&mut self, bytes: u64) -> Option<()> {
        take(&mut self.values, bytes)
    }

    /// Takes bytes read for tensors.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), String> {
        take(&mut self.reads, bytes as u64)
            .ok_or_else(|| "its tensors are views that read the file over and over".to_owned())
    }
}

fn take(purse: &mut u64, bytes: u64) -> Option<()> {
    *purse = purse.checked_sub(bytes)?;
    Some(())
}
