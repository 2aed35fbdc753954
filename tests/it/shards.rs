//! Damage to shards, caches and checkpoints is found and named, and absurd sizes are refused.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "files are damaged on purpose")]

use super::data::{photo, plan, save};
use super::program::{Bench, TINY};
use mae::data::{Checked, DataSet, Labels, Picture, check, open, picture};
use mae::recipe::Format;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Packs 30 training and 10 validation images of two classes, 10 to a shard, into `bench`'s folder `pack`.
fn packed(bench: &Bench) -> PathBuf {
    for split in [("train", 15), ("val", 5)] {
        for class in ["cat", "dog"] {
            for index in 0..split.1 {
                let file = format!("files/{}/{class}/{index:02}.bmp", split.0);
                save(bench.path(&file), photo(8 + index));
            }
        }
    }
    bench.done(&["data", "pack", "files", "pack", "--samples", "10"]);
    bench.path("pack")
}

fn checked(pack: &Path) -> Result<Checked, String> {
    let plan = plan(Format::WebDataset, pack);
    let checked = check(&plan, Labels::Needed, |_, _| true).map_err(|error| error.to_string())?;
    Ok(checked.unwrap())
}

/// Everything that a run takes from a data set.
type Content = (String, Vec<String>, Vec<(u32, Option<Picture>)>);

fn content(data: &DataSet) -> Content {
    let both = [Some(&data.train), data.val.as_ref()].into_iter().flatten();
    let images = both.flat_map(|split| {
        (0..split.len()).map(|index| (split.label(index), picture(&**split, index).ok()))
    });
    (data.fingerprint.clone(), data.class_names.clone(), images.collect())
}

/// Returns the offset of each header in a tar file.
fn headers(tar: &Path) -> Vec<u64> {
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    archive.entries().unwrap().map(|entry| entry.unwrap().raw_header_position()).collect()
}

