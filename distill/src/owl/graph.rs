//! Where the graph is cut, and what becomes of either side.
//!
//! Found by structure, from the logits backwards: `(product + shift) * scale`, of which the product alone has one side
//! that depends on the image and one that depends on the captions; names of exports differ, and this is OWL's arithmetic
//! (`OwlViTClassPredictionHead` of transformers).

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use wordsight_onnx::proto::{
    Dimension, DimensionProto, ElementType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use wordsight_onnx::{Attribute, Part, lift_constants, reads};

use super::source::{Preprocessor, Source};

/// The names that exports give to what they take and give.
const CAPTION_INPUTS: [&str; 2] = ["input_ids", "attention_mask"];
const IMAGE_INPUTS: [&str; 2] = ["pixel_values", "image"];
const LOGITS: [&str; 2] = ["logits", "pred_logits"];
const BOXES: [&str; 2] = ["pred_boxes", "boxes"];
const OBJECTNESS: [&str; 1] = ["objectness_logits"];
/// What is added for the student begins so.
const SCOPE: &str = "wordsight";

/// The two sides of the cut.
pub(super) struct Halves {
    pub image: ImageHalf,
    pub text: TextHalf,
}

/// What depends on the image, and the names of what the student answers from.
pub(super) struct ImageHalf {
    pub part: Part,
    model: Header,
    input: String,
    pub embeddings: String,
    pub shift: String,
    pub scale: String,
    pub boxes: String,
    pub objectness: Option<String>,
}

/// What depends on the captions.
pub(super) struct TextHalf {
    pub part: Part,
    model: Header,
    inputs: Vec<ValueInfoProto>,
    pub embeddings: String,
}

/// A model's versions.
#[derive(Clone)]
struct Header {
    ir_version: i64,
    opset_import: Vec<OperatorSetIdProto>,
}

impl Header {
    fn of(model: &ModelProto) -> Self {
        Self { ir_version: model.ir_version, opset_import: model.opset_import.clone() }
    }

    fn model(&self, graph: GraphProto, metadata: &[(&'static str, String)]) -> ModelProto {
        let entry = |(key, value): &(&'static str, String)| StringStringEntryProto {
            key: (*key).to_owned(),
            value: value.clone(),
        };
        ModelProto {
            ir_version: self.ir_version,
            producer_name: "wordsight".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(graph),
            opset_import: self.opset_import.clone(),
            metadata_props: metadata.iter().map(entry).collect(),
            ..ModelProto::default()
        }
    }
}

/// What running the image's side has told.
pub(super) struct StudentParts {
    pub regions: usize,
    pub embedding_size: usize,
    /// Whether the export makes its embeddings' length 1 itself.
    pub is_normalised: bool,
    /// Whether its boxes are corners, as NanoOWL's encoder has them, and not centre and size.
    pub has_corners: bool,
    /// Numbers that tell these weights from others.
    pub sample: Vec<f32>,
}

impl Halves {
    /// Finds where an export is to be cut.
    ///
    /// # Errors
    /// When it isn't built like one of OWL's.
    pub fn cut(source: &Source) -> Result<Self> {
        match source.graphs.as_slice() {
            [(path, model)] => Self::of_one(model)
                .with_context(|| format!("{} is not an export of OWL-ViT or OWLv2", path.display())),
            graphs => {
                let takes = |names: &[&str]| {
                    let found = graphs.iter().find(|(_, model)| named_input(model, names).is_some());
                    found.map(|(_, model)| model)
                };
                let image = takes(&IMAGE_INPUTS)
                    .context("none of the graphs takes an image (`pixel_values` or `image`)")?;
                let text =
                    takes(&CAPTION_INPUTS).context("none of the graphs takes captions (`input_ids`)")?;
                Self::of_two(image, text)
            }
        }
    }

    fn of_one(model: &ModelProto) -> Result<Self> {
        let graph = prepared(model)?;
        let input =
            named_input(model, &IMAGE_INPUTS).context("it takes no image: it has no input `pixel_values`")?;
        ensure!(
            named_input(model, &CAPTION_INPUTS[..1]).is_some(),
            "it takes no captions: it has no input `input_ids`"
        );
        let output = |names: &[&str]| {
            let found = graph.output.iter().find(|output| names.contains(&output.name.as_str()));
            found.map(|output| output.name.clone())
        };
        let logits = output(&LOGITS).context("it has no output `logits`")?;
        let boxes = output(&BOXES).context("it has no output `pred_boxes`")?;
        let head = ClassHead::find(&graph, &input, &logits)?;
        let objectness = output(&OBJECTNESS);
        let image =
            ImageHalf::new(model, &graph, input, head.image, [head.shift, head.scale, boxes], objectness)?;
        Ok(Self { image, text: TextHalf::new(model, &graph, head.text)? })
    }

    /// NanoOWL's layout: an encoder each.
    fn of_two(image: &ModelProto, text: &ModelProto) -> Result<Self> {
        let (graph, text_graph) = (prepared(image)?, prepared(text)?);
        let input = named_input(image, &IMAGE_INPUTS).unwrap_or_default();
        let output = |graph: &GraphProto, names: &[&str]| {
            let found = names.iter().find(|name| graph.output.iter().any(|output| output.name == **name));
            found.map(|name| (*name).to_owned()).with_context(|| {
                let has: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
                format!("the outputs of a graph are {has:?}, and none is called {names:?}")
            })
        };
        let embeddings = output(&graph, &["image_class_embeds", "class_embeds"])?;
        let [shift, scale] = [output(&graph, &["logit_shift"])?, output(&graph, &["logit_scale"])?];
        let boxes = output(&graph, &BOXES)?;
        let objectness = output(&graph, &OBJECTNESS).ok();
        let caption = output(&text_graph, &["text_embeds", "pooler_output"])?;
        Ok(Self {
            image: ImageHalf::new(image, &graph, input, embeddings, [shift, scale, boxes], objectness)?,
            text: TextHalf::new(text, &text_graph, caption)?,
        })
    }
}

impl ImageHalf {
    fn new(
        model: &ModelProto,
        graph: &GraphProto,
        input: String,
        embeddings: String,
        [shift, scale, boxes]: [String; 3],
        objectness: Option<String>,
    ) -> Result<Self> {
        let mut wanted = vec![embeddings.as_str(), &shift, &scale, &boxes];
        wanted.extend(objectness.as_deref());
        let part = Part::of(graph, &wanted)?;
        ensure!(
            part.inputs == BTreeSet::from([input.clone()]),
            "what it finds in an image depends on {:?}, and not on the image alone",
            part.inputs
        );
        Ok(Self { part, model: Header::of(model), input, embeddings, shift, scale, boxes, objectness })
    }
}

impl TextHalf {
    fn new(model: &ModelProto, graph: &GraphProto, embeddings: String) -> Result<Self> {
        let part = Part::of(graph, &[&embeddings])?;
        ensure!(
            part.inputs.contains("input_ids")
                && part.inputs.iter().all(|input| CAPTION_INPUTS.contains(&input.as_str())),
            "what it makes of captions depends on {:?}, and must on `input_ids` and at most on `attention_mask`",
            part.inputs
        );
        let inputs = graph.input.iter().filter(|input| part.inputs.contains(&input.name)).cloned().collect();
        Ok(Self { part, model: Header::of(model), inputs, embeddings })
    }
}

/// A graph whose nodes all have names and whose constants are all initializers.
fn prepared(model: &ModelProto) -> Result<GraphProto> {
    let mut graph = model.graph.clone().context("it has no graph")?;
    lift_constants(&mut graph);
    // Of a graph that was made here, names that will be given again.
    let of_nodes = graph.node.iter_mut().flat_map(|node| {
        let NodeProto { input, output, name, .. } = node;
        input.iter_mut().chain(output).chain([name])
    });
    let of_constants = graph.initializer.iter_mut().map(|constant| &mut constant.name);
    for name in of_nodes.chain(of_constants).filter(|name| name.starts_with(SCOPE)) {
        name.insert_str(0, "export/");
    }
    let mut names = HashSet::new();
    for (place, node) in graph.node.iter_mut().enumerate() {
        if node.name.is_empty() || !names.insert(node.name.clone()) {
            node.name = format!("{}_{place}", node.op_type);
            names.insert(node.name.clone());
        }
    }
    // Older exports list constants as inputs too.
    let constants: HashSet<&str> = graph.initializer.iter().map(|constant| constant.name.as_str()).collect();
    graph.input.retain(|input| !constants.contains(input.name.as_str()));
    Ok(graph)
}

fn named_input(model: &ModelProto, names: &[&str]) -> Option<String> {
    let inputs = model.graph.iter().flat_map(|graph| &graph.input);
    inputs.map(|input| &input.name).find(|name| names.contains(&name.as_str())).cloned()
}

/// What a tensor depends on by its values; shapes don't count.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct DependsOn {
    image: bool,
    captions: bool,
}

impl DependsOn {
    fn of_all(graph: &GraphProto, image: &str) -> HashMap<String, Self> {
        let mut found: HashMap<String, Self> = graph
            .input
            .iter()
            .map(|input| {
                let image = input.name == image;
                (input.name.clone(), Self { image, captions: !image })
            })
            .collect();
        for node in &graph.node {
            let mut depends = Self::default();
            if !["Shape", "Size"].contains(&node.op_type.as_str()) {
                for read in reads(node) {
                    let of_input = found.get(read).copied().unwrap_or_default();
                    depends.image |= of_input.image;
                    depends.captions |= of_input.captions;
                }
            }
            found.extend(node.output.iter().map(|output| (output.clone(), depends)));
        }
        found
    }

    const IMAGE: Self = Self { image: true, captions: false };
    const BOTH: Self = Self { image: true, captions: true };
}

/// The tensors around the product of OWL's class head.
struct ClassHead {
    image: String,
    text: String,
    shift: String,
    scale: String,
}

impl ClassHead {
    fn find(graph: &GraphProto, image_input: &str, logits: &str) -> Result<Self> {
        let depends = DependsOn::of_all(graph, image_input);
        let of = |tensor: &str| depends.get(tensor).copied().unwrap_or_default();
        let producers: HashMap<&str, &NodeProto> = graph
            .node
            .iter()
            .flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node)))
            .collect();
        let (mut at, mut shift, mut scale) = (logits.to_owned(), None, None);
        loop {
            let node = producers.get(at.as_str()).with_context(|| format!("nothing makes `{at}`"))?;
            let with = |depends: DependsOn| node.input.iter().find(|input| of(input) == depends).cloned();
            let on_both = with(DependsOn::BOTH);
            match (node.op_type.as_str(), with(DependsOn::IMAGE), on_both) {
                ("MatMul" | "Einsum" | "Gemm", Some(image), None) => {
                    let text = node.input.iter().find(|input| **input != image).cloned().unwrap_or_default();
                    let text = before_reshaping(&text, &producers, &of);
                    let (Some(shift), Some(scale)) = (shift, scale) else {
                        bail!("its logits are not shifted and scaled for each patch, as OWL's are");
                    };
                    return Ok(Self { image, text, shift, scale });
                }
                ("Mul", Some(factor), Some(on)) if scale.is_none() => (scale, at) = (Some(factor), on),
                ("Add", Some(summand), Some(on)) if shift.is_none() => (shift, at) = (Some(summand), on),
                (
                    "Where" | "Cast" | "Identity" | "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze",
                    _,
                    Some(on),
                ) => {
                    at = on;
                }
                (operator, ..) => {
                    bail!(
                        "its logits come from `{operator}` where OWL's come from a product, a shift and a scale"
                    );
                }
            }
        }
    }
}

