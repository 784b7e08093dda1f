//! The recipe of a clip: `clip.toml`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What a clip is made of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Of a frame, in pixels.
    pub width: u32,
    /// Of a frame, in pixels.
    pub height: u32,
    /// The rate at which the paths look right; a Motion-JPEG file itself has none.
    pub frames_per_second: u32,
    /// Of every shot; at least 2, the path's ends.
    pub frames_per_shot: usize,
    /// 1 to 100.
    pub jpeg_quality: u8,
    /// In the order in which they are seen.
    pub shots: Vec<Shot>,
}

/// One photograph and the way a camera moves over it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shot {
    /// What the tables call it; unique.
    pub name: String,
    /// File name in the folder of photographs.
    pub photo: String,
    /// What the first frame shows: x1, y1, x2, y2 in the photograph's pixels.
    pub start_in_photo: [f64; 4],
    /// What the last frame shows.
    pub end_in_photo: [f64; 4],
}

impl Recipe {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read the recipe {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not a clip's recipe", path.display()))
    }

    /// The same from text.
    pub fn parse(text: &str) -> Result<Self> {
        let recipe: Self = toml::from_str(text)?;
        // Even sizes, because colour is stored at half resolution.
        let fits = |size: u32| (16..=8192).contains(&size) && size.is_multiple_of(2);
        ensure!(
            fits(recipe.width) && fits(recipe.height),
            "width and height must be even and between 16 and 8192 pixels, not {}x{}",
            recipe.width,
            recipe.height
        );
        ensure!(recipe.frames_per_second > 0, "frames_per_second must be at least 1");
        ensure!(
            recipe.frames_per_shot >= 2,
            "frames_per_shot must be at least 2: the start and the end of a path"
        );
        ensure!(
            (1..=100).contains(&recipe.jpeg_quality),
            "jpeg_quality must be 1 to 100, not {}",
            recipe.jpeg_quality
        );
        let mut names = BTreeSet::new();
        for shot in &recipe.shots {
            ensure!(names.insert(&shot.name), "two shots are called '{}': rename one", shot.name);
            for view in [shot.start_in_photo, shot.end_in_photo] {
                recipe.check_view(view).with_context(|| format!("shot '{}'", shot.name))?;
            }
        }
        Ok(recipe)
    }

    fn check_view(&self, view: [f64; 4]) -> Result<()> {
        let [x1, y1, x2, y2] = view;
        ensure!(
            0.0 <= x1 && x1 < x2 && 0.0 <= y1 && y1 < y2,
            "a view is x1, y1, x2, y2 within the photograph, not {view:?}"
        );
        let stretch = (x2 - x1) / (y2 - y1) * f64::from(self.height) / f64::from(self.width);
        ensure!(
            (stretch - 1.0).abs() < 0.01,
            "the view {view:?} has not the frame's aspect ratio: it would be stretched {stretch:.2} times"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn recipe_with_end(end: &str) -> Result<Recipe> {
        Recipe::parse(&format!(
            "width = 64\nheight = 48\nframes_per_second = 15\nframes_per_shot = 3\njpeg_quality = 80\n
             [[shots]]\nname = 'cat'\nphoto = 'a.png'\nstart_in_photo = [0, 0, 64, 48]\nend_in_photo = {end}"
        ))
    }

    #[test]
    fn a_view_that_would_stretch_the_photograph_is_refused_with_its_shot() {
        assert!(recipe_with_end("[8, 6, 56, 42]").is_ok());
        let message = format!("{:#}", recipe_with_end("[0, 0, 48, 48]").unwrap_err());
        assert!(message.contains("'cat'") && message.contains("0.75 times"), "{message}");
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        assert!(recipe_with_end("[8, 6, 56, 42]\nzoom = 2").is_err());
    }
}
