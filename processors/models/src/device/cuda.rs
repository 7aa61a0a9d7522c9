//! The CUDA devices of this machine, and whether one works.

use candle_core::cuda_backend::cudarc;
use candle_core::{Device, Tensor};
use cudarc::driver::CudaContext;
use millstream_core::{Error, Result, ResultExt};

/// How many there are.
pub fn count() -> Result<usize> {
    check_libraries()?;
    let count = CudaContext::device_count().doing(|| "NVIDIA's driver does not start")?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Has the device compute something. That it is there says little: it may be too old for the kernels, or its driver.
pub fn try_out(number: usize) -> Result<()> {
    let count = count()?;
    if number >= count {
        return Err(Error::new(match count {
            0 => "this machine has no CUDA device".to_owned(),
            1 => "this machine has one CUDA device, `cuda:0`".to_owned(),
            _ => format!("this machine has {count} CUDA devices, `cuda:0` to `cuda:{}`", count - 1),
        }));
    }
    let compute = || Tensor::new(1.0_f32, &Device::new_cuda(number)?)?.affine(2.0, 1.0)?.to_scalar::<f32>();
    match compute().doing(|| "it is there, but does not work")? {
        3.0 => Ok(()),
        wrong => Err(Error::new(format!("it is there, but computes that 2 times 1 and 1 is {wrong}"))),
    }
}

/// Says which of CUDA's libraries is missing. cudarc would panic when it needs it.
#[cfg(feature = "dynamic-loading")]
#[allow(unsafe_code)]
fn check_libraries() -> Result<()> {
    type IsPresent = unsafe fn() -> bool;
    const LIBRARIES: [(&str, IsPresent, &str); 3] = [
        ("libcuda.so.1", cudarc::driver::sys::is_culib_present, "it comes with NVIDIA's driver"),
        ("libcublas.so.13", cudarc::cublas::sys::is_culib_present, "it comes with `nvidia-cublas` of PyPI"),
        ("libcurand.so.10", cudarc::curand::sys::is_culib_present, "it comes with `nvidia-curand` of PyPI"),
    ];
    for (library, is_present, origin) in LIBRARIES {
        // SAFETY: this runs what NVIDIA's libraries do when they are loaded, and nothing else.
        if !unsafe { is_present() } {
            let places =
                "in nvidia/cu13/lib beside the program, in LD_LIBRARY_PATH, or where the system has its libraries";
            return Err(Error::new(format!("there is no {library} {places}; {origin}")));
        }
    }
    Ok(())
}

/// The libraries are linked, so this program would not have started without them.
#[cfg(not(feature = "dynamic-loading"))]
fn check_libraries() -> Result<()> {
    Ok(())
}
