//! Removes the normalisation from a model that takes bytes and normalises them before its first convolution.

use wordsight_onnx::Attribute;
use wordsight_onnx::proto::{AttributeProto, ElementType, GraphProto, ModelProto, NodeProto, TensorProto};

use crate::view::{View, remove_unused};

/// `(x - mean) / deviation` goes into the weights and the bias of the convolution that takes it: two passes over
/// the image less, and the same answer to rounding. The border, which is 0 after the normalisation, is the mean
/// before it; so it is padded as bytes. A model of another form comes back as it is.
pub fn folded(model: &ModelProto) -> ModelProto {
    let graph = View::of(model).and_then(|view| Pattern::of(&view)?.fold(&view));
    graph.map_or_else(|| model.clone(), |graph| ModelProto { graph: Some(graph), ..model.clone() })
}

/// Bytes, cast, less a mean, by a deviation, convolved.
struct Pattern<'a> {
    cast: &'a NodeProto,
    less: &'a NodeProto,
    by: &'a NodeProto,
    convolution: &'a NodeProto,
    /// Rows above, columns left, rows below, columns right.
    border: [i64; 4],
    mean: u8,
    deviation: f32,
}

impl<'a> Pattern<'a> {
    fn of(view: &View<'a>) -> Option<Self> {
        let scalar = |node: &NodeProto| {
            let (_, values) = view.floats(node.input.get(1)?)?;
            <[f32; 1]>::try_from(values).ok().map(|[value]| value)
        };
        let next = |node: &NodeProto, op: &str| {
            view.only_consumer(node.output.first()?).filter(|consumer| consumer.op_type == op)
        };
        let [input] = view.graph.input.as_slice() else { return None };
        let is_bytes = input.r#type.as_ref()?.tensor_type.as_ref()?.elem_type == ElementType::Uint8 as i32;
        let cast = view.only_consumer(&input.name).filter(|node| is_bytes && node.op_type == "Cast")?;
        let less = next(cast, "Sub")?;
        let by = next(less, "Div")?;
        let convolution = next(by, "Conv").filter(|node| node.input.len() == 3)?;
        let pads = convolution.attribute.iter().find(|attribute| attribute.name == "pads");
        // A border that it doesn't say itself can't be padded for it.
        let border = pads.map_or(Some([0; 4]), |pads| <[i64; 4]>::try_from(pads.ints.as_slice()).ok())?;
        if convolution.attribute.iter().any(|attribute| attribute.name == "auto_pad") {
            return None;
        }
        let (mean, deviation) = (scalar(less)?, scalar(by)?);
        let is_byte = mean.fract() == 0.0 && (0.0..=255.0).contains(&mean);
        (is_byte && deviation > 0.0).then_some(Self {
            cast,
            less,
            by,
            convolution,
            border,
            mean: mean as u8,
            deviation,
        })
    }

