//! Pictures as data URIs: photographs, and maps of classes to lay over them.

use std::fmt::Write as _;
use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, RgbImage, Rgba, RgbaImage};
use onnx_dcomp_engine::metrics::segmentation::ClassMap;
use onnx_dcomp_engine::preprocess::Pixels;

/// Widest picture of the page, in pixels.
const MOST_COLUMNS: u32 = 512;
/// Pictures of no more pixels are kept without loss.
const SMALL_PIXELS: u32 = 128 * 128;
const JPEG_QUALITY: u8 = 86;
/// Opacity of a class over the photograph.
const CLASS_ALPHA: u8 = 150;

/// A colour of the palette.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClassColor([u8; 3]);

impl ClassColor {
    /// The colour in CSS.
    pub(super) fn css(self) -> String {
        let mut text = "#".to_owned();
        self.0.iter().for_each(|channel| {
            let _ = write!(text, "{channel:02x}");
        });
        text
    }
}

/// Colours that can be told apart by most people, for the first classes; later classes take them again, darker.
const PALETTE: [[u8; 3]; 12] = [
    [86, 180, 233],
    [213, 94, 0],
    [240, 228, 66],
    [128, 90, 164],
    [244, 154, 194],
    [0, 158, 115],
    [230, 159, 0],
    [146, 110, 76],
    [0, 82, 190],
    [220, 38, 60],
    [150, 220, 120],
    [120, 220, 220],
];

/// The colour of class `class`.
pub(super) fn class_color(class: usize) -> ClassColor {
    let [red, green, blue] = PALETTE[class % PALETTE.len()];
    let darker = |channel: u8| match class / PALETTE.len() % 2 {
        0 => channel,
        _ => channel / 2,
    };
    ClassColor([red, green, blue].map(darker))
}

/// How large a picture of the page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Columns.
    pub(super) width: u32,
    /// Rows.
    pub(super) height: u32,
}

impl Size {
    /// The size at which a picture is shown; `None` where it has none.
    pub(super) fn of(pixels: &Pixels) -> Option<Self> {
        let (width, height) = (u32::try_from(pixels.width).ok()?, u32::try_from(pixels.height).ok()?);
        if width == 0 || height == 0 {
            return None;
        }
        let shown = width.min(MOST_COLUMNS);
        let rows = (u64::from(height) * u64::from(shown) / u64::from(width)).clamp(1, u64::from(8 * MOST_COLUMNS));
        Some(Self { width: shown, height: rows as u32 })
    }
}

/// The picture itself; `None` where it cannot be encoded.
pub(super) fn photograph(pixels: &Pixels) -> Option<String> {
    let size = Size::of(pixels)?;
    let (width, height) = (u32::try_from(pixels.width).ok()?, u32::try_from(pixels.height).ok()?);
    let image = match pixels.channels {
        1 => DynamicImage::ImageLuma8(image::GrayImage::from_raw(width, height, pixels.values.clone())?),
        _ => DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, pixels.values.clone())?),
    };
    let image =
        if size.width < width { image.resize_exact(size.width, size.height, FilterType::Triangle) } else { image };
    if size.width * size.height <= SMALL_PIXELS {
        return png(&image);
    }
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(&image.to_rgb8()).ok()?;
    Some(data_uri("image/jpeg", &bytes))
}

/// A map of classes, to lay over the picture; what `ignore`s is left clear.
pub(super) fn overlay(map: &ClassMap, size: Size, is_shown: impl Fn(u16) -> bool) -> Option<String> {
    let mut classes = map.sampled(size.height as usize, size.width as usize);
    let image = RgbaImage::from_fn(size.width, size.height, |_, _| {
        let class = classes.next().unwrap_or_default();
        let [red, green, blue] = class_color(usize::from(class)).0;
        Rgba([red, green, blue, if is_shown(class) { CLASS_ALPHA } else { 0 }])
    });
    png(&DynamicImage::ImageRgba8(image))
}

/// Where two maps differ, to lay over the picture: what is the same lies in the dark.
pub(super) fn difference(a: &ClassMap, b: &ClassMap, size: Size) -> Option<String> {
    let [height, width] = [size.height as usize, size.width as usize];
    let mut pairs = a.sampled(height, width).zip(b.sampled(height, width));
    let image = RgbaImage::from_fn(size.width, size.height, |_, _| match pairs.next() {
        Some((a, b)) if a != b => Rgba([255, 176, 0, 255]),
        _ => Rgba([12, 18, 28, 190]),
    });
    png(&DynamicImage::ImageRgba8(image))
}

fn png(image: &DynamicImage) -> Option<String> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).ok()?;
    Some(data_uri("image/png", bytes.get_ref()))
}

fn data_uri(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", STANDARD.encode(bytes))
}
