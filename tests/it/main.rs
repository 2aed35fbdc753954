//! What a user can see, a module a promise.

mod bad_files;
mod checkpoints;
mod checksums;
mod compare;
mod counts;
mod data;
mod data_sets;
mod devices;
mod docs;
mod exit_codes;
mod fresh;
mod golden;
// With `vulkan` in the same build, software adapters are refused.
#[cfg(all(feature = "wgpu", not(feature = "vulkan")))]
mod gpu;
mod layers;
mod own_data;
mod program;
mod recipe_errors;
mod recipes;
mod reconstruct;
mod report;
mod resume;
mod run_folder;
mod shards;
mod sweep;
