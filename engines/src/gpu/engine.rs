//! Runs a frame on the GPU: upload, letterbox, network, ranking of words, download.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaEvent, CudaGraph, CudaSlice};
use wordsight_detection::{FrameView, Ranked, RankingTable};

use super::device::{Device, GpuError, Memory, Pinned, Stream, cuda, milliseconds_between};
use super::frames::PinnedFrames;
use super::kernels::Kernels;
use super::letterbox::{GpuLetterbox, Shape};
use super::ranking::{Outputs, Ranking};
use crate::{
    Engine, EngineError, FrameMemory, ManyStreams, Regions, StepTimes, StudentFacts, StudentOutput,
    WholeFrames,
};

/// Runs a student between the kernels.
///
/// Its input and outputs are those of [`StudentFacts`]; they are in the memory that [`Network::bind`] was given.
pub trait Network: Send {
    /// Tells where a port's data lies, before the first run; the memory outlives the network.
    ///
    /// # Errors
    /// When there is no such port, or it is of another size.
    fn bind(&mut self, port: &str, memory: Memory) -> Result<(), String>;

    /// Queues one run in a stream, without waiting for it.
    ///
    /// # Errors
    /// When it can't, or not in a stream that is being captured.
    fn queue(&mut self, stream: Stream) -> Result<(), String>;
}

/// Frames that may be under route.
const SLOTS: usize = 2;

/// A student and all that surrounds it, on one GPU, for one stream of frames. [`ManyStreams::for_another`] makes the same for
/// another stream: both run one network, and each has its own frames, letterbox, words and graphs.
pub struct GpuEngine<N> {
    name: String,
    facts: StudentFacts,
    slots: Vec<Slot>,
    letterbox: Option<GpuLetterbox>,
    ranking: Option<Ranking>,
    frames: Arc<PinnedFrames>,
    device: Device,
    shared: Arc<Shared<N>>,
    /// Slots that are under route, oldest first.
    under_way: VecDeque<usize>,
    /// Which ways have been gone without a graph, so that the next time one is captured.
    warm: Vec<Route>,
    captures: bool,
    /// Whether other words are patched into the graphs that are there.
    patches: bool,
    /// Counts changes of `letterbox` and of the ranking's answers: graphs of another generation are of no use.
    generation: u64,
}

/// What all streams of frames share.
struct Shared<N> {
    /// Whoever holds it has the CUDA stream, too: what one thread captures must not mix with what another queues,
    /// reserves or frees there. Dropped before the memory that it is bound to.
    network: Mutex<N>,
    buffers: Buffers,
    kernels: Kernels,
}

impl<N> Shared<N> {
    fn hold(&self) -> MutexGuard<'_, N> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the network reads and writes.
struct Buffers {
    input: CudaSlice<u8>,
    /// The network's outputs, in their order.
    outputs: Vec<(StudentOutput, CudaSlice<f32>)>,
    /// What stands for the objectness of a student that doesn't tell it: 1.
    ones: Option<CudaSlice<f32>>,
}

impl Buffers {
    fn new(device: &Device, facts: &StudentFacts) -> Result<Self, GpuError> {
        let buffer =
            |output: &StudentOutput| Ok((*output, device.zeros(facts.shape_of(*output).iter().product())?));
        let ones = match facts.has(StudentOutput::Objectness) {
            true => None,
            false => Some(device.copy_of(&vec![1.0; facts.proposals])?),
        };
        Ok(Self {
            input: device.zeros(facts.resize.input_len())?,
            outputs: facts.outputs.iter().map(buffer).collect::<Result<_, GpuError>>()?,
            ones,
        })
    }

    fn of(&self, output: StudentOutput) -> Option<&CudaSlice<f32>> {
        self.outputs.iter().find(|(of, _)| *of == output).map(|(_, buffer)| buffer)
    }

    /// What words are ranked by.
    fn for_words(&self) -> Outputs<'_> {
        Outputs {
            objectness: self.of(StudentOutput::Objectness).or(self.ones.as_ref()),
            text: self.of(StudentOutput::TextEmbeddings),
            image: self.of(StudentOutput::ImageEmbeddings),
            logit_shift: self.of(StudentOutput::LogitShift),
            logit_scale: self.of(StudentOutput::LogitScale),
        }
    }
}

