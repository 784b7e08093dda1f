//! The exponential moving average of the weights (Polyak and Juditsky, 1992), which is validated and exported: the
//! weights of single steps oscillate, their mean does not.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

use crate::student::Student;

/// Averages of every weight that trains.
pub struct Average {
    decay: f32,
    values: HashMap<ParamId, Vec<f32>>,
}

impl Average {
    /// Starts from a student's weights. `decay`, 0 to below 1: what a step leaves of the average so far.
    pub fn new(student: &Student, decay: f32) -> Self {
        let mut average = Self { decay, values: HashMap::new() };
        average.mix(student, 0.0);
        average
    }

    /// Takes in the weights after step `step` (from 0): early on, the average forgets faster.
    pub fn add(&mut self, student: &Student, step: usize) {
        let warm_up = (1.0 + step as f32) / (10.0 + step as f32);
        self.mix(student, self.decay.min(warm_up));
    }

    /// The student with its averaged weights.
    pub fn student(&self, student: &Student) -> Student {
        struct Apply<'a>(&'a HashMap<ParamId, Vec<f32>>);
        impl ModuleMapper for Apply<'_> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let Some(values) = self.0.get(&param.id) else { return param };
                param.map(|tensor| {
                    let data = TensorData::new(values.clone(), tensor.dims());
                    Tensor::from_data(data, &tensor.device())
                })
            }
        }
        student.clone().map(&mut Apply(&self.values))
    }

    fn mix(&mut self, student: &Student, kept: f32) {
        struct Mix<'a> {
            values: &'a mut HashMap<ParamId, Vec<f32>>,
            kept: f32,
        }
        impl ModuleVisitor for Mix<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let tensor = param.val();
                if !tensor.is_require_grad() {
                    return;
                }
                let new = tensor.into_data();
                match self.values.get_mut(&param.id) {
                    Some(values) => {
                        for (value, new) in values.iter_mut().zip(new.iter::<f32>()) {
                            *value = self.kept * *value + (1.0 - self.kept) * new;
                        }
                    }
                    None => {
                        self.values.insert(param.id, new.iter::<f32>().collect());
                    }
                }
            }
        }
        student.visit(&mut Mix { values: &mut self.values, kept });
    }
}
