//! What a camera does to a scene: light, colour cast, blur and noise.

use image::{RgbImage, imageops};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Disturbs a scene as cheap cameras do, each disturbance at its own odds.
pub fn disturb(picture: &mut RgbImage, rng: &mut ChaCha8Rng) {
    if rng.random_bool(0.7) {
        relight(picture, rng);
    }
    if rng.random_bool(0.15) {
        *picture = imageops::blur(picture, rng.random_range(0.4..1.4));
    }
    if rng.random_bool(0.25) {
        add_noise(picture, rng.random_range(1.0..10.0), rng);
    }
}

/// Brightness, contrast, gamma and a colour cast, by one table a channel.
fn relight(picture: &mut RgbImage, rng: &mut ChaCha8Rng) {
    let gamma = rng.random_range(0.7..1.4_f32);
    let contrast = rng.random_range(0.75..1.25_f32);
    let brightness = rng.random_range(-0.1..0.1_f32);
    let tables: [[u8; 256]; 3] = std::array::from_fn(|_| {
        let cast = rng.random_range(0.9..1.1_f32);
        std::array::from_fn(|value| {
            let light = (value as f32 / 255.0).powf(gamma) * cast;
            (((light - 0.5) * contrast + 0.5 + brightness) * 255.0).clamp(0.0, 255.0) as u8
        })
    });
    for pixel in picture.pixels_mut() {
        for (channel, table) in pixel.0.iter_mut().zip(&tables) {
            *channel = table[usize::from(*channel)];
        }
    }
}

/// Noise of about `deviation` grey levels: the mean of two uniform draws, which is bell-like enough.
pub fn add_noise(picture: &mut RgbImage, deviation: f32, rng: &mut ChaCha8Rng) {
    // The sum of two uniform draws over -1..1 has a standard deviation of 0.816.
    let reach = deviation / 0.816;
    for channel in picture.iter_mut() {
        let noise = reach * (rng.random_range(-1.0..1.0_f32) + rng.random_range(-1.0..1.0_f32));
        *channel = (f32::from(*channel) + noise).clamp(0.0, 255.0) as u8;
    }
}
