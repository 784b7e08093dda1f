//! Asks NVIDIA's driver whether it works, before CUDA is used: without a driver, TensorRT's libraries and CUDA's
//! bindings crash instead of returning an error.

use std::mem::ManuallyDrop;

/// Why there is no GPU to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// There is no driver.
    #[error("there is no NVIDIA driver (libcuda.so.1) on this machine")]
    Missing,
    /// There is one, and it finds no GPU that it can use.
    #[error("NVIDIA's driver finds no GPU that it can use (error {0}{meaning}", meaning = meaning(*.0))]
    Unusable(i32),
}

/// cuda.h: CUDA_ERROR_NO_DEVICE.
const NO_DEVICE: i32 = 100;

/// What an error of cuInit's means, and what to do: NVIDIA's own texts of them name no cause.
fn meaning(code: i32) -> &'static str {
    match code {
        NO_DEVICE => {
            ", CUDA_ERROR_NO_DEVICE): its kernel driver is not loaded, or its devices are closed to this user; look at \
             `lsmod | grep nv` and `ls -l /dev/nv*`, and be in the groups video and render"
        }
        // Measured by others on an Orin NX with JetPack 6.2: WendyOS#1699.
        801 => {
            ", CUDA_ERROR_NOT_SUPPORTED): on a Jetson /dev/dri/renderD* is missing or closed to this user; look at \
             `ls -l /dev/dri`, and be in the group render"
        }
        999 => {
            ", CUDA_ERROR_UNKNOWN): a device of its could not be opened, or the driver is in disorder; look at \
             `sudo dmesg | grep -i -e nvgpu -e nvrm`, and start the machine again"
        }
        _ => ")",
    }
}

/// The driver's library. Never unloaded: it may have threads of its own.
fn load() -> Result<ManuallyDrop<libloading::Library>, DriverError> {
    // SAFETY: the driver's initialisers have no demands.
    let driver = unsafe { libloading::Library::new("libcuda.so.1") };
    driver.map(ManuallyDrop::new).map_err(|_| DriverError::Missing)
}

/// Whether the driver is on this machine.
pub fn has_driver() -> bool {
    load().is_ok()
}

/// Compute capabilities of the GPUs, in the driver's order: 87 for 8.7.
///
/// # Errors
/// When there is no driver, or it can't use the GPUs.
pub fn gpus() -> Result<Vec<u32>, DriverError> {
    type Init = unsafe extern "C" fn(u32) -> i32;
    type Count = unsafe extern "C" fn(*mut i32) -> i32;
    type Device = unsafe extern "C" fn(*mut i32, i32) -> i32;
    type Attribute = unsafe extern "C" fn(*mut i32, i32, i32) -> i32;
    /// cuda.h: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
    const CAPABILITY: [i32; 2] = [75, 76];
    fn checked(code: i32) -> Result<(), DriverError> {
        if code == 0 { Ok(()) } else { Err(DriverError::Unusable(code)) }
    }

    let driver = load()?;
    // A driver without these functions is none.
    let missing = |_| DriverError::Missing;
    // SAFETY: these are the signatures of cuda.h, and all pointers outlive the calls.
    unsafe {
        let init = driver.get::<Init>(b"cuInit\0").map_err(missing)?;
        let count = driver.get::<Count>(b"cuDeviceGetCount\0").map_err(missing)?;
        let device = driver.get::<Device>(b"cuDeviceGet\0").map_err(missing)?;
        let attribute = driver.get::<Attribute>(b"cuDeviceGetAttribute\0").map_err(missing)?;
        let mut gpus = 0;
        checked(init(0))?;
        checked(count(&raw mut gpus))?;
        if gpus == 0 {
            return Err(DriverError::Unusable(NO_DEVICE));
        }
        (0..gpus)
            .map(|at| {
                let (mut gpu, mut capability) = (0, [0; 2]);
                checked(device(&raw mut gpu, at))?;
                for (value, which) in capability.iter_mut().zip(CAPABILITY) {
                    checked(attribute(value, which, gpu))?;
                }
                Ok(u32::try_from(10 * capability[0] + capability[1]).unwrap_or(0))
            })
            .collect()
    }
}

/// The first GPU itself, beyond its compute capability, and the board that it is on: `Orin, 8 multiprocessors, NVIDIA
/// Jetson Orin Nano Developer Kit`.
pub fn board() -> Option<String> {
    type Name = unsafe extern "C" fn(*mut u8, i32, i32) -> i32;
    type Attribute = unsafe extern "C" fn(*mut i32, i32, i32) -> i32;
    /// cuda.h: CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT.
    const MULTIPROCESSORS: i32 = 16;
    gpus().ok()?.first()?;
    let driver = load().ok()?;
    let mut name = [0_u8; 256];
    let mut multiprocessors = 0;
    // SAFETY: these are the signatures of cuda.h, `gpus` has initialised the driver and found device 0, and all
    // pointers outlive the calls.
    unsafe {
        driver.get::<Name>(b"cuDeviceGetName\0").ok()?(name.as_mut_ptr(), 255, 0);
        driver.get::<Attribute>(b"cuDeviceGetAttribute\0").ok()?(
            &raw mut multiprocessors,
            MULTIPROCESSORS,
            0,
        );
    }
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
    };
    let gpu = format!("{}, {multiprocessors} multiprocessors", text(&name));
    // Boards with the same GPU differ in clocks and memory.
    let board = std::fs::read("/proc/device-tree/model").map(|model| text(&model)).unwrap_or_default();
    Some(if board.is_empty() { gpu } else { format!("{gpu}, {board}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_cu_init_come_with_their_meaning_and_what_to_do() {
        for (code, expected) in [
            (100, ["CUDA_ERROR_NO_DEVICE)", "groups video and render"]),
            (801, ["CUDA_ERROR_NOT_SUPPORTED)", "`ls -l /dev/dri`"]),
            (999, ["CUDA_ERROR_UNKNOWN)", "dmesg"]),
        ] {
            let told = DriverError::Unusable(code).to_string();
            assert!(told.contains(&format!("(error {code}, ")), "{told}");
            assert!(expected.iter().all(|part| told.contains(part)), "{told}");
        }
        assert!(DriverError::Unusable(2).to_string().ends_with("(error 2)"));
    }
}
