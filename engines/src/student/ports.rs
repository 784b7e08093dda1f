//! The inputs and outputs of a student's graph.

use super::StudentFacts;
use crate::cpu::session::{ElementType, PortSpec};

/// An output of a student's graph, of 32-bit floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StudentOutput {
    /// `[K, 4]`: left, top, right, bottom, in pixels of the input.
    Boxes,
    /// `[K]`, 0 to 1: how much a region looks like a thing, whichever. Where it lacks, it is 1.
    Objectness,
    /// `[K, D]`, rows of length 1: the text head's, or the only ones.
    TextEmbeddings,
    /// `[K, D]`, rows of length 1: the image head's; with a softmax alone.
    ImageEmbeddings,
    /// `[K]`: what is added to a region's cosines; with a sigmoid alone.
    LogitShift,
    /// `[K]`, above 0: what that is multiplied by.
    LogitScale,
}

impl StudentOutput {
    /// All that there may be; the first four in the order of the first format.
    pub const ALL: [Self; 6] = [
        Self::Boxes,
        Self::Objectness,
        Self::TextEmbeddings,
        Self::ImageEmbeddings,
        Self::LogitShift,
        Self::LogitScale,
    ];
    /// Those of a student with a softmax; in the first format in this order.
    pub const OF_SOFTMAX: [Self; 4] =
        [Self::Boxes, Self::Objectness, Self::TextEmbeddings, Self::ImageEmbeddings];
    /// Those that a student with a sigmoid must have.
    pub const OF_SIGMOID: [Self; 4] = [Self::Boxes, Self::TextEmbeddings, Self::LogitShift, Self::LogitScale];

    /// Its name in the graph.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boxes => "boxes",
            Self::Objectness => "objectness",
            Self::TextEmbeddings => "text_embeddings",
            Self::ImageEmbeddings => "image_embeddings",
            Self::LogitShift => "logit_shift",
            Self::LogitScale => "logit_scale",
        }
    }

    /// By its name in a graph.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|output| output.name() == name)
    }

    /// Its shape, for people.
    fn meaning(self) -> &'static str {
        match self {
            Self::Boxes => "[K, 4]",
            Self::Objectness | Self::LogitShift | Self::LogitScale => "[K]",
            Self::TextEmbeddings | Self::ImageEmbeddings => "[K, D]",
        }
    }
}

/// The most of anything: pixels of an input's side, regions, numbers of an embedding. Far more than students have, and so
/// few that what is made for them can be counted and allocated.
const LARGEST: usize = 1 << 14;

/// What a student's ports declare.
pub(super) struct Ports {
    pub input_size: (usize, usize),
    pub outputs: Vec<StudentOutput>,
    pub proposals: usize,
    pub embedding_size: usize,
}

impl Ports {
    pub fn read(inputs: &[PortSpec], outputs: &[PortSpec]) -> Result<Self, String> {
        let names =
            |ports: &[PortSpec]| -> Vec<String> { ports.iter().map(|port| port.name.clone()).collect() };
        let image = match inputs {
            [image] if image.name == StudentFacts::INPUT => image,
            _ => {
                return Err(format!(
                    "its inputs are {:?}, and a student's are {:?}",
                    names(inputs),
                    [StudentFacts::INPUT]
                ));
            }
        };
        let [batch, channels, input_height, input_width] =
            static_shape(image, ElementType::U8, "[1, 3, H, W]")?;
        if [batch, channels] != [1, 3] {
            return Err(format!("`image` is {image}, and must be uint8 [1, 3, H, W]"));
        }
        let found = outputs.iter().map(|port| StudentOutput::of_name(&port.name));
        let Some(known) = found.collect::<Option<Vec<StudentOutput>>>() else {
            return Err(format!(
                "its outputs are {:?}, and a student's are among {:?}",
                names(outputs),
                StudentOutput::ALL.map(StudentOutput::name)
            ));
        };
        let port = |output: StudentOutput| {
            let place = known.iter().position(|known| *known == output);
            place.map(|place| &outputs[place]).ok_or_else(|| {
                format!("its outputs are {:?}, and `{}` is not among them", names(outputs), output.name())
            })
        };
        let [proposals, _] = static_shape(port(StudentOutput::Boxes)?, ElementType::F32, "[K, 4]")?;
        let [_, embedding_size] =
            static_shape(port(StudentOutput::TextEmbeddings)?, ElementType::F32, "[K, D]")?;
        check_shapes(known.iter().zip(outputs), proposals, embedding_size)?;
        if [input_width, input_height, proposals, embedding_size].iter().any(|size| *size > LARGEST) {
            return Err(format!(
                "its sizes are beyond any student's, which end at {LARGEST}: image {:?}, {proposals} regions, embeddings \
                 of {embedding_size}",
                image.shape
            ));
        }
        Ok(Self { input_size: (input_width, input_height), outputs: known, proposals, embedding_size })
    }
}

/// That all outputs are of so many regions, and embeddings of one size.
fn check_shapes<'a>(
    outputs: impl Iterator<Item = (&'a StudentOutput, &'a PortSpec)>,
    proposals: usize,
    embedding_size: usize,
) -> Result<(), String> {
    for (output, port) in outputs {
        let wanted = match output {
            StudentOutput::Boxes => vec![proposals, 4],
            StudentOutput::TextEmbeddings | StudentOutput::ImageEmbeddings => vec![proposals, embedding_size],
            _ => vec![proposals],
        };
        if fixed_shape(port, &ElementType::F32).is_none_or(|found| found != wanted) {
            return Err(format!(
                "its shapes do not fit together: `{}` is {port}, and must be float32 {} with K = {proposals} and D = \
                 {embedding_size}, as its boxes and text_embeddings have them",
                port.name,
                output.meaning()
            ));
        }
    }
    Ok(())
}

/// A port's shape, if it holds what it should and every dimension is fixed.
fn fixed_shape(port: &PortSpec, element_type: &ElementType) -> Option<Vec<usize>> {
    let sizes = port.shape.iter().map(|&size| usize::try_from(size).ok().filter(|&size| size > 0));
    sizes.collect::<Option<Vec<usize>>>().filter(|_| port.element_type == *element_type)
}

/// The same of a rank that is known; `meaning` is for the error.
fn static_shape<const RANK: usize>(
    port: &PortSpec,
    element_type: ElementType,
    meaning: &str,
) -> Result<[usize; RANK], String> {
    fixed_shape(port, &element_type).and_then(|sizes| sizes.try_into().ok()).ok_or_else(|| {
        format!("`{}` is {port}, and must be {element_type} {meaning} with every size fixed", port.name)
    })
}
