//! Keys and values into their pages: what is written is exact, and nothing else changes.

use kernels::kv::{KvWrite, PAGE, WRITE_F32};

use super::random::Random;
use super::{Case, Expect, Launch, Stage};

/// New tokens, and pages that hold something already.
pub(crate) struct Write {
    kv_heads: usize,
    head_dim: usize,
    k: Vec<f32>,
    v: Vec<f32>,
    key_pages: Vec<f32>,
    value_pages: Vec<f32>,
    slots: Vec<u32>,
}

impl Write {
    /// `tokens` distinct slots of `pages`.
    pub(crate) fn new(tokens: usize, pages: usize, kv_heads: usize, head_dim: usize) -> Self {
        let mut random = Random::new((tokens * kv_heads * head_dim) as u64);
        let mut slots: Vec<u32> = (0..(pages * PAGE) as u32).collect();
        random.shuffle(&mut slots);
        slots.truncate(tokens);
        let (row, page) = (kv_heads * head_dim, kv_heads * head_dim * PAGE);
        let [k, v] = [(); 2].map(|_| random.floats(tokens * row));
        let [key_pages, value_pages] = [(); 2].map(|_| random.floats(pages * page));
        Self { kv_heads, head_dim, k, v, key_pages, value_pages, slots }
    }
}

pub(crate) fn cases() -> Vec<Box<dyn Case>> {
    [(1, 1, 1, 32), (17, 3, 3, 64), (64, 2, 1, 48), (2, 5, 8, 128), (9, 4, 2, 80), (3, 1, 1, 256)]
        .map(|(tokens, pages, kv_heads, head_dim)| {
            Box::new(Write::new(tokens, pages, kv_heads, head_dim)) as _
        })
        .into()
}

impl Case for Write {
    fn label(&self) -> String {
        format!("tokens={} kv_heads={} head_dim={}", self.slots.len(), self.kv_heads, self.head_dim)
    }

    fn bytes(&self) -> u64 {
        (16 * self.k.len() + 4 * self.slots.len()) as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let args = KvWrite {
            k: stage.input(&self.k),
            v: stage.input(&self.v),
            key_pages: stage.in_out(&self.key_pages),
            value_pages: stage.in_out(&self.value_pages),
            slots: stage.input(&self.slots),
            tokens: self.slots.len() as u32,
            kv_heads: self.kv_heads as u32,
            head_dim: self.head_dim as u32,
        };
        Launch::new(&WRITE_F32, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let (mut keys, mut values) = (self.key_pages.clone(), self.value_pages.clone());
        for (token, &slot) in self.slots.iter().enumerate() {
            let (page, place) = (slot as usize / PAGE, slot as usize % PAGE);
            for head in 0..self.kv_heads {
                for d in 0..self.head_dim {
                    let from = (token * self.kv_heads + head) * self.head_dim + d;
                    let page = page * self.kv_heads + head;
                    keys[(page * self.head_dim + d) * PAGE + place] = self.k[from];
                    values[(page * PAGE + place) * self.head_dim + d] = self.v[from];
                }
            }
        }
        vec![Expect::bits(&keys), Expect::bits(&values)]
    }
}