/// Which steps a frame takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    /// From a frame, by the letterbox; or else from the planes of the input.
    from_frame: bool,
    /// From where the frame was captured, in front of the graph; or else from the slot, by the graph.
    in_place: bool,
    /// To ranked words; or else to embeddings.
    to_words: bool,
    generation: u64,
}

/// Pinned memory for one frame, and its graph.
struct Slot {
    graph: Option<(Route, CudaGraph)>,
    route: Option<Route>,
    upload: Pinned<u8>,
    /// The network's outputs, in their order.
    outputs: Vec<Pinned<f32>>,
    words: Pinned<i32>,
    scores: Pinned<f32>,
    done: CudaEvent,
}

// SAFETY: graphs are the one part that isn't Send by itself: CUDA asks that a graph not be used by two threads at once,
// and `&mut self` sees to it.
unsafe impl<N: Send> Send for GpuEngine<N> {}

impl Slot {
    fn new(device: &Device, facts: &StudentFacts, upload: usize) -> Result<Self, GpuError> {
        let outputs = facts
            .outputs
            .iter()
            .map(|output| Pinned::zeros(device, facts.shape_of(*output).iter().product()));
        Ok(Self {
            graph: None,
            route: None,
            upload: Pinned::zeros(device, upload)?,
            outputs: outputs.collect::<Result<_, GpuError>>()?,
            words: Pinned::zeros(device, 0)?,
            scores: Pinned::zeros(device, 0)?,
            done: device.event()?,
        })
    }
}

/// Whether an output is copied from the GPU although its words are ranked there.
fn is_of_ranked(output: StudentOutput) -> bool {
    matches!(output, StudentOutput::Boxes | StudentOutput::Objectness)
}

impl<N: Network> GpuEngine<N> {
    /// A student on the first GPU; `network` makes what runs it, once the GPU is open.
    ///
    /// # Errors
    /// When there is no GPU or no room on it, or the network can't be made or bound.
    pub fn new(
        name: &str,
        facts: StudentFacts,
        network: impl FnOnce() -> Result<N, EngineError>,
    ) -> Result<Self, EngineError> {
        let named = |reason| EngineError::Gpu { engine: name.to_owned(), reason };
        let device = Device::open().map_err(named)?;
        let kernels = Kernels::load(&device).map_err(named)?;
        Self::around(name, facts, network()?, device, kernels).map_err(named)
    }

    fn around(
        name: &str,
        facts: StudentFacts,
        mut network: N,
        device: Device,
        kernels: Kernels,
    ) -> Result<Self, GpuError> {
        let buffers = Buffers::new(&device, &facts)?;
        let input = Memory { address: device.address(&buffers.input), len: buffers.input.len() };
        network.bind(StudentFacts::INPUT, input).map_err(GpuError::Network)?;
        for (output, buffer) in &buffers.outputs {
            let memory = Memory { address: device.address(buffer), len: size_of::<f32>() * buffer.len() };
            network.bind(output.name(), memory).map_err(GpuError::Network)?;
        }
        let shared = Shared { network: Mutex::new(network), buffers, kernels };
        Self::of(name, facts, device, Arc::new(shared))
    }

    /// For a stream of frames that has none yet.
    fn of(name: &str, facts: StudentFacts, device: Device, shared: Arc<Shared<N>>) -> Result<Self, GpuError> {
        let slots: Result<Vec<Slot>, GpuError> =
            (0..SLOTS).map(|_| Slot::new(&device, &facts, shared.buffers.input.len())).collect();
        Ok(Self {
            name: name.to_owned(),
            slots: slots?,
            facts,
            letterbox: None,
            ranking: None,
            frames: Arc::new(PinnedFrames::new(&device)),
            device,
            shared,
            under_way: VecDeque::with_capacity(SLOTS),
            warm: Vec::new(),
            captures: true,
            patches: true,
            generation: 0,
        })
    }

