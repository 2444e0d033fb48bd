//! How good a model's predictions are: the metrics that the field prints, beside the baselines, for the frames that one
//! pass predicts and for a roll-out; and opening a checkpoint's model.

mod evaluate;
mod load;
pub mod metrics;
mod roll_out;

pub use evaluate::{
    Brightness, Comparison, EvalSpec, Evaluation, Horizons, Share, evaluate, evaluate_among, open_data,
};
pub use load::{Loaded, load};
pub use metrics::{Metrics, Score};
pub use roll_out::roll_out;
