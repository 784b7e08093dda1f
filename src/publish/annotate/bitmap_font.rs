//! The built-in font, in all sizes.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};

/// A raster of the font, and how many pixels each of its pixels becomes: the font has four sizes,
/// and a photograph of 24 megapixels wants more.
#[derive(Clone, Copy)]
pub(super) struct TextSize {
    raster: RasterHeight,
    zoom: i64,
}

impl TextSize {
    pub(super) fn for_height(height: f32) -> Self {
        // Large enough that what is made larger is made of the largest.
        let zoom = if height <= 36.0 { 1 } else { ((height / 26.0).round() as i64).max(2) };
        let raster = match height / zoom as f32 {
            x if x < 18.0 => RasterHeight::Size16,
            x if x < 22.0 => RasterHeight::Size20,
            x if x < 28.0 => RasterHeight::Size24,
            _ => RasterHeight::Size32,
        };
        Self { raster, zoom }
    }

    pub(super) fn height(self) -> i64 {
        self.raster.val() as i64 * self.zoom
    }

    /// How many pixels each of a raster's becomes.
    pub(super) fn zoom(self) -> i64 {
        self.zoom
    }

    pub(super) fn character_width(self) -> i64 {
        get_raster_width(FontWeight::Bold, self.raster) as i64 * self.zoom
    }

    pub(super) fn glyph(self, character: char) -> Option<RasterizedChar> {
        let raster = |character| get_raster(character, FontWeight::Bold, self.raster);
        raster(character).or_else(|| raster('\u{FFFD}')).or_else(|| raster('?'))
    }
}

/// How much of a pixel of an enlarged glyph is ink: between the raster's pixels it is interpolated, and made steeper, so
/// that large letters have edges and no steps.
pub(super) fn coverage(glyph: &RasterizedChar, (x, y): (i64, i64), zoom: i64) -> u8 {
    let at = |x: i64, y: i64| {
        let places = usize::try_from(x).ok().zip(usize::try_from(y).ok());
        places.and_then(|(x, y)| glyph.pixel(x, y)).map_or(0, i64::from)
    };
    if zoom == 1 {
        return at(x, y) as u8;
    }
    // Counted in halves of an enlarged pixel, so that all is whole: the raster's pixel i has its middle at (2 i + 1) zoom.
    let whole = 2 * zoom;
    let split = |place: i64| {
        let from_first_middle = 2 * place + 1 - zoom;
        (from_first_middle.div_euclid(whole), from_first_middle.rem_euclid(whole))
    };
    let ((column, right), (row, lower)) = (split(x), split(y));
    let along = |row: i64| at(column, row) * (whole - right) + at(column + 1, row) * right;
    let value = (along(row) * (whole - lower) + along(row + 1) * lower) / (whole * whole);
    ((value - 128) * zoom * 3 / 4 + 128).clamp(0, 255) as u8
}