    /// Sends bytes, a frame's or those of the input's planes, on their route.
    fn start(&mut self, bytes: &[u8], from_frame: bool, to_words: bool) -> Result<(), GpuError> {
        assert!(self.under_way.len() < SLOTS, "no more than {SLOTS} frames under way");
        self.device.enter()?;
        let at = (0..SLOTS).find(|at| !self.under_way.contains(at)).unwrap_or(0);
        let route = self.route_of(bytes, from_frame, to_words);
        let slot = &mut self.slots[at];
        if slot.route.is_none_or(|before| before.generation != self.generation) {
            let places = self.ranking.as_ref().map_or(0, |ranking| ranking.answers.words.len());
            slot.graph = None;
            slot.words = Pinned::zeros(&self.device, places)?;
            slot.scores = Pinned::zeros(&self.device, places)?;
        }
        if !route.in_place {
            if slot.upload.len() < bytes.len() {
                slot.graph = None;
                slot.upload = Pinned::zeros(&self.device, bytes.len())?;
            }
            slot.upload[..bytes.len()].copy_from_slice(bytes);
        }
        slot.route = Some(route);

        let shared = Arc::clone(&self.shared);
        let mut network = shared.hold();
        let captured = matches!(&slot.graph, Some((of, _)) if *of == route);
        if !captured {
            // A graph of another route is of no use to this frame.
            slot.graph = None;
            if self.captures && self.warm.contains(&route) {
                self.slots[at].graph =
                    self.capture(at, route, bytes, &mut network)?.map(|graph| (route, graph));
            }
        }
        if let Some((_, graph)) = &self.slots[at].graph {
            if route.in_place {
                self.queue_upload(at, route, bytes)?;
            }
            graph.launch().map_err(cuda("run a frame"))?;
        } else {
            self.queue_upload(at, route, bytes)?;
            self.queue(at, route, &mut network, &[])?;
            if !self.warm.contains(&route) {
                self.warm.retain(|known| known.generation == route.generation);
                self.warm.push(route);
            }
        }
        self.slots[at].done.record(&self.device.stream).map_err(cuda("mark a frame's end"))?;
        self.under_way.push_back(at);
        Ok(())
    }

    /// Has the letterbox's tables for frames of this shape.
    fn make_ready_for(&mut self, frame: &FrameView<'_>) -> Result<(), GpuError> {
        let shape = Shape::of(frame)?;
        if self.letterbox.as_ref().is_some_and(|letterbox| letterbox.is_for(shape)) {
            return Ok(());
        }
        self.device.enter()?;
        let _stream = self.shared.hold();
        // Frames under way still read the old tables.
        self.device.stream.synchronize().map_err(cuda("wait for the GPU"))?;
        let resize = &self.facts.resize;
        self.letterbox = Some(GpuLetterbox::new(&self.device, shape, &self.shared.buffers.input, resize)?);
        self.generation += 1;
        Ok(())
    }

    /// Runs a frame without a graph, waits for it, and returns what the steps took.
    fn time(&mut self, frame: &FrameView<'_>) -> Result<StepTimes, GpuError> {
        self.make_ready_for(frame)?;
        self.drain()?;
        let flags = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let marks: Result<Vec<CudaEvent>, _> =
            (0..=StepTimes::STEPS).map(|_| self.device.context.new_event(flags)).collect();
        let marks = marks.map_err(cuda("make an event"))?;
        // The slot's buffers are made for the words and the size, as for any frame.
        self.start(frame.bytes, true, self.ranking.is_some())?;
        self.finish_oldest(&mut Regions::default())?;
        let route = self.route_of(frame.bytes, true, self.ranking.is_some());
        let shared = Arc::clone(&self.shared);
        let mut network = shared.hold();
        marks[0].record(&self.device.stream).map_err(cuda("mark a step"))?;
        self.queue_upload(0, route, frame.bytes)?;
        self.queue(0, route, &mut network, &marks[1..])?;
        let mut times = [0.0; StepTimes::STEPS];
        for (time, ends) in times.iter_mut().zip(marks.windows(2)) {
            *time = milliseconds_between(&ends[0], &ends[1])?;
        }
        let [h2d_ms, letterbox_ms, network_ms, words_ms, d2h_ms] = times;
        Ok(StepTimes { h2d_ms, letterbox_ms, network_ms, words_ms, d2h_ms })
    }