    fn fold(&self, view: &View<'a>) -> Option<GraphProto> {
        let Self { cast, less, by, convolution, border: [top, left, bottom, right], mean, deviation } = self;
        let [_, weights, bias] = convolution.input.as_slice() else { return None };
        let ((dims, weights), (_, bias)) = (view.floats(weights)?, view.floats(bias)?);
        let weights: Vec<f32> = weights.iter().map(|weight| weight / deviation).collect();
        let filters = weights.chunks_exact((weights.len() / bias.len().max(1)).max(1));
        let bias: Vec<f32> = bias
            .iter()
            .zip(filters)
            .map(|(b, filter)| b - f32::from(*mean) * filter.iter().sum::<f32>())
            .collect();

        let mut graph = view.graph.clone();
        let constant = |name: &str, element, dims: &[i64], bytes: Vec<u8>| {
            TensorProto::constant(&format!("{}_{name}", convolution.name), element, dims, bytes)
        };
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let pads = [0, 0, *top, *left, 0, 0, *bottom, *right];
        let constants = [
            constant(
                "pads",
                ElementType::Int64,
                &[8],
                pads.iter().flat_map(|pad: &i64| pad.to_le_bytes()).collect(),
            ),
            constant("mean", ElementType::Uint8, &[], vec![*mean]),
            constant("weights", ElementType::Float, dims, floats(&weights)),
            constant("bias", ElementType::Float, &[bias.len() as i64], floats(&bias)),
        ];
        let [pads, mean, weights, bias] = constants.each_ref().map(|constant| constant.name.clone());
        graph.initializer.extend(constants);

        let padded = format!("{}_padded", convolution.name);
        let pad = NodeProto::new("Pad", vec![cast.input.first()?.clone(), pads, mean], &padded, &[]);
        let mut cast = (*cast).clone();
        cast.input = vec![padded];
        let mut convolved = (*convolution).clone();
        convolved.input = vec![cast.output.first()?.clone(), weights, bias];
        convolved.attribute.retain(|attribute| attribute.name != "pads");
        convolved.attribute.push(AttributeProto::new("pads", &Attribute::Ints(&[0; 4])));
        graph.node = graph
            .node
            .into_iter()
            .filter(|node| node.name != less.name && node.name != by.name)
            .flat_map(|node| match () {
                () if node.name == cast.name => vec![pad.clone(), cast.clone()],
                () if node.name == convolved.name => vec![convolved.clone()],
                () => vec![node],
            })
            .collect();
        remove_unused(&mut graph);
        Some(graph)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wordsight_onnx::{Graph, Storage};

    use super::*;

    /// Bytes less `mean`, by 64, convolved by two filters of 1x1 over three channels, a border to the right and below.
    fn normalising(mean: f32) -> ModelProto {
        let mut graph = Graph::new("normalising", Storage::F32);
        let image = graph.input("image", ElementType::Uint8, &[1, 3, 4, 4]);
        let (mean, deviation) = (graph.scalar(mean), graph.scalar(64.0));
        let image = graph.cast(&image, ElementType::Float);
        let image = graph.sub(&image, &mean);
        let image = graph.div(&image, &deviation);
        let weights = graph.exact_floats(&[2, 3, 1, 1], &[64.0, 128.0, 0.0, -64.0, 0.0, 0.0]);
        let bias = graph.exact_floats(&[2], &[1.0, 2.0]);
        let pads = [("pads", Attribute::Ints(&[0, 0, 1, 1]))];
        let answer = graph.node("Conv", &[&image, &weights, &bias], &pads);
        graph.output(&answer, "answer", ElementType::Float, &[1, 2, 5, 5]);
        graph.into_model(&[])
    }

    #[test]
    fn weights_and_bias_take_the_normalisation_and_the_border_the_mean() {
        let model = folded(&normalising(100.0));
        let view = View::of(&model).unwrap();
        let ops: Vec<&str> = view.graph.node.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(ops, ["Pad", "Cast", "Conv", "Identity"]);
        let [pad, _, convolution, _] = view.graph.node.as_slice() else { unreachable!() };
        assert_eq!(view.floats(&convolution.input[1]).unwrap().1, [1.0, 2.0, 0.0, -1.0, 0.0, 0.0]);
        assert_eq!(view.floats(&convolution.input[2]).unwrap().1, [1.0 - 300.0, 2.0 + 100.0]);
        assert_eq!(view.constant(&pad.input[2]).unwrap().raw_data, [100]);
        let pads: Vec<u8> = [0_i64, 0, 0, 0, 0, 0, 1, 1].iter().flat_map(|pad| pad.to_le_bytes()).collect();
        assert_eq!(view.constant(&pad.input[1]).unwrap().raw_data, pads);
    }

    #[test]
    fn a_mean_that_is_no_byte_stays() {
        let model = normalising(100.5);
        assert_eq!(folded(&model), model);
    }
}
