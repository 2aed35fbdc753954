//! Reads a published table as runs.

use super::error::CompareError;
use super::run::Run;
use super::table::read_table;
use crate::recipe;
use crate::results::{published, published_names};

pub(super) fn published(name: &str) -> Result<Vec<Run>, CompareError> {
    let Some(text) = published::published(name) else {
        return Err(CompareError::UnknownPublished {
            name: name.to_owned(),
            known: published_names().join(", "),
            near: recipe::nearest(name, published_names()),
        });
    };
    let mut runs = read_table(name, name, text)?;
    for run in &mut runs {
        run.published = true;
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::published;
    use crate::results::{published as tables, published_names};

    const HEADER: &str = "model,variant,value,pretrain_epoch,annealed,finetune_top1,finetune_top5,finetune_best_top1,\
        finetune_best_epoch,linprobe_top1,linprobe_top5,linprobe_best_top1,pretrain_loss,finetune_run,linprobe_run,source";

    #[test]
    fn every_published_table_has_the_columns_and_a_source_in_each_row() {
        for name in published_names() {
            let text = tables::published(name).unwrap();
            assert_eq!(text.lines().next().unwrap(), HEADER, "{name}");
            let rows: usize = published(name).unwrap().iter().map(|run| run.rows.len()).sum();
            assert_eq!(rows, text.lines().count() - 1, "{name}");
            for row in csv::Reader::from_reader(text.as_bytes()).records() {
                let row = row.unwrap();
                assert!(row[15].len() > 10 && !row[15].contains("same"), "{name}: {row:?}");
                assert!(!(row[5].is_empty() && row[9].is_empty()), "{name}: {row:?}");
                // Only a start from scratch has no pre-training schedule.
                assert_eq!(row[4].is_empty(), &row[3] == "0", "{name}: {row:?}");
            }
        }
    }

    #[test]
    fn intermediate_checkpoints_of_the_paddle_port_are_not_annealed() {
        let paddle = published("mae-paddle").unwrap();
        let annealed: Vec<_> =
            paddle[0].rows.iter().map(|row| (row.key.epoch, row.key.annealed)).collect();
        assert_eq!(annealed.len(), 7);
        assert!(
            annealed.iter().all(|(epoch, annealed)| { *annealed == Some(*epoch == Some(1600)) })
        );
    }
}
