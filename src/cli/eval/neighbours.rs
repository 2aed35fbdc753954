//! `mae eval --knn`: classifies the validation images by the nearest training images.

use super::super::checkpoint_args::Ready;
use super::super::signals::stop_on_signals;
use super::super::{CliError, output};
use crate::data::{self, Labels};
use crate::infer::{Knn, KnnMetrics, Pooling, StopFlag};
use crate::{run, train};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Classify each image by its K nearest training images, without the checkpoint's head and without training
    #[arg(long, value_name = "K", conflicts_with = "test", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) knn: Option<u32>,
    /// With --knn: temperature T. The vote of a training image has the weight exp(cosine similarity / T)
    #[arg(long, value_name = "T", default_value_t = 0.07, requires = "knn", value_parser = temperature)]
    temperature: f64,
    /// With --knn: compare class tokens (cls) or means of the patch tokens (mean). Default: the input of the checkpoint's
    /// head; without a head, class tokens
    #[arg(long, value_enum, value_name = "POOL", requires = "knn")]
    pool: Option<Pool>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Pool {
    Cls,
    Mean,
}

pub(super) fn run(args: &super::Args, ready: Ready, stop: &StopFlag) -> Result<(), CliError> {
    let Ready { opened, mut plan, .. } = ready;
    plan.runtime.devices = 1;
    let Args { knn, temperature, pool } = args.neighbours;
    let device = train::choose(&plan.runtime.untuned())?;
    let data = data::open(&plan.data, Labels::Needed)?;
    stop_on_signals(stop, "stopping");
    let pooling = pool.map(|pool| match pool {
        Pool::Cls => Pooling::Cls,
        Pool::Mean => Pooling::Mean,
    });
    let features = run::load_features(&opened, &plan, &device, (None, pooling))?;
    let k = knn.expect("`run` is called with --knn") as usize;
    let knn = Knn { k, temperature };
    let measured = run::measure_knn(&features, &plan, &data, knn, None, (&device, stop))?;
    let KnnMetrics { top1, top5, images } = measured.ok_or(CliError::Stopped)?;
    if args.json {
        let json =
            serde_json::json!({ "knn_top1": top1, "knn_top5": top5, "k": k, "images": images });
        return Ok(output::json(&json)?);
    }
    let text = format!("kNN (k = {k}): top-1 {top1:.2} %, top-5 {top5:.2} % on {images} images");
    Ok(output::result(&text)?)
}

fn temperature(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("expected a temperature above 0, such as 0.07".to_owned()),
    }
}
