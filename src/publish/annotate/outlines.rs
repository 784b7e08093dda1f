//! Outlines of zones and lines, thin and behind all boxes, with their names.

use super::canvas::{Area, Canvas, Colour, LEAST_SIDE_FOR_TEXT, RIM, Style};
use super::label::Label;
use super::word_images::WordImages;
use crate::job::{LineOutline, ZoneOutline, Zones};

/// The colour of outlines: no word's, and seen on its rim wherever it is.
const OUTLINE: Colour = [255; 3];
/// How long the mark is that points to the right-hand side of a line, of the picture's shorter side.
const ARROW_PART: f32 = 1.0 / 30.0;

/// A place in a picture, pixels.
type Pixel = (i64, i64);

/// Draws all zones and lines.
pub(super) fn draw(canvas: &mut Canvas<'_>, zones: &Zones, style: Style, images: &mut WordImages) {
    let size = [canvas.width as f64, canvas.height as f64];
    let pixel = |[x, y]: [f64; 2]| ((x * size[0]).round() as i64, (y * size[1]).round() as i64);
    for opaque in [false, true] {
        for ZoneOutline { points, .. } in &zones.zones {
            for (from, to) in points.iter().zip(points.iter().cycle().skip(1)) {
                canvas.thin_line(pixel(*from), pixel(*to), style, opaque);
            }
        }
        for LineOutline { ends, .. } in &zones.lines {
            let (from, to) = (pixel(ends[0]), pixel(ends[1]));
            canvas.thin_line(from, to, style, opaque);
            let (middle, tip) = arrow(from, to, canvas.width.min(canvas.height) as f32 * ARROW_PART);
            canvas.thin_line(middle, tip, style, opaque);
        }
    }
    if canvas.width.min(canvas.height) < LEAST_SIDE_FOR_TEXT {
        return;
    }
    let names = zones.zones.iter().map(|zone| &*zone.name).chain(zones.lines.iter().map(|line| &*line.name));
    images.make(names, style.text.height() as usize);
    let highest = |points: &[[f64; 2]]| points.iter().copied().min_by(|a, b| a[1].total_cmp(&b[1]));
    for ZoneOutline { name, points, .. } in &zones.zones {
        if let Some(place) = highest(points) {
            canvas.name(name, pixel(place), style, images);
        }
    }
    for LineOutline { name, ends, .. } in &zones.lines {
        canvas.name(name, pixel(ends[0]), style, images);
    }
}

/// From the middle of a line so far to its right-hand side, for someone who goes along it.
fn arrow(from: Pixel, to: Pixel, length: f32) -> (Pixel, Pixel) {
    let (x, y) = ((to.0 - from.0) as f32, (to.1 - from.1) as f32);
    let part = length / x.hypot(y).max(1.0);
    let middle = ((from.0 + to.0) / 2, (from.1 + to.1) / 2);
    (middle, (middle.0 - (y * part).round() as i64, middle.1 + (x * part).round() as i64))
}

impl Canvas<'_> {
    /// A line from one place to another: its rim, or what is on it.
    fn thin_line(&mut self, from: Pixel, to: Pixel, style: Style, opaque: bool) {
        let thickness = (style.line / 2).max(1);
        let (thickness, colour) =
            if opaque { (thickness, OUTLINE) } else { (thickness + 2 * style.rim, RIM.0) };
        let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).max(1);
        for step in 0..=steps {
            let along =
                |from: i64, to: i64| from + ((to - from) * step * 2 + steps) / (2 * steps) - thickness / 2;
            let place = Area::at(along(from.0, to.0), along(from.1, to.1), (thickness, thickness));
            self.blend(place, colour, 255);
        }
    }

    /// A name on a plate, below and to the right of a place where there is room.
    fn name(&mut self, name: &str, (x, y): Pixel, style: Style, images: &WordImages) {
        let label = Label::of_name(name, images, style.text, style.room(self.width));
        let (width, height) = style.plate_size(&label);
        let left = x.min(self.width - width).max(0);
        let top = y.min(self.height - height).max(0);
        self.label(&label, Area::at(left, top, (width, height)), style, OUTLINE);
    }
}
