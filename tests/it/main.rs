//! Tests of what users can see. Each module tests one promise.

mod ablations;
mod bad_files;
mod bad_val;
mod bench;
mod branch;
mod checkpoint_families;
mod checkpoint_names;
mod checkpoints;
mod checksums;
mod compare;
mod counts;
mod data;
mod data_sets;
mod devices;
mod docs;
mod docs_reference;
mod elastic;
mod exit_codes;
mod failed_jobs;
mod fp16;
mod fresh;
mod golden;
// A build with `vulkan` refuses software adapters.
#[cfg(all(feature = "wgpu", not(feature = "vulkan")))]
mod gpu;
mod hints;
#[cfg(feature = "mpi")]
mod hosts;
mod layers;
mod layouts;
mod measures;
mod not_square;
mod on_nan;
mod own_data;
mod paper;
#[cfg(feature = "parquet")]
mod parquet_columns;
mod pickles;
mod pictures;
mod preflight;
mod pretrain_from;
mod program;
mod raw_pictures;
mod recipe_errors;
mod recipe_reference;
mod recipes;
mod reconstruct;
mod report;
mod resume;
mod run_folder;
mod safe_text;
mod shard_members;
mod shards;
mod start_files;
mod sweep;
