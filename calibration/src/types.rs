//! The element types of a graph's tensors.

use std::collections::HashMap;

use wordsight_onnx::proto::{ElementType, GraphProto, NodeProto};

/// Element types by the names of tensors, as far as they follow from inputs, constants and the operators that we write.
pub fn element_types(graph: &GraphProto) -> HashMap<&str, i32> {
    let inputs = graph.input.iter().filter_map(|input| {
        let tensor = input.r#type.as_ref()?.tensor_type.as_ref()?;
        Some((input.name.as_str(), tensor.elem_type))
    });
    let constants = graph.initializer.iter().map(|constant| (constant.name.as_str(), constant.data_type));
    let mut types: HashMap<&str, i32> = inputs.chain(constants).collect();
    for node in &graph.node {
        let of_input = |at: usize| node.input.get(at).and_then(|input| types.get(input.as_str())).copied();
        let made = match node.op_type.as_str() {
            "Cast" => cast_to(node),
            "QuantizeLinear" => of_input(2),
            "DequantizeLinear" | "Where" => of_input(1),
            "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Equal" | "And" | "Or" | "Xor"
            | "Not" | "IsNaN" | "IsInf" => Some(ElementType::Bool as i32),
            "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" => Some(ElementType::Int64 as i32),
            "ConstantOfShape" => {
                let value = node.attribute.iter().find(|attribute| attribute.name == "value");
                let filled = value.and_then(|value| value.t.as_ref()).map(|tensor| tensor.data_type);
                Some(filled.unwrap_or(ElementType::Float as i32))
            }
            _ => of_input(0),
        };
        for (at, output) in node.output.iter().enumerate() {
            let is_index = node.op_type == "TopK" && at == 1;
            let made = if is_index { Some(ElementType::Int64 as i32) } else { made };
            if let Some(made) = made {
                types.insert(output, made);
            }
        }
    }
    types
}

/// The element type that a `Cast` casts to.
pub fn cast_to(node: &NodeProto) -> Option<i32> {
    let to = node.attribute.iter().find(|attribute| attribute.name == "to")?;
    i32::try_from(to.i?).ok()
}
