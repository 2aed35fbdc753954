//! The cache of compiled GPU kernels.

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use std::sync::Once;

/// Keeps compiled GPU kernels in the user's cache folder, for later starts.
///
/// `cubecl.toml` can name a different folder. Call this function before the first use of a device; afterwards, it has
/// no effect. A cached kernel is used only by the same build on the same kind of GPU.
pub(crate) fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        config.compilation.cache = true;
        if matches!(config.environment.path, CacheConfig::Target) {
            config.environment.path = CacheConfig::Global;
        }
        CubeClRuntimeConfig::try_set(config);
    });
}
