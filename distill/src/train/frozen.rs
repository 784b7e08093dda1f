//! A backbone that doesn't train, run by ONNX Runtime in a third of the kernels' time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use wordsight_engines::{Input, OnnxSession, TensorView};

use crate::export;
use crate::sets::TrainingImage;
use crate::student::Backbone;
use crate::table;

/// Strides of the maps that it answers with.
const STRIDES: usize = 4;

/// The backbone for inputs of some sides, once a core.
pub(super) struct FrozenBackbone {
    sessions: HashMap<usize, Vec<Mutex<OnnxSession>>>,
}

/// A map's numbers and its height, width and channels.
#[derive(Clone, Default)]
struct Map {
    numbers: Vec<f32>,
    shape: [usize; 3],
}

impl FrozenBackbone {
    /// Of a backbone's weights as they are now.
    pub fn new(backbone: &Backbone, sides: &[usize]) -> Result<Self> {
        let of_side = |&side: &usize| {
            let bytes = wordsight_onnx::encode(&export::backbone_model(backbone, side)?);
            let open = |_| Ok(Mutex::new(OnnxSession::from_bytes(&bytes, "the backbone", 1)?));
            Ok((side, (0..table::workers()).map(open).collect::<Result<_>>()?))
        };
        Ok(Self { sessions: sides.iter().map(of_side).collect::<Result<_>>()? })
    }

    /// The last maps of strides 4, 8, 16 and 32, `[N, height, width, channels]`.
    pub fn forward(&self, images: &[TrainingImage], device: &Device) -> Result<[Tensor<4>; 4]> {
        let side = images.first().map_or(0, |image| image.side);
        let sessions = self.sessions.get(&side).context("no backbone for inputs of this side")?;
        let of_session = images.len().div_ceil(sessions.len()).max(1);
        let maps: Vec<Vec<[Map; STRIDES]>> = images
            .par_chunks(of_session)
            .zip(sessions)
            .map(|(images, session)| {
                let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
                images.iter().map(|image| maps_of(&mut session, image)).collect()
            })
            .collect::<Result<_>>()?;
        let maps = maps.concat();
        Ok(std::array::from_fn(|stride| {
            let [height, width, channels] = maps.first().map_or([0; 3], |maps| maps[stride].shape);
            let numbers: Vec<f32> =
                maps.iter().flat_map(|maps| maps[stride].numbers.iter().copied()).collect();
            Tensor::from_data(TensorData::new(numbers, [images.len(), height, width, channels]), device)
        }))
    }
}

fn maps_of(session: &mut OnnxSession, image: &TrainingImage) -> Result<[Map; STRIDES]> {
    let mut maps: [Map; STRIDES] = Default::default();
    let shape = [1, image.side, image.side, 3];
    let input = Input { name: "image", shape: &shape, data: TensorView::U8(&image.pixels) };
    session.run_each(&[input], |place, shape, numbers| {
        if let (Some(map), [_, height, width, channels]) = (maps.get_mut(place), shape) {
            let shape = [*height, *width, *channels].map(|size| usize::try_from(size).unwrap_or(0));
            *map = Map { numbers: numbers.to_vec(), shape };
        }
    })?;
    Ok(maps)
}
