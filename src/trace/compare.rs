//! Compares a trace with golden data.

use runtime::trace::{Layer, PromptTrace};

use super::golden::{GoldenLayer, GoldenPrompt};

/// What one prompt's comparison found.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    /// Greedy ids are equal, up to the first that the tolerance leaves open.
    pub(super) greedy: bool,
    /// L2 of the final logits' difference over L2 of the golden ones.
    pub(super) relative_l2: f64,
    /// Greatest difference of a final logit over the greatest golden one.
    pub(super) greatest: f64,
    /// The first part of the forward pass that differs by more than the tolerance.
    pub(super) first_layer: Option<String>,
    /// Whether logits and layers are within the tolerance.
    within: bool,
}

impl Row {
    pub(super) fn passes(&self) -> bool {
        self.greedy && self.within && self.first_layer.is_none()
    }
}

/// `tolerance` bounds a difference relative to the greatest logit, or to a layer's L2.
pub(super) fn compare(want: &GoldenPrompt, got: &PromptTrace, tolerance: f64) -> Row {
    let pairs: Vec<(f64, f64)> = match &want.final_logits {
        Some(logits) if logits.len() != got.final_logits.len() => vec![(0.0, f64::INFINITY)],
        Some(logits) => logits.iter().zip(&got.final_logits).map(|(&w, &g)| (w as f64, g as f64)).collect(),
        None => {
            let value = |id: u32| got.final_logits.get(id as usize).map_or(f64::NAN, |&logit| logit as f64);
            want.final_top.iter().map(|&(id, logit)| (logit, value(id))).collect()
        }
    };
    let greatest_logit = pairs.iter().map(|(w, _)| w.abs()).fold(f64::MIN_POSITIVE, f64::max);
    let l2 = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let relative_l2 = l2(&mut pairs.iter().map(|(w, g)| w - g)) / l2(&mut pairs.iter().map(|(w, _)| *w));
    // A NaN is the greatest difference of all.
    let greatest = pairs.iter().map(|(w, g)| (w - g).abs() / greatest_logit).fold(0.0, |most, difference| {
        if difference > most || difference.is_nan() { difference } else { most }
    });

    // Where two logits lie closer together than twice the error, either may win; what follows is another text.
    let open = 2.0 * tolerance * greatest_logit;
    let steps = want.greedy.iter().zip(&want.margins).zip(&got.steps);
    let first_difference = steps.clone().find(|((id, _), step)| **id != step.id);
    let greedy = first_difference.is_none_or(|((_, &margin), _)| margin <= open);

    let names = want.layers.iter().zip(&got.layers);
    let first_layer = names.clone().find(|(w, g)| !same(w, g, tolerance)).map(|(w, _)| w.name.clone());
    let all_layers = want.layers.is_empty() || want.layers.len() == got.layers.len();
    Row { greedy, relative_l2, greatest, first_layer, within: greatest <= tolerance && all_layers }
}

fn same(want: &GoldenLayer, got: &Layer, tolerance: f64) -> bool {
    let near = |a: f64, b: f64, scale: f64| (a - b).abs() <= tolerance * scale;
    let values = |want: &[f64], got: &[f32], scale: f64| {
        want.len() == got.len() && want.iter().zip(got).all(|(&w, &g)| near(w, g as f64, scale))
    };
    want.name == got.name
        && near(want.l2_all, got.l2_all, want.l2_all)
        && near(want.l2_last, got.l2_last, want.l2_last)
        && values(&want.first8_pos0, &got.first8_pos0, want.l2_all)
        && values(&want.first8_last, &got.first8_last, want.l2_last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::trace::Step;

    fn golden() -> GoldenPrompt {
        GoldenPrompt {
            ids: vec![1],
            greedy: vec![2, 0],
            margins: vec![1.0, 1e-6],
            final_logits: Some(vec![1.0, -2.0, 4.0]),
            final_top: Vec::new(),
            layers: vec![GoldenLayer {
                name: "embed".to_owned(),
                l2_all: 2.0,
                l2_last: 2.0,
                first8_pos0: vec![1.0],
                first8_last: vec![1.0],
            }],
        }
    }

    fn trace() -> PromptTrace {
        let step = |id| Step { id, logprob: 0.0, margin: 0.0, top5: Vec::new() };
        PromptTrace {
            ids: vec![1],
            final_logits: vec![1.0, -2.0, 4.0],
            steps: vec![step(2), step(0)],
            layers: vec![Layer {
                name: "embed".to_owned(),
                l2_all: 2.0,
                l2_last: 2.0,
                first8_pos0: vec![1.0],
                first8_last: vec![1.0],
            }],
        }
    }

    #[test]
    fn equal_numbers_pass() {
        assert!(compare(&golden(), &trace(), 1e-4).passes());
    }

    #[test]
    fn a_logit_beyond_the_tolerance_fails() {
        let mut trace = trace();
        trace.final_logits[0] += 5e-4;
        assert!(!compare(&golden(), &trace, 1e-4).passes());
        assert!(compare(&golden(), &trace, 1e-3).passes());
        trace.final_logits[0] = f32::NAN;
        assert!(!compare(&golden(), &trace, 1e-3).passes());
    }

    #[test]
    fn another_token_fails_where_the_margin_is_wide_and_not_where_it_is_open() {
        let mut other = trace();
        other.steps[1].id = 1;
        assert!(compare(&golden(), &other, 1e-4).passes());
        other.steps[0].id = 1;
        assert!(!compare(&golden(), &other, 1e-4).greedy);
    }

    #[test]
    fn the_first_layer_that_differs_is_named() {
        let mut trace = trace();
        trace.layers[0].first8_last[0] = 1.1;
        assert_eq!(compare(&golden(), &trace, 1e-4).first_layer.as_deref(), Some("embed"));
        trace.layers.clear();
        assert!(!compare(&golden(), &trace, 1e-4).passes());
    }
}