#[test]
fn a_zeroed_header_of_a_packed_shard_is_found() {
    let bench = Bench::new(
        "name = \"a\"\n[data]\nformat = \"webdataset\"\npath = \"pack\"\ninput_size = 8\n\
         [model]\npatch_size = 2\nembed_dim = 16\ndepth = 1\nnum_heads = 2\n\
         decoder_embed_dim = 8\ndecoder_depth = 1\ndecoder_num_heads = 2\n\
         [pretrain]\nepochs = 1\nwarmup_epochs = 0\nbatch_size = 8\n",
    );
    let pack = packed(&bench);
    let text = bench.done(&["data", "check", "pack"]);
    assert!(!text.contains("checksum") && text.contains("train: 30 images"), "{text}");
    let shard = pack.join("train/train-000001.tar");
    let good = fs::read(&shard).unwrap();
    for at in headers(&shard) {
        let mut bytes = good.clone();
        bytes[at as usize..at as usize + 512].fill(0);
        fs::write(&shard, bytes).unwrap();
        let checked = checked(&pack).unwrap();
        assert!(checked.is_bad(), "header at {at}");
    }
    let mut bytes = good.clone();
    bytes[headers(&shard_of(&bench, &good))[4] as usize..][..512].fill(0);
    fs::write(&shard, bytes).unwrap();
    let output = bench.mae(&["data", "check", "pack"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("train-000001.tar: 8 of the 10 images that `mae data pack`"), "{text}");
    assert!(text.contains("the tar end marker is at byte"), "{text}");
    let run = bench.mae(&["run", "r.toml"]);
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{said}");
    assert!(said.contains("the tar shards may be incomplete (2 problems)"), "{said}");
    // An empty shard.
    fs::write(&shard, vec![0; good.len()]).unwrap();
    let problems = checked(&pack).unwrap().problems.join("\n");
    assert!(problems.contains("train-000001.tar: the shard contains no images"), "{problems}");
    // First remove the checksums, then the whole shard.
    fs::write(&shard, &good).unwrap();
    let sums = shard.with_extension("checksums");
    fs::rename(&sums, bench.path("aside")).unwrap();
    let problems = checked(&pack).unwrap().problems.join("\n");
    assert!(problems.contains("mae cannot verify the images"), "{problems}");
    fs::rename(bench.path("aside"), &sums).unwrap();
    assert!(!checked(&pack).unwrap().is_bad());
}

fn shard_of(bench: &Bench, bytes: &[u8]) -> PathBuf {
    let path = bench.path("good.tar");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn no_flipped_bit_of_a_pack_reaches_a_pixel_a_class_or_a_count() {
    let bench = Bench::new("");
    let pack = packed(&bench);
    let data = || open(&plan(Format::WebDataset, &pack), Labels::Needed);
    let good = content(&data().unwrap());
    let mut found = 0;
    for name in [
        "train/train-000000.tar",
        "val/val-000000.tar",
        "train/train-000000.checksums",
        "pack.json",
        "classes.txt",
    ] {
        let path = pack.join(name);
        let bytes = fs::read(&path).unwrap();
        let step = (bytes.len() / 300).max(1) | 1;
        for at in (0..bytes.len()).step_by(step) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&path, damaged).unwrap();
            if checked(&pack).is_ok_and(|checked| !checked.is_bad()) {
                // The byte was padding, or the owner of a member.
                assert!(content(&data().unwrap()) == good, "{name}: byte {at} changed the data");
            } else {
                found += 1;
            }
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert!(found > 300, "{found}");
    assert!(!checked(&pack).unwrap().is_bad());
}

#[test]
fn a_damaged_packed_image_that_still_decodes_is_a_bad_file() {
    let bench = Bench::new("");
    let pack = packed(&bench);
    let shard = pack.join("train/train-000000.tar");
    let mut bytes = fs::read(&shard).unwrap();
    // In the pixels of the first image, a BMP file.
    bytes[512 + 100] ^= 4;
    fs::write(&shard, bytes).unwrap();
    let data = open(&plan(Format::WebDataset, &pack), Labels::Needed).unwrap();
    let error = picture(&*data.train, 0).unwrap_err().to_string();
    assert!(error.contains("00000000_00.bmp") && error.contains("checksum differs"), "{error}");
    let checked = checked(&pack).unwrap();
    assert_eq!(checked.splits[0].bad.len(), 1);
    assert!(picture(&*data.train, 1).is_ok());
    // Packing this shard again leaves the image out.
    let packed = bench.mae(&["data", "pack", "pack", "again"]);
    let text = String::from_utf8(packed.stdout).unwrap();
    assert!(packed.status.code() == Some(1) && text.contains("39 images in 2 shards"), "{text}");
}

#[test]
fn a_class_that_changed_in_a_packed_shard_is_an_error() {
    let bench = Bench::new("");
    let pack = packed(&bench);
    let shard = pack.join("train/train-000000.tar");
    let mut bytes = fs::read(&shard).unwrap();
    let class = headers(&shard)[1] as usize + 512;
    assert_eq!(bytes[class], b'0');
    bytes[class] = b'1';
    fs::write(&shard, bytes).unwrap();
    let error = open(&plan(Format::WebDataset, &pack), Labels::Needed).err().unwrap().to_string();
    assert!(error.contains("the image has class 1, but `mae data pack` stored class 0"), "{error}");
}

#[test]
fn an_older_pack_is_unchecked_and_packing_again_adds_checksums() {
    let bench = Bench::new("");
    let pack = packed(&bench);
    let json = fs::read_to_string(pack.join("pack.json")).unwrap();
    let fingerprint =
        || open(&plan(Format::WebDataset, &pack), Labels::Needed).unwrap().fingerprint;
    let before = fingerprint();
    let end = json.find(",\n  \"checksums\"").unwrap();
    fs::write(pack.join("pack.json"), format!("{}\n}}", &json[..end])).unwrap();
    for shard in
        ["train/train-000000", "train/train-000001", "train/train-000002", "val/val-000000"]
    {
        fs::remove_file(pack.join(shard).with_extension("checksums")).unwrap();
    }
    let text = bench.done(&["data", "check", "pack"]);
    assert!(text.contains("images without a checksum: 40 ("), "{text}");
    assert_eq!(fingerprint(), before, "checksums are no part of a run's identity");
    bench.done(&["data", "pack", "files", "pack", "--samples", "10"]);
    let text = bench.done(&["data", "check", "pack"]);
    assert!(!text.contains("checksum"), "{text}");
    assert_eq!(fs::read_to_string(pack.join("pack.json")).unwrap(), json);
}

/// Writes a shard of another program: an image with its class, and the members that `more` adds.
fn foreign(path: &Path, class: &str, more: impl FnOnce(&mut tar::Builder<Vec<u8>>)) {
    let picture = tempfile::tempdir().unwrap();
    save(picture.path().join("a.bmp"), photo(8));
    let image = fs::read(picture.path().join("a.bmp")).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in [("a.bmp", &image[..]), ("a.cls", class.as_bytes())] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    more(&mut tar);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, tar.into_inner().unwrap()).unwrap();
}

#[test]
fn members_that_the_shard_reader_skips_are_listed() {
    let bench = Bench::new("");
    foreign(&bench.path("set/val/0.tar"), "0", |_| {});
    let shard = bench.path("set/train/0.tar");
    let problems = || {
        let output = bench.mae(&["data", "check", "set"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("images without a checksum"), "{text}");
        (output.status.code(), text)
    };
    foreign(&shard, "0", |_| {});
    assert_eq!(problems().0, Some(0));
    let kinds = [
        (tar::EntryType::Symlink, "b.jpg (symbolic link)"),
        (tar::EntryType::Link, "b.jpg (hard link)"),
        (tar::EntryType::Char, "b.jpg (device)"),
        (tar::EntryType::Fifo, "b.jpg (named pipe)"),
        (tar::EntryType::new(b'Z'), "b.jpg (unknown type Z)"),
    ];
    for (kind, listed) in kinds {
        foreign(&shard, "0", |tar| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_link_name("a.bmp").unwrap();
            tar.append_data(&mut header, "b.jpg", &[][..]).unwrap();
        });
        let (code, text) = problems();
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&format!("tar members that are not files (1): {listed}")), "{text}");
    }
    // A folder is not a sample.
    foreign(&shard, "0", |tar| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        tar.append_data(&mut header, "more/", &[][..]).unwrap();
    });
    assert_eq!(problems().0, Some(0));
    // Two archives one after the other, as `cat a.tar b.tar` makes them.
    foreign(&shard, "0", |_| {});
    let one = fs::read(&shard).unwrap();
    fs::write(&shard, [&one[..], &one].concat()).unwrap();
    let (code, text) = problems();
    assert!(code == Some(1) && text.contains("the tar end marker is at byte"), "{text}");
    // A full record of zeros is normal; megabytes are a hole in the file.
    fs::write(&shard, [&one[..], &[0; 10_240]].concat()).unwrap();
    assert_eq!(problems().0, Some(0));
    fs::write(&shard, [&one[..], &vec![0; 3 << 20]].concat()).unwrap();
    let (code, text) = problems();
    assert!(code == Some(1) && text.contains("ends with 3.0 MiB of zeros"), "{text}");
}

