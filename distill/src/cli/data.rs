//! `wordsight-distill proposals`, `embed` and `merge`: long work that resumes and can be split into shards.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use wordsight_distill::device::TrainDevice;
use wordsight_distill::embed::{self, EmbedBoxes, ProposalSettings, StudentRegions};
use wordsight_distill::images::Images as Photographs;
use wordsight_distill::mistake::Mistake;
use wordsight_distill::photographs::Unreadable;
use wordsight_distill::table::{self, Shard};
use wordsight_files::Content;
use wordsight_teacher::Teacher;

/// Which part of the work to do.
#[derive(Args)]
struct Part {
    /// Do one of n equal parts, 1/n to n/n: a job of an array on a cluster. `merge` joins them.
    #[arg(long, default_value = "1/1")]
    shard: Shard,
}

/// Images and what is in them.
#[derive(Args)]
struct Images {
    /// Folder that `scenes` wrote: images/ and annotations.json.
    #[arg(long, required_unless_present_all = ["annotations", "images"])]
    scenes: Option<PathBuf>,
    /// Instead of --scenes: an annotation file in COCO's format. It may have no annotations.
    #[arg(long, conflicts_with = "scenes", requires = "images")]
    annotations: Option<PathBuf>,
    /// With --annotations: the images' folder, tar shards (a .tar, a folder of them, or a pattern as in
    /// 'photographs-{000..099}.tar'), or a .txt with one a line.
    #[arg(long, conflicts_with = "scenes", requires = "annotations")]
    images: Option<PathBuf>,
}

impl Images {
    fn annotations(&self) -> PathBuf {
        self.in_scenes(self.annotations.as_ref(), "annotations.json")
    }

    fn folder(&self) -> PathBuf {
        self.in_scenes(self.images.as_ref(), "images")
    }

    fn in_scenes(&self, own: Option<&PathBuf>, name: &str) -> PathBuf {
        own.cloned().unwrap_or_else(|| self.scenes.as_deref().unwrap_or(Path::new("")).join(name))
    }
}

/// Arguments of `proposals`.
#[derive(Args)]
pub struct Proposals {
    #[command(flatten)]
    images: Images,
    /// Take what this student proposes.
    #[arg(long)]
    student: Option<PathBuf>,
    /// Take the annotated objects' own boxes and so many moved copies of each, before a student's.
    #[arg(long)]
    moved_copies: Option<usize>,
    /// Boxes an image. The paper has 300.
    #[arg(long, default_value_t = 16)]
    per_image: usize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave out, by name, pictures that can't be read, instead of ending.
    #[arg(long)]
    skip_unreadable: bool,
    #[command(flatten)]
    part: Part,
    /// Folder for the proposals.
    #[arg(long, short)]
    output: PathBuf,
}

/// Arguments of `embed`.
#[derive(Args)]
pub struct Embed {
    /// Folder that `proposals` wrote.
    #[arg(long)]
    proposals: PathBuf,
    /// The images' folder, tar shards (a .tar, a folder of them, or a pattern as in 'photographs-{000..099}.tar'), or a .txt
    /// with one a line.
    #[arg(long)]
    images: PathBuf,
    /// The teacher's folder: it looks at two crops of each proposal.
    #[arg(long, required_unless_present = "from_student")]
    teacher: Option<PathBuf>,
    /// Instead of a teacher: a student, such as an imported OWLv2, whose own regions are taken, one pass an image. Proposals
    /// that it has no region for get no embedding; with proposals of this very student it has one for each.
    #[arg(long, conflicts_with = "teacher")]
    from_student: Option<PathBuf>,
    /// Where to compute: cpu, cuda or cuda:N (an ONNX Runtime with CUDA, see docs/teacher.md).
    #[arg(long, default_value_t = TrainDevice::Cpu)]
    device: TrainDevice,
    /// Leave out, by name, pictures that can't be read, instead of ending.
    #[arg(long)]
    skip_unreadable: bool,
    #[command(flatten)]
    part: Part,
    /// Folder for the embeddings.
    #[arg(long, short)]
    output: PathBuf,
}

/// Chooses proposals.
pub fn proposals(arguments: &Proposals) -> Result<()> {
    let settings = ProposalSettings {
        per_image: arguments.per_image,
        moved_copies: arguments.moved_copies,
        student: arguments.student.as_deref(),
        seed: arguments.seed,
        unreadable: Unreadable::of_flag(arguments.skip_unreadable),
    };
    let Proposals { images, part, output, .. } = arguments;
    let mut inputs = super::inputs([Some(&images.annotations()), arguments.student.as_ref()]);
    super::add_images(&mut inputs, &images.folder())?;
    inputs.check_folder(output)?;
    for name in [embed::IMAGES, table::MANIFEST] {
        inputs.check(&output.join(name), Content::Json)?;
    }
    let pictures = Photographs::open(&images.folder())?;
    embed::propose(&images.annotations(), &pictures, &settings, part.shard, output)?;
    println!("proposals in {}", output.display());
    Ok(())
}

/// Embeds proposals.
pub fn embed(arguments: &Embed) -> Result<()> {
    let Embed { proposals, images, teacher, from_student, device, part, output, skip_unreadable } = arguments;
    let mut inputs = super::inputs([Some(proposals), teacher.as_ref(), from_student.as_ref()]);
    super::add_images(&mut inputs, images)?;
    inputs.check_folder(output)?;
    let open = |placement| -> Result<Box<dyn EmbedBoxes>> {
        match (teacher, from_student) {
            (Some(teacher), _) => Ok(Box::new(Teacher::open_at(teacher, placement)?)),
            (None, Some(student)) => Ok(Box::new(StudentRegions::open(student, placement)?)),
            (None, None) => anyhow::bail!(Mistake::new("name a --teacher or a student by --from-student")),
        }
    };
    let teachers = device.placements(table::workers()).into_iter().map(open).collect::<Result<_>>()?;
    let (images, unreadable) = (Photographs::open(images)?, Unreadable::of_flag(*skip_unreadable));
    embed::embed(proposals, &images, teachers, unreadable, part.shard, output)?;
    println!("embeddings in {}", output.display());
    Ok(())
}

/// Joins shards.
pub fn merge(folder: &Path) -> Result<()> {
    println!("{} holds {} rows", folder.display(), embed::merge(folder)?);
    Ok(())
}
