//! Cuts parts out of a graph: what makes some of its tensors, and nothing else.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::proto::{GraphProto, NodeProto, TensorProto};

/// Why a part can't be cut out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// Something is read that is neither made nor given nor constant.
    #[error("the tensor `{0}` is read in it, and nothing makes it")]
    Missing(String),
}

/// A part of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its nodes, in the order of the graph.
    pub nodes: Vec<NodeProto>,
    /// Its constants.
    pub constants: Vec<TensorProto>,
    /// The graph's inputs that it reads.
    pub inputs: BTreeSet<String>,
}

impl Part {
    /// What makes the tensors `wanted`.
    ///
    /// # Errors
    /// When something that it reads is missing.
    pub fn of(graph: &GraphProto, wanted: &[&str]) -> Result<Self, CutError> {
        let producers: HashMap<&str, usize> = graph
            .node
            .iter()
            .enumerate()
            .flat_map(|(place, node)| node.output.iter().map(move |output| (output.as_str(), place)))
            .collect();
        let constants: HashSet<&str> =
            graph.initializer.iter().map(|constant| constant.name.as_str()).collect();
        let inputs: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
        let (mut nodes, mut used, mut read) = (BTreeSet::new(), HashSet::new(), BTreeSet::new());
        let mut towards: Vec<&str> = wanted.to_vec();
        while let Some(tensor) = towards.pop() {
            if let Some(&place) = producers.get(tensor) {
                if nodes.insert(place) {
                    towards.extend(reads(&graph.node[place]));
                }
            } else if constants.contains(tensor) {
                used.insert(tensor);
            } else if inputs.contains(tensor) {
                read.insert(tensor.to_owned());
            } else {
                return Err(CutError::Missing(tensor.to_owned()));
            }
        }
        Ok(Self {
            nodes: nodes.into_iter().map(|place| graph.node[place].clone()).collect(),
            constants: graph
                .initializer
                .iter()
                .filter(|constant| used.contains(constant.name.as_str()))
                .cloned()
                .collect(),
            inputs: read,
        })
    }
}

/// Makes initializers of `Constant` nodes, as exporters write them that keep none.
pub fn lift_constants(graph: &mut GraphProto) {
    let mut constants = Vec::new();
    graph.node.retain_mut(|node| {
        let mut attributes = node.attribute.iter_mut().filter(|_| node.op_type == "Constant");
        let Some(tensor) =
            attributes.find(|attribute| attribute.name == "value").and_then(|value| value.t.take())
        else {
            return true;
        };
        constants.push(TensorProto { name: node.output.first().cloned().unwrap_or_default(), ..tensor });
        false
    });
    graph.initializer.extend(constants);
}

/// The names of what a node reads; those of its branches and bodies too, which may read what is around them.
pub fn reads(node: &NodeProto) -> Vec<&str> {
    let mut read: Vec<&str> = node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let graphs = node
        .attribute
        .iter()
        .flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs));
    for graph in graphs {
        let made: HashSet<&str> = graph
            .node
            .iter()
            .flat_map(|node| node.output.iter().map(String::as_str))
            .chain(graph.input.iter().map(|input| input.name.as_str()))
            .chain(graph.initializer.iter().map(|constant| constant.name.as_str()))
            .collect();
        let inner =
            graph.node.iter().flat_map(reads).chain(graph.output.iter().map(|output| output.name.as_str()));
        read.extend(inner.filter(|name| !made.contains(name)));
    }
    read
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::proto::{AttributeProto, AttributeType, ElementType, ValueInfoProto};
    use crate::{Graph, Storage};

    /// y = a + 1, z = b + 2, both = y * z.
    fn graph() -> GraphProto {
        let mut graph = Graph::new("two sides", Storage::F32);
        let a = graph.input("a", ElementType::Float, &[2]);
        let b = graph.input("b", ElementType::Float, &[2]);
        let (one, two) = (graph.scalar(1.0), graph.scalar(2.0));
        let (y, z) = (graph.add(&a, &one), graph.add(&b, &two));
        let both = graph.mul(&y, &z);
        for (value, name) in [(&y, "y"), (&z, "z"), (&both, "both")] {
            graph.output(value, name, ElementType::Float, &[2]);
        }
        graph.into_model(&[]).graph.unwrap()
    }

    #[test]
    fn a_part_has_what_it_needs_and_nothing_else() {
        let graph = graph();
        let part = Part::of(&graph, &["y"]).unwrap();
        assert_eq!((part.nodes.len(), part.constants.len()), (2, 1));
        assert_eq!(part.inputs, BTreeSet::from(["a".to_owned()]));
        let whole = Part::of(&graph, &["both", "y", "z"]).unwrap();
        assert_eq!((whole.nodes, whole.constants), (graph.node.clone(), graph.initializer.clone()));
    }

    #[test]
    fn what_nothing_makes_is_named() {
        let mut graph = graph();
        graph.initializer.clear();
        let error = Part::of(&graph, &["y"]).unwrap_err();
        assert!(error.to_string().contains("constant"), "{error}");
    }

    #[test]
    fn a_branch_reads_what_is_around_it_and_not_what_it_makes() {
        let inner = GraphProto {
            node: vec![
                NodeProto::new("Add", vec!["outside".into(), "given".into()], "inside", &[]),
                NodeProto::new("Relu", vec!["inside".into()], "made", &[]),
            ],
            input: vec![ValueInfoProto { name: "given".into(), r#type: None }],
            output: vec![ValueInfoProto { name: "made".into(), r#type: None }],
            ..GraphProto::default()
        };
        let mut node = NodeProto::new("If", vec!["condition".into()], "either", &[]);
        node.attribute = vec![AttributeProto {
            name: "then_branch".into(),
            g: Some(Box::new(inner)),
            r#type: AttributeType::Graph as i32,
            ..AttributeProto::default()
        }];
        assert_eq!(reads(&node), ["condition", "outside"]);
    }
}