/// What a caption's embedding was before it was reshaped, batched and made of length 1 for the product.
fn before_reshaping(
    tensor: &str,
    producers: &HashMap<&str, &NodeProto>,
    of: &impl Fn(&str) -> DependsOn,
) -> String {
    let mut at = tensor;
    while let Some(node) = producers.get(at) {
        let moves = ["Reshape", "Transpose", "Squeeze", "Unsqueeze", "Div", "Cast", "Identity", "Expand"]
            .contains(&node.op_type.as_str());
        match node.input.first().filter(|first| moves && of(first).captions) {
            Some(first) => at = first,
            None => break,
        }
    }
    at.to_owned()
}

/// The captions' side as a teacher's text model; without a size as the export has it.
pub(super) fn text_model(halves: &Halves, embedding_size: Option<usize>) -> ModelProto {
    let text = &halves.text;
    let mut graph = Builder::of(&text.part, "captions");
    match embedding_size {
        Some(size) => {
            let rows = graph.reshaped(&text.embeddings, &[-1, size as i64]);
            graph.output(&rows, "text_embeds", &[None, Some(size)]);
        }
        None => graph.output(&text.embeddings, "text_embeds", &[]),
    }
    graph.graph.input = text.inputs.clone();
    text.model.model(graph.graph, &[])
}

