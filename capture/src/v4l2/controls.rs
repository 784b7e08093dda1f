//! The controls of a V4L2 camera: brightness, gain, exposure.
//!
//! Takes a name and a number that the user wrote, and gives what to set, or a sentence that says what would be right. A
//! driver's names are made for people, and a control is called what `v4l2-ctl --list-ctrls` makes of that: "White
//! Balance, Automatic" is `white_balance_automatic`.

use v4l::v4l_sys as sys;

use super::offers::list;

/// What numbers a control takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Whole numbers.
    Integer,
    /// 0 or 1.
    Boolean,
    /// The numbers of a menu's entries.
    Menu,
    /// Any: it is the writing that counts.
    Button,
    /// A combination of bits.
    Bitmask,
}

/// A control that takes a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) has_64_bits: bool,
    is_read_only: bool,
    min: i64,
    max: i64,
    step: u64,
}

impl Control {
    /// A control as the driver describes it; `None` for one that takes no number, or is switched off for good.
    pub(super) fn new(
        id: u32,
        name: &str,
        type_: u32,
        flags: u32,
        (min, max, step): (i64, i64, u64),
    ) -> Option<Self> {
        let kind = match type_ {
            sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER | sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER64 => {
                Kind::Integer
            }
            sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BOOLEAN => Kind::Boolean,
            sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_MENU | sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER_MENU => {
                Kind::Menu
            }
            sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BUTTON => Kind::Button,
            sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BITMASK => Kind::Bitmask,
            // Titles of groups, texts, and tables of numbers, of which every kernel has more.
            _ => return None,
        };
        (flags & sys::V4L2_CTRL_FLAG_DISABLED == 0).then(|| Self {
            id,
            name: variable_name(name),
            kind,
            has_64_bits: type_ == sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER64,
            is_read_only: flags & sys::V4L2_CTRL_FLAG_READ_ONLY != 0,
            min,
            max,
            step: step.max(1),
        })
    }

    /// Whether the control may be set to a number; `has_entry` knows the menu.
    ///
    /// # Errors
    /// Which numbers it takes.
    pub(super) fn check(&self, value: i64, has_entry: impl Fn(i64) -> bool) -> Result<(), String> {
        let Self { name, min, max, step, .. } = self;
        let is_within = (*min..=*max).contains(&value);
        let takes = |what: String| Err(format!("{name}={value}: it takes {what}"));
        match self.kind {
            _ if self.is_read_only => Err(format!("{name} can only be read")),
            Kind::Button => Ok(()),
            Kind::Boolean if !(0..=1).contains(&value) => takes("0 or 1".to_owned()),
            Kind::Bitmask if value & !(*max & 0xffff_ffff) != 0 => {
                takes(format!("bits of {:#x}", max & 0xffff_ffff))
            }
            Kind::Menu if !(is_within && has_entry(value)) => {
                takes(list((*min..=*max).filter(|&entry| has_entry(entry)).map(|entry| entry.to_string())))
            }
            Kind::Integer if !is_within => takes(format!("{min} to {max}")),
            Kind::Integer if !value.abs_diff(*min).is_multiple_of(*step) => {
                takes(format!("{min} to {max} in steps of {step}"))
            }
            _ => Ok(()),
        }
    }
}

/// The control of a name.
///
/// # Errors
/// Which ones there are.
pub(super) fn find<'a>(controls: &'a [Control], name: &str) -> Result<&'a Control, String> {
    controls.iter().find(|control| control.name == name).ok_or_else(|| {
        let names =
            list(controls.iter().filter(|control| !control.is_read_only).map(|control| control.name.clone()));
        format!("the camera has no `{name}`; beside width, height, fps and format it takes {names}")
    })
}

/// A name as `v4l2-ctl` prints it: small letters and digits, and one underscore for everything between.
fn variable_name(name: &str) -> String {
    let parts =
        name.split(|character: char| !character.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("_").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn control(name: &str, type_: u32, range: (i64, i64, u64)) -> Control {
        Control::new(1, name, type_, 0, range).unwrap()
    }

    const INTEGER: u32 = sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER;
    const MENU: u32 = sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_MENU;
    const BOOLEAN: u32 = sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BOOLEAN;
    const BITMASK: u32 = sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BITMASK;
    const TEXT: u32 = sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_STRING;

    #[test]
    fn names_are_those_that_v4l2_ctl_prints() {
        let name = |name| control(name, INTEGER, (0, 1, 1)).name;
        assert_eq!(name("White Balance, Automatic"), "white_balance_automatic");
        assert_eq!(name("Exposure (Absolute)"), "exposure_absolute");
        assert_eq!(name("Test Pattern"), "test_pattern");
    }

    #[test]
    fn numbers_are_held_against_range_and_step() {
        let gain = control("Gain", INTEGER, (-10, 100, 5));
        let check = |value| gain.check(value, |_| false);
        assert!(check(-10).is_ok() && check(0).is_ok() && check(100).is_ok());
        assert_eq!(check(101).unwrap_err(), "gain=101: it takes -10 to 100");
        assert_eq!(check(-7).unwrap_err(), "gain=-7: it takes -10 to 100 in steps of 5");
        assert!(check(i64::MIN).is_err() && check(i64::MAX).is_err());
        let flip = control("Flip", BOOLEAN, (0, 1, 1));
        assert!(flip.check(1, |_| false).is_ok());
        assert_eq!(flip.check(2, |_| false).unwrap_err(), "flip=2: it takes 0 or 1");
    }

    #[test]
    fn a_menu_may_have_gaps() {
        let exposure = control("Auto Exposure", MENU, (0, 3, 1));
        let has = |entry| entry == 1 || entry == 3;
        assert!(exposure.check(3, has).is_ok());
        assert_eq!(exposure.check(2, has).unwrap_err(), "auto_exposure=2: it takes 1, 3");
    }

    #[test]
    fn a_mask_is_held_against_its_bits_all_thirty_two_of_them() {
        let mask = control("Mask", BITMASK, (0, -1, 0));
        assert!(mask.check(0xffff_ffff, |_| false).is_ok());
        assert!(mask.check(1 << 32, |_| false).is_err());
        let small = control("Mask", BITMASK, (0, 6, 0));
        assert_eq!(small.check(1, |_| false).unwrap_err(), "mask=1: it takes bits of 0x6");
    }

    #[test]
    fn an_unknown_control_is_answered_with_those_that_can_be_set() {
        let mut read_only = control("Gain Now", INTEGER, (0, 1, 1));
        read_only.is_read_only = true;
        assert_eq!(read_only.check(1, |_| false).unwrap_err(), "gain_now can only be read");
        let controls =
            [control("Brightness", INTEGER, (0, 1, 1)), read_only, control("Gain", INTEGER, (0, 1, 1))];
        let refused = find(&controls, "zoom").unwrap_err();
        assert!(
            refused.contains("has no `zoom`") && refused.ends_with("takes brightness, gain"),
            "{refused}"
        );
        assert_eq!(find(&controls, "gain").unwrap().name, "gain");
    }

    #[test]
    fn what_takes_no_number_or_is_switched_off_is_no_control() {
        assert_eq!(Control::new(1, "Label", TEXT, 0, (0, 9, 1)), None);
        assert_eq!(Control::new(1, "A kind of later kernels", 0x0999, 0, (0, 9, 1)), None);
        assert_eq!(Control::new(1, "Gain", INTEGER, sys::V4L2_CTRL_FLAG_DISABLED, (0, 9, 1)), None);
    }
}