    /// Captures a frame's route as a graph; `None` where that can't be, which is logged once.
    fn capture(
        &mut self,
        at: usize,
        route: Route,
        bytes: &[u8],
        network: &mut N,
    ) -> Result<Option<CudaGraph>, GpuError> {
        const DOING: &str = "capture a graph";
        self.device
            .stream
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)
            .map_err(cuda(DOING))?;
        let uploaded = if route.in_place { Ok(()) } else { self.queue_upload(at, route, bytes) };
        let queued = uploaded.and_then(|()| self.queue(at, route, network, &[]));
        // Ends the capture whatever came of it.
        let graph = self.device.stream.end_capture(CUgraphInstantiate_flags(0)).map_err(cuda(DOING));
        match (queued, graph) {
            (Ok(()), Ok(Some(graph))) => return Ok(Some(graph)),
            (Err(error), _) | (_, Err(error)) => {
                tracing::info!(%error, "frames go without a CUDA graph: the network does not take part in one");
            }
            (Ok(()), Ok(None)) => tracing::info!("frames go without a CUDA graph: CUDA made none"),
        }
        self.captures = false;
        Ok(None)
    }

    /// Takes up a vocabulary; nothing is under route. Graphs that rank go on with it, or are captured again where that can't
    /// be, which is logged once.
    fn set_ranking(&mut self, ranking: Ranking) {
        let before = self.ranking.replace(ranking);
        let Some(ranking) = &self.ranking else { return };
        if !before.is_some_and(|before| Arc::ptr_eq(&before.answers, &ranking.answers)) {
            self.generation += 1;
            return;
        }
        for slot in &mut self.slots {
            // Of another generation: it will not run again.
            let Some((route, graph)) = &slot.graph else { continue };
            if !route.to_words || route.generation != self.generation {
                continue;
            }
            if self.patches
                && let Err(error) = ranking.patch(graph, &self.shared.kernels)
            {
                tracing::info!(%error, "new words take a new capture of the CUDA graph: the driver does not patch it");
                self.patches = false;
            }
            if !self.patches {
                slot.graph = None;
            }
        }
    }

    /// The route of these bytes.
    fn route_of(&self, bytes: &[u8], from_frame: bool, to_words: bool) -> Route {
        let in_place = from_frame && self.frames.holds(bytes);
        Route { from_frame, in_place, to_words, generation: self.generation }
    }

    /// Puts the copy of a frame, or of the input's planes, to the GPU in the stream; `bytes` are those, in the slot already
    /// where that is its route.
    fn queue_upload(&self, at: usize, route: Route, bytes: &[u8]) -> Result<(), GpuError> {
        let letterbox = self.letterbox.as_ref().filter(|_| route.from_frame);
        let to = letterbox.map_or(&self.shared.buffers.input, |letterbox| &letterbox.frame);
        if route.in_place {
            // SAFETY: they lie in a block of `frames`, which is pinned.
            return unsafe { self.device.upload_from(bytes, to) };
        }
        self.device.upload(&self.slots[at].upload, bytes.len(), to)
    }

    /// Puts what follows the copy to the GPU in the stream; `marks`, if there are any, before and after each step.
    fn queue(
        &mut self,
        at: usize,
        route: Route,
        network: &mut N,
        marks: &[CudaEvent],
    ) -> Result<(), GpuError> {
        let (device, slot) = (&self.device, &mut self.slots[at]);
        let Shared { buffers, kernels, .. } = &*self.shared;
        let mut marks = marks.iter();
        let mut mark = || match marks.next() {
            Some(mark) => mark.record(&device.stream).map_err(cuda("mark a step")),
            None => Ok(()),
        };
        let letterbox = self.letterbox.as_ref().filter(|_| route.from_frame);
        let ranking = self.ranking.as_ref().filter(|_| route.to_words);
        mark()?;
        if let Some(letterbox) = letterbox {
            letterbox.queue(device, kernels)?;
        }
        mark()?;
        network.queue(Stream::of(device)).map_err(GpuError::Network)?;
        mark()?;
        if let Some(ranking) = ranking {
            ranking.queue(device, kernels)?;
        }
        mark()?;
        for ((output, buffer), slot) in buffers.outputs.iter().zip(&mut slot.outputs) {
            if ranking.is_none() || is_of_ranked(*output) {
                device.download(buffer, slot)?;
            }
        }
        if let Some(ranking) = ranking {
            device.download(&ranking.answers.words, &mut slot.words)?;
            device.download(&ranking.answers.scores, &mut slot.scores)?;
        }
        mark()
    }

    /// Waits for the oldest frame in flight and copies its results.
    fn finish_oldest(&mut self, regions: &mut Regions) -> Result<(), GpuError> {
        regions.clear();
        let Some(at) = self.under_way.pop_front() else { return Ok(()) };
        let slot = &self.slots[at];
        slot.done.synchronize().map_err(cuda("finish a frame"))?;
        // The words are those that the frame started with: setting others loses what is under route.
        let ranking = self.ranking.as_ref().filter(|_| slot.route.is_some_and(|route| route.to_words));
        for (output, values) in self.facts.outputs.iter().zip(&slot.outputs) {
            if ranking.is_none() || is_of_ranked(*output) {
                regions.take_output(*output, values);
            }
        }
        regions.complete();
        if let Some(ranking) = ranking {
            let ranked = regions.ranked.get_or_insert_default();
            let places = slot.words.iter().zip(&slot.scores[..]).enumerate();
            ranked.extend(places.filter_map(|(place, (&word, &score))| {
                let word = usize::try_from(word).ok()?;
                Some(Ranked { region: place / ranking.answers.words_per_region, word, score })
            }));
        } else {
            regions.ranked = None;
        }
        Ok(())
    }

    /// Nothing of this stream of frames is under way after it; what was is lost.
    fn drain(&mut self) -> Result<(), GpuError> {
        self.under_way.clear();
        self.device.enter()?;
        let _stream = self.shared.hold();
        self.device.stream.synchronize().map_err(cuda("wait for the GPU"))
    }

    fn named(&self, error: GpuError) -> EngineError {
        EngineError::Gpu { engine: self.name.clone(), reason: error }
    }
}