/// The image's side as it is, its outputs by name: to be run before the student is made of it.
pub(super) fn probe(halves: &Halves) -> ModelProto {
    let image = &halves.image;
    let mut graph = Builder::of(&image.part, "image");
    let outputs = [&image.embeddings, &image.shift, &image.scale, &image.boxes];
    for (output, name) in outputs.into_iter().chain(&image.objectness).zip(PROBED) {
        graph.output(output, name, &[]);
    }
    graph.graph.input = vec![value_info(&image.input, ElementType::Float, &[])];
    image.model.model(graph.graph, &[])
}

/// The outputs of [`probe`].
pub(super) const PROBED: [&str; 5] =
    ["probed_embeddings", "probed_shift", "probed_scale", "probed_boxes", "probed_objectness"];

/// The name of the image's input.
pub(super) fn image_input(halves: &Halves) -> &str {
    &halves.image.input
}

/// The image's side as a student.
pub(super) fn student(
    source: &Source,
    halves: &Halves,
    parts: &StudentParts,
    metadata: &[(&'static str, String)],
) -> ModelProto {
    let image = &halves.image;
    let (regions, size) = (parts.regions, parts.embedding_size);
    let (width, height) = source.preprocessor.input_size;
    let mut graph = Builder::of(&image.part, "student");
    // NanoOWL calls what it takes as a student does, and takes it normalised.
    graph.make_free(wordsight_engines::StudentFacts::INPUT);
    let input = if image.input == wordsight_engines::StudentFacts::INPUT {
        exports_own(&image.input)
    } else {
        image.input.clone()
    };
    graph.normalisation(&input, &source.preprocessor);

    let boxes = graph.reshaped(&image.boxes, &[regions as i64, 4]);
    let corners = graph.constant(&[4, 4], &corners_in_pixels((width, height), parts.has_corners));
    // Not a MatMul, which a plan has in FP16: at 960 pixels its steps are half of one.
    let boxes = graph.node("Gemm", &[&boxes, &corners], &[]);
    graph.output(&boxes, "boxes", &[Some(regions), Some(4)]);

    let mut embeddings = graph.reshaped(&image.embeddings, &[regions as i64, size as i64]);
    if !parts.is_normalised {
        embeddings = graph.normalised(&embeddings, size);
    }
    graph.output(&embeddings, "text_embeddings", &[Some(regions), Some(size)]);
    for (tensor, name) in [(&image.shift, "logit_shift"), (&image.scale, "logit_scale")] {
        let of_regions = graph.reshaped(tensor, &[regions as i64]);
        graph.output(&of_regions, name, &[Some(regions)]);
    }
    if let Some(objectness) = &image.objectness {
        let logits = graph.reshaped(objectness, &[regions as i64]);
        let objectness = graph.node("Sigmoid", &[&logits], &[]);
        graph.output(&objectness, "objectness", &[Some(regions)]);
    }
    graph.graph.input = vec![value_info(
        wordsight_engines::StudentFacts::INPUT,
        ElementType::Uint8,
        &[Some(1), Some(3), Some(height), Some(width)],
    )];
    image.model.model(graph.graph, metadata)
}

/// What boxes are multiplied by. Rows: centre x, centre y, width, height, as shares of the sides, or corners; columns: left,
/// top, right, bottom, in pixels.
fn corners_in_pixels((width, height): (usize, usize), has_corners: bool) -> [f32; 16] {
    let (w, h) = (width as f32, height as f32);
    #[rustfmt::skip]
    let of_centres = [
        w, 0.0, w, 0.0,
        0.0, h, 0.0, h,
        -w / 2.0, 0.0, w / 2.0, 0.0,
        0.0, -h / 2.0, 0.0, h / 2.0,
    ];
    #[rustfmt::skip]
    let of_corners = [
        w, 0.0, 0.0, 0.0,
        0.0, h, 0.0, 0.0,
        0.0, 0.0, w, 0.0,
        0.0, 0.0, 0.0, h,
    ];
    if has_corners { of_corners } else { of_centres }
}

/// A part of a graph, to which nodes are added.
struct Builder {
    graph: GraphProto,
    /// Counts names, so that each is given once.
    next: usize,
}

impl Builder {
    fn of(part: &Part, name: &str) -> Self {
        let graph = GraphProto {
            name: name.to_owned(),
            node: part.nodes.clone(),
            initializer: part.constants.clone(),
            ..GraphProto::default()
        };
        Self { graph, next: 0 }
    }

    fn name(&mut self, kind: &str) -> String {
        self.next += 1;
        format!("{SCOPE}/{kind}_{}", self.next)
    }

    fn constant(&mut self, shape: &[i64], values: &[f32]) -> String {
        let (name, raw) =
            (self.name("constant"), values.iter().flat_map(|value| value.to_le_bytes()).collect());
        self.graph.initializer.push(TensorProto::constant(&name, ElementType::Float, shape, raw));
        name
    }

    fn node(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let name = self.name(operator);
        let inputs = inputs.iter().map(|input| (*input).to_owned()).collect();
        self.graph.node.push(NodeProto::new(operator, inputs, &name, attributes));
        name
    }

    fn reshaped(&mut self, tensor: &str, shape: &[i64]) -> String {
        let (name, raw) = (self.name("shape"), shape.iter().flat_map(|size| size.to_le_bytes()).collect());
        self.graph.initializer.push(TensorProto::constant(
            &name,
            ElementType::Int64,
            &[shape.len() as i64],
            raw,
        ));
        self.node("Reshape", &[tensor, &name], &[])
    }

    /// Rows of length 1, as transformers makes them: divided by their length and 1e-6.
    fn normalised(&mut self, tensor: &str, size: usize) -> String {
        let squares = self.node("Mul", &[tensor, tensor], &[]);
        // A product sums rows in every operator set, which ReduceSum does in two ways.
        let ones = self.constant(&[size as i64, 1], &vec![1.0; size]);
        let sums = self.node("MatMul", &[&squares, &ones], &[]);
        let lengths = self.node("Sqrt", &[&sums], &[]);
        let epsilon = self.constant(&[1], &[1e-6]);
        let lengths = self.node("Add", &[&lengths, &epsilon], &[]);
        self.node("Div", &[tensor, &lengths], &[])
    }

    /// In front of the part: what makes its `input` of bytes.
    fn normalisation(&mut self, input: &str, preprocessor: &Preprocessor) {
        let factor = self.constant(&[1, 3, 1, 1], &preprocessor.factor);
        let offset = self.constant(&[1, 3, 1, 1], &preprocessor.offset);
        let at = self.graph.node.len();
        let image = wordsight_engines::StudentFacts::INPUT;
        let floats = self.node("Cast", &[image], &[("to", Attribute::Int(ElementType::Float as i64))]);
        let scaled = self.node("Mul", &[&floats, &factor], &[]);
        self.graph.node.push(NodeProto::new("Add", vec![scaled, offset], input, &[]));
        let added = self.graph.node.len() - at;
        self.graph.node.rotate_right(added);
    }

    /// Gives what the export calls by a name another one.
    fn make_free(&mut self, name: &str) {
        let nodes = self.graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        let constants = self.graph.initializer.iter_mut().map(|constant| &mut constant.name);
        for tensor in nodes.chain(constants).filter(|tensor| *tensor == name) {
            *tensor = exports_own(name);
        }
    }

    /// Declares a tensor an output; no sizes: they are not known.
    fn output(&mut self, tensor: &str, name: &str, sizes: &[Option<usize>]) {
        self.make_free(name);
        let tensor = if tensor == name { exports_own(name) } else { tensor.to_owned() };
        let node = NodeProto::new("Identity", vec![tensor], name, &[]);
        self.graph.node.push(NodeProto { name: format!("{SCOPE}/{name}"), ..node });
        self.graph.output.push(value_info(name, ElementType::Float, sizes));
    }
}

/// The name of what the export calls as the student or the teacher calls its inputs and outputs.
fn exports_own(name: &str) -> String {
    format!("{SCOPE}/export/{name}")
}

/// A port; without sizes nothing is said of its shape.
fn value_info(name: &str, element: ElementType, sizes: &[Option<usize>]) -> ValueInfoProto {
    let dimension = |size: &Option<usize>| DimensionProto {
        value: Some(
            size.map_or_else(|| Dimension::Named("batch".to_owned()), |size| Dimension::Fixed(size as i64)),
        ),
    };
    let shape = (!sizes.is_empty()).then(|| TensorShapeProto { dim: sizes.iter().map(dimension).collect() });
    let tensor_type = TensorTypeProto { elem_type: element as i32, shape };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
