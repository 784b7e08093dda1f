//! The engines of this machine, with the progress of a plan's build in the terminal.

use crate::service::Installed;

/// The engines of this machine, whose plans are built in sight of whoever sits at the terminal.
pub(super) const INSTALLED: Installed = Installed {
    #[cfg(feature = "tensorrt")]
    progress: super::plan::show_build,
};