impl<N> Drop for GpuEngine<N> {
    fn drop(&mut self) {
        let _stream = self.shared.hold();
        // Kernels read what the fields own, until they have come by.
        let ended = self.device.enter().and_then(|()| self.device.stream.synchronize().map_err(cuda("end")));
        if let Err(error) = ended {
            tracing::debug!(%error, "the GPU did not end cleanly");
        }
        // Freed in the CUDA stream. The graphs go before what they read.
        self.slots.clear();
        (self.letterbox, self.ranking) = (None, None);
    }
}

impl<N: Network + 'static> Engine for GpuEngine<N> {
    fn name(&self) -> &str {
        &self.name
    }

    fn facts(&self) -> &StudentFacts {
        &self.facts
    }

    fn infer(&mut self, image: &[u8], regions: &mut Regions) -> Result<(), EngineError> {
        if image.len() != self.shared.buffers.input.len() {
            return Err(EngineError::BadInput {
                model: self.name.clone(),
                input: StudentFacts::INPUT.to_owned(),
                reason: format!(
                    "it takes {} bytes, and {} were given",
                    self.shared.buffers.input.len(),
                    image.len()
                ),
            });
        }
        let done = self
            .drain()
            .and_then(|()| self.start(image, false, false))
            .and_then(|()| self.finish_oldest(regions));
        done.map_err(|error| self.named(error))
    }

    fn whole_frames(&mut self) -> Option<&mut dyn WholeFrames> {
        Some(self)
    }

    fn many_streams(&self) -> Option<&dyn ManyStreams> {
        Some(self)
    }
}

impl<N: Network + 'static> ManyStreams for GpuEngine<N> {
    fn for_another(&self) -> Result<Box<dyn ManyStreams>, EngineError> {
        let shared = Arc::clone(&self.shared);
        match Self::of(&self.name, self.facts.clone(), self.device.clone(), shared) {
            Ok(another) => Ok(Box::new(another)),
            Err(error) => Err(self.named(error)),
        }
    }
}

impl<N: Network + 'static> WholeFrames for GpuEngine<N> {
    fn set_words(&mut self, words: &RankingTable) -> Result<(), EngineError> {
        let set = self.drain().and_then(|()| {
            let shared = Arc::clone(&self.shared);
            let _stream = shared.hold();
            // Made first: should there be no room for it, the old one stays.
            let ranking =
                Ranking::new(&self.device, words, shared.buffers.for_words(), self.ranking.as_ref())?;
            self.set_ranking(ranking);
            Ok(())
        });
        set.map_err(|error| self.named(error))
    }

    fn frame_memory(&self) -> Option<Arc<dyn FrameMemory>> {
        Some(Arc::clone(&self.frames) as Arc<dyn FrameMemory>)
    }

    fn start(&mut self, frame: &FrameView<'_>) -> Result<(), EngineError> {
        let ready = self.make_ready_for(frame);
        let started = ready.and_then(|()| GpuEngine::start(self, frame.bytes, true, self.ranking.is_some()));
        started.map_err(|error| self.named(error))
    }

    fn finish(&mut self, regions: &mut Regions) -> Result<(), EngineError> {
        self.finish_oldest(regions).map_err(|error| self.named(error))
    }

    fn time_steps(&mut self, frame: &FrameView<'_>) -> Result<StepTimes, EngineError> {
        self.time(frame).map_err(|error| self.named(error))
    }
}