#[test]
fn a_huge_class_number_is_an_error_and_allocates_no_memory() {
    let bench = Bench::new("");
    for name in ["train/0.tar", "val/0.tar"] {
        foreign(&bench.path("set").join(name), "4294967295", |_| {});
    }
    let output = bench.mae(&["data", "check", "set"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("0.tar/a.cls") && said.contains("class 4294967295 is too large"),
        "{said}"
    );
    assert!(said.contains("hint: correct the class"), "{said}");
}

#[test]
fn sizes_beyond_the_machine_are_refused_before_anything_is_allocated() {
    let bench = Bench::new(TINY);
    let said = bench.refused(&["run", "r.toml", "--set", "data.num_classes=4000000000"], 2);
    assert!(said.contains("data.num_classes") && said.contains("1000000"), "{said}");
    let huge = ["--set", "model.embed_dim=65536", "--set", "model.depth=1024"];
    let said = bench.refused(&[&["run", "r.toml"][..], &huge].concat(), 2);
    assert!(said.contains("cannot run pretrain: this stage needs at least 786"), "{said}");
    assert!(said.contains("GiB of memory") && said.contains("hint: choose a smaller"), "{said}");
    assert!(!bench.path("runs").exists());
    let said = bench.refused(&[&["bench", "train", "r.toml"][..], &huge].concat(), 2);
    assert!(said.contains("this stage needs at least"), "{said}");
    let planned = bench.mae(&[&["plan", "r.toml"][..], &huge].concat());
    let said = String::from_utf8(planned.stderr).unwrap();
    assert!(
        planned.status.success()
            && said.contains("warning")
            && said.contains("this stage needs at least")
    );
    let planned = bench.mae(&["plan", "r.toml"]);
    assert!(!String::from_utf8(planned.stderr).unwrap().contains("this stage needs at least"));
}

#[test]
fn a_damaged_listing_cache_is_dropped_and_written_again() {
    let bench = Bench::new(
        "name = \"a\"\n[data]\nformat = \"webdataset\"\npath = \"set\"\n[pretrain]\nepochs = 1\n\
         warmup_epochs = 0\nbatch_size = 1\n",
    );
    let mut tar = tar::Builder::new(Vec::new());
    for index in 0..10_000 {
        for (name, bytes) in [("ppm", &b"P6 1 1 255 abc"[..]), ("cls", &b"7"[..])] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, format!("{index:05}.{name}"), bytes).unwrap();
        }
    }
    fs::create_dir_all(bench.path("set/train")).unwrap();
    let shard = bench.path("set/train/0.tar");
    fs::write(&shard, tar.into_inner().unwrap()).unwrap();
    let old = SystemTime::now() - Duration::from_mins(1);
    fs::File::options().write(true).open(&shard).unwrap().set_modified(old).unwrap();
    let steps = || {
        let mut plan = bench.command(&["plan", "r.toml", "--json"]);
        let output = plan.env("XDG_CACHE_HOME", bench.path("cache")).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json["jobs"][0]["steps"].as_u64().unwrap_or_else(|| panic!("{output:?}"))
    };
    assert_eq!(steps(), 10_000);
    let folder = bench.path("cache/mae/data");
    let file = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let good = fs::read(&file).unwrap();
    for at in [0, 31, 32, 33, 60, good.len() / 2, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_eq!(steps(), 10_000);
        assert!(fs::read(&file).unwrap() == good, "a flip of byte {at} was kept");
    }
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    assert_eq!(steps(), 10_000);
    assert!(fs::read(&file).unwrap() == good);
}

