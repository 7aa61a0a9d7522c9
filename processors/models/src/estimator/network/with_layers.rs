//! Networks as the layers of other programs, which they are written as and read from.

use millstream_core::Result;

use super::Network;
use super::cpu::Cpu;
use super::engine::Lists;
use super::plan::{Layer as OwnLayer, LayerKind as OwnKind, Parameter};
use super::shape;
use crate::encode::Feature;
use crate::layers::{Layer, LayerKind, Weights};

impl Network {
    /// The embeddings of the categories of these features, and then the layers.
    pub(super) fn layers_of(&self, features: &[Feature]) -> Result<Vec<Layer>> {
        let lists = self.engine.lists()?;
        let weights = |index: usize| {
            let parameter = &self.plan.parameters[index];
            let values: Vec<f32> = parameter.rows_of(&lists.parameters).flatten().copied().collect();
            Weights::new(&shape(parameter), values)
        };
        let embeddings = self.embeddings_of(features);
        let layers = self.plan.layers.iter().filter_map(parameters).map(|(kind, [first, second])| {
            let weights = [weights(first), weights(second)];
            Layer::new(kind, weights)
        });
        Ok(embeddings.into_iter().chain(layers).collect())
    }

    fn embeddings_of(&self, features: &[Feature]) -> Vec<Layer> {
        let size = self.embeddings.size;
        let mut values = self.embeddings.values.as_slice();
        let slots = features.iter().map(|feature| feature.encoder.slots() as usize).filter(|slots| *slots > 0);
        let layer = |slots: usize| {
            let own = values.split_off(..slots * size).unwrap_or_default();
            Layer::new(LayerKind::Embedding, [Weights::new(&[slots, size], own.to_vec())])
        };
        slots.map(layer).collect()
    }

    /// Takes weights over. What the optimizer knew, it forgets.
    pub(super) fn take(&mut self, layers: &[Layer]) {
        let mut lists = Lists::new(vec![0.0; self.plan.padded_size()]);
        let (embeddings, dense) = layers.split_at(layers.iter().take_while(|layer| is_embedding(layer)).count());
        for ((_, places), layer) in self.plan.layers.iter().filter_map(parameters).zip(dense) {
            let own = places.map(|place| &self.plan.parameters[place]);
            let put =
                |(parameter, weights): (&Parameter, &Weights)| parameter.put(&weights.f32s(), &mut lists.parameters);
            own.into_iter().zip(&layer.weights).for_each(put);
        }
        self.engine = Box::new(Cpu::new(self.plan.clone(), lists));
        self.embeddings.values = embeddings.iter().flat_map(|layer| layer.weights[0].f32s()).collect();
    }
}

fn is_embedding(layer: &Layer) -> bool {
    layer.kind == LayerKind::Embedding
}

/// What others call a layer, and the places of its parameters; none if it has none.
fn parameters(layer: &OwnLayer) -> Option<(LayerKind, [usize; 2])> {
    match layer.kind {
        OwnKind::Dense { weights, bias, .. } => Some((LayerKind::Dense, [weights, bias])),
        OwnKind::Normalise { scale, shift } => Some((LayerKind::LayerNormalization, [scale, shift])),
        // Files of networks over sequences are refused before.
        OwnKind::Dropout { .. } | OwnKind::Recurrent { .. } | OwnKind::Convolution { .. } | OwnKind::Last => None,
    }
}
