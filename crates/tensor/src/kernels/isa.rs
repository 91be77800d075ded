//! Which instructions multiply matrices on this machine.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::simd::Level;

/// The instructions that a matrix product uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// f32 operands, on any machine.
    F32,
    /// Operands of 16-bit integers with shared scales, whole sums of 256 products, `vpdpwssd` (Intel Cascade Lake and
    /// later, AMD Zen 4 and later): twice the rate of f32.
    Avx512Vnni,
    /// bf16 operands, f32 sums, `vdpbf16ps` (AMD Zen 4 and later; slower than f32 on Intel).
    Avx512Bf16,
    /// bf16 operands, f32 sums, `tdpbf16ps` on tile registers (Intel Sapphire Rapids and later, on Linux).
    AmxBf16,
}

impl Isa {
    /// Every set; of those of one precision the faster ones come later.
    pub const ALL: [Self; 4] = [Self::F32, Self::Avx512Vnni, Self::Avx512Bf16, Self::AmxBf16];

    /// The fastest set on this machine. The first call asks Linux for the use of the tile registers.
    pub fn detect() -> Self {
        // Intel cores issue `vdpbf16ps` at half the rate of the f32 product or less.
        let vectors: &[Self] = if is_intel() { &[Self::Avx512Vnni] } else { &[Self::Avx512Bf16, Self::Avx512Vnni] };
        let mut candidates = [Self::AmxBf16].iter().chain(vectors).copied();
        candidates.find(|isa| isa.is_available()).unwrap_or(Self::F32)
    }

    /// Whether its kernels read packed operands. Those of f32 read matrices where they are.
    pub fn packs(self) -> bool {
        self != Self::F32
    }

    /// Whether this machine can run the set.
    pub fn is_available(self) -> bool {
        static AVAILABLE: OnceLock<[bool; 4]> = OnceLock::new();
        AVAILABLE.get_or_init(|| Self::ALL.map(has))[self as usize]
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn is_intel() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has(isa: Isa) -> bool {
    isa == Isa::F32
}

#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    let leaf = std::arch::x86_64::__cpuid(0);
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
}

#[cfg(target_arch = "x86_64")]
fn has(isa: Isa) -> bool {
    let vectors = Level::detect() == Level::V4;
    match isa {
        Isa::F32 => true,
        Isa::Avx512Vnni => vectors && is_x86_feature_detected!("avx512vnni"),
        Isa::Avx512Bf16 => vectors && is_x86_feature_detected!("avx512bf16"),
        Isa::AmxBf16 => vectors && is_x86_feature_detected!("avx512bf16") && tiles_in_cpu() && tiles_permitted(),
    }
}

/// CPUID leaf 7: EDX bit 22 is AMX-BF16, bit 24 is AMX-TILE.
#[cfg(target_arch = "x86_64")]
fn tiles_in_cpu() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const WANTED: u32 = 1 << 22 | 1 << 24;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & WANTED == WANTED
}

/// Asks Linux for the tile state of this process and of every thread it starts later.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn tiles_permitted() -> bool {
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let mut status = SYS_ARCH_PRCTL;
    // SAFETY: `arch_prctl(ARCH_REQ_XCOMP_PERM)` takes two integers, touches no memory of ours and, as every system
    // call, changes no registers but rax, rcx and r11. It fails with an error code where it is unknown.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") status,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    status == 0
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn tiles_permitted() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_detected_is_available() {
        assert!(Isa::F32.is_available());
        assert!(Isa::detect().is_available());
        assert_eq!(Isa::detect(), Isa::detect());
    }
}