#[test]
fn a_flipped_bit_in_a_pytorch_archive_names_its_member() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints/torch-mae");
    let good = fs::read(folder.join("half.pth")).unwrap();
    let path = dir.path().join("half.pth");
    fs::write(&path, &good).unwrap();
    mae::checkpoint::open(&path, None).unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(good.clone())).unwrap();
    let mut members = 0;
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).unwrap();
        let (name, at) =
            (member.name().unwrap().into_owned(), member.data_start().unwrap() as usize);
        if !name.contains("/data/") || member.size() == 0 {
            continue;
        }
        let mut bytes = good.clone();
        bytes[at + member.size() as usize / 2] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = mae::checkpoint::open(&path, None).err().map(|error| error.to_string());
        // `mae` does not read integer storages of more than one element, so damage there is no error.
        if let Some(error) = error {
            assert!(error.contains(&format!("`{name}`")) && error.contains("CRC-32"), "{error}");
            members += 1;
        }
    }
    assert!(members > 20, "{members}");
}

#[test]
fn predict_escapes_line_breaks_in_class_names() {
    let bench = Bench::new(
        "name = \"a\"\n[data]\nformat = \"imagefolder\"\npath = \"files\"\ninput_size = 8\n\
         [model]\npatch_size = 2\nembed_dim = 16\ndepth = 1\nnum_heads = 2\n\
         [finetune]\nfrom = [\"scratch\"]\nepochs = 1\nwarmup_epochs = 0\nbatch_size = 2\naa = \"\"\n",
    );
    for split in ["train", "val"] {
        for class in ["cat\n  0.9999  dog", "owl"] {
            for index in 0..3 {
                save(
                    bench.path("files").join(split).join(class).join(format!("{index}.png")),
                    photo(9),
                );
            }
        }
    }
    bench.done(&["run", "r.toml"]);
    let text = bench.done(&[
        "predict",
        "runs/a/finetune/from-scratch/checkpoints/epoch-0001",
        "files/val/owl/0.png",
    ]);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("cat\\n  0.9999  dog"), "{text}");
    let said = bench.refused(&["data", "pack", "files", "pack"], 2);
    assert!(said.contains("the name contains a line break"), "{said}");
}
