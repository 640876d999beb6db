//! Seeded noise: the same numbers that PyTorch draws, by its CPU generator or by that of a CUDA device.
//!
//! diffusers and the programs that draw as it does take the CPU's ([`TorchGenerator`]), and so do we unless a request says
//! otherwise; some programs take the graphics card's ([`PhiloxGenerator`]), whose pictures can be repeated so.
//!
//! Pure: no candle, no clock, no operating system. The noise is drawn on the host and copied to the device.

mod philox;
mod torch;

pub use philox::PhiloxGenerator;
pub use torch::TorchGenerator;

/// Which generator draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rng {
    /// PyTorch's on the CPU.
    #[default]
    TorchCpu,
    /// PyTorch's on a CUDA device.
    Philox,
}

impl Rng {
    /// Every generator.
    pub const ALL: [Self; 2] = [Self::TorchCpu, Self::Philox];

    /// The name in requests and in the picture's file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TorchCpu => "torch-cpu",
            Self::Philox => "philox",
        }
    }

    /// Starts the stream of a seed.
    #[must_use]
    pub fn start(self, seed: u64) -> Generator {
        match self {
            Self::TorchCpu => Generator::TorchCpu(Box::new(TorchGenerator::new(seed))),
            Self::Philox => Generator::Philox(PhiloxGenerator::new(seed)),
        }
    }
}

/// A stream of normals that goes on where the last draw stopped.
#[derive(Clone, Debug)]
pub enum Generator {
    /// PyTorch's on the CPU.
    TorchCpu(Box<TorchGenerator>),
    /// PyTorch's on a CUDA device.
    Philox(PhiloxGenerator),
}

impl Generator {
    /// Draws `count` standard normals.
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        match self {
            Self::TorchCpu(generator) => generator.normals(count),
            Self::Philox(generator) => generator.normals(count),
        }
    }
}
