//! Where a GPU's kernels are kept from one start to the next.

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use std::sync::Once;

/// Keeps compiled and tuned kernels in the user's cache folder, unless a `cubecl.toml` names another one.
///
/// Without it every start compiles all kernels of a step again. It must come before the first device is touched: what was
/// configured then stays. An entry is used only by the build and the kind of card that made it.
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
