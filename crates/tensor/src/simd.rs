//! Functions compiled for several instruction sets.

/// Instruction sets that elementwise code is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// What the target always has.
    Base,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    V3,
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    V4,
}

impl Level {
    /// The strongest set of this machine.
    #[inline]
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let v3 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let v4 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if v3 && v4 {
                return Self::V4;
            } else if v3 {
                return Self::V3;
            }
        }
        Self::Base
    }
}

/// Defines functions whose bodies are compiled for every [`Level`] and chosen at run time. Everything a body calls in
/// its loops must be `#[inline(always)]`, or it stays at the base level.
macro_rules! vectorized {
    ($($(#[$doc:meta])* $vis:vis fn $name:ident$(<$($t:ident: $bound:path),+>)?($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[allow(unsafe_code, reason = "the chosen version runs only where its instructions exist")]
        $vis fn $name$(<$($t: $bound),+>)?($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body$(<$($t: $bound),+>)?($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn v3$(<$($t: $bound),+>)?($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            fn v4$(<$($t: $bound),+>)?($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }

            match $crate::simd::Level::detect() {
                // SAFETY: the machine has these instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::V4 => unsafe { v4($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::V3 => unsafe { v3($($arg),*) },
                $crate::simd::Level::Base => body($($arg),*),
            }
        }
    )*};
}

pub(crate) use vectorized;
