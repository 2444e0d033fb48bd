//! Evaluation: metrics of a model and of the baselines, for the frames of one pass and for a roll-out; and the loading of a
//! checkpoint's model.

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
